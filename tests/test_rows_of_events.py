"""Each kind of event declares its rows once, and a column of a later schema is found by name."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hostile_journals import rewrite, run
from journal_facts import query
from small_trainers import made
from test_journal import GOLDEN

from letstune.journal import schema
from letstune.journal.journal import Journal
from letstune.journal.rows import ROWS
from letstune.journal.schema import TABLES, VERSION
from letstune.journal.tables import SEQ, Column, Table
from letstune.rounds.events import Event


def test_every_kind_of_event_is_rows_of_a_table() -> None:
    assert set(ROWS) == set(get_args(Event))
    assert {rows.table for rows in ROWS.values()} <= set(TABLES.values())


def test_what_only_sqlite_finds_wrong_is_told(path: Path) -> None:
    made(path)
    rewrite(path, "trials", "sampler TEXT", "sampler INTEGER")
    run(path, "INSERT INTO trials SELECT 1000, 6, params, 7, 1 FROM trials LIMIT 1")
    rewrite(path, "trials", "sampler INTEGER", "sampler TEXT")
    with closing(Journal(path)) as journal:
        assert "non-TEXT value in trials.sampler" in journal.damage()


def test_a_column_of_a_later_schema_is_the_last_one_wherever_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs, new = TABLES["epochs"], Column("TEXT", "Why.", since=VERSION + 1)
    later = replace(epochs, columns={**epochs.columns, "why": new})
    monkeypatch.setitem(TABLES, "epochs", later)
    monkeypatch.setattr(schema, "VERSION", VERSION + 1)
    with closing(sqlite3.connect(path)) as db:
        db.executescript(GOLDEN[-1].read_text())
    fresh = path.with_name("fresh.db")
    for each in (path, fresh):
        schema.migrate(each)
        assert query(each, "PRAGMA user_version") == [(VERSION + 1,)]
        assert [row[1] for row in query(each, "PRAGMA table_info(epochs)")] == list(later.columns)
    assert {why for (why,) in query(path, later.select(["why"], VERSION + 1))} == {None}
    assert later.select(["trial", "why"], VERSION) == "SELECT trial, NULL FROM epochs"


def test_a_table_that_is_made_anew_keeps_its_rows_and_later_columns() -> None:
    columns = {
        "seq": SEQ,
        "a": Column("INTEGER NOT NULL", "First."),
        "b": Column("INTEGER", "Second.", since=2),
        "c": Column("INTEGER", "Third.", since=3),
        "d": Column("INTEGER", "Fourth.", since=4),
    }
    table = Table("t", "For a test.", columns, remade=3)
    with closing(sqlite3.connect(":memory:")) as db:
        for version in (1, 2, 3, 4):
            for statement in table.changes(version):
                db.execute(statement)
            if version == 2:
                db.execute("INSERT INTO t VALUES (1, 2, 3)")
        assert db.execute("SELECT * FROM t").fetchall() == [(1, 2, 3, None, None)]
        assert [row[1] for row in db.execute("PRAGMA table_info(t)")] == list(columns)
