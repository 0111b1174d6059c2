"""A trainer that has it all: state, randomness of every kind, NaN, failures, early stops."""

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np

from letstune import EpochTrainer, Params, SimpleTrainer, StopTraining, rand
from letstune.samplers.sampler import Observation, Sampler
from letstune.training.checkpoints import Checkpoint


class WalkParams(Params):
    pace: float = rand.uniform(0.1, 1)
    start: int = rand.ints(0, 1000)
    kind: str = rand.oneof(
        ["walk", "nan", "raise", "stop", "stop after", "save", "load"],
        weights=[12, 1, 1, 1, 1, 1, 1],
    )


class WalkTrainer(EpochTrainer[WalkParams]):
    """A random walk. ``dataset`` is a file that gets a line for each epoch begun, or None."""

    metric = "height"

    def load_dataset(self, dataset: Any) -> None:
        self.witness = dataset
        self.bias = float(self.rng.normal())  # a dataset may be split at random

    def create_model(self, params: WalkParams) -> None:
        self.params = params
        self.model = {"at": params.start + self.rng.random() + np.random.random(), "steps": []}

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if self.witness is not None:
            with Path(self.witness).open("a") as file:
                file.write(f"{os.getpid()} {self.params.to_json()} {epoch}\n")
        kind, turn = self.params.kind, 1 + self.params.start % 5
        if epoch == turn and kind == "raise":
            raise ValueError(f"no way on from {self.model['at']!r}")
        if epoch == turn and kind == "stop":
            raise StopTraining
        steps = [self.rng.normal(), np.random.normal(), random.gauss(0, 1), self.seed / 2**31]
        self.model["at"] += self.params.pace * sum(steps) + self.bias
        self.model["steps"].append(epoch)
        if self.model["steps"] != list(range(epoch + 1)):
            raise RuntimeError(f"epochs trained: {self.model['steps']}")
        height = float("nan") if kind == "nan" and epoch % 2 == 0 else self.model["at"]
        if epoch == turn and kind == "stop after":
            raise StopTraining({"height": height})
        return {"height": height, "pace": float(np.float32(self.params.pace)), "inf": -np.inf}

    def save(self, checkpoint: Checkpoint) -> None:
        if self.params.kind == "save" and self.model["steps"][-1] == 4:
            raise OSError("no way to save")
        (checkpoint.path / "walk.json").write_text(json.dumps(self.model))
        if self.params.start % 2:
            (checkpoint.path / "sub").mkdir()
            (checkpoint.path / "sub" / "empty").touch()

    def load(self, checkpoint: Checkpoint, params: WalkParams) -> None:
        if params.kind == "load" and params.start % 3 == 0:
            raise OSError("no way to load")
        self.params = params
        self.model = json.loads((checkpoint.path / "walk.json").read_text())


class StrideTrainer(SimpleTrainer[WalkParams]):
    """A walk of one step."""

    metric = "height"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train(self, params: WalkParams) -> tuple[Any, dict[str, float]]:
        if params.kind == "raise":
            raise ValueError("no way")
        height = params.start + float(self.rng.normal()) + np.random.random()
        return {"height": height}, {"height": height}


class NearBest(Sampler):
    """Learns: proposes near the best params that it sees, and says so if it saw too much."""

    adaptive = True

    def propose(self, space: Any, history: Any, rng: np.random.Generator, trial: int) -> WalkParams:
        seen: list[Observation] = [o for o in history if o.values]
        params = space.sample(rng)
        if seen:
            best = max(seen, key=lambda o: np.nanmax([*o.values, -np.inf]))
            shift = sum(len(o.values) for o in seen) + len(history)
            params = params.replace(start=(best.params.start + shift) % 1001)
        return params
