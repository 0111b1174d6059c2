"""The journal's tables and views, and the migrations that make them.

The schema is public: see "The journal" in the documentation. Every version has a migration, which
adds the tables and columns that are declared as of that version. So today's code resumes a journal
of any released version.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from letstune.journal.plan import PICKLES, PLAN
from letstune.journal.rows import EVENTS, STANDING
from letstune.journal.sessions import SESSIONS
from letstune.journal.tables import Table

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID: Final = 0x6C746E65  # "ltne"
# Every commit writes whole pages to the -wal file, and a row is small.
PAGE_SIZE: Final = 1024

TABLES: Final[Mapping[str, Table]] = {
    table.name: table for table in (PLAN, PICKLES, SESSIONS, *(rows.table for rows in EVENTS))
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
        LEFT JOIN failures f ON f.trial = t.trial AND """
    + STANDING.format("f")
    + """
        ORDER BY place""",
    "learning_curves": """
        SELECT trial, epoch, value, metrics, started, seconds
        FROM epochs ORDER BY trial, epoch""",
    "checkpoints": """
        SELECT e.trial, e.epoch, e.value, e.checkpoint, e.bytes, e.sha256, d.why AS deleted
        FROM epochs e LEFT JOIN deletions d ON d.trial = e.trial AND d.epoch = e.epoch
        WHERE e.checkpoint IS NOT NULL ORDER BY e.trial, e.epoch""",
}


VERSION: Final = max(
    since
    for table in TABLES.values()
    for since in (table.since, table.remade, *(c.since for c in table.columns.values()))
)
# sqlite-utils knows by its name which migration it has applied; later ones are called m004, ...
_NAMES: Final = {1: "m001_initial", 2: "m002_deaths", 3: "m003_retries"}
_CHANGED_VIEWS: Final = {3: ["leaderboard"]}


def _migration(version: int) -> Callable[[Database], None]:
    """Return the function that brings a database to a version from the one before."""

    def change(db: Database) -> None:
        views = list(VIEWS) if version == 1 else _CHANGED_VIEWS.get(version, [])
        for view in views:  # before what they look at
            db.execute(f"DROP VIEW IF EXISTS {view}")
        for table in TABLES.values():
            for statement in table.changes(version):
                db.execute(statement)
        for view in views:
            db.execute(f"CREATE VIEW {view} AS {VIEWS[view]}")
        if version == 1:
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {version}")

    return change


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Import as if pandas were missing: sqlite-utils would import it, in 0.3 seconds."""
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
    # Importing sqlite-utils takes longer than a run of no epochs does, and a journal that is up to
    # date does not need it.
    with _without_pandas():
        from sqlite_utils import Database, Migrations

    migrations = Migrations("letstune")
    for version in range(1, VERSION + 1):
        name = _NAMES.get(version, f"m{version:03}")
        migrations(name=name)(_migration(version))
    connection = sqlite3.connect(path)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")  # heeded by an empty file only
        migrations.apply(Database(connection, execute_plugins=False))
    finally:
        connection.close()
