"""The journal's tables and views, and the migrations that make them.

The schema is public: see "The journal" in the documentation. Every change is a new migration, so
that today's code resumes a journal of any released version.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID: Final = 0x6C746E65  # "ltne"
VERSION: Final = 2
# Every commit writes whole pages to the -wal file, and a row is small.
PAGE_SIZE: Final = 1024

TABLES: Final = {
    "plan": """
        seq INTEGER PRIMARY KEY,
        fact TEXT NOT NULL,
        value TEXT NOT NULL""",
    "pickles": """
        seq INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        pickle BLOB NOT NULL,
        sha256 TEXT NOT NULL,
        signature TEXT,
        about TEXT NOT NULL""",
    "sessions": """
        seq INTEGER PRIMARY KEY,
        session INTEGER NOT NULL,
        at TEXT NOT NULL,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        versions TEXT NOT NULL,
        ended TEXT,
        UNIQUE (session, ended)""",
    "trials": """
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL UNIQUE,
        params TEXT NOT NULL,
        sampler TEXT NOT NULL,
        session INTEGER NOT NULL""",
    "epochs": """
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL REFERENCES trials (trial),
        epoch INTEGER NOT NULL,
        value REAL,
        metrics TEXT NOT NULL,
        started TEXT NOT NULL,
        seconds REAL NOT NULL,
        checkpoint TEXT,
        bytes INTEGER,
        sha256 TEXT,
        signature TEXT,
        session INTEGER NOT NULL,
        UNIQUE (trial, epoch)""",
    "stops": """
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL UNIQUE REFERENCES trials (trial),
        epoch INTEGER NOT NULL,
        session INTEGER NOT NULL""",
    "failures": """
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL UNIQUE REFERENCES trials (trial),
        epoch INTEGER NOT NULL,
        kind TEXT NOT NULL,
        message TEXT NOT NULL,
        traceback TEXT NOT NULL,
        session INTEGER NOT NULL""",
    "deletions": """
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        why TEXT NOT NULL,
        session INTEGER NOT NULL,
        UNIQUE (trial, epoch),
        FOREIGN KEY (trial, epoch) REFERENCES epochs (trial, epoch)""",
    "deaths": """
        seq INTEGER PRIMARY KEY,
        trial INTEGER NOT NULL REFERENCES trials (trial),
        epoch INTEGER NOT NULL,
        attempt TEXT NOT NULL,
        code INTEGER NOT NULL,
        memory INTEGER,
        stack TEXT NOT NULL,
        at TEXT NOT NULL,
        session INTEGER NOT NULL""",
}

VIEWS: Final = {
    "leaderboard": """
        WITH ranked AS (
            SELECT trial, epoch, value,
                count(*) OVER (PARTITION BY trial) AS epochs,
                sum(seconds) OVER (PARTITION BY trial) AS seconds,
                row_number() OVER (
                    PARTITION BY trial
                    ORDER BY CASE WHEN abs(value) < 9e999 THEN value END DESC NULLS LAST, epoch
                ) AS place
            FROM epochs
        )
        SELECT
            row_number() OVER (
                ORDER BY f.trial IS NOT NULL,
                CASE WHEN abs(value) < 9e999 THEN value END DESC NULLS LAST, t.trial
            ) AS place,
            t.trial, r.value, r.epoch AS best_epoch, ifnull(r.epochs, 0) AS epochs,
            r.seconds, f.message AS failure, t.params
        FROM trials t
        LEFT JOIN ranked r ON r.trial = t.trial AND r.place = 1
        LEFT JOIN failures f ON f.trial = t.trial
        ORDER BY place""",
    "learning_curves": """
        SELECT trial, epoch, value, metrics, started, seconds
        FROM epochs ORDER BY trial, epoch""",
    "checkpoints": """
        SELECT e.trial, e.epoch, e.value, e.checkpoint, e.bytes, e.sha256, d.why AS deleted
        FROM epochs e LEFT JOIN deletions d ON d.trial = e.trial AND d.epoch = e.epoch
        WHERE e.checkpoint IS NOT NULL ORDER BY e.trial, e.epoch""",
}


def m001_initial(db: Database) -> None:
    """Make the tables, the triggers that keep them insert-only, and the views."""
    for table in TABLES:
        if table != "deaths":
            _make_table(db, table)
    for view, query in VIEWS.items():
        db.execute(f"CREATE VIEW {view} AS {query}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute("PRAGMA user_version = 1")


def m002_deaths(db: Database) -> None:
    """Make room for the deaths of workers."""
    _make_table(db, "deaths")
    db.execute("PRAGMA user_version = 2")


def _make_table(db: Database, table: str) -> None:
    db.execute(f"CREATE TABLE {table} ({TABLES[table]}\n) STRICT")
    for verb in ("UPDATE", "DELETE"):
        db.execute(
            f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'a letstune journal is insert-only'); END"
        )


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Import as if there were no pandas, which sqlite-utils imports if it can: in 0.3 seconds."""
    hidden = "pandas" not in sys.modules
    if hidden:
        sys.modules["pandas"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["pandas"]


def migrate(path: Path) -> None:
    """Bring a database to today's schema, all of it or nothing."""
    # sqlite-utils takes longer to import than a run of no epochs takes; a journal that is up to
    # date does without it.
    with _without_pandas():
        from sqlite_utils import Database, Migrations

    migrations = Migrations("letstune")
    migrations()(m001_initial)
    migrations()(m002_deaths)
    connection = sqlite3.connect(path)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")  # heeded by an empty file only
        migrations.apply(Database(connection, execute_plugins=False))
    finally:
        connection.close()
