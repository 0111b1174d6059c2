"""One owner per run: a lock that ends with the process that holds it, even by SIGKILL."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from letstune._visible import visible
from letstune.errors import JournalError, JournalLockedError
from letstune.journal.beside import open_beside

_HELD: Final[set[str]] = set()
_GUARD: Final = threading.Lock()


class JournalLock:
    """A lock on a journal, held until `release` or the end of the process.

    It is a POSIX record lock on a file beside the journal. Rejected: ``flock``, which a forked
    child of the trainer would inherit and hold on to after its parent was killed; and the journal
    itself as the only lock file, since there must be an owner before there is a journal. Once it is
    there, the file is locked, too, for its other names; see `letstune.journal.held`.

    Args:
        path: the journal.
        since: the time that others are told, in ISO 8601.

    Raises:
        JournalLockedError: somebody holds it; the message says who.
    """

    def __init__(self, path: Path, since: str) -> None:
        self._key = os.path.realpath(path)
        self._path = path.with_name(path.name + ".lock")
        with _GUARD:
            if self._key in _HELD:  # record locks do not exclude within a process
                raise JournalLockedError(
                    f"{path} is already being worked on by this process; wait for that call of "
                    "tune or resume to end."
                )
            self._file = self._acquire(path)
            _HELD.add(self._key)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
        try:
            os.ftruncate(self._file, 0)
            os.write(self._file, json.dumps(holder).encode())
        except OSError as error:
            self.release()
            raise JournalError(
                f"{path} cannot be locked: {error.strerror} ({self._path}). Make room and try "
                "again; all that was recorded is safe."
            ) from error

    def _acquire(self, journal: Path) -> int:
        while True:
            try:
                file = open_beside(self._path, journal, os.O_RDWR | os.O_CREAT)
            except JournalError:
                raise
            except OSError as error:
                raise JournalError(
                    f"{journal} cannot be locked: {error.strerror} ({self._path}). A run "
                    "writes in the folder of its journal: make that folder writable."
                ) from error
            try:
                locked = _lock(file)
            except OSError as error:
                os.close(file)
                raise JournalError(
                    f"{journal} cannot be locked: {error.strerror}. Put it on a file system that "
                    "has POSIX locks."
                ) from error
            if not locked:
                holder = os.read(file, 4096)
                os.close(file)
                raise JournalLockedError(_held_by(journal, holder))
            # The owner before us may have removed the file between our opening and locking it.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), self._path.lstat()):
                    return file
            os.close(file)

    def release(self) -> None:
        """Let go of the lock."""
        if self._key in _HELD:
            # If it stays, as in a folder that has become read-only, it is a file that nobody locks.
            # And if somebody has removed it, another owner may have one of that name.
            with suppress(OSError):
                if os.path.samestat(os.fstat(self._file), self._path.lstat()):
                    self._path.unlink(missing_ok=True)
            os.close(self._file)
            _HELD.discard(self._key)

    def __enter__(self) -> JournalLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def is_locked(path: Path) -> bool:
    """Tell whether somebody works on a journal."""
    with _GUARD:
        if os.path.realpath(path) in _HELD:  # then closing the file would let go of it
            return True
        try:
            file = open_beside(path.with_name(path.name + ".lock"), path, os.O_RDONLY)
        except OSError:  # nobody, or nobody who could
            return False
        try:
            return _other_holds(file)
        finally:
            os.close(file)


def _held_by(journal: Path, holder: bytes) -> str:
    try:
        found = json.loads(holder)
        said = f"process {found['pid']} on {found['host']} since {found['since']}"
        who = visible(said, keep="")
    except (ValueError, KeyError, TypeError):  # it is just being written
        who = "another process"
    return (
        f"{journal} is being worked on by {who}; wait for it, or stop it and resume. "
        "`letstune status` can look at it meanwhile."
    )


@contextmanager
def waiting_lock(file: int, seconds: float) -> Iterator[None]:
    """Hold the lock of an open file, which must not be open elsewhere in this process.

    Raises:
        TimeoutError: it was not to be had for so many seconds.
    """
    until = time.monotonic() + seconds
    while not _lock(file):
        if time.monotonic() > until:
            raise TimeoutError(errno.ETIMEDOUT, "Something else holds its lock")
        time.sleep(0.01)  # it is held for moments only
    try:
        yield
    finally:
        _unlock(file)


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> bool:
        os.lseek(file, 1 << 20, os.SEEK_SET)  # beyond the text, which others must be able to read
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(file: int) -> None:
        os.lseek(file, 1 << 20, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)

    def _other_holds(file: int) -> bool:
        if _lock(file):
            _unlock(file)
            return False
        return True

else:
    import fcntl

    def _lock(file: int) -> bool:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            return False
        return True

    def _unlock(file: int) -> None:
        fcntl.lockf(file, fcntl.LOCK_UN)

    def _other_holds(file: int) -> bool:
        # The lock is asked about, not tried: whoever tries it holds it for a moment, and may turn a
        # run away. The struct flock of Linux, and that of the BSDs and macOS.
        layout, place = ("hhqqi4x", 0) if sys.platform == "linux" else ("qqihh", 3)
        query: list[int] = [0, 0, 0, 0, 0]
        query[place] = fcntl.F_WRLCK
        answer = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(layout, *query))
        return bool(struct.unpack(layout, answer)[place] != fcntl.F_UNLCK)
