"""A trainer knows its trial, and how many epochs there are at most, whatever happens to rounds."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from small_trainers import Climb, Hill, tune

import letstune
from letstune.errors import TrainerError


class Scheduled(Climb):
    """Anneals over all epochs."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        return {"height": (epoch + 1) / self.horizon, "trial": self.trial}

    def load(self, checkpoint: Any, params: Any) -> None:
        super().load(checkpoint, params)
        assert self.horizon == 6


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_it_is_told_its_trial_and_the_most_epochs(path: Path, workers: int | None) -> None:
    tuning = tune(Scheduled(), 8, path, rounds=[2, 4], workers=workers)
    assert tuning.errors == []
    assert tuning.best.metric_value == 1.0
    for trial in tuning:
        assert {epoch.metric_values["trial"] for epoch in trial.epochs} == {trial.trial_id}


def test_the_horizon_stays_when_rounds_grow(path: Path) -> None:
    tune(Scheduled(), 8, path, rounds=[2, 4])
    tuning = letstune.resume(path, rounds=[2, 6], progress=False)
    assert tuning.errors == []
    assert tuning.best.metric_value == 8 / 6


class InTime(Scheduled):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        with pytest.raises(TrainerError, match="whose rounds are in epochs, and not in time"):
            _ = self.horizon
        return {"height": 1.0}


def test_rounds_in_time_have_no_horizon(path: Path) -> None:
    assert tune(InTime(), 2, path, rounds=[timedelta(microseconds=1)]).errors == []


class Simple(Hill):
    def load_dataset(self, dataset: Any) -> None:
        with pytest.raises(TrainerError, match=r"Simple\.trial exists only in the training"):
            _ = self.trial
        assert self.horizon == 1
        super().load_dataset(dataset)

    def train(self, params: Any) -> Any:
        return None, {"height": float(self.trial)}


def test_there_is_no_trial_while_the_dataset_is_loaded(path: Path) -> None:
    assert [trial.metric_value for trial in tune(Simple(), 3, path)] == [2.0, 1.0, 0.0]


class OwnTrial(Climb):
    def create_model(self, params: Any) -> None:
        super().create_model(params)
        self.trial = "mine"  # type: ignore[assignment]
        self.horizon = 3

    def train_epoch(self, epoch: int) -> dict[str, float]:
        assert (self.trial, self.horizon) == ("mine", 3)
        return {"height": 1.0}


def test_fields_of_its_own_with_these_names_stay(path: Path) -> None:
    assert tune(OwnTrial(), 2, path, rounds=[2]).errors == []


def test_outside_of_a_run_there_is_neither() -> None:
    for name in ("trial", "horizon"):
        with pytest.raises(TrainerError, match=f"Climb.{name} exists only"):
            getattr(Climb(), name)
