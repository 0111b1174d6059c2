import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from journal_facts import facts, metrics_of, recorded_epochs
from processes import TESTS, environment
from small_trainers import Climb, tune

import letstune
from letstune import Interrupted
from letstune.rounds.events import Task, TaskEnded
from letstune.training.stores import DirectoryStore
from letstune.training.worker import Worker
from letstune.workers.executor import Delivery, Executor

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are others here")

AT = 5
"""In the middle of this epoch, counted from 0 over all trials, the signals come."""

SCRIPT = """
import sys, small_trainers, letstune

LEFT = [True] * int(sys.argv[2])

class Waiting(small_trainers.Climb):
    def train_epoch(self, epoch):
        if LEFT:
            LEFT.pop()
        elif LEFT is not None:
            print("here", flush=True)
            for line in sys.stdin:  # until the test has sent its signals
                if line == "go on\\n":
                    break
        return super().train_epoch(epoch)

if __name__ == "__main__":
    letstune.tune(
        Waiting(), 4, rounds=[2, 3], seed=1, journal=sys.argv[1], rehearse=False
    )
"""


@contextmanager
def training(path: Path, at: int = AT) -> Iterator["subprocess.Popen[str]"]:
    """A process that is in the middle of an epoch."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), str(at)],
        env=environment(TESTS),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
            yield process
        finally:
            process.kill()


def told(process: "subprocess.Popen[str]") -> str:
    """Wait until a signal has arrived; return what is written about it."""
    assert process.stderr is not None
    assert process.stderr.readline() == "\n"
    return process.stderr.readline()


def uninterrupted(path: Path) -> Path:
    other = path.with_name("uninterrupted.db")
    tune(Climb(), 4, other, rounds=[2, 3])
    return other


def results(path: Path) -> dict[str, Any]:
    return {k: v for k, v in facts(path).items() if k not in ("plan", "pickles")}


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_epoch_in_flight_end_and_then_stops(
    which: signal.Signals, path: Path
) -> None:
    with training(path) as process:
        assert recorded_epochs(path) == AT
        process.send_signal(which)
        assert "finishing the epoch in flight" in told(process)
        out, err = process.communicate("go on\n")
        assert process.returncode == 75
    assert out == ""
    assert recorded_epochs(path) == AT + 1
    assert f"Resume with:  letstune resume {shlex.quote(str(path))}" in err
    assert "Traceback" not in err
    assert {entry.name for entry in path.parent.iterdir()} == {"run.db", "run.checkpoints"}
    assert letstune.resume(path, trainer=Climb(), progress=False).finished
    assert results(path) == results(uninterrupted(path))


def test_the_last_line_is_how_to_resume(path: Path) -> None:
    with training(path) as process:
        process.send_signal(signal.SIGINT)
        told(process)
        _, err = process.communicate("go on\n")
    lines = err.splitlines()
    assert "Resume with:  letstune resume" in lines[-1]
    assert len(lines) == len(set(lines))  # nothing is said twice


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(second: signal.Signals, path: Path) -> None:
    with training(path) as process:
        process.send_signal(signal.SIGINT)
        told(process)
        process.send_signal(second)
        _, err = process.communicate()
        assert process.returncode in (130, -signal.SIGINT)  # as Python ends, or as a shell tells it
    assert recorded_epochs(path) == AT
    assert "letstune resume" in err
    assert letstune.resume(path, trainer=Climb(), progress=False).finished
    assert results(path) == results(uninterrupted(path))


def test_a_signal_in_the_first_epoch(path: Path) -> None:
    with training(path, 0) as process:
        process.send_signal(signal.SIGINT)
        told(process)
        process.communicate("go on\n")
        assert process.returncode == 75
    assert recorded_epochs(path) == 1
    assert letstune.resume(path, trainer=Climb(), progress=False).finished
    assert metrics_of(path) == metrics_of(uninterrupted(path))


def test_a_signal_in_the_very_last_epoch_comes_too_late(path: Path) -> None:
    with training(path, 10) as process:
        process.send_signal(signal.SIGINT)
        told(process)
        process.communicate("go on\n")
        assert process.returncode == 0
    assert letstune.load(path).finished


@pytest.mark.parametrize(("signals", "code"), [(1, 75), (2, 130)])
def test_the_command_line_ends_with_the_same_codes(signals: int, code: int, path: Path) -> None:
    script = path.with_name("script.py")
    script.write_text(SCRIPT.replace("int(sys.argv[2])", str(AT)))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "letstune", "tune", f"{script}:Waiting"),
            *("-n4", "--rounds=2,3", "--seed=1", "--no-rehearse"),
            *(f"--journal={path}", "--workers=0"),
        ],
        env=environment(TESTS),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        told(process)
        if signals == 2:
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate("go on\n" if signals == 1 else None)
    assert process.returncode == code
    assert "letstune resume" in err
    assert "Traceback" not in err
    assert recorded_epochs(path) == AT + (signals == 1)


# In this process


class Signalling(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            signal.raise_signal(signal.SIGINT)
        return super().train_epoch(epoch)


def test_an_interruption_is_no_exception_to_go_on_after(path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        tune(Signalling(), 2, path, rounds=[3])
    assert isinstance(caught.value, Interrupted)
    assert caught.value.code == 75
    assert caught.value.journal == str(path)
    assert not isinstance(caught.value, Exception)


def test_handlers_are_what_they_were_afterwards(path: Path) -> None:
    before = [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit):
        tune(Signalling(), 2, path, rounds=[3])
    assert [signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)] == before


class TwiceWhileStoring(letstune.Store):
    """Sends both signals when the epoch's checkpoint is stored, right before its commit."""

    def __init__(self, folder: Path) -> None:
        self.kept = DirectoryStore(folder)

    def stage(self, name: str) -> Path:
        return self.kept.stage(name)

    def put(self, name: str, folder: Path) -> str:
        uri = self.kept.put(name, folder)
        if name.startswith("t00000-e00002"):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return uri

    def get(self, uri: str, folder: Path) -> None:
        self.kept.get(uri, folder)

    def list(self) -> Any:
        return self.kept.list()

    def delete(self, uri: str) -> None:
        self.kept.delete(uri)


