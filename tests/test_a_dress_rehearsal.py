"""Before any trial goes on to a second round, one shows whether that can be done at all."""

import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from journal_facts import facts
from processes import TESTS, command
from small_trainers import Climb

import letstune
from letstune import EpochTrainer, Params, StopTraining, rand
from letstune.runs.check import check_run
from letstune.runs.loop import LOOK
from letstune.runs.skip import skip_trial

EPOCHS: list[tuple[int, int]] = []


class Place(Params):
    start: int = rand.ints(0, 1000)


class Going(EpochTrainer[Place]):
    """Goes up by steps that it must remember."""

    metric = "place"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def create_model(self, params: Place) -> None:
        self.model = {"at": float(params.start), "step": 1.0}

    def train_epoch(self, epoch: int) -> dict[str, float]:
        EPOCHS.append((int(self.model["at"]), epoch))
        self.model["step"] /= 2
        self.model["at"] += self.model["step"]
        return {"place": self.model["at"]}


class Forgetful(Going):
    def load(self, checkpoint: Any, params: Place) -> None:
        super().load(checkpoint, params)
        self.model["step"] = 1.0


class Stopping(Going):
    def load(self, checkpoint: Any, params: Place) -> None:
        raise StopTraining


class Signalled(Going):
    """Gets a signal in the epoch after which there would be a rehearsal."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 2:
            signal.raise_signal(signal.SIGTERM)
        return super().train_epoch(epoch)


class Skipped(Forgetful):
    """Has its first trial skipped as it is about to rehearse."""

    def load_dataset(self, dataset: Any) -> None:
        self.path = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if (self.trial, epoch) == (0, 2):
            skip_trial(self.path, 0)
            time.sleep(LOOK)
        return super().train_epoch(epoch)


class Broken(Going):
    def load(self, checkpoint: Any, params: Place) -> None:
        raise AttributeError("there is no booster to go on with")


class Timing(Going):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        EPOCHS.append((0, epoch))
        return {**super().train_epoch(epoch), "seconds": float(len(EPOCHS))}


def tune(trainer: Any, path: Path, n_trials: int = 8, **options: Any) -> Any:
    EPOCHS.clear()
    options = {"rounds": [3, 3], "seed": 1, "journal": path, **options}
    return letstune.tune(trainer, n_trials, **options)


def told(text: str) -> list[str]:
    return [line for line in text.splitlines() if "trained once more" in line]


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_it_leaves_no_trace(path: Path, workers: int | None, capfd: Any) -> None:
    other = path.with_name("other.db")
    tune(Going(), other, rehearse=False)
    without = len(EPOCHS)
    assert tune(Going(), path, workers=workers).finished
    assert workers or len(EPOCHS) == without + 1
    assert facts(path) == facts(other)
    assert check_run(path) == []
    assert not told(capfd.readouterr().err)


def test_it_comes_right_after_the_first_trials_first_round(path: Path) -> None:
    tune(Going(), path)
    assert [epoch for _, epoch in EPOCHS[:7]] == [0, 1, 2, 2, 0, 1, 2]


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_what_cannot_go_on_is_stopped_at_once(path: Path, workers: int | None, capfd: Any) -> None:
    tuning = tune(Broken(), path, workers=workers)
    assert not tuning.finished
    assert not tuning.errors  # nobody is to blame
    assert "AttributeError: there is no booster to go on with" in tuning.stopped
    assert "in load" in tuning.stopped  # the traceback
    assert "--no-rehearse" in tuning.stopped
    assert tuning.stopped in capfd.readouterr().err
    assert all(len(trial.epochs) <= 3 for trial in tuning)
    assert workers or len(tuning[0].epochs) == 3
    assert check_run(path) == []


def test_after_a_stop_the_mended_trainer_goes_on_as_if_nothing_had_been(path: Path) -> None:
    other = path.with_name("other.db")
    tune(Going(), other)
    tune(Broken(), path)
    assert letstune.resume(path, trainer=Going(), progress=False).finished
    for table in ("trials", "epochs", "failures", "stops"):
        assert facts(path)[table] == facts(other)[table]


def test_the_first_error_is_raised_if_that_is_asked_for(path: Path) -> None:
    with pytest.raises(AttributeError, match="no booster"):
        tune(Broken(), path, passthrough_errors=True)


def test_without_it_trials_fail_as_they_will(path: Path) -> None:
    assert len(tune(Broken(), path, rehearse=False, max_failures=0).errors) == 2


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_what_comes_out_differently_is_told_once(
    path: Path, workers: int | None, capfd: Any
) -> None:
    tuning = tune(Forgetful(), path, workers=workers)
    assert tuning.finished
    (line,) = told(capfd.readouterr().err)
    found = re.search(r"epoch 2, .*: place is (\d+\.\d+) instead of (\d+\.\d+)", line)
    assert found
    assert float(found[1]) - float(found[2]) == 0.375  # 0.5 instead of 0.125
    assert "save and load do not keep all" in line
    assert line.endswith(
        "Not the same after the load, and perhaps the reason: model['step']: 0.25 became 1."
    )


class Stumbling(Forgetful):
    """Fails when it is trained once more for the reason."""

    def create_model(self, params: Place) -> None:
        if any(epoch == 2 for _, epoch in EPOCHS):
            raise ValueError("the reason")
        super().create_model(params)


def test_who_fails_in_search_of_the_reason_is_not_stopped(path: Path, capfd: Any) -> None:
    tuning = tune(Stumbling(), path, n_trials=1)
    assert tuning.finished
    assert not tuning.errors
    (line,) = told(capfd.readouterr().err)
    assert "perhaps the reason" not in line


def test_times_among_the_metrics_are_not_taken_for_a_mistake(path: Path, capfd: Any) -> None:
    assert tune(Timing(), path).finished
    (line,) = told(capfd.readouterr().err)
    assert "seconds is" in line
    assert "place is the same to the last bit" in line


@pytest.mark.parametrize("rounds", [[1, 3], [1]])
def test_there_is_none_without_a_checkpoint_before_the_last_epoch(
    path: Path, rounds: list[int]
) -> None:
    tune(Broken(), path, rounds=rounds, max_failures=0)
    assert len({epoch for _, epoch in EPOCHS}) == 1


def test_a_trial_that_ends_itself_shows_nothing(path: Path, capfd: Any) -> None:
    class Ending(Going):
        def train_epoch(self, epoch: int) -> dict[str, float]:
            values = super().train_epoch(epoch)
            if epoch == 2:
                raise StopTraining(values)
            return values

        def load(self, checkpoint: Any, params: Place) -> None:
            raise AttributeError("never called")

    assert tune(Ending(), path).finished
    assert not told(capfd.readouterr().err)


def test_a_run_that_has_gone_on_needs_none(path: Path) -> None:
    tune(Going(), path)
    EPOCHS.clear()
    letstune.resume(path, n_trials=16, progress=False)
    more = len(EPOCHS)
    other = path.with_name("other.db")
    tune(Going(), other, rehearse=False)
    EPOCHS.clear()
    letstune.resume(other, n_trials=16, progress=False, rehearse=False)
    assert len(EPOCHS) == more


def test_the_checkpoint_that_it_needs_is_let_go_afterwards(path: Path) -> None:
    tune(Climb(), path, n_trials=1, rounds=[3])
    kept = list(path.with_suffix(".checkpoints").iterdir())
    other = path.with_name("other.db")
    tune(Climb(), other, n_trials=1, rounds=[3], rehearse=False)
    assert len(kept) == len(list(other.with_suffix(".checkpoints").iterdir()))


def test_a_run_of_one_round_is_told_and_goes_on(path: Path, capfd: Any) -> None:
    tuning = tune(Broken(), path, rounds=[3], passthrough_errors=True)
    assert tuning.finished
    assert not tuning.errors
    error = capfd.readouterr().err
    assert len(told(error)) == 1
    assert "in load" in error  # the traceback
    assert "The run goes on, since it has a single round." in error


def test_without_time_for_it_nothing_is_left_of_it(path: Path) -> None:
    assert tune(Signalled(), path, n_trials=1, rounds=[3]).finished
    other = path.with_name("other.db")
    tune(Signalled(), other, n_trials=1, rounds=[3], rehearse=False)
    assert facts(path) == facts(other)


def test_a_trial_that_is_stopped_before_the_end_of_it_is_told(path: Path, capfd: Any) -> None:
    tune(Stopping(), path)
    (line,) = told(capfd.readouterr().err)
    assert "came out differently: the trial was stopped. " in line
    assert "save and load do not keep all" in line


def test_if_its_trial_is_skipped_another_one_is_taken(path: Path, capfd: Any) -> None:
    assert tune(Skipped(), path, dataset=str(path)).finished
    (line,) = told(capfd.readouterr().err)
    assert "Trial 1, epoch 2" in line
    assert check_run(path) == []


@pytest.mark.slow
def test_the_command_ends_with_1(path: Path) -> None:
    def run(*arguments: str) -> Any:
        return command(*arguments, cwd=path.parent, paths=(TESTS,))

    path.parent.mkdir(exist_ok=True)
    done = run("tune", "test_a_dress_rehearsal:Broken", "-n8", "--rounds=3,3", f"--journal={path}")
    assert done.returncode == 1
    assert "no booster" in done.stderr
    done = run("resume", str(path), "--no-rehearse", "--max-failures=0")
    assert "all 2 in it failed alike" in done.stderr
