"""Trainers that forget one thing each when they save, and the same trainers when they forget none.

What frameworks have is stood in for by NumPy: an optimizer, a scheduler, a scaler, a generator, and
the workers of a loader that live on from epoch to epoch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

import letstune
from letstune import EpochTrainer, Params, rand
from letstune.training.checkpoints import Checkpoint


class Start(Params):
    x: float = rand.uniform(0, 1)


class Adam:
    """An optimizer with moments, which it makes as it needs them."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.lr = 0.1

    def step(self, weights: Any, gradient: Any) -> None:
        first = self.state.setdefault("first", np.zeros_like(weights))
        second = self.state.setdefault("second", np.zeros_like(weights))
        first += 0.1 * (gradient - first)
        second += 0.01 * (gradient**2 - second)
        weights -= self.lr * first / (np.sqrt(second) + 1e-8)


class Plateau:
    """A scheduler that acts only once the loss has not improved for ten epochs."""

    def __init__(self) -> None:
        self.best = float("inf")
        self.bad = 0

    def step(self, loss: float) -> float:
        self.bad = 0 if loss < self.best else self.bad + 1
        self.best = min(self.best, loss)
        return 0.1 if self.bad > 10 else 1.0


class Scaler:
    """A scaler that acts only after two thousand steps."""

    def __init__(self) -> None:
        self.scale = 65536.0
        self.good = 0

    def update(self) -> None:
        self.good += 1
        if self.good == 2000:
            self.scale, self.good = 2 * self.scale, 0


class Workers:
    """The workers of a loader, each of which goes on with its own generator."""

    def __init__(self) -> None:
        self.generators = [np.random.default_rng(n) for n in range(2)]

    def noise(self) -> float:
        return float(sum(generator.normal() for generator in self.generators))


class Loader:
    """A loader that starts its workers in its first epoch."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(3)
        self.workers: Workers | None = None

    def batches(self, rows: int) -> Iterator[Any]:
        self.workers = self.workers or Workers()
        yield from self.generator.permutation(rows).reshape(5, -1)


class Saving(EpochTrainer[Start]):
    """A linear model that saves what it needs, and has much that it does not need."""

    metric = "-loss"
    saved: ClassVar[tuple[str, ...]] = ("weights", "optimizer", "scheduler", "scaler", "loader")

    def load_dataset(self, dataset: Any) -> None:
        self.rows = np.random.default_rng(0).normal(size=(40, 4))
        self.target = self.rows @ np.arange(4.0)

    def create_model(self, params: Start) -> None:
        self.weights = np.full(4, params.x)
        self.optimizer, self.scheduler, self.scaler = Adam(), Plateau(), Scaler()
        self.loader = Loader()
        self.losses: list[float] = []
        self.seconds = 0.0
        self.last_loss: float | None = None
        self.predictions: dict[int, Any] = {}

    def train_epoch(self, epoch: int) -> dict[str, float]:
        began = time.perf_counter()
        self.noise = np.random.default_rng(self.seed)  # anew in each epoch
        for batch in self.loader.batches(len(self.rows)):
            error = self.rows[batch] @ self.weights - self.target[batch]
            self.optimizer.step(self.weights, self.rows[batch].T @ error + self.noise.normal())
            self.scaler.update()
        self.predictions[epoch] = self.rows @ self.weights
        loss = float(np.mean((self.predictions[epoch] - self.target) ** 2))
        self.optimizer.lr *= self.scheduler.step(loss)
        self.losses.append(loss)
        self.last_loss = loss
        self.seconds += time.perf_counter() - began
        return {"loss": loss}

    def save(self, checkpoint: Checkpoint) -> None:
        checkpoint.save_pickle({name: getattr(self, name) for name in self.saved})

    def load(self, checkpoint: Checkpoint, params: Start) -> None:
        self.create_model(params)
        vars(self).update(checkpoint.load_pickle())


class WithoutOptimizer(Saving):
    saved = ("weights", "scheduler", "scaler", "loader")


class WithoutScheduler(Saving):
    saved = ("weights", "optimizer", "scaler", "loader")


class WithoutScaler(Saving):
    saved = ("weights", "optimizer", "scheduler", "loader")


class WithoutGenerator(Saving):
    saved = ("weights", "optimizer", "scheduler", "scaler")


class WithWorkers(Saving):
    """Has what workers add to the data, who are not saved with the rest of the loader."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        values = super().train_epoch(epoch)
        assert self.loader.workers is not None
        return {"loss": values["loss"] + self.loader.workers.noise()}

    def save(self, checkpoint: Checkpoint) -> None:
        workers, self.loader.workers = self.loader.workers, None
        super().save(checkpoint)
        self.loader.workers = workers


class StartingOver(Saving):
    """Trains what it has just created, whatever was saved, as one without a checkpoint."""

    def load(self, checkpoint: Checkpoint, params: Start) -> None:
        self.create_model(params)


class ChangingTheDataset(Saving):
    """Trains on what is left of a shared array, as one of a library that takes its dataset over."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        values = super().train_epoch(epoch)
        self.target -= 0.1 * self.rows @ self.weights
        return values

    def save(self, checkpoint: Checkpoint) -> None:
        self.saved_target = self.target
        super().save(checkpoint)


class Library(Saving):
    """Is not the same after a load, whatever it saves: its next fit begins in another way."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        values = super().train_epoch(epoch)
        return {"loss": values["loss"] + next(self.fits)}

    def create_model(self, params: Start) -> None:
        super().create_model(params)
        self.fits = iter((0.0, 0.5, 0.25, 0.125))  # as is hidden in a library


class Reloading(Library):
    reload = True


class InAFunction(letstune.GeneratorTrainer[Start]):
    """Trains in a function, and forgets a scaler."""

    metric = "-loss"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train(self, params: Start, run: letstune.TrialRun) -> Iterator[Mapping[str, float]]:
        began = time.perf_counter()
        loss, scaler, losses = params.x, Scaler(), []
        if run.saved:
            loss = float((run.saved / "loss").read_text())
        for _epoch in run.epochs():
            loss *= float(self.rng.random())
            scaler.update()
            losses.append(time.perf_counter() - began)
            (run.path / "loss").write_text(repr(loss))
            yield {"loss": loss}
