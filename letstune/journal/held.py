"""A journal's file as it is held open: which one it is, who owns it, and where it went.

A name may come to mean another file, and a file may have several names: hard links, and mounts of
the single file, as into a container. So what must hold for the file is asked of the file.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from letstune.errors import JournalError, JournalLockedError, JournalNotFoundError
from letstune.journal.beside import SAFELY, kind

if sys.platform == "linux":
    import fcntl

# Far from any data, and from the bytes at 1 GiB that SQLite locks.
_PLACE: Final = 1 << 62

# Of an owner that was just killed, a fork may need a moment to let go.
_MOMENT: Final = 0.5

READ_ONLY: Final = "was made read-only"
"""What `HeldFile.missed` says of a file that is where it was, but may not be written any more."""

_Id = tuple[int, int]  # the device, and the number of the file on it


class _Open:
    """The descriptors that this process has of a file, shared by all who hold it.

    They are closed together, when nobody holds the file any more: closing any descriptor of a file
    drops all POSIX locks that the process has on it, and so those of SQLite's connections.
    """

    def __init__(self) -> None:
        self.files: list[int] = []
        self.writable: int | None = None  # the one of them that can be written through
        self.holders = 0
        self.owned = False


_OPEN: Final[dict[_Id, _Open]] = {}
_guard = threading.Lock()


class HeldFile:
    """A journal's file, held open until `close`.

    Hold it before SQLite opens it, and close it after SQLite has.

    Args:
        path: the journal.
        write: whether it is going to be written, if it can be.

    Attributes:
        mode: its permissions when it was opened.

    Raises:
        JournalNotFoundError: there is no such file.
        JournalError: it cannot be read, or is no plain file.
    """

    def __init__(self, path: Path, *, write: bool) -> None:
        self._path = Path(os.path.realpath(path))  # of links in a ring, resolve() raises anything
        self._name = str(self._path)
        self._owns = self._closed = False
        with _guard, _explained(path):
            self._id = _hold(self._path, write=write)
            self._file = _OPEN[self._id].files[0]
        self.mode = os.fstat(self._file).st_mode & 0o777

    def header(self) -> bytes:
        """Return the first 100 bytes, in which SQLite says what file it is."""
        with _guard:
            os.lseek(self._file, 0, os.SEEK_SET)  # Windows has no pread
            return os.read(self._file, 100)

    def own(self) -> bool:
        """Become the only owner of the file, whatever its names; tell whether that is certain.

        It is not where the operating system or the file system has no such locks.

        Raises:
            JournalLockedError: somebody owns it.
            JournalError: it has several names. SQLite keeps the newest rows beside one of them.
        """
        if (names := os.fstat(self._file).st_nlink) > 1:
            raise JournalError(
                f"{self._path} has {names} names (hard links), and its newest rows may be beside "
                "another one. Remove the others, or go on with a copy, made with cp."
            )
        until = time.monotonic() + _MOMENT
        while (locked := self._try_to_own()) is None:
            if time.monotonic() > until:
                raise JournalLockedError(
                    f"{self._path} is being worked on by somebody else, under another name or in a "
                    "container; wait for it, or stop it and resume."
                )
            time.sleep(0.01)
        return locked

    def _try_to_own(self) -> bool | None:
        with _guard:
            opened = _OPEN[self._id]
            locked = None if opened.owned else _lock(opened.writable)
            if locked is not None:
                opened.owned = self._owns = True
        return locked

    def missed(self) -> str:
        """Return what has become of the file, if it is not at its path any more; "" if it is."""
        try:
            there = os.stat(self._name)  # noqa: PTH116 (hot)
        except (FileNotFoundError, NotADirectoryError):
            return self._went()
        except OSError:  # what a failing disk costs is told when it is written
            return ""
        if (there.st_dev, there.st_ino) != self._id:
            mine = os.fstat(self._file)  # a network's disk may have numbered its files anew
            if not os.path.samestat(mine, there):
                return f"was replaced by another file, and the open one {self._went()}"
        if self.mode & 0o222 and not there.st_mode & 0o222:
            return READ_ONLY
        return ""

    def _went(self) -> str:
        if not os.fstat(self._file).st_nlink:
            return "was removed"
        place = self.place()
        return "was moved" if place is None else f"was moved to {place}"

    def place(self) -> Path | None:
        """Return where the file is now, if it is there, and that is known."""
        if not os.fstat(self._file).st_nlink:
            return None
        try:
            return Path(os.readlink(f"/proc/self/fd/{self._file}"))  # noqa: PTH115 (no path)
        except OSError:
            return None

    def close(self) -> None:
        """Hold the file no longer, and own it no longer."""
        with _guard:
            opened = _OPEN.get(self._id)
            if self._closed or opened is None:  # a fork has no part in it
                return
            self._closed = True
            opened.holders -= 1
            if self._owns:
                opened.owned = False
                _unlock(opened.writable)
            if not opened.holders:
                _forget(self._id)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise JournalNotFoundError(
            f"There is no journal at {path}. `letstune tune` starts a new one."
        ) from error
    except OSError as error:
        raise JournalError(
            f"{path} cannot be read: {error.strerror}. Expected a journal of letstune, a file."
        ) from error


def _hold(path: Path, *, write: bool) -> _Id:
    """Add a holder to the file at a path, opened unless it is; return which one it is.

    Raises:
        OSError: it cannot be opened.
    """
    found = path.stat()
    opened = _OPEN.get((found.st_dev, found.st_ino))
    if opened is None or (write and opened.writable is None):
        _refuse_special(found)  # before it is opened: that alone may do something to a device
        file, writable = _open(path, write=write)
        found = os.fstat(file)
        opened = _OPEN.setdefault((found.st_dev, found.st_ino), _Open())
        opened.files.append(file)
        opened.writable = file if writable else opened.writable
    opened.holders += 1
    return found.st_dev, found.st_ino


def _refuse_special(found: os.stat_result) -> None:
    if why := kind(found.st_mode):
        raise OSError(errno.EINVAL, f"It is {why}")


def _open(path: Path, *, write: bool) -> tuple[int, bool]:
    """Return a descriptor, and whether it can be written through."""
    if write:
        with suppress(OSError):  # that it is read-only is told when there is something to write
            return os.open(path, os.O_RDWR | SAFELY), True
    return os.open(path, os.O_RDONLY | SAFELY), False


def _forget(which: _Id) -> None:
    for file in _OPEN.pop(which).files:
        os.close(file)


def _leave_to_the_parent() -> None:
    """In a fork: let go of what would otherwise be owned until the fork ends, too."""
    global _guard
    _guard = threading.Lock()
    for which in list(_OPEN):
        _forget(which)


def _lock(file: int | None) -> bool | None:
    """Lock a file; return None if another process has, and False if that cannot be done.

    With an "open file description" lock, which, unlike SQLite's POSIX locks, does not end when any
    descriptor of the file is closed. Rejected: ``flock``, of which NFS makes a POSIX lock of all
    of the file, in SQLite's way; and a lock file named after the device and number, in a folder
    that a container would not share.
    """
    return False if file is None else _set_lock(file, "F_WRLCK")


def _unlock(file: int | None) -> None:
    if file is not None:
        _set_lock(file, "F_UNLCK")


def _set_lock(file: int, what: str) -> bool | None:
    if sys.platform != "linux":
        return False
    lock = struct.pack("hhqqi4x", getattr(fcntl, what), os.SEEK_SET, _PLACE, 1, 0)
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
    except (BlockingIOError, PermissionError):
        return None
    except OSError:  # a file system without locks, or without these
        return False
    return True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
