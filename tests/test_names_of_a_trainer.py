"""A trainer's fields are its own; what letstune provides cannot be replaced unnoticed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_trainers import Climb, Hill, tune

import letstune
from letstune.errors import TrainerError


class Generating(Climb):
    """Uses the names that people use for generators of their own."""

    def load_dataset(self, dataset: Any) -> None:
        super().load_dataset(dataset)
        self._rng = np.random.default_rng(3)
        self._stream = ["a"]

    def train_epoch(self, epoch: int) -> dict[str, float]:
        assert self._stream == ["a"]
        assert self._rng is not self.rng
        return {
            **super().train_epoch(epoch),
            "own": float(self._rng.bit_generator.seed_seq.entropy),
        }  # type: ignore[attr-defined]


def test_a_generator_of_a_trainers_own_stays_what_it_is(path: Path) -> None:
    tuning = tune(Generating(), 3, path, rounds=[2])
    assert tuning.errors == []
    assert {epoch.metric_values["own"] for trial in tuning for epoch in trial.epochs} == {3.0}


class Seeded(Hill):
    def __init__(self) -> None:
        self.seed = 5


class SeededByClass(Hill):
    seed = 5


@dataclass
class SeededDataclass(Hill):
    seed: int = 5


@pytest.mark.parametrize("trainer", [Seeded(), SeededByClass(), SeededDataclass()])
def test_a_seed_of_its_own_is_refused_before_anything_is_written(trainer: Any, path: Path) -> None:
    with pytest.raises(TrainerError, match=r"has a seed of its own.*such as data_seed"):
        tune(trainer, 3, path)
    assert not path.exists()


class Drawing(Hill):
    @property
    def rng(self) -> Any:
        return np.random.default_rng()


def test_a_generator_in_the_place_of_letstunes_is_refused(path: Path) -> None:
    with pytest.raises(TrainerError, match=r"Drawing has a rng of its own"):
        tune(Drawing(), 3, path)


def test_to_set_rng_is_an_error_that_says_what_to_do() -> None:
    trainer = Hill()
    with pytest.raises(TrainerError, match=r"Hill sets self\.rng, which letstune provides"):
        trainer.rng = np.random.default_rng()  # type: ignore[misc, unused-ignore]


def test_a_run_of_such_a_trainer_that_is_there_still_resumes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("letstune.runs.request.check_names", lambda trainer: None)
        tune(Seeded(), 3, path)
    assert len(letstune.resume(path, n_trials=4, progress=False)) == 4
