"""A store that keeps folders in this process."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from checkpoint_files import fill
from files import in_all

from letstune.training.stores import Store


class MemoryStore(Store):
    """Keeps folders in this process, and breaks when it is told to."""

    kept: ClassVar[dict[str, dict[str, bytes]]] = {}
    broken = False

    def put(self, name: str, folder: Path) -> str:
        if MemoryStore.broken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.kept[f"memory://{name}"] = in_all(folder)
        return f"memory://{name}"

    def get(self, uri: str, folder: Path) -> None:
        if uri not in self.kept:
            raise FileNotFoundError(uri)
        fill(folder, self.kept[uri])

    def list(self) -> Iterator[str]:
        yield from self.kept

    def delete(self, uri: str) -> None:
        self.kept.pop(uri, None)
