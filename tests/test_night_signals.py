"""Signals that ask a run to stop cost the epochs in flight at most, whoever gets them."""

import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from journal_facts import facts, query, recorded_epochs
from live_processes import gone, wait_for
from night_family import Family, descendants, start
from processes import TESTS, environment, python
from small_trainers import Climb, tune

import letstune
from letstune.rounds.blame import PREEMPTIONS, blameless, preempted
from letstune.rounds.events import EpochFinished, TaskEnded, TrialFailed, WorkerDied
from letstune.training import supervisor
from letstune.workers.slot import Slot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

TARGETS = ("owner", "group", "every process", "every process, the owner last")


def send(which: int, target: str, pid: int) -> None:
    if target == "owner":
        os.kill(pid, which)
    elif target == "group":
        os.killpg(pid, which)
    else:
        owner, *others = descendants(pid)
        for each in [*others, owner] if target.endswith("last") else [owner, *others]:
            with suppress(ProcessLookupError):  # the death of another has ended it
                os.kill(each, which)


def end_all(pids: list[int]) -> None:
    """End what a trainer has started in a process that was told to stop at once."""
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00":
                os.kill(pid, signal.SIGKILL)


def told(process: Any, word: str) -> str:
    """Read what a process writes to stderr until there is a word."""
    for line in process.stderr:
        if word in line:
            return str(line)
    raise EOFError


def assert_finishes_as_if_nothing_was(path: Path) -> None:
    witness = path.with_name("witness")
    (witness / "go").touch()
    assert query(path, "SELECT * FROM failures") == []
    assert query(path, "SELECT * FROM deaths") == []
    assert letstune.resume(path, trainer=Family(), progress=False).finished
    other = path.with_name("other.db")
    tune(Family(), 8, other, rounds=[2, 1], dataset=str(witness))
    found, wanted = facts(path), facts(other)
    for table in ("trials", "epochs", "stops", "failures", "deletions"):
        assert found[table] == wanted[table], table


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
QUICK = [
    (signal.SIGTERM, "every process", 2, 1),
    (signal.SIGINT, "group", 0, 2),
    (signal.SIGHUP, "owner", 2, 4),
    (signal.SIGUSR1, "every process", 0, 3),
]
ALL = list(product(SIGNALS, TARGETS[:3], (0, 2), (1, 2, 3, 4)))


@pytest.mark.parametrize(
    ("which", "target", "workers", "times"),
    [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in ALL if each not in QUICK)],
)
def test_a_signal_is_no_trials_failure_however_often_it_comes(
    which: signal.Signals, target: str, workers: int, times: int, path: Path
) -> None:
    with start(path, workers) as process:
        family = descendants(process.pid)
        send(which, target, process.pid)
        told(process, "finishing the epoch")
        for _ in range(times - 1):
            time.sleep(0.01)  # else, the system delivers several as one
            send(which, target, process.pid)
        if times == 1:
            (path.with_name("witness") / "go").touch()
        assert process.stderr is not None
        err = process.stderr.read()  # not communicate(), which passes over what is buffered
        process.wait(60)
    # What comes once more may meet the run in its epoch, in its end, or after it.
    assert process.returncode in ((75,) if times == 1 else (75, 130, -signal.SIGINT, -which)), err
    assert times > 1 or ("letstune resume" in err and "Traceback" not in err)
    assert gone(family, within=5)
    end_all(family)
    assert_finishes_as_if_nothing_was(path)


# Each signal to each target, so that each is met by each number of workers and of sessions.
AGAIN = [
    (which, target, (0, 2)[(i + j) % 2], 2 + (i + 2 * j) % 3)
    for i, which in enumerate((*SIGNALS, signal.SIGUSR2))
    for j, target in enumerate(TARGETS)
]


@pytest.mark.parametrize(
    ("which", "target", "workers", "sessions"),
    [
        (signal.SIGTERM, "every process, the owner last", 1, 3),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in AGAIN),
    ],
)
def test_an_epoch_may_be_lost_to_a_signal_in_session_after_session(
    which: signal.Signals, target: str, workers: int, sessions: int, path: Path
) -> None:
    for _ in range(sessions):
        with start(path, workers) as process:
            family = descendants(process.pid)
            send(which, target, process.pid)
            told(process, "finishing the epoch")
            send(which, target, process.pid)  # once more: to stop at once
            process.communicate(timeout=60)
        assert process.returncode in (75, 130, -signal.SIGINT, -which)
        assert gone(family, within=5)
        end_all(family)
        assert recorded_epochs(path) == 0
    assert_finishes_as_if_nothing_was(path)


