"""Journals and files beside them as somebody makes them who wishes their reader ill."""

import json
import os
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS seq FROM n"

PAGE = 1024


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return all that one can tell of what is in a folder: kinds, modes, times and contents."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        found[str(path.relative_to(folder))] = (info.st_mode, info.st_mtime_ns, content)
    return found


def run(path: Path, *statements: str) -> None:
    """Change a journal as its makers did not mean it to be changed."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA writable_schema = ON")
        db.set_progress_handler(lambda: 1, 3_000_000)  # it may be endless by now
        for statement in statements:
            db.execute(statement)


def rewrite(path: Path, name: str, old: str, new: str) -> None:
    """Change the text of which SQLite makes an object, and none of its rows."""
    run(
        path,
        f"UPDATE sqlite_schema SET sql = replace(sql, '{old}', '{new}') WHERE name = '{name}'",
    )


def view_instead(path: Path, table: str, select: str) -> None:
    """Put a view in the place of a table."""
    run(path, "PRAGMA foreign_keys = OFF", "DROP VIEW leaderboard", f"DROP TABLE {table}")
    run(path, f"CREATE VIEW {table} AS {select}")


def loop(path: Path, table: str) -> None:
    """Let the pages of a table lead to each other, for more rows than anybody can read."""
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        ((root,),) = db.execute(query, (table,))
    data = bytearray(path.read_bytes())
    pages = len(data) // PAGE
    leaf = bytes(data[(root - 1) * PAGE : root * PAGE])
    chain = [root, *range(pages + 1, pages + 6)]
    data += bytes(6 * PAGE)
    for page, below in zip(chain, [*chain[1:], pages + 6], strict=True):
        start = (page - 1) * PAGE
        data[start : start + PAGE] = interior(below)
    data[(pages + 5) * PAGE :] = leaf
    data[28:32] = (pages + 6).to_bytes(4)  # the number of pages
    path.write_bytes(data)


def interior(below: int) -> bytes:
    """Return an interior page of a table, all of whose children are the same page."""
    cells = 100
    content = PAGE - 5 * cells
    head = b"\x05\0\0" + cells.to_bytes(2) + content.to_bytes(2) + b"\0" + below.to_bytes(4)
    places = b"".join((content + 5 * n).to_bytes(2) for n in range(cells))
    cell = below.to_bytes(4) + b"\x01"
    return (head + places).ljust(content, b"\0") + cell * cells


MAGIC = bytes.fromhex("d9d505f920a163d7")


def names_another(path: Path, victim: Path) -> None:
    """Leave a rollback journal that is one of several which a "super-journal" holds together."""
    size = path.stat().st_size // PAGE
    head = MAGIC + (0).to_bytes(4) + bytes(4) + size.to_bytes(4) + (512).to_bytes(4)
    head += PAGE.to_bytes(4)
    name = os.fsencode(victim)
    end = name + len(name).to_bytes(4) + (sum(name) & 0xFFFFFFFF).to_bytes(4) + MAGIC
    lock_page = (0x40000000 // PAGE + 1).to_bytes(4)
    path.with_name(path.name + "-journal").write_bytes(head.ljust(512, b"\0") + lock_page + end)


def link(beside: Path, victim: Path) -> None:
    beside.symlink_to(victim)


def hard_link(beside: Path, victim: Path) -> None:
    os.link(victim, beside)


def pipe(beside: Path, victim: Path) -> None:
    os.mkfifo(beside)


def directory(beside: Path, victim: Path) -> None:
    beside.mkdir()


def dangling(beside: Path, victim: Path) -> None:
    beside.symlink_to(victim.with_name("not there yet"))


KINDS: dict[str, Callable[[Path, Path], None]] = {
    "link": link,
    "hard link": hard_link,
    "pipe": pipe,
    "directory": directory,
    "dangling": dangling,
}
SUFFIXES = ["-wal", "-shm", "-journal", ".lock", ".skip"]

FOREIGN: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a view for a table": (
        "the view 'epochs'",
        lambda path: view_instead(path, "epochs", ENDLESS),
    ),
    "a view for the plan": ("the view 'plan'", lambda path: view_instead(path, "plan", ENDLESS)),
    "a view for migrations": (
        "the view '_sqlite_migrations'",
        lambda path: view_instead(path, "_sqlite_migrations", "SELECT 1"),
    ),
    "a trigger": (
        "the trigger 'evil' on 'epochs'",
        lambda path: run(
            path, "CREATE TRIGGER evil AFTER INSERT ON epochs BEGIN SELECT zeroblob(1e9); END"
        ),
    ),
    "a trigger of another table": (
        "the trigger 'evil' on 'mine'",
        lambda path: run(
            path,
            "CREATE TABLE mine (a)",
            "CREATE TRIGGER evil AFTER INSERT ON mine BEGIN DELETE FROM mine; END",
        ),
    ),
    "a trigger with another body": (
        "the trigger 'epochs_refuses_delete'",
        lambda path: rewrite(path, "epochs_refuses_delete", "RAISE(ABORT,", "printf("),
    ),
    "a generated column": (
        "the table 'trials'",
        lambda path: rewrite(path, "trials", "sampler TEXT", "sampler TEXT AS (hex(params))"),
    ),
    "a check": (
        "the table 'epochs'",
        lambda path: rewrite(path, "epochs", "bytes INTEGER", "bytes INTEGER CHECK (random())"),
    ),
    "a default": (
        "the table 'plan'",
        lambda path: rewrite(path, "plan", "fact TEXT", "fact TEXT DEFAULT (hex(1))"),
    ),
    "a table that is not strict": (
        "the table 'plan'",
        lambda path: rewrite(path, "plan", " STRICT", ""),
    ),
    "a default in the table of migrations": (
        "the table '_sqlite_migrations'",
        lambda path: rewrite(path, "_sqlite_migrations", '"name" TEXT', '"name" TEXT AS (hex(1))'),
    ),
    "an index of an expression": (
        "the index 'evil' on epochs",
        lambda path: run(path, "CREATE INDEX evil ON epochs (hex(metrics))"),
    ),
    "an index that refuses rows": (
        "the index 'evil' on trials",
        lambda path: run(path, "CREATE UNIQUE INDEX evil ON trials (params)"),
    ),
    "an index of some rows": (
        "the index 'evil' on epochs",
        lambda path: run(path, "CREATE INDEX evil ON epochs (trial) WHERE epoch > 1"),
    ),
    "a virtual table": (
        "the virtual table 'boxes'",
        lambda path: run(path, "CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)"),
    ),
    "a missing table": ("lacks the table 'stops'", lambda path: run(path, "DROP TABLE stops")),
    "a name that is written to the terminal": (
        r"the trigger 'a\x1b[2Jb'",
        lambda path: run(
            path, 'CREATE TRIGGER "a\x1b[2Jb" AFTER INSERT ON plan BEGIN SELECT 1; END'
        ),
    ),
}


def more_trials(db: sqlite3.Connection, count: int) -> None:
    """Add trials without an epoch, from number 6 on."""
    row = f"1000 + i, 6 + i, '{_PARAMS}', '', 1"
    db.execute(f"{_COUNTED} INSERT INTO trials SELECT {row} FROM n LIMIT {count}")
    fact(db, "n_trials", count + 6)


_PARAMS = '{"x":0.5,"n":3}'
_COUNTED = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n)"
_BIG = 11 << 20
"""Almost as long as a text may be."""


def fact(db: sqlite3.Connection, name: str, value: object) -> None:
    db.execute("DROP TRIGGER IF EXISTS plan_refuses_update")
    db.execute("UPDATE plan SET value = ? WHERE fact = ?", (json.dumps(value), name))


def long_list(size: int) -> str:
    """Return JSON that takes as much memory as can be, for its length."""
    return "[" + "[]," * (size // 3) + "0]"


def many_failures(db: sqlite3.Connection) -> None:
    more_trials(db, 15_000)
    db.execute(
        f"{_COUNTED} INSERT INTO failures "
        "SELECT 1000000 + i, 6 + i, 0, 'raised', 'm', 't', 1 FROM n LIMIT 15000"
    )


def long_failure(message: str, traceback: str) -> Callable[[sqlite3.Connection], None]:
    def make(db: sqlite3.Connection) -> None:
        more_trials(db, 1)
        row = (3000, 6, 0, "raised", message, traceback, 1)
        db.execute("INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    return make


def long_params(db: sqlite3.Connection) -> None:
    db.execute("DROP TRIGGER trials_refuses_update")
    params = _PARAMS[:-1] + ',"y":' + long_list(_BIG) + "}"
    db.execute("UPDATE trials SET params = ? WHERE trial = 0", (params,))


def many_metrics(db: sqlite3.Connection) -> None:
    db.execute("DROP TRIGGER epochs_refuses_update")
    metrics = "{" + "".join(f'"{i}":{i}.0,' for i in range(_BIG // 36)) + '"height":1.0}'
    db.execute("UPDATE epochs SET metrics = ? WHERE trial = 0", (metrics,))


def many_facts(db: sqlite3.Connection) -> None:
    for number in range(5):
        row = (3000 + number, f"fact {number}", long_list(_BIG))
        db.execute("INSERT INTO plan VALUES (?, ?, ?)", row)


def many_rounds(db: sqlite3.Connection) -> None:
    fact(db, "rounds", {"unit": "epochs", "lengths": [1] * 100_000, "keep": 0.25, "cohort": None})


def huge_numbers(db: sqlite3.Connection) -> None:
    fact(db, "n_trials", 10**15)
    lengths = [10**15, 10**15]
    fact(db, "rounds", {"unit": "epochs", "lengths": lengths, "keep": 0.25, "cohort": [1]})


LARGE: dict[str, Callable[[sqlite3.Connection], None]] = {
    "rows": many_failures,
    "a message": long_failure("\x1b" * _BIG, "t"),
    "a wide message": long_failure("m" * _BIG + "\U0001f600", "t"),
    "a traceback": long_failure("m", "\x1b" * _BIG),
    "params": long_params,
    "metric values": many_metrics,
    "a fact": lambda db: fact(db, "versions", [[]] * (_BIG // 8)),
    "facts": many_facts,
    "rounds": many_rounds,
    "numbers": huge_numbers,
}
"""What fills memory, or takes long to go through."""

OWN: dict[str, list[str]] = {
    "views": ["CREATE VIEW best AS SELECT * FROM leaderboard LIMIT 1", "DROP VIEW checkpoints"],
    "tables": ["CREATE TABLE notes (trial INTEGER, note TEXT DEFAULT (hex(1)))"],
    "indexes": ['CREATE INDEX "by value" ON epochs ("value" DESC, trial)'],
    "statistics": ["ANALYZE"],
    "search": ["CREATE VIRTUAL TABLE failures_fts USING fts5(message, content=[failures])"],
    "copying": ["VACUUM"],
    "fewer triggers": ["DROP TRIGGER plan_refuses_update"],
}
"""What users, Datasette and sqlite-utils may do to a journal of their own."""
