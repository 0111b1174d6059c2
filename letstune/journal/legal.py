"""The first row of a journal that does not follow from the rows before it.

letstune writes no such row. Another program, a broken disk or an old version may have; then what
came before is still worth reading, and going on from.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from heapq import merge
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

from letstune.errors import IllegalEventError, JournalError
from letstune.journal.plan import PLAN
from letstune.journal.rows import EPOCHS, RETRIED, RETRIES, ROWS, Rows, read_epochs
from letstune.journal.schema import TABLES
from letstune.rounds.events import Event, TrialRetried
from letstune.rounds.plan import Plan
from letstune.rounds.state import State

_WRONG: Final = (IllegalEventError, ValueError, KeyError, TypeError, AttributeError)


class Illegal(NamedTuple):
    """A row that does not follow: its place in the run, its table, and why."""

    seq: int
    table: str
    why: str


def first_illegal(db: sqlite3.Connection, version: int, facts: Mapping[str, Any]) -> Illegal | None:
    """Return the first row that does not follow; None if all do.

    The rows are folded one by one, in the order in which they were written. `Journal.load` folds
    them table by table, which takes a tenth of the time, but cannot tell which is the first.

    Args:
        db: an open journal, in no transaction.
        version: that of its schema.
        facts: those of its plan.
    """
    plan = Plan.from_facts(facts)
    state = State(plan, facts.get("exhausted"), replaying=True)
    retried = _retried(db, version)
    for seq, rows, values in _in_order(db, version):
        if rows in RETRIED and retried.get(values[0], 0) > seq:
            continue
        try:
            event = _event(rows, values, plan.metric)
            if not isinstance(event, TrialRetried):
                state.apply(event)
        except _WRONG as error:
            return Illegal(seq, rows.table.name, str(error))
    return None


def hide(db: sqlite3.Connection, seq: int) -> None:
    """Let a connection see no row from ``seq`` on. The file is not written."""
    for table in _tables(db):
        db.execute(f"CREATE TEMP VIEW {table} AS SELECT * FROM main.{table} WHERE seq < {int(seq)}")


def copy_before(db: sqlite3.Connection, seq: int, path: Path) -> None:
    """Write a journal that holds the rows before ``seq``, and no more, to a new file.

    Raises:
        JournalError: there is such a file, or it cannot be written.
    """
    try:
        path.touch(0o600, exist_ok=False)
        try:
            _copy_before(db, seq, path)
        except BaseException:
            path.unlink()  # half a copy, in the way of another try
            raise
    except (OSError, sqlite3.Error) as error:
        raise JournalError(f"{path} cannot be written: {error}. Name another file.") from error


def _copy_before(db: sqlite3.Connection, seq: int, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        db.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        triggers = copy.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        ours = triggers.fetchall()
        copy.execute("BEGIN IMMEDIATE")
        for name, _ in ours:  # they refuse to let rows go
            copy.execute(f'DROP TRIGGER "{name}"')
        for table in _tables(copy):
            copy.execute(f"DELETE FROM {table} WHERE seq >= ?", (seq,))
        for _, sql in ours:
            copy.execute(sql)
        copy.execute("COMMIT")


def _tables(db: sqlite3.Connection) -> list[str]:
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return [table for table in TABLES if table in there]


def _retried(db: sqlite3.Connection, version: int) -> dict[int, int]:
    """Return where the last retry of each trial is that was retried."""
    if version < (RETRIES.table.since or 0):
        return {}
    return dict(db.execute("SELECT trial, max(seq) FROM retries GROUP BY trial"))


def _in_order(
    db: sqlite3.Connection, version: int
) -> Iterator[tuple[int, Rows[Any], tuple[Any, ...]]]:
    """Yield the place, the kind and the columns of all events."""

    def of(rows: Rows[Any]) -> Iterator[tuple[int, Rows[Any], tuple[Any, ...]]]:
        query = rows.table.select(["seq", *rows.columns], version)
        for seq, *values in db.execute(f"{query} ORDER BY seq"):
            yield seq, rows, tuple(values)

    kinds = [rows for rows in ROWS.values() if rows.table is not PLAN]
    return merge(*(of(r) for r in kinds if r.table.since <= version), key=itemgetter(0))


def _event(rows: Rows[Any], values: tuple[Any, ...], metric: str) -> Event:
    found = read_epochs([values], metric) if rows is EPOCHS else rows.read([values])
    event: Event = next(iter(found))
    return event
