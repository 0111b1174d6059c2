"""The laws that every store must keep."""

import secrets
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from letstune.stores import Store
from letstune.testing import StoreSuite

from letstune_fsspec import FsspecStore


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
                s3.pipe_file(path, s3.cat_file(path)[:-1])

        return alter


class TestDirectory(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return FsspecStore(f"file://{tmp_path}/store")

    @pytest.fixture
    def inside(self) -> Callable[[Store], Collection[str]]:
        def look(store: Store) -> Collection[str]:
            assert isinstance(store, FsspecStore)
            folder = Path(store.root.removeprefix("file://"))
            return [str(path) for path in folder.rglob("*")]

        return look

    @pytest.fixture
    def damage(self) -> Callable[[Store, str], None]:
        def alter(store: Store, uri: str) -> None:
            assert isinstance(store, FsspecStore)
            for path in Path(store.root.removeprefix("file://"), uri).iterdir():
                path.write_bytes(path.read_bytes()[:-1])

        return alter
