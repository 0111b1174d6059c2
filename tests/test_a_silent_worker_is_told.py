"""A worker that says nothing for long, beyond its own pace, or is stopped, is told on stderr."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from journal_facts import assert_same, query
from live_processes import wait_for
from small_trainers import Climb, Point, tune

from letstune.rounds.events import EpochFinished, Task, TaskEnded
from letstune.training.stores import DirectoryStore
from letstune.workers import silence as silences
from letstune.workers import slot as slots
from letstune.workers.commands import Answer, Came, Start
from letstune.workers.job import Job
from letstune.workers.remote_slots import RemoteSlots
from letstune.workers.silence import LEAST, LOOK, TIMES, UNKNOWN, Pace, Silence

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watched(
    silence: Silence, clock: Clock, seconds: float, stopped: Callable[[float], bool]
) -> list[float]:
    """Return when something is told, when it is looked as often as it is due."""
    told = []
    while silence.due <= seconds:
        clock.now = silence.due
        if silence.look(17, stopped(clock.now)):
            told.append(clock.now)
    return told


def never(_: float) -> bool:
    return False


def test_a_silence_is_long_by_the_pace_of_others(clock: Clock) -> None:
    pace = Pace()
    for seconds in (20, 30, 40):
        pace.took("epoch", seconds)
    silence = Silence(pace, clock)
    silence.begin("epoch", "trial 5, in epoch 2,")
    assert watched(silence, clock, 20 * TIMES * 30, never) == [
        TIMES * 30 * factor for factor in (1, 2, 4, 8, 16)
    ]


def test_what_is_quick_may_be_slow_for_a_while(clock: Clock) -> None:
    pace = Pace()
    pace.took("epoch", 0.01)
    silence = Silence(pace, clock)
    silence.begin("epoch", "trial 5, in epoch 2,")
    assert watched(silence, clock, 1.5 * LEAST, never) == [LEAST]


def test_what_was_never_done_may_take_long(clock: Clock) -> None:
    pace = Pace()
    pace.took("epoch", 0.01)
    silence = Silence(pace, clock)
    silence.begin("first epoch", "trial 5, in epoch 0,")
    assert watched(silence, clock, 1.5 * UNKNOWN, never) == [UNKNOWN]


def test_epochs_that_are_trained_again_are_counted(clock: Clock) -> None:
    pace = Pace()
    pace.took("first epoch", 30)
    silence = Silence(pace, clock)
    silence.begin("first epoch", "trial 5, in epoch 7,", 8)
    assert watched(silence, clock, 10 * TIMES * 30, never) == [8 * TIMES * 30]


def test_a_worker_that_is_stopped_is_told_soon(clock: Clock) -> None:
    silence = Silence(Pace(), clock)
    silence.begin("epoch", "trial 5, in epoch 2,")
    told = watched(silence, clock, 500, lambda now: now > 40)
    assert told[0] == 40 + 2 * LOOK
    assert told[1:] == [120, 240, 480]


def test_who_goes_on_a_little_later_is_not_told(clock: Clock) -> None:
    silence = Silence(Pace(), clock)
    silence.begin("epoch", "trial 5, in epoch 2,")
    assert watched(silence, clock, 400, lambda now: now % (2 * LOOK) == 0) == []


def test_time_in_which_this_process_was_suspended_does_not_count(clock: Clock) -> None:
    silence = Silence(Pace(), clock)
    silence.begin("epoch", "trial 5, in epoch 2,")
    clock.now = 3000
    silence.postpone(3000)
    assert watched(silence, clock, 3000 + 1.5 * UNKNOWN, never) == [3000 + UNKNOWN]


def test_of_whom_nothing_is_expected_is_not_silent(clock: Clock) -> None:
    pace = Pace()
    silence = Silence(pace, clock)
    silence.begin("load_dataset", "load_dataset")
    clock.now = 7.0
    silence.end()
    assert (silence.due, pace.usual("load_dataset")) == (float("inf"), 7.0)
    silence.end()  # of what?
    assert pace.usual("load_dataset") == 7.0


def test_it_says_what_is_silent_and_what_to_do(clock: Clock) -> None:
    pace = Pace()
    pace.took("epoch", 4.2)
    silence = Silence(pace, clock)
    silence.begin("epoch", "trial 5, in epoch 2,")
    clock.now = 180.0
    assert silence.look(17, stopped=False) == (
        "trial 5, in epoch 2, has been silent for 3 min; it takes about 4.2 s otherwise. "
        "Its worker is process 17. If it hangs, `letstune skip` ends the trial; epoch_timeout "
        "ends such epochs by itself."
    )
    silence.begin("load_dataset", "load_dataset")
    clock.now += 1000
    assert "load_dataset has been silent for 17 min; it is not known" in silence.look(17, False)


# In real runs


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silences, "LOOK", 0.05)


class Stopping(Climb):
    """Stops its process in the second epoch of its first trial. ``dataset`` is a folder."""

    def load_dataset(self, dataset: Any) -> None:
        self.folder = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1 and not (self.folder / "stopped").exists():
            (self.folder / "stopped").touch()
            # So that a test of which this is the end fails, and does not hang.
            subprocess.Popen(["sh", "-c", f"sleep 30; kill -CONT {os.getpid()}"])
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().train_epoch(epoch)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_worker_that_stops_itself_is_told_and_goes_on_when_it_is_let(
    workers: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        os.kill(int(line.partition("kill -CONT ")[2].split("`")[0]), signal.SIGCONT)

    monkeypatch.setattr(slots, "say", say)
    tune(Stopping(), 3, path, rounds=[2], workers=workers, dataset=str(path.parent))
    assert re.match(r"letstune: trial \d, in epoch 1, has been silent for .* is stopped", told[0])
    other = path.with_name("other.db")
    tune(Stopping(), 3, other, rounds=[2], dataset=str(path.parent))
    assert_same(path, other)


@pytest.mark.slow
def test_a_worker_that_is_stopped_is_ended_by_a_timeout(path: Path) -> None:
    tune(Stopping(), 2, path, rounds=[2], workers=1, epoch_timeout=1, dataset=str(path.parent))
    ((trial, epoch, kind, message),) = query(
        path, "SELECT trial, epoch, kind, message FROM failures"
    )
    assert (trial, epoch, kind) == (0, 1, "timed out")
    assert message == (
        "It took longer than epoch_timeout, 1 s. Its process was stopped then, as by SIGSTOP."
    )
    assert query(path, "SELECT trial FROM epochs WHERE epoch = 1") == [(1,)]


class Slow(Climb):
    """Waits in the second epoch of its trials until there is a file. ``dataset`` is its folder."""

    def load_dataset(self, dataset: Any) -> None:
        self.folder = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            wait_for((self.folder / "go").exists)
        return super().train_epoch(epoch)


@pytest.mark.usefixtures("quick")
def test_an_epoch_that_takes_too_long_is_told_without_a_timeout(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silences, "UNKNOWN", 0.3)
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        if "in epoch 1, has been silent" in line:
            path.with_name("go").touch()

    monkeypatch.setattr(slots, "say", say)
    tune(Slow(), 1, path, rounds=[2], workers=1, dataset=str(path.parent))
    assert "trial 0, in epoch 1, has been silent for" in told[-1]


def come(far: RemoteSlots, events: list[Any]) -> list[Any]:
    """Return what has come so far, and let the workers go on."""
    for item in far.poll(1):
        assert isinstance(item, Came), item
        events += item.events
        far.obey(Answer(item.attempt, True))
    return events


def test_a_worker_that_was_stopped_between_tasks_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = DirectoryStore(tmp_path / "store")
    job = Job.of(Climb(), None, store, journal=tmp_path / "run.db", seed=1)
    params = Point(x=0.5, n=1).to_json()
    events: list[Any] = []
    with job.spool() as file, closing(RemoteSlots(file, ["token"])) as far:
        for trial in (0, 1):
            if trial:
                process = far._slots[0]._process
                assert process is not None
                os.kill(process.pid, signal.SIGSTOP)
                wait_for(lambda process=process: process.stopped)
            far.obey(Start(Task(trial, f"a{trial}", params, 0, 0.0, 1, False)))
            wait_for(lambda trial=trial: TaskEnded(trial) in come(far, events))
    found = [event.trial for event in events if isinstance(event, EpochFinished)]
    assert found == [0, 1]
    assert capsys.readouterr().err.count("was stopped, as by SIGSTOP, while it had nothing") == 1
