"""A trial that fails is recorded with its traceback, told, and ends no run."""

from pathlib import Path
from typing import Any

import pytest
from failing_trainer import Hopeless, Unlucky
from journal_facts import facts
from small_trainers import Hill, Point, tune

import letstune
from letstune import EpochTrainer
from letstune.errors import (
    LetstuneError,
    TrainerError,
)
from letstune.training.checkpoints import Checkpoint


class Faulty(EpochTrainer[Point]):
    """Raises in the given call of every other trial."""

    metric = "height"

    def __init__(self, where: str) -> None:
        self.where = where

    def fail(self, where: str, params: Point) -> None:
        if where == self.where and params.n % 2:
            raise OSError(f"no way to {where}")

    def load_dataset(self, dataset: Any) -> None:
        pass

    def create_model(self, params: Point) -> None:
        self.params = params
        self.fail("create_model", params)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.fail("train_epoch", self.params)
        return {"height": self.params.n % 2 + self.params.x / 10}

    def save(self, checkpoint: Checkpoint) -> None:
        self.fail("save", self.params)
        checkpoint.save_pickle(self.params)

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        self.params = checkpoint.load_pickle()
        self.fail("load", params)


@pytest.mark.parametrize("where", ["create_model", "train_epoch", "save", "load"])
def test_a_failure_is_recorded_with_its_traceback_and_the_run_goes_on(
    where: str, path: Path
) -> None:
    tuning = tune(Faulty(where), 8, path, rounds=[1, 1])
    assert tuning.finished
    assert tuning.errors
    for error in tuning.errors:
        assert error.message == f"OSError: no way to {where}"
        assert error.kind == "raised"
        assert error.epoch == (1 if where == "load" else 0)
        assert 'raise OSError(f"no way to {where}")' in error.traceback
        trial = tuning.trial(error.trial_id)
        assert trial.params.n % 2 == 1
        assert trial.status == "failed"
    assert tuning[0].status == "trained"


def test_a_failed_save_records_no_epoch(path: Path) -> None:
    tuning = tune(Faulty("save"), 8, path, rounds=[1])
    assert {len(trial.epochs) for trial in tuning if trial.status == "failed"} == {0}


@pytest.mark.parametrize("where", ["create_model", "train_epoch", "save", "load"])
def test_passed_through_an_error_is_raised_after_it_is_recorded(where: str, path: Path) -> None:
    with pytest.raises(OSError, match=f"no way to {where}"):
        tune(Faulty(where), 8, path, rounds=[1, 1], passthrough_errors=True)
    assert [error.message for error in letstune.load(path).errors] == [
        f"OSError: no way to {where}"
    ]
    other = path.with_name("other.db")
    tune(Faulty(where), 8, other, rounds=[1, 1])
    letstune.resume(path, progress=False, max_failures=0)
    assert facts(path) == facts(other)


def test_a_run_may_fail_altogether(path: Path) -> None:
    tuning = tune(Hopeless(), 3, path)
    assert tuning.finished
    assert len(tuning.errors) == 3
    with pytest.raises(LetstuneError, match="no trial has a result yet"):
        _ = tuning.best


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "error", [Odd(), StopIteration(), MemoryError(), RecursionError("deep"), ValueError("\ud800")]
)
def test_any_exception_is_a_failure(error: Exception, path: Path) -> None:
    class Raising(Hill):
        def train(self, params: Point) -> Any:
            raise error

    assert len(tune(Raising(), 2, path).errors) == 2


def test_an_error_of_load_dataset_ends_the_run_and_can_be_mended(path: Path) -> None:
    class NoData(Hill):
        def load_dataset(self, dataset: Any) -> None:
            (Path(dataset) / "x").read_bytes()

    with pytest.raises(FileNotFoundError) as caught:
        tune(NoData(), 2, path, dataset=str(path.parent))
    assert "load_dataset" in caught.value.__notes__[0]
    (path.parent / "x").touch()
    assert letstune.resume(path, progress=False).errors == []


def test_a_metric_that_is_missing_leaves_no_failure(path: Path) -> None:
    class Missing(Hill):
        metric = "depth"

    with pytest.raises(TrainerError, match=r"no 'depth', which is the trainer's metric.*height"):
        tune(Missing(), 2, path)
    assert facts(path)["failures"] == facts(path)["epochs"] == []


def test_all_trials_failing_is_told(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tune(Hopeless(), 3, path)
    told = capfd.readouterr().err
    assert told.startswith("letstune: All 3 trials failed alike: ValueError: never (in ")
    assert f"`letstune show {path} 0` has the traceback" in told


def test_where_to_read_of_failures_is_told(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    results = tune(Unlucky(), 6, path, progress=None)
    first, *others = [error.trial_id for error in results.errors]
    assert 0 < len(others) < 5
    told = capfd.readouterr().err
    assert f"letstune: {len(others) + 1} of 6 trials failed alike: ValueError: below" in told
    assert f"`letstune show {path} {first}`" in told
    assert f"`letstune retry {path}`" in told
    letstune.resume(path, progress=False)
    assert capfd.readouterr().err == ""