@pytest.mark.slow
def test_an_epoch_is_not_waited_for_that_would_be_killed_with_its_job(path: Path) -> None:
    """Its child survives; all else has got SIGTERM."""
    with start(path, 1) as process:
        for pid in descendants(process.pid)[:3]:
            os.kill(pid, signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 75
    assert_finishes_as_if_nothing_was(path)


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGUSR1])
def test_a_worker_that_gets_a_signal_goes_on(which: signal.Signals, path: Path) -> None:
    with start(path, 1) as process:
        _, below, worker, _ = descendants(process.pid)
        for pid in (worker, below, worker):
            os.kill(pid, which)
        time.sleep(0.2)
        path.with_name("witness").joinpath("go").touch()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "preempted" not in err
    assert_finishes_as_if_nothing_was(path)


def test_what_fails_since_its_child_got_a_signal_as_the_worker_did_is_trained_again(
    path: Path,
) -> None:
    with start(path, 1) as process:
        _, _, worker, child = descendants(process.pid)
        os.kill(worker, signal.SIGTERM)
        time.sleep(0.1)
        os.kill(child, signal.SIGTERM)
        assert "a child exited unexpectedly" in told(process, "trained again")
        path.with_name("witness").joinpath("go").touch()
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert_finishes_as_if_nothing_was(path)


class Untold(Climb):
    """Fails after a signal of which its supervisor cannot tell at once. ``dataset`` is a file."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        seen = Path(self.dataset)
        if not seen.exists():
            seen.touch()
            supervisor = os.getppid()
            os.kill(supervisor, signal.SIGSTOP)
            subprocess.Popen(["sh", "-c", f"sleep 1; kill -CONT {supervisor}"])
            signal.raise_signal(signal.SIGTERM)
            raise RuntimeError("a child exited unexpectedly")
        return super().train_epoch(epoch)


@pytest.mark.slow
def test_a_failure_after_a_signal_is_none_though_the_supervisor_tells_too_late(
    path: Path, capfd: Any
) -> None:
    tuning = tune(Untold(), 1, path, rounds=[2], workers=1, dataset=str(path.with_name("seen")))
    assert not tuning.errors
    assert "after SIGTERM came from outside" in capfd.readouterr().err


class Preempted(Climb):
    """Three of its workers are ended in its second epoch, as if from outside."""

    def load_dataset(self, dataset: Any) -> None:
        self.folder = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1 and len(list(self.folder.glob("death *"))) < 4:
            (self.folder / f"death {os.getpid()}").touch()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as some libraries do
            os.kill(os.getpid(), signal.SIGTERM)
        return super().train_epoch(epoch)


@pytest.mark.slow
def test_a_worker_that_is_preempted_is_told_and_not_counted(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = path.with_name("deaths")
    folder.mkdir()
    tune(
        Preempted(),
        2,
        path,
        rounds=[3],
        workers=1,
        dataset=str(folder),
        max_deaths=1,
        progress=True,
    )
    assert len(list(folder.iterdir())) == 4
    assert query(path, "SELECT * FROM failures") == []
    assert query(path, "SELECT * FROM deaths") == []
    assert capfd.readouterr().err.count("preempted in epoch 1") == 4
    other = path.with_name("other.db")
    tune(Climb(), 2, other, rounds=[3])
    assert facts(path)["epochs"] == facts(other)["epochs"]


def test_signals_that_come_while_a_worker_starts_do_not_end_it(path: Path) -> None:
    """Before it has handlers, they wait."""
    with start(path, 0) as process:  # only for a folder, and a journal to go on with
        process.terminate()
        path.with_name("witness").joinpath("go").touch()
        process.communicate()
    spawn = Slot._spawn
    spawned = []

    def hail(self: Slot) -> Any:
        started = spawn(self)
        spawned.append(started)
        for _ in range(30):
            started.ended()  # which hears of its number
            for pid in filter(None, (started.pid, started._supervisor.pid)):
                for which in PREEMPTIONS:
                    os.kill(pid, which)
            time.sleep(0.005)
        return started

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Slot, "_spawn", hail)
        tuning = letstune.resume(path, trainer=Family(), workers=1, max_deaths=1, progress=False)
    assert tuning.finished
    assert len(spawned) == 1
    assert_finishes_as_if_nothing_was(path)


ANYTHING = """
import os, signal, subprocess, sys, letstune
from small_trainers import Climb, tune

class Asking(Climb):
    def train_epoch(self, epoch):
        defaults = signal.SIG_DFL, signal.default_int_handler
        code = "import signal, sys; sys.exit(signal.getsignal(signal.{}) not in (%s))"
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
            usual = "signal.SIG_DFL, signal.default_int_handler"
            subprocess.run([sys.executable, "-c", (code % usual).format(name)], check=True)
            pid = os.fork()
            if not pid:
                try:
                    os.kill(os.getpid(), getattr(signal, name))
                except KeyboardInterrupt:
                    os.kill(os.getpid(), signal.SIGKILL)
                os._exit(0)
            ended = -os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if ended not in (getattr(signal, name), signal.SIGKILL):
                raise RuntimeError(f"{name}: {ended}")
        return super().train_epoch(epoch)

