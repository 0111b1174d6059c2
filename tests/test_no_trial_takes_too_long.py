"""A trial takes as long as it may, and what cannot be killed holds up nothing."""

import os
import signal
import sys
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import unhidden
from journal_facts import assert_same, query
from live_processes import gone, pids, wait_for
from night_family import descendants, start
from small_trainers import Climb, Point, tune

import letstune
from letstune.errors import WorkerError
from letstune.rounds.events import (
    Task,
)
from letstune.runs.check import check_run
from letstune.training import supervisor
from letstune.training.stores import DirectoryStore
from letstune.workers import process_executor as pool
from letstune.workers import slot as slots
from letstune.workers import worker_process as worker_processes
from letstune.workers.job import Job
from letstune.workers.process_executor import ProcessExecutor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Slow(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        time.sleep(0.03)
        return super().train_epoch(epoch)


def test_a_trial_may_take_so_long_and_no_longer(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tuning = tune(Slow(), 1, path, rounds=[100_000], trial_timeout=0.5)
    assert query(path, "SELECT * FROM failures") == []
    ((epoch,),) = query(path, "SELECT epoch FROM stops")
    (row,) = query(path, "SELECT count(*), sum(seconds) FROM epochs")
    assert epoch + 1 == row[0] > 0
    assert row[1] < 5  # not 0.5: on a busy machine, the owner may be late
    assert "trial 0 is stopped. It took longer than trial_timeout, 0.5 s." in capfd.readouterr().err
    assert tuning[0].status == "stopped"
    assert tuning[0].checkpoint is not None  # it keeps what it has


@pytest.mark.slow
def test_a_trial_fails_that_has_no_epoch_in_its_time(path: Path) -> None:
    tune(Stuck(), 2, path, rounds=[1], trial_timeout=1, dataset=str(path.parent))
    ((trial, epoch, kind, message, told),) = query(
        path, "SELECT trial, epoch, kind, message, traceback FROM failures"
    )
    assert (trial, epoch, kind) == (0, 0, "timed out")
    assert message == "It took longer than trial_timeout, 1 s."
    assert "in train_epoch" in told


class Loading(Climb):
    """Takes too long to load its dataset at first. ``dataset`` is a folder, and how often."""

    def load_dataset(self, dataset: Any) -> None:
        folder, times = dataset
        if len(list(Path(folder).glob("loading *"))) < times:
            (Path(folder) / f"loading {os.getpid()}").touch()
            time.sleep(1000)


@pytest.mark.slow
def test_a_dataset_that_takes_too_long_is_no_trials_failure(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    limits = {"epoch_timeout": 1, "trial_timeout": 1000}
    tune(Loading(), 2, path, rounds=[1], **limits, dataset=(str(path.parent), 2))
    assert query(path, "SELECT * FROM failures") == []
    told = "load_dataset took longer than epoch_timeout, 1 s. Another worker tries."
    assert capfd.readouterr().err.count(told) == 2


@pytest.mark.slow
def test_a_dataset_that_takes_too_long_again_and_again_ends_the_run(path: Path) -> None:
    with pytest.raises(WorkerError, match="load_dataset took longer than epoch_timeout") as caught:
        tune(Loading(), 2, path, rounds=[1], epoch_timeout=0.5, dataset=(str(path.parent), 99))
    assert "in load_dataset" in str(caught.value)
    assert query(path, "SELECT * FROM failures") == []


@pytest.mark.slow
def test_time_in_which_all_was_suspended_does_not_count(path: Path) -> None:
    with start(path, 1, epoch_timeout=4) as process:
        family = descendants(process.pid)
        for pid in reversed(family):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        for pid in family:
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.3)
        path.with_name("witness").joinpath("go").touch()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert query(path, "SELECT * FROM failures") == []


@pytest.mark.slow
def test_an_owner_that_is_stopped_alone_fails_nobody(path: Path) -> None:
    with start(path, 2, epoch_timeout=2) as process:
        os.kill(process.pid, signal.SIGSTOP)
        go = path.with_name("witness") / "go"
        go.touch()  # so all epochs in flight end, and the workers wait for the owner
        time.sleep(2.5)
        os.kill(process.pid, signal.SIGCONT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    straight = path.with_name("straight.db")
    with start(straight, 0, epoch_timeout=2) as process:
        go.touch()
        process.communicate(timeout=60)
    assert_same(path, straight)


class Late(Climb):
    """Ends its epochs, and saves, when their time is up and their stacks are written."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        time.sleep(0.6)
        return super().train_epoch(epoch)


def test_what_is_saved_too_late_is_deleted(path: Path) -> None:
    tune(Late(), 1, path, rounds=[1], epoch_timeout=0.2)
    assert query(path, "SELECT epoch, kind FROM failures") == [(0, "timed out")]
    assert not unhidden(path.with_name("run.checkpoints"))
    assert check_run(path) == []


class Stuck(Climb):
    """Hangs in its very first epoch, and ignores all it can. ``dataset`` is a folder.

    If there is a file "stop", its supervisor is stopped, and so does not obey.
    """

    def load_dataset(self, dataset: Any) -> None:
        self.folder = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        stuck = self.folder / "stuck"
        if not stuck.exists():
            for which in (signal.SIGTERM, supervisor.END):
                signal.signal(which, signal.SIG_IGN)
            if (self.folder / "stop").exists():
                os.kill(os.getppid(), signal.SIGSTOP)
            stuck.write_text(f"{os.getpid()} {os.getppid()}")
            while True:
                time.sleep(1000)
        return super().train_epoch(epoch)


FEEBLE = """
import os, signal, sys

def feebly(kill):
    return lambda pid, which: None if which == signal.SIGKILL else kill(pid, which)

os.kill, os.killpg = feebly(os.kill), feebly(os.killpg)
with open({source!r}) as file:
    source = file.read().replace("PATIENCE: float = 5.0", "PATIENCE: float = 0.3")
exec(compile(source, "supervisor.py", "exec"))
"""
"""A supervisor whose SIGKILL does nothing, as it is with a process that hangs in the kernel."""


@pytest.mark.slow
def test_a_process_that_cannot_be_killed_does_not_hold_up_the_run(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    feeble = path.with_name("feeble.py")
    feeble.write_text(FEEBLE.format(source=supervisor.__file__))
    monkeypatch.setattr(supervisor, "__file__", str(feeble))
    monkeypatch.setattr(slots, "GRACE", 0.2)
    monkeypatch.setattr(slots, "DUMPING", 0.5)
    tune(Stuck(), 2, path, rounds=[1], workers=1, epoch_timeout=1, dataset=str(path.parent))
    assert query(path, "SELECT trial, kind FROM failures") == [(0, "timed out")]
    assert query(path, "SELECT trial FROM epochs") == [(1,)]
    worker, beside = pids(path.with_name("stuck"))
    assert f"process {worker} cannot be killed" in capfd.readouterr().err
    assert gone([worker, beside])  # this one can be: it was killed along with its supervisor


@pytest.mark.slow
def test_a_supervisor_that_does_not_answer_does_not_hold_up_the_run(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.with_name("stop").touch()
    monkeypatch.setattr(slots, "GRACE", 0.2)
    monkeypatch.setattr(slots, "DUMPING", 0.2)
    monkeypatch.setattr(slots, "LAST", 0.2)
    tune(Stuck(), 2, path, rounds=[1], workers=1, epoch_timeout=1, dataset=str(path.parent))
    assert query(path, "SELECT trial, kind FROM failures") == [(0, "timed out")]
    assert query(path, "SELECT trial FROM epochs") == [(1,)]
    assert gone(pids(path.with_name("stuck")))


def test_a_supervisor_that_does_not_answer_does_not_hold_up_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.with_name("stop").touch()
    monkeypatch.setattr(pool, "GRACE", 0.2)
    monkeypatch.setattr(worker_processes, "LAST", 0.2)
    store = DirectoryStore(path.with_name("store"))
    job = Job.of(Stuck(), str(path.parent), store, journal=path, seed=1)
    with closing(ProcessExecutor(job, 1, "token")) as executor:
        executor.start(Task(0, "a", Point(x=0.5, n=1).to_json(), 0, 0.0, 1, False))
        wait_for(lambda: path.with_name("stuck").exists())
    assert gone(pids(path.with_name("stuck")))


def test_timeouts_are_recorded_and_may_change(path: Path) -> None:
    limits = {"epoch_timeout": timedelta(minutes=5), "trial_timeout": 900, "max_deaths": 7}
    tune(Climb(), 2, path, rounds=[1], **limits)
    assert letstune.resume(path, n_trials=3, trial_timeout=0, workers=1, progress=False).finished
    facts = query(path, "SELECT fact, value FROM plan ORDER BY seq")
    wanted = {"epoch_timeout": "300.0", "trial_timeout": "null", "max_deaths": "7", "workers": "1"}
    assert dict(facts) == {**dict(facts), **wanted}
