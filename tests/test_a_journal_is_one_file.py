"""A run that has ended is a single file, and what is recorded is on the disk."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from journal_facts import facts, query
from processes import python
from small_trainers import Climb, Hill, Odd, tune

from letstune.journal.journal import Journal
from letstune.rounds.events import EpochFinished
from letstune.training.checkpoints import Checkpoint


def test_a_clean_end_leaves_a_single_file(path: Path) -> None:
    tune(Hill(), 3, path)
    assert {entry.name for entry in path.parent.iterdir()} == {"run.db", "run.checkpoints"}
    assert query(path, "PRAGMA journal_mode") == [("delete",)]


def test_an_error_leaves_a_single_file_as_well(path: Path) -> None:
    with pytest.raises(ValueError, match="as asked for"):
        tune(Odd(), 3, path, rounds=[2], dataset=[0.5, None], passthrough_errors=True)
    assert {entry.name for entry in path.parent.iterdir()} == {"run.db", "run.checkpoints"}
    assert {entry.parent.name for entry in path.parent.glob("*/*")} <= {"run.checkpoints"}


class Watched(Climb):
    """Notes how big the write-ahead log of its journal is; its dataset is the journal's path."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        LOGGED.append(Path(f"{self.dataset}-wal").stat().st_size)
        return super().train_epoch(epoch)

    def save(self, checkpoint: Checkpoint) -> None:
        """Save nothing, to be quick."""


LOGGED: list[int] = []


def test_the_log_is_written_from_its_beginning_again_before_it_is_long(path: Path) -> None:
    LOGGED.clear()
    tune(Watched(), 40, path, rounds=[6], dataset=str(path))
    assert query(path, "PRAGMA page_size") == [(1024,)]
    # Two pages an epoch, at least, would be twice as many.
    assert len(LOGGED) == 240
    assert max(LOGGED) < 250_000


def test_what_a_killed_run_left_is_not_taken_for_part_of_a_new_one(path: Path) -> None:
    killed = (
        "import os, sys, pathlib, small_trainers\n"
        "class Killed(small_trainers.Climb):\n"
        "    def train_epoch(self, epoch):\n"
        "        if epoch == 5: os.kill(os.getpid(), 9)\n"
        "        return super().train_epoch(epoch)\n"
        "small_trainers.tune(Killed(), 8, pathlib.Path(sys.argv[1]), rounds=[9])"
    )
    assert python("-c", killed, path, cwd=path.parent).returncode == -9
    assert path.with_name("run.db-wal").stat().st_size > 0
    path.unlink()  # what a user does to begin anew
    tuning = tune(Hill(), 3, path)
    assert len(tuning) == 3
    other = path.with_name("other.db")
    tune(Hill(), 3, other)
    assert {**facts(path), "plan": []} == {**facts(other), "plan": []}


def test_a_run_is_durable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename, append = os.fsync, os.rename, Journal.append

    def synced(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(source: Any, target: Any) -> None:
        done.append("rename")
        rename(source, target)

    def appended(journal: Journal, events: Any) -> None:
        append(journal, events)
        if any(isinstance(event, EpochFinished) for event in events):
            ((mode,),) = journal._db.execute("PRAGMA synchronous")
            done.append(f"row {mode}")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    monkeypatch.setattr(Journal, "append", appended)
    tune(Climb(), 1, path, rounds=[2])
    full = 2
    assert done[-8:] == ["file", "rename", "folder", f"row {full}"] * 2
