"""Randomness is derived from the seed, the trial and the epoch, and from nothing else."""

import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from journal_facts import metrics_of
from processes import python
from small_trainers import Climb, Hill, Point, tune

import letstune
from letstune import EpochTrainer
from letstune.errors import TrainerError
from letstune.training.checkpoints import Checkpoint


class Dice(EpochTrainer[Point]):
    """Draws from every source, in every call."""

    metric = "seed"

    def draw(self) -> list[float]:
        own = [float(self.seed), float(self.rng.random()), float(self.rng.random())]
        return [*own, random.random(), float(np.random.random())]

    def load_dataset(self, dataset: Any) -> None:
        self.first = self.draw()

    def create_model(self, params: Point) -> None:
        self.model = self.draw()

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        self.model = self.draw()

    def train_epoch(self, epoch: int) -> dict[str, float]:
        drawn = self.draw()
        groups = {"dataset": self.first, "model": self.model, "train": drawn}
        random.seed(1)  # what an epoch does to them does not reach the next one
        np.random.seed(1)
        named = {f"{name}{i}": v for name, vs in groups.items() for i, v in enumerate(vs)}
        return {"seed": drawn[0], **named}


def test_seeds_do_not_depend_on_what_ran_before(path: Path) -> None:
    tune(Dice(), 8, path, rounds=[2, 1])
    other = path.with_name("other.db")
    for n in (2, 5, 8):  # in several goes
        tune(Dice(), n, other, rounds=letstune.Rounds([2, 1], cohort=[8]))
    found, wanted = metrics_of(other), metrics_of(path)
    assert len(wanted) == 8 * 2 + 2
    assert {at: found[at] for at in wanted} == wanted


def test_seeds_are_the_same_in_another_process(path: Path) -> None:
    tune(Dice(), 4, path, rounds=[1, 1])
    script = (
        "import sys, pathlib, small_trainers\n"
        "from test_randomness_is_derived import Dice\n"
        "small_trainers.tune(Dice(), 4, pathlib.Path(sys.argv[1]), rounds=[1, 1])"
    )
    other = path.with_name("other.db")
    done = python("-c", script, other, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    assert metrics_of(other) == metrics_of(path)


def test_every_call_has_randomness_of_its_own(path: Path) -> None:
    tune(Dice(), 4, path, rounds=[2, 1])
    rows = metrics_of(path)
    for source in range(5):
        trains = [row[f"train{source}"] for row in rows.values()]
        creates = [row[f"model{source}"] for (_, epoch), row in rows.items() if epoch == 0]
        loads = [row[f"model{source}"] for (_, epoch), row in rows.items() if epoch == 2]
        dataset = {row[f"dataset{source}"] for row in rows.values()}
        drawn = [*trains, *creates, *loads, *dataset]
        assert len(set(drawn)) == len(drawn) == 9 + 4 + 1 + 1


def test_the_seed_is_one_that_every_framework_takes(path: Path) -> None:
    tune(Dice(), 4, path, rounds=[2])
    seeds = [row["train0"] for row in metrics_of(path).values()]
    assert all(0 <= seed < 2**31 and seed == int(seed) for seed in seeds)


@pytest.mark.parametrize("seed", [2**31, 2**32, 2**100])
def test_big_seeds_are_fine(path: Path, seed: int) -> None:
    assert len(tune(Dice(), 2, path, rounds=[1], seed=seed)) == 2


class Torch(Hill):
    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        return None, {"height": float(SEEDED[-1] == self.seed)}


SEEDED: list[int] = []


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("torch", SimpleNamespace(manual_seed=SEEDED.append)),
        ("tensorflow", SimpleNamespace(random=SimpleNamespace(set_seed=SEEDED.append))),
        ("keras", SimpleNamespace(utils=SimpleNamespace(set_random_seed=SEEDED.append))),
    ],
)
def test_imported_frameworks_are_seeded(
    name: str, module: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SEEDED.clear()
    monkeypatch.setitem(sys.modules, name, module)
    assert [trial.metric_value for trial in tune(Torch(), 2, path)] == [1.0, 1.0]


def test_rng_outside_of_a_run_says_when_it_is_there() -> None:
    with pytest.raises(TrainerError, match=r"Climb\.rng exists only during a run"):
        _ = Climb().rng


class LateTorch(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 0:
            sys.modules["torch"] = SimpleNamespace(manual_seed=SEEDED.append)  # type: ignore[assignment]
        return super().train_epoch(epoch)


def test_a_framework_that_is_imported_in_the_middle_is_told_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())  # to be put back
    del sys.modules["torch"]
    told = r"torch was first imported in the middle of trial 0.*load_dataset"
    with pytest.warns(UserWarning, match=told) as warned:
        tune(LateTorch(), 2, path, rounds=[3])
    assert len(warned) == 1


class TorchInTime(Hill):
    def load_dataset(self, dataset: Any) -> None:
        sys.modules["torch"] = SimpleNamespace(manual_seed=SEEDED.append)  # type: ignore[assignment]


def test_a_framework_may_be_imported_in_load_dataset(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())  # to be put back
    del sys.modules["torch"]
    tune(TorchInTime(), 2, path)  # a warning would be an error
