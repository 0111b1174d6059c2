"""Small trainers, in a module of their own: forked and restarted processes import them."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import letstune
from letstune import EpochTrainer, Params, Sampler, SimpleTrainer, StopTraining, rand


class Linear(Params):
    alpha: float = rand.uniform(1e-4, 1, log=True)


class Tree(Params):
    depth: int = rand.ints(1, 30, log=True)
    leaf: float = rand.normal(0.1, 1, log=True)


class Model(Params):
    model: Linear | Tree
    x: float = rand.uniform(-5, 5)
    y: float = rand.uniform(0, 1, step=0.1)
    kind: str | int = rand.oneof(["a", "b", 3], weights=[1, 2, 3])
    noisy: bool


class Hill(SimpleTrainer[Model]):
    metric = "height"

    def load_dataset(self, dataset: Any) -> None:
        self.dataset = dataset

    def train(self, params: Model) -> tuple[Any, dict[str, float]]:
        if params.x > 4.5:
            raise ValueError("too far")
        return params, {"height": -(params.x**2) - params.y}


class Climb(EpochTrainer[Model]):
    """Gets better with epochs; some trials fail, some stop, some diverge."""

    metric = "height"

    def load_dataset(self, dataset: Any) -> None:
        self.dataset = dataset

    def create_model(self, params: Model) -> None:
        self.model = {"x": params.x, "epochs": 0}

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.model["epochs"] += 1
        if self.model["x"] > 4:
            raise ValueError("too far")
        if self.model["x"] < -4.5:
            return {"height": math.nan, "loss": math.inf}
        height = -(self.model["x"] ** 2) - 5 / self.model["epochs"] + 0.1 * float(self.rng.normal())
        if self.model["x"] > 3:
            raise StopTraining({"height": height, "loss": 1.0})
        return {"height": height, "loss": -height}


def recorded(sampler: Sampler) -> str:
    """Return what a journal says of the sampler of its run."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "run.db")
        with suppress(Exception):  # if it cannot propose: the plan is written before that
            letstune.tune(Hill(), 1, sampler=sampler, journal=path, progress=False)
        with closing(sqlite3.connect(path)) as db:
            ((found,),) = db.execute("SELECT value FROM plan WHERE fact = 'sampler'")
        return str(found)
