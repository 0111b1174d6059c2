"""SQLite as letstune uses it: what the header of a file says, and what its errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from letstune.errors import JournalError, JournalNotFoundError, LetstuneError
from letstune.journal.schema import APPLICATION_ID, VERSION

_HEADER: Final = b"SQLite format 3\x00"


def check_header(path: Path) -> int:
    """Return the schema version of a journal, without changing anything."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError as error:
        raise JournalNotFoundError(
            f"There is no journal at {path}. `letstune tune` starts a new one."
        ) from error
    except OSError as error:
        raise JournalError(
            f"{path} cannot be read: {error.strerror}. Expected a journal of letstune, a file."
        ) from error
    if not header.startswith(_HEADER) or len(header) < 100:
        found = "is empty" if not header else "is not a SQLite database"
        raise JournalError(
            f"{path} {found}; expected a journal of letstune. Is it another file, or damaged? "
            "Give the path of a journal, or a path at which there is nothing yet."
        )
    # Both numbers are in the header of the file, which SQLite documents as its file format.
    if int.from_bytes(header[68:72]) != APPLICATION_ID:
        raise JournalError(
            f"{path} is a SQLite database, but not a journal of letstune. Give the path of a "
            "journal, or a path at which there is nothing yet."
        )
    version = int.from_bytes(header[60:64])
    if version > VERSION:
        raise JournalError(
            f"{path} was written by a newer letstune: its schema is {version}, and this letstune "
            f"knows up to {VERSION}. Upgrade:  pip install --upgrade letstune"
        )
    return version


def lacks_wal(path: Path) -> bool:
    """Tell whether SQLite expects a -wal file beside a journal, and there is none with anything."""
    with explained(path), path.open("rb") as file:
        header = file.read(20)
    wal = path.with_name(path.name + "-wal")
    # The 19th byte says how the file is to be read: 2 in WAL mode, as of a run that has not ended.
    return header[19:20] == b"\x02" and not (wal.exists() and wal.stat().st_size)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(path, error) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, error) from error


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Turn what is raised when rows are not as they were written into an error of ours."""
    try:
        yield
    except LetstuneError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> JournalError:
    return JournalError(
        f"{path} is damaged: {type(error).__name__}: {error}. Restore it from a backup."
    )


def explain(path: Path, error: sqlite3.Error) -> JournalError:
    """Return an error of ours that says what happened to the file, and what to do next."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    advice = {
        sqlite3.SQLITE_FULL: "Its disk is full. Free some space and resume; all that was "
        "recorded is safe.",
        sqlite3.SQLITE_IOERR: "Its disk fails or is full. Nothing recorded is lost if it can "
        "be read again: resume then.",
        sqlite3.SQLITE_CORRUPT: "It is damaged or truncated. Restore it from a backup, or "
        "save what can be read:  sqlite3 FILE .recover",
        sqlite3.SQLITE_NOTADB: "It is damaged or truncated. Restore it from a backup.",
        sqlite3.SQLITE_READONLY: "It is read-only. Make it and its folder writable, or copy "
        "it, with its .checkpoints folder, to where they are.",
        sqlite3.SQLITE_CANTOPEN: "Its folder must be there. If the run was killed, it must also "
        "be writable, since SQLite then merges the journal's -wal file.",
        sqlite3.SQLITE_BUSY: "Something else is writing it. Close that and try again.",
        sqlite3.SQLITE_CONSTRAINT: "Something else has written to it. Restore it from a "
        "backup, and let nothing but letstune write it.",
    }.get(code, "Run `letstune check` to learn more.")
    return JournalError(f"{path}: {error}. {advice}")
