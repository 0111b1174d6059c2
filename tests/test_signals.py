import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from facts import facts, metrics_of, recorded_epochs
from tiny import TESTS, Climb, environment, tune

import letstune
from letstune import Interrupted
from letstune.stores import DirectoryStore

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are others here")

AT = 5
"""In the middle of this epoch, counted from 0 over all trials, the signals come."""

SCRIPT = """
import sys, tiny, letstune

LEFT = [True] * int(sys.argv[2])

class Waiting(tiny.Climb):
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
    letstune.tune(Waiting(), 4, rounds=[2, 3], seed=1, journal=sys.argv[1])
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
            *("-n4", "--rounds=2,3", "--seed=1", f"--journal={path}"),
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

    opening = letstune.journal.Journal.__init__

    def opened(self: Any, *arguments: Any, **options: Any) -> None:
        opening(self, *arguments, **options)
        self._db = Connection(self._db)

    monkeypatch.setattr(letstune.journal.Journal, "__init__", opened)
    with pytest.raises(KeyboardInterrupt):
        tune(Climb(), 1, path, rounds=[5], keep_checkpoints="all")
    monkeypatch.undo()
    assert recorded_epochs(path) == 3
    assert letstune.resume(path, progress=False).finished
    other = path.with_name("other.db")
    tune(Climb(), 1, other, rounds=[5], keep_checkpoints="all")
    assert facts(path) == facts(other)
