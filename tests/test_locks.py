import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from files import in_all
from processes import TESTS, environment, python
from small_trainers import Climb, Hill, tune

import letstune
from letstune.errors import JournalLockedError
from letstune.journal.lock import JournalLock, is_locked
from letstune.runs.check import check_run

HOLDER = """
import sys, pathlib, small_trainers

class Holding(small_trainers.Hill):
    def load_dataset(self, dataset):
        print("training", flush=True)
        sys.stdin.readline()

small_trainers.tune(Holding(), 3, pathlib.Path(sys.argv[1]))
"""


@contextmanager
def held(path: Path, script: str = HOLDER) -> Iterator["subprocess.Popen[str]"]:
    """A process that works on a journal until it is told to go on."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        env=environment(TESTS),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "training\n"
            yield process
        finally:
            process.kill()


USES = {
    "tune": lambda path: tune(Hill(), 3, path),
    "resume": lambda path: letstune.resume(path, progress=False),
    "check --fix": lambda path: check_run(path, fix=True),
}


def test_a_second_process_is_refused_and_told_who_is_at_it(path: Path) -> None:
    before = datetime.now(UTC)
    with held(path) as process:
        for name, use in USES.items():
            with pytest.raises(JournalLockedError) as caught:
                use(path)
            told = str(caught.value)
            assert f"process {process.pid} on {socket.gethostname()} since " in told, name
            since = datetime.fromisoformat(told.split(" since ")[1].split(";")[0])
            assert before < since < datetime.now(UTC)
        process.communicate("go on\n")
        assert process.returncode == 0
    assert letstune.load(path).finished


def test_a_second_process_may_read(path: Path) -> None:
    with held(path):
        assert len(letstune.load(path)) == 3


def test_the_lock_dies_with_its_owner(path: Path) -> None:
    with held(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.with_name("run.db.lock").exists()
        assert letstune.resume(path, trainer=Hill(), progress=False).finished
    assert {entry.name for entry in path.parent.iterdir()} == {"run.db", "run.checkpoints"}


FORKING = """
import os, sys, pathlib, time, small_trainers

class Forking(small_trainers.Hill):
    def load_dataset(self, dataset):
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(write)
            os.read(0, 1)  # lives on until the test lets it go
            os._exit(0)
        print("training", flush=True)
        os.kill(os.getpid(), 9)

small_trainers.tune(Forking(), 3, pathlib.Path(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_does_not_keep_the_lock(path: Path) -> None:
    with held(path, FORKING) as process:
        process.wait()
        assert process.returncode == -signal.SIGKILL
        # With the child still there.
        assert letstune.resume(path, trainer=Hill(), progress=False).finished
        assert process.stdin is not None
        process.stdin.close()


class Nested(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        try:
            letstune.resume(self.dataset, progress=False)
        except JournalLockedError as error:
            TOLD.append(str(error))
        return super().train_epoch(epoch)


TOLD: list[str] = []


def test_the_same_process_is_refused_as_well(path: Path) -> None:
    TOLD.clear()
    tune(Nested(), 1, path, rounds=[1], dataset=str(path))
    assert len(TOLD) == 1
    assert "by this process" in TOLD[0]


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_to_a_journal_is_the_same_journal(link: str, path: Path, tmp_path: Path) -> None:
    other = tmp_path / "latest.db"
    if link == "file":
        other.symlink_to(path)
    else:
        (tmp_path / "link").symlink_to(path.parent)
        other = tmp_path / "link" / "run.db"
    with held(path), pytest.raises(JournalLockedError):
        letstune.resume(other, progress=False)


def test_a_link_to_a_journal_finds_its_checkpoints(path: Path, tmp_path: Path) -> None:
    tune(Climb(), 2, path, rounds=[1])
    link = tmp_path / "latest.db"
    link.symlink_to(path)
    assert letstune.resume(link, rounds=[2], progress=False).errors == []
    assert letstune.load(link)[0].checkpoint.load_pickle()
    assert link.is_symlink()
    assert {entry.name for entry in path.parent.iterdir()} == {"run.db", "run.checkpoints"}


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"host": "elsewhere"})])
def test_what_an_earlier_owner_left_in_the_lock_file_does_not_matter(text: str, path: Path) -> None:
    path.with_name("run.db.lock").write_text(text)
    assert tune(Hill(), 1, path).finished


def test_released_it_can_be_had_again(path: Path) -> None:
    for _ in range(2):
        with JournalLock(path, "now"):
            assert path.with_name("run.db.lock").exists()
        assert in_all(path.parent) == {}


def test_an_error_releases_it(path: Path) -> None:
    def failing() -> Any:
        with JournalLock(path, "now"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    with JournalLock(path, "now"):
        pass


def test_two_journals_are_two_locks(path: Path) -> None:
    with JournalLock(path, "now"), JournalLock(path.with_name("other.db"), "now"):
        pass


def test_processes_that_start_at_once_never_work_at_once(path: Path) -> None:
    script = """
import sys, pathlib, letstune
from small_trainers import Climb, tune
while True:
    try:
        tune(Climb(), int(sys.argv[2]), pathlib.Path(sys.argv[1]), rounds=[2])
        break
    except letstune.errors.JournalLockedError:
        pass
    except letstune.errors.PlanChangedError as error:
        assert "it can only grow" in str(error)
        break
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", script, path, str(n)], env=environment(TESTS))
        for n in (3, 6, 9)
    ]
    assert [process.wait() for process in processes] == [0, 0, 0]
    tuning = letstune.load(path)
    assert len(tuning) == 9
    assert tuning.finished
    assert check_run(path) == []


def test_a_script_that_ends_leaves_no_lock_file(path: Path) -> None:
    script = """
import sys, pathlib
from small_trainers import Hill, tune
tune(Hill(), 1, pathlib.Path(sys.argv[1]))
"""
    assert python("-c", script, path, cwd=path.parent).returncode == 0
    assert not path.with_name("run.db.lock").exists()


POLLER = """
import pathlib, sys
from letstune.journal.lock import is_locked
path, told = pathlib.Path(sys.argv[1]), set()
print("training", flush=True)
while not path.exists():
    told.add(is_locked(path))
print(sorted(told))
"""


def test_asking_whether_it_is_locked_turns_nobody_away(path: Path) -> None:
    with held(path, POLLER) as process:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            with JournalLock(path, "now"):
                pass
        path.touch()
        out, _ = process.communicate()
    assert out == "[False, True]\n"


def test_whether_it_is_locked_is_told_truly(path: Path) -> None:
    assert not is_locked(path)
    with held(path) as process:
        assert is_locked(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert path.with_name("run.db.lock").exists()
        assert not is_locked(path)
    with JournalLock(path, "now"):
        assert is_locked(path)
    assert not is_locked(path)


def test_a_lock_file_that_cannot_be_removed_is_left_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    lock = JournalLock(path, "2026-01-01T00:00:00+00:00")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        lock.release()
    assert not is_locked(path)
    JournalLock(path, "2026-01-01T00:00:00+00:00").release()
