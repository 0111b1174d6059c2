"""What a worker prints, on its way to whom its owner gives it: file descriptors 1 and 2.

It is a file in memory, which worker and owner share. Rejected: a pipe, which blocks the worker when
the owner is busy; the trial's log itself, into which print() would fail when the disk is full, so
that the trial would; and a thread in the worker, of which forks in a trainer would warn. Of a file
in memory, nothing is lost when the worker dies, however it does, and its end is as far as a
message that comes later: so what is read then is what was printed before.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

_CHUNK: Final = 2**20
_PUNCH: Final = 3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


class Output:
    """A file for all that a process, and what it starts, prints.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self) -> None:
        self._in_memory = sys.platform == "linux"
        if self._in_memory:
            self.file = os.memfd_create("letstune-output")
        else:
            self.file, path = tempfile.mkstemp(prefix="letstune-")
            os.unlink(path)  # noqa: PTH108 (a file that only descriptors lead to)
        # So that all who write do so at the end, whatever was taken away.
        flags = fcntl.fcntl(self.file, fcntl.F_GETFL)
        fcntl.fcntl(self.file, fcntl.F_SETFL, flags | os.O_APPEND)
        self._read = self._punched = 0

    def read(self) -> Iterator[bytes]:
        """Yield what is new, and take it out of memory."""
        size = os.fstat(self.file).st_size
        if size < self._read:  # some shells' `> /dev/stderr` empties it
            self._read = self._punched = 0
        while self._read < size and (data := os.pread(self.file, _CHUNK, self._read)):
            self._read += len(data)
            yield data
        if self._in_memory and self._read - self._punched > _CHUNK:
            self._punched = self._read
            with suppress(OSError, AttributeError):  # then, it takes some memory
                fallocate = ctypes.CDLL(None).fallocate
                fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
                fallocate(self.file, _PUNCH, 0, self._read)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.file)


def flush() -> None:
    """Have all that this process has printed so far in its files, and not in buffers."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # of whatever a trainer has put there
            stream.flush()
    # That of C, which is not Python's. Only this one: another may be locked by who reads from it.
    with suppress(OSError, ValueError, AttributeError):
        name = "__stdoutp" if sys.platform == "darwin" else "stdout"
        libc = ctypes.CDLL(None)
        libc.fflush(ctypes.c_void_p.in_dll(libc, name))
