"""The laws that every store must keep."""

import secrets
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from letstune import Store
from letstune.testing import StoreSuite

from letstune_fsspec import FsspecStore


def altered(data: bytes) -> bytes:
    """Return bytes of which one, in the middle, is another."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def folder_of(store: Store) -> Path:
    """Return the folder of a store at ``file://``."""
    assert isinstance(store, FsspecStore)
    return Path(store.root.removeprefix("file://"))


class TestS3(StoreSuite):
    @pytest.fixture
    def store(self, bucket: str, server: str) -> Store:
        return FsspecStore(f"s3://{bucket}/runs/{secrets.token_hex(4)}", endpoint_url=server)

    @pytest.fixture
    def examples(self) -> int:
        return 10

    @pytest.fixture
    def inside(self, s3: Any) -> Callable[[Store], Collection[str]]:
        def look(store: Store) -> Collection[str]:
            assert isinstance(store, FsspecStore)
            s3.invalidate_cache()
            found: Collection[str] = s3.find(store.root)
            return found

        return look

    @pytest.fixture
    def damage(self, s3: Any) -> Callable[[Store, str], None]:
        def alter(store: Store, uri: str) -> None:
            assert isinstance(store, FsspecStore)
            for path in s3.find(f"{store.root}/{uri}"):
                s3.pipe_file(path, altered(s3.cat_file(path)))

        return alter

    @pytest.fixture
    def truncate(self, s3: Any) -> Callable[[Store, str], None]:
        def cut(store: Store, uri: str) -> None:
            assert isinstance(store, FsspecStore)
            for path in s3.find(f"{store.root}/{uri}"):
                s3.pipe_file(path, s3.cat_file(path)[:-1])

        return cut

    @pytest.fixture
    def take_away(self, s3: Any, bucket: str) -> Callable[[Store], None]:
        return lambda store: s3.rm(bucket, recursive=True)


class TestDirectory(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return FsspecStore(f"file://{tmp_path}/store")

    @pytest.fixture
    def inside(self) -> Callable[[Store], Collection[str]]:
        def look(store: Store) -> Collection[str]:
            return [str(path) for path in folder_of(store).rglob("*")]

        return look

    @pytest.fixture
    def damage(self) -> Callable[[Store, str], None]:
        def alter(store: Store, uri: str) -> None:
            for path in (folder_of(store) / uri).iterdir():
                path.write_bytes(altered(path.read_bytes()))

        return alter

    @pytest.fixture
    def truncate(self) -> Callable[[Store, str], None]:
        def cut(store: Store, uri: str) -> None:
            for path in (folder_of(store) / uri).iterdir():
                path.write_bytes(path.read_bytes()[:-1])

        return cut

    @pytest.fixture
    def take_away(self) -> Callable[[Store], None]:
        return lambda store: shutil.rmtree(folder_of(store))

    @pytest.fixture
    def disk(self) -> Callable[[Store], Path]:
        return folder_of
