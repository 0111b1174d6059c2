"""A new journal: it is there completely, or not at all.

It is built in a folder of its own beside, whose name nobody can foresee and in which nobody else
can put anything, as SQLite takes whatever is at the names of its side files for its own.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

from letstune._private import Rule, rule, seal
from letstune.errors import JournalError
from letstune.journal.plan import insert_plan
from letstune.journal.schema import migrate
from letstune.journal.sqlite import explained
from letstune.rounds.pickles import Pickle

_NEW: Final = "new"
_SIDES: Final = ("-wal", "-shm", "-journal")


def create(path: Path, facts: Mapping[str, Any], pickles: Iterable[Pickle]) -> None:
    """Make a new journal, all of it or nothing: it is built beside and moved into place.

    The caller holds the journal's lock.

    Raises:
        JournalError: it cannot be made.
    """
    try:
        _create(path, facts, pickles)
    except JournalError:  # which is an OSError, too
        raise
    except OSError as error:
        raise JournalError(
            f"{path} cannot be made: {error.strerror or error}. See to its disk, and start the run "
            "again."
        ) from error


def _create(path: Path, facts: Mapping[str, Any], pickles: Iterable[Pickle]) -> None:
    with explained(path), _workplace(path) as beside:
        for suffix in _SIDES:
            # A journal may have been removed without them; SQLite would take them for ours.
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        # It holds requests to skip trials of that other run. If we may not remove it, the
        # runner tells of it.
        with suppress(OSError):
            path.with_name(path.name + ".skip").unlink()
        # Before there is a journal that they would be beside if the power failed.
        sync_folder(path.parent)
        _make_file(beside, rule(path.parent))
        migrate(beside)
        connection = sqlite3.connect(beside)
        try:
            with connection:
                insert_plan(connection, 0, facts, pickles)
        finally:
            connection.close()
        # SQLite has synced the file; its name is ours to sync.
        beside.replace(path)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    if os.name == "nt":  # which keeps them durable by itself
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(path: Path) -> None:
    """Remove what was left beside a journal by a process that was killed as it made it.

    The caller holds the journal's lock.
    """
    ours = re.compile(rf"\.{re.escape(path.name)}\.\w{{8}}")
    with os.scandir(path.parent) as entries:
        left = [entry.path for entry in entries if ours.fullmatch(entry.name) and _is_ours(entry)]
    for folder in left:
        _clear(Path(folder))


def _is_ours(entry: os.DirEntry[str]) -> bool:
    mine = os.name == "nt" or entry.stat(follow_symlinks=False).st_uid == os.geteuid()
    return mine and entry.is_dir(follow_symlinks=False)


def _clear(folder: Path) -> None:
    """Remove a folder of ours, unless there is something else in it."""
    with suppress(OSError), _opened(folder) as inside:
        for suffix in ("", *_SIDES):
            name = f"{_NEW}{suffix}"
            with suppress(FileNotFoundError):
                os.unlink(folder / name if inside is None else name, dir_fd=inside)
        folder.rmdir()


@contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    """Lend a handle of a folder, so that no link that is put in its place is followed."""
    if os.name == "nt":
        yield None
        return
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield inside
    finally:
        os.close(inside)


@contextmanager
def _workplace(path: Path) -> Iterator[Path]:
    """Lend the path of a new file in a folder of its own, on the same disk."""
    try:
        folder = Path(mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise JournalError(
            f"{path} cannot be made: {error.strerror}. Make its folder writable, or free some "
            "space, and try again; nothing was written."
        ) from error
    try:
        yield folder / _NEW
    finally:
        _clear(folder)


def _make_file(path: Path, allowed: Rule) -> None:
    """Make an empty file, of which SQLite takes its mode, and that of its side files."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        seal(file, allowed)
    finally:
        os.close(file)