if __name__ == "__main__":
    print(tune(Asking(), 1, sys.argv[1], rounds=[1], workers=1)[0].status)
"""


def test_what_a_trainer_starts_in_a_worker_can_be_ended_by_signals(path: Path) -> None:
    script = path.with_name("script.py")
    script.write_text(ANYTHING)
    done = python(script, path, cwd=path.parent)
    assert done.stdout == "trained\n", query(path, "SELECT traceback FROM failures")[0][0]


class Pooling(Climb):
    """Ends a child that waits for a lock, as pools of `multiprocessing` do with theirs."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        context = multiprocessing.get_context("fork")
        lock, there = context.Lock(), context.Event()
        with lock:
            child = context.Process(target=_wait_for, args=(lock, there))
            child.start()
            there.wait()
            time.sleep(0.05)
            child.terminate()
            child.join(10)
            code = child.exitcode
            child.kill()
        if code != -signal.SIGTERM:
            raise RuntimeError(f"the child goes on: {code}")
        for _ in range(300):  # before it has begun
            child = context.Process(target=signal.pause)
            child.start()
            child.terminate()
            child.join(10)
            code = child.exitcode
            child.kill()
            if code != -signal.SIGTERM:
                raise RuntimeError(f"the child goes on: {code}")
        return super().train_epoch(epoch)


def _wait_for(lock: Any, there: Any) -> None:
    there.set()
    lock.acquire()


@pytest.mark.slow
def test_a_child_of_a_trainer_ends_though_it_waits_for_a_lock(path: Path) -> None:
    assert not tune(Pooling(), 1, path, rounds=[1], workers=1).errors


def test_a_terminal_that_hangs_up_asks_for_a_stop(path: Path) -> None:
    """And nothing can be written to it any more."""
    folder = path.with_name("witness")
    folder.mkdir()
    pid, terminal = pty.fork()
    if not pid:
        try:
            variables = environment(TESTS)
            arguments = ["-m", "night_family", str(path), str(folder), "1", "0"]
            os.execve(sys.executable, [sys.executable, *arguments], variables)
        finally:
            os._exit(127)
    wait_for(lambda: list(folder.glob("here *")))
    os.close(terminal)
    time.sleep(0.2)
    (folder / "go").touch()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 75
    assert recorded_epochs(path) == 1
    assert_finishes_as_if_nothing_was(path)


class Handling(Climb):
    """Is sent SIGUSR2 in each epoch."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        signal.raise_signal(signal.SIGUSR2)
        return super().train_epoch(epoch)


def test_a_handler_of_the_users_own_stays(path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda which, _: heard.append(which))
    try:
        assert tune(Handling(), 1, path, rounds=[2]).finished
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard == [signal.SIGUSR2] * 2


class FailsAsItIsAsked(Climb):
    """Fails in the epoch in which a stop is asked for."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            signal.raise_signal(signal.SIGTERM)
            raise RuntimeError("a child exited unexpectedly")
        return super().train_epoch(epoch)


def test_what_fails_after_a_stop_is_asked_for_is_no_error_to_pass_on(path: Path) -> None:
    with pytest.raises(letstune.Interrupted):
        tune(FailsAsItIsAsked(), 1, path, rounds=[3], passthrough_errors=True)
    assert recorded_epochs(path) == 1
    assert letstune.load(path).errors == []


class FailsBeforeItIsAsked(Climb):
    """Fails a moment before a stop is asked for, as what it has started hears of that first."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
            raise RuntimeError("a child exited unexpectedly")
        return super().train_epoch(epoch)


def test_a_failure_waits_a_moment_for_a_signal_behind_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("letstune.runs.loop.MOMENT", 2)
    with pytest.raises(letstune.Interrupted):
        tune(FailsBeforeItIsAsked(), 1, path, rounds=[3])
    assert letstune.load(path).errors == []


def test_all_signals_that_ask_for_a_stop_are_known_on_both_sides() -> None:
    assert set(supervisor.OUTSIDE) == PREEMPTIONS


def test_what_counts_after_a_stop_is_asked_for() -> None:
    death = WorkerDied(0, 1, "a", -signal.SIGKILL, None, "", "")
    failure = TrialFailed(0, 1, "raised", "ValueError", "")
    epoch = EpochFinished(0, 1, 0.5, {}, "", 1.0)
    assert blameless([epoch, death, failure, TaskEnded(0)]) == [epoch, TaskEnded(0)]
    assert [preempted(death._replace(code=code)) for code in (-9, -15, 15, -1, 0)] == [
        False, True, False, True, False,
    ]  # fmt: skip
