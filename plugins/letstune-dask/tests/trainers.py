"""A trainer whose epochs take a while, and a store that is elsewhere on each machine."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from letstune import Checkpoint, EpochTrainer, Params, rand
from letstune.training import DirectoryStore


class Point(Params):
    x: float = rand.uniform(-1, 1)
    n: int = rand.ints(1, 9)


class Walk(EpochTrainer[Point]):
    """Walks by random steps. Its dataset: a file for a line with each load, and its seconds."""

    metric = "height"

    def load_dataset(self, dataset: Any) -> None:
        witness, self.seconds = dataset
        with Path(witness).open("a") as file:
            file.write(f"{os.getpid()} {os.environ.get('PLACE', '')}\n")

    def create_model(self, params: Point) -> None:
        self.model = [params.x]

    def train_epoch(self, epoch: int) -> dict[str, float]:
        time.sleep(self.seconds * (1 + epoch % 3))
        if len(self.model) != epoch + 1:
            raise RuntimeError(f"epoch {epoch} comes after {len(self.model) - 1} others")
        self.model.append(self.model[-1] + float(self.rng.normal()))
        return {"height": self.model[-1], "epoch": epoch}

    def save(self, checkpoint: Checkpoint) -> None:
        (checkpoint.path / "walk.json").write_text(json.dumps(self.model))

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        self.model = json.loads((checkpoint.path / "walk.json").read_text())


class HangsOnce(Walk):
    """Hangs in the second epoch of the first trial that comes to it, and notes its params."""

    def load_dataset(self, dataset: Any) -> None:
        super().load_dataset(dataset)
        self.note = Path(dataset[0]).with_name("hangs")

    def create_model(self, params: Point) -> None:
        super().create_model(params)
        self.params = params.to_json()

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1 and not self.note.exists():
            self.note.write_text(self.params)
            signal.pause()
        return super().train_epoch(epoch)


class Here(DirectoryStore):
    """A folder that is another one on each machine."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / os.environ.get("PLACE", "owner"))
        self.where = root

    def __reduce__(self) -> Any:
        return Here, (self.where,)
