"""A cache of objects on this machine, of bounded size, for any number of processes."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from filelock import FileLock
from letstune.training import tighten

_NEW: Final = "new"
_LOCK: Final = "lock"
_SIZE: Final = "size"
_PATIENCE: Final = 60
"""How many seconds to wait for the turn to write."""
_KEPT: Final = 0.9
"""How much of a full cache is kept, so that not every addition has to look at all files."""


def is_sha256(name: str) -> bool:
    """Tell whether a text is a SHA-256, as the files of a cache are named."""
    return re.fullmatch("[0-9a-f]{64}", name) is not None


class Cache:
    """Keeps bytes under their SHA-256; those least recently used make room for new ones.

    Args:
        folder: made when it is first needed. Nothing else may be kept there.
        limit: how many bytes all objects may take together; it is never exceeded.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit

    def get(self, sha256: str) -> bytes | None:
        """Return the bytes of that SHA-256, verified; None if they are not here."""
        if not is_sha256(sha256):  # of which nothing here is the name
            return None
        file = self._folder / sha256
        try:
            data = file.read_bytes()
            if hashlib.sha256(data).hexdigest() != sha256:
                file.unlink()
                return None
            os.utime(file)
        except OSError:  # not here, not readable, or just making room
            return None
        return data

    def add(self, sha256: str, data: bytes) -> None:
        """Keep the bytes of that SHA-256, if there is room for them at all.

        Raises:
            OSError: the folder cannot be written to.
        """
        if len(data) > self._limit or (self._folder / sha256).exists():
            return
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
            tighten(self._folder)
        with FileLock(self._folder / _LOCK, timeout=_PATIENCE, mode=0o600):
            size = self._size()
            if size is None or size + len(data) > self._limit:
                size = self._make_room(len(data))
            # Before the bytes: after a crash, it may be too much, and is then counted anew.
            said = self._folder / _SIZE
            said.write_text(str(size + len(data)))
            tighten(said)
            new = self._folder / _NEW
            new.write_bytes(data)
            tighten(new)
            new.replace(self._folder / sha256)

    def _size(self) -> int | None:
        """Return how much is said to be here; it may be less."""
        try:
            return int((self._folder / _SIZE).read_text())
        except (OSError, ValueError):
            return None

    def _make_room(self, wanted: int) -> int:
        """Return how much is here, after deleting what was not used for longest."""
        (self._folder / _NEW).unlink(missing_ok=True)  # of a process that was killed
        found = []
        for entry in os.scandir(self._folder):
            if is_sha256(entry.name):
                with suppress(FileNotFoundError):  # dropped by `get`, which takes no lock
                    stat = entry.stat()
                    found.append((stat.st_mtime_ns, stat.st_size, entry.path))
        size = sum(bytes_ for _, bytes_, _ in found)
        if size + wanted <= self._limit:
            return size
        for _, bytes_, path in sorted(found):
            if size <= min(self._limit - wanted, self._limit * _KEPT):
                break
            Path(path).unlink(missing_ok=True)
            size -= bytes_
        return size