def test_two_signals_while_a_checkpoint_is_stored_lose_one_epoch(
    path: Path, tmp_path: Path
) -> None:
    store = TwiceWhileStoring(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        tune(Climb(), 1, path, rounds=[4], store=store)
    assert recorded_epochs(path) == 2


def test_two_signals_during_a_commit_lose_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are handled when SQLite returns: after the commit, before anything else."""

    class Connection:
        """A connection during whose third epoch's insert the signals come."""

        def __init__(self, real: Any) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def execute(self, sql: str, values: Any = ()) -> Any:
            done = self.real.execute(sql, values)
            if "INTO epochs" in sql and list(values)[2] == 2:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            return done

    opening = letstune.journal.journal.Journal.__init__

    def opened(self: Any, *arguments: Any, **options: Any) -> None:
        opening(self, *arguments, **options)
        self._db = Connection(self._db)

    monkeypatch.setattr(letstune.journal.journal.Journal, "__init__", opened)
    with pytest.raises(KeyboardInterrupt):
        tune(Climb(), 1, path, rounds=[5], keep_checkpoints="all")
    monkeypatch.undo()
    assert recorded_epochs(path) == 3
    assert letstune.resume(path, progress=False).finished
    other = path.with_name("other.db")
    tune(Climb(), 1, other, rounds=[5], keep_checkpoints="all")
    assert facts(path) == facts(other)


def test_a_terminal_that_is_gone_costs_no_epoch(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def broken(file: int, data: bytes) -> int:
        if file == 2:
            raise BrokenPipeError
        return write(file, data)

    monkeypatch.setattr(os, "write", broken)
    with pytest.raises(Interrupted):
        tune(Signalling(), 2, path, rounds=[3])
    assert recorded_epochs(path) == 2
    assert letstune.load(path).errors == []


class Forking(Climb):
    """Its metric is how a process that it forks and terminates has ended."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        time.sleep(0.05)
        child.terminate()
        child.join(3)
        ended = child.exitcode
        child.kill()
        child.join()
        return {"height": float(ended or 0)}


def test_a_process_that_a_trainer_forks_can_be_terminated(path: Path) -> None:
    tuning = tune(Forking(), 1, path, rounds=[1])
    assert tuning.finished  # and it was no signal to us
    assert tuning[0].metric_value == -signal.SIGTERM


# Several at a time


class ThreeAtATime(Executor):
    """Has three epochs in flight, and delivers them one by one, or all ``at_once``."""

    slots = 3
    at_once = False

    def __init__(self, worker: Worker) -> None:
        self.idle = [Worker(worker.assignment, f"slot{i}") for i in range(3)]
        self.busy: list[Any] = []  # task, worker, outcomes to come, outcome in flight
        self.stopped = False

    def start(self, task: Task) -> None:
        worker = self.idle.pop()
        self.busy.append([task, worker, worker.train(task), None])

    def deliveries(self) -> list[Delivery]:
        for slot in self.busy:
            if slot[3] is None and not self.stopped:
                slot[3] = next(slot[2])
        return [self.deliver() for _ in range(len(self.busy) if self.at_once else 1)]

    def deliver(self) -> Delivery:
        task, worker, outcomes, flown = self.busy.pop(0)
        events, error = flown or ([], None)
        if self.stopped:
            events = [*(e for e in events if not isinstance(e, TaskEnded)), TaskEnded(task.trial)]
        if events and isinstance(events[-1], TaskEnded):
            self.idle.append(worker)
        else:
            self.busy.append([task, worker, outcomes, None])
        return Delivery(task.trial, task.attempt, events, error)

    def cancel(self, trial: int) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        for worker in [*self.idle, *(slot[1] for slot in self.busy)]:
            worker.close()


class Counting(Climb):
    """Is interrupted in a certain epoch, counted over all trials; trial 0 may fail."""

    trained = 0
    at = 0
    failing = False

    def train_epoch(self, epoch: int) -> dict[str, float]:
        Counting.trained += 1
        if Counting.trained == Counting.at:
            signal.raise_signal(signal.SIGINT)
        if Counting.failing and Counting.trained == 1:
            raise ValueError("as asked for")
        return super().train_epoch(epoch)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("at", [1, 3, 5, 8])
def test_all_epochs_in_flight_are_recorded(
    at: int, at_once: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "trained", 0)
    monkeypatch.setattr(Counting, "at", at)
    monkeypatch.setattr(ThreeAtATime, "at_once", at_once)
    with monkeypatch.context() as patched:
        patched.setattr("letstune.plugins.builtin.InProcessExecutor", ThreeAtATime)
        with pytest.raises(Interrupted):
            tune(Counting(), 4, path, rounds=[2, 3])
    assert recorded_epochs(path) == Counting.trained <= at + 2  # none is begun any more
    assert {entry.name for entry in path.parent.iterdir()} == {"run.db", "run.checkpoints"}
    assert letstune.resume(path, trainer=Climb(), progress=False).finished
    other = uninterrupted(path)
    assert metrics_of(path) == metrics_of(other)


def test_what_is_delivered_with_a_failure_is_recorded_before_that_is_raised(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "trained", 0)
    monkeypatch.setattr(Counting, "at", 0)
    monkeypatch.setattr(Counting, "failing", True)
    monkeypatch.setattr(ThreeAtATime, "at_once", True)
    monkeypatch.setattr("letstune.plugins.builtin.InProcessExecutor", ThreeAtATime)
    with pytest.raises(ValueError, match="as asked for"):
        tune(Counting(), 3, path, rounds=[2], passthrough_errors=True)
    assert recorded_epochs(path) == 2
    assert [error.trial_id for error in letstune.load(path).errors] == [0]
