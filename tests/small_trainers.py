"""The smallest trainers, one of each kind, and how they are tuned."""

from pathlib import Path
from typing import Any

import letstune
from letstune import EpochTrainer, Params, SimpleTrainer, TuningResults, rand
from letstune.training.checkpoints import Checkpoint


class Point(Params):
    x: float = rand.uniform(-1, 1)
    n: int = rand.ints(1, 9)


class Hill(SimpleTrainer[Point]):
    """Trains in one go. Its model is its params."""

    metric = "height"

    def load_dataset(self, dataset: Any) -> None:
        self.dataset = dataset

    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        return params, {"height": 1 - params.x**2, "n": params.n}


class Climb(EpochTrainer[Point]):
    """Climbs from x by random steps; its model is the list of the heights so far."""

    metric = "height"

    def load_dataset(self, dataset: Any) -> None:
        self.dataset = dataset

    def create_model(self, params: Point) -> None:
        self.model = [params.x]

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.model.append(self.model[-1] + float(self.rng.normal()))
        return {"height": self.model[-1], "epoch": epoch}


class Folders(Climb):
    """Climbs, and saves in a format of its own, in several files."""

    def save(self, checkpoint: Checkpoint) -> None:
        for place, height in enumerate(self.model):
            folder = checkpoint.path / f"höhe {place}"
            folder.mkdir()
            (folder / "at").write_text(repr(height))

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        folders = sorted(checkpoint.path.iterdir(), key=lambda folder: int(folder.name.split()[1]))
        self.model = [float((folder / "at").read_text()) for folder in folders]


def tune(trainer: Any, n_trials: int, journal: Path, **options: Any) -> TuningResults:
    """Tune without a word or a rehearsal, with a seed, however many trials fail."""
    quietly = {"journal": journal, "seed": 1, "progress": False, "max_failures": 0}
    quietly["rehearse"] = False  # most tests count what is trained
    return letstune.tune(trainer, n_trials, **{**quietly, **options})


class Odd(Climb):
    """Returns the values of its dataset, one an epoch; None raises an exception."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        value = self.dataset[epoch]
        if value is None:
            raise ValueError("as asked for")
        return {"height": value, "negated": -value, "other": 0.1}


def made(path: Path) -> None:
    """Make a small journal."""
    tune(Climb(), 6, path, rounds=[1, 1])


class Modelled(Params):
    model_cls = dict

    x: float = rand.uniform(0, 1)
