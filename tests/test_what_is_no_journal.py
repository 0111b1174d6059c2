"""A file that is no journal, or a damaged one, is told and left as it is."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from files import in_all
from small_trainers import Climb, Hill, made, tune

import letstune
from letstune.cli.main import main
from letstune.errors import IllegalEventError, JournalError, JournalNotFoundError
from letstune.journal.schema import VERSION


def newer(path: Path) -> None:
    made(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")


def other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE plan (a)")


def shortened(path: Path) -> None:
    made(path)
    os.truncate(path, path.stat().st_size // 4096 // 2 * 4096)


def scrambled(path: Path) -> None:
    made(path)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xaa" * (len(data) - 4096)
    path.write_bytes(data)


NO_JOURNALS = {
    "missing": (lambda path: None, JournalNotFoundError, "There is no journal at .*letstune tune"),
    "empty": (lambda path: path.touch(), JournalError, "is empty; expected a journal"),
    "text": (
        lambda path: path.write_text("notes " * 1000),
        JournalError,
        "is not a SQLite database; expected a journal",
    ),
    "short": (lambda path: path.write_bytes(b"SQLite format 3\0"), JournalError, "not a SQLite"),
    "folder": (lambda path: path.mkdir(), letstune.LetstuneError, "[Ii]s a directory"),
    "other": (other_database, JournalError, "is a SQLite database, but not a journal"),
    "newer": (newer, JournalError, r"newer letstune: its schema is \d+.*pip install --upgrade"),
    "shortened": (shortened, JournalError, "damaged or truncated"),
    "scrambled": (scrambled, JournalError, "damaged or truncated"),
}


USES = {
    "tune": lambda path: tune(Climb(), 6, path, rounds=[1, 1]),
    "resume": lambda path: letstune.resume(path, progress=False),
    "load": letstune.load,
}


@pytest.mark.parametrize(
    ("use", "kind"),
    [(u, kind) for u in USES for kind in NO_JOURNALS if (u, kind) != ("tune", "missing")],
)
def test_what_is_no_journal_is_told_and_left_as_it_is(use: str, kind: str, path: Path) -> None:
    make, error, text = NO_JOURNALS[kind]
    make(path)
    before = in_all(path.parent)
    with pytest.raises(error, match=text) as caught:
        USES[use](path)
    assert str(path) in str(caught.value)
    assert in_all(path.parent) == before


@pytest.mark.parametrize(
    ("trial", "epoch", "text"),
    [
        (0, 77, r"epoch 77 is recorded, but epoch \d comes next\. That does not follow"),
        (99, 0, "Trial 99: epoch 0 is recorded, but there is no such trial"),
    ],
)
def test_events_that_do_not_follow_are_told(trial: int, epoch: int, text: str, path: Path) -> None:
    made(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO epochs SELECT 1000, ?, ?, value, metrics, started, seconds, NULL, "
            "NULL, NULL, NULL, session FROM epochs LIMIT 1",
            (trial, epoch),
        )
    with pytest.raises(IllegalEventError, match=text):
        letstune.resume(path, progress=False)


def test_a_damaged_pickle_is_not_unpickled(path: Path) -> None:
    made(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TRIGGER pickles_refuses_update")
        db.execute("UPDATE pickles SET pickle = zeroblob(length(pickle)) WHERE name = 'trainer'")
    with pytest.raises(JournalError, match="the pickled trainer is damaged"):
        letstune.resume(path, progress=False)


@pytest.mark.parametrize("name", ["", ".", "..", "/"])
def test_a_path_without_a_name_is_told(name: str) -> None:
    with pytest.raises(letstune.LetstuneError):
        tune(Hill(), 1, Path(name))


def test_a_folder_that_cannot_be_made_is_told(path: Path) -> None:
    path.touch()
    with pytest.raises(letstune.LetstuneError, match=r"run\.db"):
        tune(Hill(), 1, path / "run.db")


@pytest.mark.parametrize(
    ("table", "column", "bad"),
    [
        ("plan", "value", "no JSON"),
        ("plan", "fact", "nothing that is known"),
        ("epochs", "metrics", "{}"),
        ("epochs", "metrics", '{"height": "'),
        ("epochs", "started", "yesterday"),
        ("pickles", "about", "no JSON"),
        ("pickles", "pickle", b"other bytes"),
        ("trials", "params", "{}"),
    ],
)
def test_a_damaged_row_is_told(table: str, column: str, bad: str | bytes, path: Path) -> None:
    tune(Climb(), 2, path, rounds=[1])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"DROP TRIGGER {table}_refuses_update")
        db.execute(f"UPDATE {table} SET {column} = ?", (bad,))
    done = CliRunner().invoke(main, ["check", str(path)])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "damaged" in done.output or "not JSON of params" in done.output
