"""The cache: bounded, verified, shared, and never needed."""

import hashlib
import multiprocessing
import os
import random
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock
from folders import contents, empty, fill, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy import Proxy

from letstune_fsspec import FsspecStore
from letstune_fsspec.cache import Cache
from letstune_fsspec.manifest import INLINE

FILES = {"a": noise(INLINE + 1, 1), "b": noise(INLINE + 2, 2), "c": b"3"}


def named(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sizes(folder: Path) -> list[int]:
    """Return how large the objects in a cache are, while others may change it."""
    found = []
    for entry in os.scandir(folder):
        if len(entry.name) == 64 or entry.name == "new":
            try:
                found.append(entry.stat().st_size)
            except FileNotFoundError:
                continue
    return found


@pytest.fixture
def cached(bucket: str, proxy: Proxy, tmp_path: Path) -> FsspecStore:
    return FsspecStore(f"s3://{bucket}/a", endpoint_url=proxy.url, cache=tmp_path / "cache")


def test_what_was_put_or_got_is_not_downloaded_again(
    cached: FsspecStore, proxy: Proxy, tmp_path: Path
) -> None:
    uri = cached.put("t1", fill(tmp_path / "in", FILES))
    for turn in ("put", "nothing"):
        if turn == "nothing":
            shutil.rmtree(tmp_path / "cache")
        for again, requests in ((0, 1 if turn == "put" else 3), (1, 1)):
            proxy.requests.clear()
            cached.get(uri, empty(tmp_path / f"{turn}{again}"))
            assert contents(tmp_path / f"{turn}{again}") == FILES
            assert len(proxy.requests) == requests, (turn, again)


def test_what_is_deleted_is_not_got_from_the_cache(cached: FsspecStore, tmp_path: Path) -> None:
    uri = cached.put("t1", fill(tmp_path / "in", FILES))
    cached.delete(uri)
    with pytest.raises(FileNotFoundError):
        cached.get(uri, empty(tmp_path / "out"))


@pytest.mark.parametrize("damaged", [b"", b"x", noise(INLINE + 1, 3)], ids=len)
def test_a_damaged_entry_is_downloaded_again(
    damaged: bytes, cached: FsspecStore, proxy: Proxy, tmp_path: Path
) -> None:
    uri = cached.put("t1", fill(tmp_path / "in", FILES))
    entry = tmp_path / "cache" / named(FILES["a"])
    entry.write_bytes(damaged)
    proxy.requests.clear()
    cached.get(uri, empty(tmp_path / "out"))
    assert contents(tmp_path / "out") == FILES
    assert len(proxy.requests) == 2
    assert entry.read_bytes() == FILES["a"]


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 40)
    data = [bytes([i]) * 10 for i in range(4)]
    for i, some in enumerate(data):
        cache.add(named(some), some)
        os.utime(tmp_path / named(some), (i, i))
    assert cache.get(named(data[0])) == data[0]  # and so used last
    new = b"n" * 10
    cache.add(named(new), new)
    found = [i for i, some in enumerate([*data, new]) if cache.get(named(some))]
    assert found == [0, 2, 3, 4] or found == [0, 3, 4]


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), max_size=30), st.integers(0, 100))
def test_the_bound_is_never_exceeded(lengths: list[int], limit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = Cache(Path(folder), limit)
        for turn, length in enumerate(lengths):
            data = noise(length, turn)
            cache.add(named(data), data)
            assert sum(sizes(Path(folder))) <= limit
            assert (cache.get(named(data)) == data) == (length <= limit)


def test_what_a_killed_process_left_does_not_count_for_ever(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 100)
    cache.add(named(b"a" * 50), b"a" * 50)
    (tmp_path / "size").write_text("100")  # what it was going to add is not there
    (tmp_path / "new").write_bytes(b"b" * 50)
    cache.add(named(b"c" * 50), b"c" * 50)
    assert cache.get(named(b"a" * 50))
    assert cache.get(named(b"c" * 50))
    assert sum(sizes(tmp_path)) == 100


def churn(folder: str, limit: int, seed: int) -> None:
    """Add and get at random."""
    cache, rng = Cache(Path(folder), limit), random.Random(seed)
    for _ in range(200):
        data = noise(rng.randint(1, limit // 3), rng.randint(0, 40))
        found = cache.get(named(data))
        if found is not None and found != data:
            raise ValueError("what the cache returned is not what was added")
        cache.add(named(data), data)


def test_concurrent_processes_keep_within_the_bound(tmp_path: Path) -> None:
    limit = 100_000
    folder = empty(tmp_path / "cache")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=churn, args=(str(folder), limit, i)) for i in range(4)]
    for process in processes:
        process.start()
    looked = 0
    while any(process.is_alive() for process in processes):
        with FileLock(folder / "lock"):  # else we might count what went before something came
            assert sum(sizes(folder)) <= limit
        looked += 1
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert looked > 10
    assert 0 < sum(sizes(folder)) <= limit


def test_a_cache_that_cannot_be_written_to_is_told_once_and_done_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cache").write_text("a file, where the folder should be")
    store = FsspecStore("memory://cached", cache=tmp_path / "cache")
    uri = store.put("t1", fill(tmp_path / "in", FILES))
    store.get(uri, empty(tmp_path / "out"))
    (told,) = capsys.readouterr().err.splitlines()
    assert re.search(r"cache .* cannot be written to.*goes on without it", told)
    assert contents(tmp_path / "out") == FILES
    store.delete(uri)
