"""Journals as somebody may send them, and what must stay as it is around them."""

import json
import shutil
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

SECRET = b"a secret that nobody is to read or lose"


def tree(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Return all that is below a folder: what it is, its mode, its mtime and its content."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        regular = stat.S_ISREG(about.st_mode) and about.st_size < 10**6
        content = path.read_bytes() if regular else b""
        link = str(path.readlink()) if path.is_symlink() else ""
        found[str(path.relative_to(folder))] = (
            *(stat.filemode(about.st_mode), about.st_mtime_ns, about.st_size, about.st_nlink),
            *(content, link),
        )
    return found


def victim(folder: Path) -> Path:
    """Make a folder of things that are nobody else's."""
    (folder / "t00000-e00000-x--model").mkdir(parents=True)
    for name in ("secret", ".ssh", "t1", "t00000-e00000-x--model/weights", ".new"):
        (folder / name).write_bytes(SECRET)
    return folder


def store_of(journal: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(journal)) as db:
        query = "SELECT value FROM plan WHERE fact = 'store' ORDER BY seq DESC"
        found: dict[str, Any] = json.loads(db.execute(query).fetchone()[0])
    return found


def say_of_store(journal: Path, fact: object) -> None:
    """Let a journal say something else of its store: facts are added, and the latest counts."""
    with closing(sqlite3.connect(journal)) as db, db:
        seqs = "SELECT seq FROM plan UNION SELECT seq FROM epochs UNION SELECT seq FROM sessions"
        (last,) = db.execute(f"SELECT max(seq) FROM ({seqs})").fetchone()
        db.execute("INSERT INTO plan VALUES (?, 'store', ?)", (last + 50, json.dumps(fact)))


def change_rows(journal: Path, what: str, *values: object) -> None:
    """Change what is recorded of all checkpoints."""
    with closing(sqlite3.connect(journal)) as db, db:
        name = "epochs_refuses_update"
        query = "SELECT sql FROM sqlite_master WHERE name = ?"
        (trigger,) = db.execute(query, (name,)).fetchone()
        db.execute(f"DROP TRIGGER {name}")
        db.execute(f"UPDATE epochs SET {what}", values)
        db.execute(trigger)


def checkpoints(journal: Path) -> list[Path]:
    """Return the checkpoints beside a journal."""
    folder = journal.with_name("run.checkpoints")
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def replaced(path: Path) -> Path:
    """Remove a checkpoint, and return its path, for something else."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return path


def with_changes(fact: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    return {**fact, **changes}


def everything(journal: Path) -> Iterator[list[str]]:
    """Yield all commands that are to be safe with the journal of a stranger."""
    path = str(journal)
    yield from (["status", path], ["trials", path], ["show", path, "0"], ["best", path])
    yield from (["export", path], ["export", path, "--epochs"])
    yield from (["check", path], ["check", path, "--fix"])
