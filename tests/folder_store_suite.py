"""The laws for a store in a folder, and what can be done to it behind its back."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from letstune.testing import StoreSuite
from letstune.training.stores import Store


def files_of(kept: Path) -> list[Path]:
    return [path for path in [kept, *kept.rglob("*")] if path.is_file()]


def size(kept: Path) -> int:
    return sum(path.stat().st_size for path in files_of(kept))


def damage_file(store: Any, uri: str) -> None:
    """Alter one byte, in the largest file."""
    file = max(files_of(store.root / uri), key=size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def truncate_file(store: Any, uri: str) -> None:
    """Cut off one byte, of the largest file."""
    file = max(files_of(store.root / uri), key=size)
    os.truncate(file, size(file) - 1)


def take_away(store: Any) -> None:
    """Leave nothing where the store was, as if its disk were not mounted."""
    store.root.rename(store.root.with_name("unmounted"))


def on_disk(store: Any) -> Path:
    root: Path = store.root
    return root


def files_inside(store: Any) -> Collection[str]:
    return [str(path) for path in sorted(store.root.rglob("*")) if path.is_file()]


class FolderStoreSuite(StoreSuite):
    """Knows all that a store cannot know of itself. What derives from it has the store, `root`."""

    @pytest.fixture
    def damage(self) -> Callable[[Store, str], None]:
        return damage_file

    @pytest.fixture
    def truncate(self) -> Callable[[Store, str], None]:
        return truncate_file

    @pytest.fixture
    def take_away(self) -> Callable[[Store], None]:
        return take_away

    @pytest.fixture
    def disk(self) -> Callable[[Store], Path]:
        return on_disk

    @pytest.fixture
    def inside(self) -> Callable[[Store], Collection[str]]:
        return files_inside
