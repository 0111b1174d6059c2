"""A trial may stop early; what it raises is its own failure."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
from small_trainers import Climb, Hill, Point, tune

import letstune
from letstune import EpochTrainer, Rounds, StopTraining
from letstune.errors import SpaceError
from letstune.training.checkpoints import Checkpoint


class Stopping(EpochTrainer[Point]):
    """Stops in the given call, in epoch 1, with or without metric values."""

    metric = "height"

    def __init__(self, where: str, *metrics: dict[str, float]) -> None:
        self.where = where
        self.metrics = metrics

    def stop(self, where: str) -> None:
        if where == self.where:
            raise StopTraining(*self.metrics)

    def load_dataset(self, dataset: Any) -> None:
        pass

    def create_model(self, params: Point) -> None:
        self.stop("create_model")
        self.model = "model"

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        self.stop("load")
        self.model = "loaded"

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            self.stop("train_epoch")
        self.model = f"model {epoch}"
        return {"height": float(epoch)}


@pytest.mark.parametrize(
    ("trainer", "heights"),
    [
        (Stopping("train_epoch"), [0.0]),
        (Stopping("train_epoch", {"height": 7.0}), [0.0, 7.0]),
        (Stopping("create_model"), []),
        (Stopping("load"), [0.0]),
    ],
)
def test_a_trial_that_stops_is_finished_and_not_failed(
    trainer: Any, heights: list[float], path: Path
) -> None:
    tuning = tune(trainer, 1, path, rounds=[1, 3])
    assert tuning.finished
    assert tuning.errors == []
    assert tuning[0].status == "stopped"
    assert [epoch.metric_value for epoch in tuning[0].epochs] == heights


def test_what_a_trial_stops_with_is_saved(path: Path) -> None:
    tuning = tune(Stopping("train_epoch", {"height": 7.0}), 1, path, rounds=[4])
    assert tuning[0].checkpoint.load_pickle() == "model 0"


def test_stopping_without_the_metric_is_told(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = tune(Stopping("train_epoch", {"depth": 7.0}), 1, path, rounds=[4], progress=None)
    assert "returned no 'height'" in capsys.readouterr().err
    assert tuning[0].status == "stopped"
    assert math.isnan(tuning[0].epochs[-1].metric_value)


class StoppingSimply(Hill):
    """Every other trial stops."""

    def __init__(self, *metrics: dict[str, float]) -> None:
        self.metrics = metrics

    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        if params.n % 2:
            raise StopTraining(*self.metrics)
        return params, {"height": params.n}


def test_a_simple_trainer_may_stop_without_metric_values(path: Path) -> None:
    tuning = tune(StoppingSimply(), 8, path)
    assert tuning.errors == []
    assert {(t.status, len(t.epochs)) for t in tuning} == {("stopped", 0), ("trained", 1)}


def test_a_simple_trainer_may_stop_with_metric_values_and_without_a_model(path: Path) -> None:
    tuning = tune(StoppingSimply({"height": 99.0}), 8, path)
    assert tuning.errors == []
    stopped = [trial for trial in tuning if trial.status == "stopped"]
    assert [trial.metric_value for trial in stopped] == [99.0] * len(stopped) != []
    for trial in stopped:  # certainly not the model of another trial
        with pytest.raises(letstune.LetstuneError, match="never there"):
            trial.checkpoint.load_pickle()


class RaisingSpaceError(Hill):
    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        if params.n % 2:
            params.replace(x="wrong")
        return params, {"height": params.n}


def test_an_error_of_letstune_that_a_trainer_runs_into_is_its_trials_failure(path: Path) -> None:
    tuning = tune(RaisingSpaceError(), 8, path)
    assert tuning.finished
    assert 0 < len(tuning.errors) < 8
    assert all(SpaceError.__name__ in error.traceback for error in tuning.errors)


class StoppingInSave(Climb):
    def save(self, checkpoint: Checkpoint) -> None:
        super().save(checkpoint)
        if len(self.model) == 3 and self.model[0] < 0:
            raise StopTraining


def test_to_stop_in_save_is_to_stop_after_the_epoch(path: Path) -> None:
    tuning = tune(StoppingInSave(), 8, path, rounds=[3])
    assert tuning.finished
    assert tuning.errors == []
    stopped = {t.trial_id for t in tuning if t.params.x < 0}
    assert 0 < len(stopped) < 8
    assert {t.trial_id for t in tuning if t.status == "stopped"} == stopped
    assert {(t.status, len(t.epochs)) for t in tuning} == {("stopped", 2), ("trained", 3)}
    assert all(t.checkpoint.load_pickle() for t in tuning)


class Exiting(Stopping):
    """Ends the program."""

    def stop(self, where: str) -> None:
        if where == self.where:
            sys.exit("no GPU")


@pytest.mark.parametrize("where", ["create_model", "load", "train_epoch"])
def test_an_exit_is_the_trials_failure(where: str, path: Path) -> None:
    tuning = tune(Exiting(where), 3, path, rounds=Rounds([1, 3], keep=1))
    assert tuning.finished
    assert [error.message for error in tuning.errors] == ["SystemExit: no GPU"] * 3
