"""SQLite as letstune uses it: what the header of a file says, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from letstune.errors import JournalError, LetstuneError
from letstune.journal.judge import judge
from letstune.journal.schema import APPLICATION_ID, VERSION

_HEADER: Final = b"SQLite format 3\x00"

# Of a text or a row, and of all facts of a plan. The longest that letstune writes are tracebacks,
# which it cuts; what is made of a text, such as of JSON, may take thirty times as much. And of a
# statement, as the schema holds it.
LONGEST_VALUE: Final = 12 << 20
_LONGEST_SQL: Final = 1 << 20

# Of SQLite's virtual machine. Reading or checking all of a journal takes less than one for each
# byte of it.
_STEPS: Final = 3_000_000
_STEPS_PER_BYTE: Final = 5
_TICK: Final = 100_000


def check_header(path: Path, header: bytes) -> None:
    """Refuse a file whose first 100 bytes are not those of a journal.

    Raises:
        JournalError: it is something else.
    """
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
    _check_version(path, int.from_bytes(header[60:64]))


def _check_version(path: Path, version: int) -> None:
    if version > VERSION:
        raise JournalError(
            f"{path} was written by a newer letstune: its schema is {version}, and this letstune "
            f"knows up to {VERSION}. Upgrade:  pip install --upgrade letstune"
        )


def lacks_wal(path: Path, header: bytes) -> bool:
    """Tell whether SQLite expects a -wal file beside a journal, and there is none with anything."""
    wal = path.with_name(path.name + "-wal")
    # The 19th byte says how the file is to be read: 2 in WAL mode, as of a run that has not ended.
    return header[19:20] == b"\x02" and not (wal.exists() and wal.stat().st_size)


def connect(path: Path, patience: Patience, *, write: bool) -> tuple[sqlite3.Connection, int]:
    """Open a journal whose schema is letstune's own; return its version, too.

    Raises:
        JournalError: it is not, or was written by a newer letstune.
        sqlite3.Error: it cannot be opened or read.
    """
    db = sqlite3.connect(
        f"{Path(os.path.realpath(path)).as_uri()}?mode={'rw' if write else 'ro'}",
        uri=True,
        isolation_level=None,
        timeout=60,  # a reader of a big journal delays the beginning of a session
    )
    try:
        db.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, _LONGEST_SQL)
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
        for guard in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0"):
            db.execute(f"PRAGMA {guard}")
        db.set_progress_handler(patience.is_over, _TICK)
        with patience, understood(path):
            db.execute("BEGIN")  # the version and the schema are to be of one moment
            ((version,),) = db.execute("PRAGMA user_version")
            _check_version(path, version)
            wrong = judge(db, version)
            db.rollback()
        if wrong:
            raise JournalError(
                f"{path} {wrong}, so nothing of it is read or run. If it is yours, take that out "
                "again, or restore it from a backup; if it came from somebody else, ask for the "
                "journal as their run left it."
            )
    except BaseException:
        db.close()
        raise
    return db, version


@contextmanager
def long_values(db: sqlite3.Connection) -> Iterator[None]:
    """Let values be as long as SQLite can have them: a pickled dataset may be."""
    before = db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1 << 30)  # it takes what it can
    try:
        yield
    finally:
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)


class Patience:
    """Ends, within ``with``, a statement that takes more steps than the file can have a use for.

    Not one that takes long: a disk may be slow. But in a file that is damaged, or made to, pages
    may lead to each other for ever.
    """

    def __init__(self, path: Path) -> None:
        self._files = (path, path.with_name(path.name + "-wal"))
        self._ticks = self._reading = 0

    def __enter__(self) -> None:
        self._ticks = 0
        self._reading += 1

    def __exit__(self, *_: object) -> None:
        self._reading -= 1

    def is_over(self) -> bool:
        """Tell SQLite, now and then, whether to end what it does."""
        self._ticks += 1
        size = 0
        for file in self._files:
            with suppress(OSError):
                size += file.stat().st_size
        enough = _STEPS + _STEPS_PER_BYTE * size
        return self._reading > 0 and self._ticks * _TICK > enough


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(path, error) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, error) from error
    except MemoryError as error:
        raise JournalError(
            f"{path} holds more than fits into memory. If it is not damaged, read it on a larger "
            "machine."
        ) from error


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
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        return JournalError(
            f"{path} is in the middle of a change that was killed, and that can only be taken back "
            "by who may write it: resume the run."
        )
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
        sqlite3.SQLITE_INTERRUPT: "Reading it takes more steps than a journal of its size can have "
        "a use for: it is damaged, or made to do so. Restore it from a backup.",
        sqlite3.SQLITE_TOOBIG: "It holds a value that is longer than any that letstune writes. "
        "Restore it from a backup.",
        sqlite3.SQLITE_CONSTRAINT: "Something else has written to it. Restore it from a "
        "backup, and let nothing but letstune write it.",
    }.get(code & 0xFF, "Run `letstune check` to learn more.")
    return JournalError(f"{path}: {error}. {advice}")
