"""What is saved of a journal that was taken away while it was open."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from letstune.errors import JournalError
from letstune.journal.beside import SAFELY
from letstune.journal.held import READ_ONLY, HeldFile

_TRIES: Final = 100


Logs = list[tuple[Path, os.stat_result]]
"""SQLite's own files beside a journal, and which ones they are."""


def logs(path: Path) -> Logs:
    """Return what SQLite has beside a journal that is open for writing."""
    found = []
    for suffix in ("-wal", "-shm"):
        beside = Path(f"{os.path.realpath(path)}{suffix}")
        with suppress(FileNotFoundError):
            found.append((beside, beside.stat()))
    return found


def lost(
    db: sqlite3.Connection, path: Path, file: HeldFile, missed: str, beside: Logs
) -> JournalError:
    """Save an open journal beside where it was, if it is gone; return the error that says so.

    Args:
        db: it is open, in no transaction.
        path: where it was.
        file: the file that is open.
        missed: what has become of it.
        beside: what SQLite had beside it, which it would take for that of another file there.
    """
    said = f"{path} {missed} while the run was going on. The run stops"
    if missed == READ_ONLY:
        return JournalError(
            f"{said}; all that was recorded is safe. Make it writable again, and resume."
        )
    try:
        saved = _save(db, path, file)
    except (OSError, sqlite3.Error) as error:
        return JournalError(
            f"{said}, and what it had recorded cannot be saved: {error}. If the file is still "
            "somewhere, bring it back, with its -wal file, and resume."
        )
    for log, which in beside:
        with suppress(OSError):
            if os.path.samestat(log.lstat(), which):
                log.unlink()
    return JournalError(
        f"{said}; all that was recorded is saved as {saved}. Put that in the journal's place, "
        "beside its checkpoints, and resume."
    )


def _save(db: sqlite3.Connection, path: Path, file: HeldFile) -> Path:
    """Copy an open journal to a new file beside it; or where it is now, if its folder is gone."""
    if not path.parent.is_dir():
        path = file.place() or path
    target = _new_file(path.with_name(path.name + ".rescued"), file.mode)
    with closing(sqlite3.connect(target)) as copy:
        db.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # a single file
    return target


def _new_file(path: Path, mode: int) -> Path:
    """Make an empty file under a name that nothing has."""
    for number in range(1, _TRIES):
        found = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            os.close(os.open(found, os.O_CREAT | os.O_EXCL | os.O_WRONLY | SAFELY, mode))
        except FileExistsError:
            continue
        return found
    raise FileExistsError(f"There are {_TRIES - 1} files {path} already")
