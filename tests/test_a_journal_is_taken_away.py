"""A journal or a store that is taken away during a run stops it at once, and nothing is lost."""

import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from journal_facts import assert_same, query, recorded_epochs
from small_trainers import Climb, tune
from waiting_run import waiting

import letstune
from letstune.errors import JournalError, StoreError
from letstune.journal.journal import Journal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="knows where a file went")


@pytest.fixture(autouse=True)
def with_every_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look where the journal is however soon after the last time: these runs are short."""
    monkeypatch.setattr("letstune.journal.journal.AGAIN", -1.0)


class Taken(Climb):
    """Does something to its journal in its fifth epoch."""

    def load_dataset(self, dataset: Any) -> None:
        self.path, self.deed = dataset

    def train_epoch(self, epoch: int) -> dict[str, float]:
        CALLS.append(epoch)
        if len(CALLS) == 5:
            DEEDS[self.deed](Path(self.path))
        return super().train_epoch(epoch)


CALLS: list[int] = []


def removed(path: Path) -> None:
    for file in path.parent.glob("run.db*"):
        file.unlink()


def replaced(path: Path) -> None:
    other = path.with_name("other.db")
    tune(Climb(), 3, other, rounds=[1])
    other.replace(path)
    other.with_name("other.checkpoints").rename(path.with_name("others"))


def moved(path: Path) -> None:
    path.rename(path.with_name("mine.db"))


def moved_with_its_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.mkdir()  # and another one is there


DEEDS = {"removed": removed, "replaced": replaced, "moved": moved, "away": moved_with_its_folder}


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        ("removed", r"run\.db was removed while"),
        ("replaced", r"was replaced by another file, and the open one was removed"),
        ("moved", r"was moved to .*/mine\.db while"),
        ("away", r"was moved to .*/elsewhere/run\.db while"),
    ],
)
def test_a_journal_that_is_taken_away_stops_the_run_and_is_saved(
    deed: str, told: str, path: Path
) -> None:
    CALLS.clear()
    with pytest.raises(JournalError, match=told) as caught:
        tune(Taken(), 4, path, rounds=[3], dataset=(str(path), deed))
    saved = path.with_name("run.db.rescued")
    assert str(saved) in str(caught.value)
    assert recorded_epochs(saved) == 4
    assert query(saved, "PRAGMA journal_mode") == [("delete",)]
    assert query(saved, "PRAGMA integrity_check") == [("ok",)]
    if deed == "replaced":
        assert letstune.load(path).finished
        assert len(letstune.load(path)) == 3
    if deed == "away":
        shutil.rmtree(path.parent)
        path.parent.with_name("elsewhere").rename(path.parent)
        assert recorded_epochs(path) == 4  # it is whole, there
        return
    assert not list(path.parent.glob("run.db-*"))  # which SQLite would take for another file's
    saved.replace(path)
    assert letstune.resume(path, progress=False).finished
    straight = path.with_name("straight.db")
    tune(Taken(), 4, straight, rounds=[3], dataset=(str(path), deed))
    assert_same(path, straight)


class Keepless(Taken):
    def save(self, checkpoint: Any) -> None:
        pass


def test_it_is_noticed_with_every_commit(path: Path) -> None:
    CALLS.clear()
    with pytest.raises(JournalError, match=r"run\.db was moved to"):
        tune(Keepless(), 4, path, rounds=[3], dataset=(str(path), "moved"))
    assert len(CALLS) == 5
    assert recorded_epochs(path.with_name("run.db.rescued")) == 4


def test_a_journal_that_is_made_read_only_stops_the_run(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CALLS.clear()
    monkeypatch.setitem(DEEDS, "read-only", lambda path: path.chmod(0o444))
    with pytest.raises(JournalError, match=r"was made read-only.*Make it writable again"):
        tune(Taken(), 4, path, rounds=[3], dataset=(str(path), "read-only"))
    assert not path.with_name("run.db.rescued").exists()
    path.chmod(0o644)
    assert recorded_epochs(path) == 4
    assert letstune.resume(path, progress=False).finished


def test_what_was_saved_before_is_not_overwritten(path: Path) -> None:
    for name in ("run.db.rescued", "run.db.rescued-2"):
        path.with_name(name).write_text("before")
    CALLS.clear()
    with pytest.raises(JournalError, match=r"run\.db\.rescued-3"):
        tune(Taken(), 4, path, rounds=[3], dataset=(str(path), "moved"))
    assert path.with_name("run.db.rescued-2").read_text() == "before"


def test_it_is_noticed_while_an_epoch_takes_its_time(path: Path) -> None:
    with waiting(path) as process:
        path.unlink()
        _, told = process.communicate(timeout=60)  # though its epochs wait for ever
        assert process.returncode == 1
    assert "run.db was removed while the run was going on" in told
    assert path.with_name("run.db.rescued").exists()


def no_store(path: Path) -> None:
    shutil.rmtree(path.with_name("run.checkpoints"))


def another_store(path: Path) -> None:
    no_store(path)
    path.with_name("run.checkpoints").mkdir()


def moved_store(path: Path) -> None:
    path.with_name("run.checkpoints").rename(path.with_name("models"))


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        (no_store, r"run\.checkpoints was (removed|replaced)"),
        (another_store, r"run\.checkpoints was replaced by another one"),
        (moved_store, r"run\.checkpoints was (removed or moved|replaced)"),
    ],
)
def test_a_folder_of_checkpoints_that_is_taken_away_stops_the_run(
    deed: Any, told: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CALLS.clear()
    monkeypatch.setitem(DEEDS, "store", deed)
    with pytest.raises(StoreError, match=told):
        tune(Taken(), 4, path, rounds=[3], dataset=(str(path), "store"))
    assert recorded_epochs(path) == 4  # and so none whose checkpoint is nowhere


class Looking(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            letstune.load(self.dataset)
            LOCKS.append(locks_of(Path(self.dataset)))
        return super().train_epoch(epoch)


def test_locks_of_a_run_outlive_a_look_at_its_journal_from_the_same_process(path: Path) -> None:
    """Closing any descriptor of a file would drop SQLite's locks, and others would take them."""

    LOCKS.clear()
    tune(Looking(), 1, path, rounds=[2], dataset=str(path))
    assert any("POSIX" in line for line in LOCKS[0])
    assert any("OFDLCK" in line for line in LOCKS[0])


LOCKS: list[list[str]] = []


def locks_of(path: Path) -> list[str]:
    number = path.stat().st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return [line for line in lines if f":{number} " in line]


def test_a_fork_holds_nothing_open(path: Path) -> None:
    tune(Climb(), 1, path, rounds=[1])
    with closing(sqlite3.connect(path)), closing(Journal(path)):
        child = os.fork()
        if not child:
            names = [str(f.readlink()) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()]
            os._exit(sum(name == str(path) for name in names) != 2)  # those of SQLite
        assert os.waitpid(child, 0)[1] == 0
