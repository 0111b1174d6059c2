"""The judge of rows: a file's schema is letstune's own, before anything else of it is read.

A table that is a view, a trigger or a column with an expression is a program, and who made the
file chose it. So what letstune reads and writes must be, word for word, what it makes itself.
What lies beside that and cannot run is left to its owner: tables, views and indexes of one's own,
the statistics of ANALYZE, and full-text search without triggers.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cache, lru_cache
from typing import Final

from letstune.journal.schema import TABLES

_NAME: Final = r"""(?:\w+|"[^"]+"|\[[^\]]+\]|`[^`]+`)"""
_COLUMNS: Final = rf"\( ?{_NAME}(?: ASC| DESC)?(?:, ?{_NAME}(?: ASC| DESC)?)* ?\)"

# Of plain columns: SQLite computes the expressions of an index with each row that is written, and
# an index that is unique, or of some rows only, has a say in what can be written, or what is read.
_INDEX: Final = re.compile(rf"CREATE INDEX {_NAME} ON {_NAME} ?{_COLUMNS}", re.IGNORECASE)

# The table of sqlite-utils, whose versions do not write it alike, and its index.
_MIGRATIONS: Final = "_sqlite_migrations"
_THEIRS: Final = re.compile(
    rf"CREATE TABLE {_NAME} \((?: ?{_NAME} (?:TEXT|INTEGER)(?: PRIMARY KEY| NOT NULL)*,?)+"
    rf"(?: ?PRIMARY KEY {_COLUMNS})? ?\)|CREATE UNIQUE INDEX {_NAME} ON {_NAME} ?{_COLUMNS}",
    re.IGNORECASE,
)

_SEARCH: Final = re.compile(rf"CREATE VIRTUAL TABLE {_NAME} USING fts[345]\b", re.IGNORECASE)

_LONGEST: Final = 60


def judge(db: sqlite3.Connection, version: int) -> str:
    """Return what is wrong with the schema of a file; "" if nothing is.

    Args:
        db: it is open, and nothing but its version was read.
        version: the version of the schema that it says it has.
    """
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    ours = _ours(version)
    if foreign := next(filter(None, (_foreign(row, ours) for row in rows)), ""):
        return f"holds {foreign}"
    missing = ours.keys() & TABLES.keys() - {name.lower() for _, name, *_ in rows}
    return f"lacks the table {min(missing)!r}" if missing else ""


def _foreign(row: tuple[str, str, str, str | None], ours: Mapping[str, str]) -> str:
    """Return what an object is, if it must not be there; else ""."""
    kind, name, table, sql = row
    said, text = f"the {kind} {_shown(name)}", _plain(sql or "")
    if name.lower() in ours:
        return "" if text == ours[name.lower()] else f"{said}, which is not as letstune makes it"
    if kind == "trigger":
        return f"{said} on {_shown(table)}, which is not letstune's"
    if name.lower() == _MIGRATIONS or (table.lower() == _MIGRATIONS and sql):
        return "" if _THEIRS.fullmatch(text) else f"{said}, which is not as sqlite-utils makes it"
    if kind == "index" and table.lower() in ours and sql and not _INDEX.fullmatch(text):
        return f"{said} on {table}, which is not of plain columns"
    if re.match("CREATE VIRTUAL", text, re.IGNORECASE) and not _SEARCH.match(text):
        return f"the virtual table {_shown(name)}, which is not one for full-text search"
    return ""


@cache
def _ours(version: int) -> Mapping[str, str]:
    """Return what letstune makes of tables and triggers, by name, in a version of the schema.

    Not of views: letstune reads none, so they are for whoever does.
    """
    return dict(_made(version))


def _made(version: int) -> Iterator[tuple[str, str]]:
    with closing(sqlite3.connect(":memory:")) as db:
        for step in range(1, version + 1):
            for table in TABLES.values():
                for statement in table.changes(step):
                    db.execute(statement)
        for name, sql in db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"):
            yield name, _plain(sql)


@lru_cache(256)
def _plain(sql: str) -> str:
    """Return a statement with its white space made alike: what SQLite takes for that, no more."""
    return re.sub(r"[ \t\n\f\r]+", " ", sql)


def _shown(name: str) -> str:
    return repr(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}...")
