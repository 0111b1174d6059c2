"""A reader sees all that was recorded, blocks nothing and changes nothing."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from files import in_all
from journal_facts import query
from processes import python
from small_trainers import Climb, tune

import letstune


class Read(Climb):
    """Reads its own journal in the middle of each epoch, and holds on to a transaction."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        READ.append([(len(t.epochs), len(t._state.params)) for t in letstune.load(self.dataset)])
        with closing(sqlite3.connect(f"file:{self.dataset}?mode=ro", uri=True)) as db:
            db.execute("BEGIN")
            HELD.append(db.execute("SELECT count(*) FROM epochs").fetchone()[0])
            values = super().train_epoch(epoch)
        return values


READ: list[Any] = []
HELD: list[int] = []


def test_readers_see_all_that_was_recorded(path: Path) -> None:
    READ.clear()
    HELD.clear()
    tune(Read(), 4, path, rounds=[2, 1], dataset=str(path))
    assert [sum(epochs for epochs, _ in trials) for trials in READ] == list(range(9))
    assert list(range(9)) == HELD


class Held(Climb):
    """Leaves a reader in a transaction while epochs are recorded."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if not OPEN:
            OPEN.append(sqlite3.connect(f"file:{self.dataset}?mode=ro", uri=True))
            OPEN[0].execute("BEGIN")
            OPEN[0].execute("SELECT count(*) FROM epochs").fetchall()
        return super().train_epoch(epoch)


OPEN: list[sqlite3.Connection] = []


@pytest.fixture
def opened() -> Iterator[list[sqlite3.Connection]]:
    OPEN.clear()
    yield OPEN
    for connection in OPEN:
        connection.close()


def test_a_reader_blocks_nothing_and_keeps_its_snapshot(
    path: Path, opened: list[sqlite3.Connection]
) -> None:
    tuning = tune(Held(), 3, path, rounds=[2], dataset=str(path))
    assert tuning.finished
    assert sum(trial.duration for trial in tuning) < 2
    ((count,),) = opened[0].execute("SELECT count(*) FROM epochs").fetchall()
    assert count == 0
    session = "SELECT julianday(max(at)) - julianday(min(at)) FROM sessions"
    assert query(path, session)[0][0] * 86400 < 2


def test_a_reader_at_the_end_leaves_a_journal_that_goes_on(
    path: Path, opened: list[sqlite3.Connection]
) -> None:
    tune(Held(), 3, path, rounds=[2], dataset=str(path))
    opened[0].close()
    assert len(letstune.resume(path, rounds=[3], progress=False)[0].epochs) == 3
    assert {entry.name for entry in path.parent.iterdir()} == {"run.db", "run.checkpoints"}


def test_reading_changes_nothing(walked: Path) -> None:
    before = in_all(walked.parent)
    tuning = letstune.load(walked)
    list(tuning.rows())
    list(tuning.epoch_rows())
    assert tuning.errors
    assert in_all(walked.parent) == before


def test_a_run_that_was_killed_can_be_read(path: Path) -> None:
    script = (
        "import os, sys, pathlib, small_trainers\n"
        "class Killed(small_trainers.Hill):\n"
        "    def save(self, checkpoint, model):\n"
        "        if model.n == 4: os.kill(os.getpid(), 9)\n"
        "        super().save(checkpoint, model)\n"
        "small_trainers.tune(Killed(), 60, pathlib.Path(sys.argv[1]))"
    )
    assert python("-c", script, path, cwd=path.parent).returncode == -9
    tuning = letstune.load(path)
    assert not tuning.finished
    assert len(tuning) == 60
