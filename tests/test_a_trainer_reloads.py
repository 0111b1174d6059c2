"""With `reload = True`, a trainer is loaded before each epoch, so pieces are as straight on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from journal_facts import facts, metrics_of
from small_trainers import Climb, Hill, Point, tune

import letstune
from letstune import GeneratorTrainer, StopTraining, TrialRun
from letstune.errors import TrainerError
from letstune.runs.check import check_run
from letstune.training.checkpoints import Checkpoint

CALLS: list[str] = []


class Losing(Climb):
    """Loses something by each load, as a framework does that rounds what it saves."""

    reload = True

    def create_model(self, params: Point) -> None:
        CALLS.append("create")
        super().create_model(params)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        CALLS.append(f"train {epoch}")
        return super().train_epoch(epoch)

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        CALLS.append("load")
        super().load(checkpoint, params)
        self.model = [round(height, 1) for height in self.model]


class Straight(Losing):
    reload = False


class Stopping(Losing):
    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        super().load(checkpoint, params)
        if len(self.model) == 3:
            raise StopTraining


class Unsaved(Losing):
    def save(self, checkpoint: Checkpoint) -> None:
        pass


class Sometimes(Losing):
    """Saves in every other epoch."""

    def save(self, checkpoint: Checkpoint) -> None:
        if len(self.model) % 2:
            super().save(checkpoint)


class Function(GeneratorTrainer[Point]):
    metric = "height"
    reload = True

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train(self, params: Point, run: TrialRun) -> Iterator[dict[str, float]]:
        height = float((run.saved / "height").read_text()) if run.saved else params.x
        CALLS.append("go on" if run.saved else "begin")
        for _ in run.epochs():
            height += float(self.rng.normal())
            (run.path / "height").write_text(f"{height:.1f}")
            yield {"height": height}


@pytest.fixture(autouse=True)
def calls() -> list[str]:
    CALLS.clear()
    return CALLS


def in_two_sessions(trainer: Any, path: Path, workers: int | None = None) -> Any:
    tune(trainer, 3, path, rounds=[1], workers=workers)
    letstune.resume(path, rounds=[2], progress=False, rehearse=False)
    letstune.resume(path, rounds=[5], progress=False, rehearse=False)
    return facts(path)["epochs"]


def test_it_is_loaded_before_every_epoch_but_the_first(path: Path) -> None:
    tune(Losing(), 1, path, rounds=[3])
    assert CALLS == ["create", "train 0", "load", "train 1", "load", "train 2"]


def test_without_it_nothing_is_loaded(path: Path) -> None:
    tune(Straight(), 1, path, rounds=[3])
    assert CALLS == ["create", "train 0", "train 1", "train 2"]


@pytest.mark.parametrize("workers", [None, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("trainer", [Losing(), Stopping(), Unsaved(), Sometimes(), Function()])
def test_what_is_resumed_is_as_if_it_had_never_stopped(
    trainer: Any, workers: int | None, path: Path
) -> None:
    other = path.with_name("other.db")
    tune(trainer, 3, other, rounds=[5], workers=workers)
    pieces = in_two_sessions(trainer, path, workers)
    assert [row[:4] for row in pieces] == [row[:4] for row in facts(other)["epochs"]]


def test_and_without_it_that_is_not_so(path: Path) -> None:
    other = path.with_name("other.db")
    tune(Straight(), 3, other, rounds=[5])
    assert in_two_sessions(Straight(), path) != facts(other)["epochs"]


def test_epochs_whose_checkpoints_are_lost_are_loaded_as_they_were(path: Path) -> None:
    other = path.with_name("other.db")
    tune(Losing(), 1, other, rounds=[5])
    tune(Losing(), 1, path, rounds=[3])
    for checkpoint in path.with_suffix(".checkpoints").glob("t*"):
        checkpoint.unlink()
    assert check_run(path, fix=True, train=False)
    CALLS.clear()
    letstune.resume(path, rounds=[5], progress=False, rehearse=False)
    assert CALLS[:6] == ["create", "train 0", "load", "train 1", "load", "train 2"]
    assert metrics_of(path) == metrics_of(other)


def test_a_trial_that_is_trained_again_comes_out_the_same(path: Path) -> None:
    tuning = tune(Losing(), 1, path, rounds=[3], keep_checkpoints="all")
    assert tuning[0].retrain(from_start=True).same
    assert tuning[0].retrain().same


def test_a_function_is_run_anew_for_each_epoch(path: Path) -> None:
    tune(Function(), 1, path, rounds=[3])
    assert CALLS == ["begin", "go on", "go on"]


class Number(Climb):
    reload: Any = 1


class InOneGo(Hill):
    reload = True


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (Number(), "Number.reload is 1; expected True or False"),
        (InOneGo(), "InOneGo.reload is True, but a SimpleTrainer trains in one go"),
    ],
)
def test_what_makes_no_sense_is_refused_before_the_run(
    trainer: Any, message: str, path: Path
) -> None:
    with pytest.raises(TrainerError, match=message):
        tune(trainer, 1, path)
    assert not path.exists()


@pytest.mark.slow
def test_rehearse_takes_it_for_what_it_is() -> None:
    assert letstune.rehearse(Straight(), epochs=2)
    assert letstune.rehearse(Losing(), epochs=2) == []
