"""The four verbs, over a real S3 server, a directory and memory."""

import gc
import multiprocessing
import os
import pickle
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import cloudpickle
import letstune
import pytest
from folders import FOLDERS, contents, empty, fill, noise
from letstune import Checkpoint, Store
from letstune.errors import CheckpointError
from letstune.training import Keeper, Stored, fetch
from proxy import Proxy

from letstune_fsspec import FsspecStore
from letstune_fsspec.manifest import INLINE, PART

URI = "t00001-e00002-abc--0123456789abcdef"


def save(store: Store, name: str, files: dict[str, bytes]) -> Stored:
    def fill_it(checkpoint: Checkpoint) -> None:
        fill(checkpoint.path, files)

    stored = Keeper(store, name).save(name, fill_it)
    assert stored is not None
    return stored


@pytest.fixture(params=["s3", "file", "memory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> FsspecStore:
    if request.param == "s3":
        store: FsspecStore = request.getfixturevalue("store")
        return store
    if request.param == "file":
        return FsspecStore(f"file://{tmp_path}/not there/yet")
    return FsspecStore(f"memory://{uuid4().hex}/runs")


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_what_is_put_can_be_got(
    files: dict[str, bytes], any_store: FsspecStore, tmp_path: Path
) -> None:
    source = fill(tmp_path / "in", files)
    uri = any_store.put("t1-e1", source)
    any_store.get(uri, empty(tmp_path / "out"))
    assert contents(tmp_path / "out") == files
    assert list(any_store.list()) == [uri]


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_what_is_deleted_is_gone(
    files: dict[str, bytes], any_store: FsspecStore, tmp_path: Path
) -> None:
    kept = any_store.put("t1-e1", fill(tmp_path / "kept", {"a": b"1"}))
    uri = any_store.put("t1-e2", fill(tmp_path / "in", files))
    any_store.delete(uri)
    assert list(any_store.list()) == [kept]
    with pytest.raises(FileNotFoundError, match=uri):
        any_store.get(uri, empty(tmp_path / "out"))
    any_store.delete(uri)


def test_nothing_is_left_in_the_bucket(store: FsspecStore, s3: Any, tmp_path: Path) -> None:
    for files in FOLDERS.values():
        source = fill(tmp_path / uuid4().hex, files)
        store.delete(store.put("t1", source))
    s3.invalidate_cache()
    assert s3.find(store.root) == []


def test_nothing_is_left_in_a_directory(tmp_path: Path) -> None:
    store = FsspecStore(f"file://{tmp_path}/store")
    store.delete(store.put("t1", fill(tmp_path / "in", FOLDERS["nested folders"])))
    assert list((tmp_path / "store").iterdir()) == []


def test_in_a_directory_all_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = set()
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    store = FsspecStore(f"file://{tmp_path}/a/b")
    store.put("t1", fill(tmp_path / "in", FOLDERS["small and large ones"]))
    below = [tmp_path, tmp_path / "a", *(tmp_path / "a").rglob("*")]
    assert len(below) == 7
    assert {path.stat().st_ino for path in below} == synced


def test_empty_folders_are_kept(any_store: FsspecStore, tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"a/b": b"1"})
    (source / "logs" / "of today").mkdir(parents=True)
    any_store.get(any_store.put("t1", source), empty(tmp_path / "out"))
    assert (tmp_path / "out" / "logs" / "of today").is_dir()


def test_an_empty_store_lists_nothing(any_store: FsspecStore) -> None:
    assert list(any_store.list()) == []


def test_what_others_put_and_delete_is_seen(store: FsspecStore, tmp_path: Path) -> None:
    other = pickle.loads(pickle.dumps(store))
    assert list(store.list()) == []
    uris = [other.put(f"t{i}", fill(tmp_path / str(i), {"a": b"1"})) for i in range(2)]
    assert list(store.list()) == sorted(uris)
    other.delete(uris[0])
    assert list(store.list()) == [uris[1]]


def test_each_put_has_a_place_of_its_own(any_store: FsspecStore, tmp_path: Path) -> None:
    first, second = (
        any_store.put("t1", fill(tmp_path / str(i), {"a": noise(INLINE + 1, i)})) for i in (1, 2)
    )
    assert first != second
    any_store.delete(second)
    any_store.get(first, empty(tmp_path / "out"))
    assert contents(tmp_path / "out") == {"a": noise(INLINE + 1, 1)}


def test_it_will_do(any_store: FsspecStore) -> None:
    any_store.check()
    assert list(any_store.list()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a--b", "-a", "a b", "../a"])
def test_odd_names_are_refused(name: str, any_store: FsspecStore, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no name for a checkpoint"):
        any_store.put(name, fill(tmp_path / "in", {"a": b""}))


@pytest.mark.parametrize(
    "uri", ["", ".", "..", "a", "../2/" + URI, URI + "/x", "s3://b/" + URI, URI + "\n", "*" + URI]
)
def test_nothing_is_touched_beyond_the_store(uri: str, any_store: FsspecStore) -> None:
    with pytest.raises(CheckpointError, match="is no checkpoint of"):
        any_store.delete(uri)
    with pytest.raises(CheckpointError, match="is no checkpoint of"):
        any_store.get(uri, Path())


def test_what_others_keep_there_is_left_alone(store: FsspecStore, s3: Any, tmp_path: Path) -> None:
    s3.pipe(f"{store.root}/README", b"ours")
    s3.pipe(f"{store.root}2/{URI}/manifest", b"of another run")
    uri = store.put("t1", fill(tmp_path / "in", {"a": b"1"}))
    assert list(store.list()) == [uri]
    store.delete(uri)
    s3.invalidate_cache()
    assert len(s3.find(store.root.rpartition("/")[0])) == 2


def test_links_are_refused(any_store: FsspecStore, tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"a": b"1"})
    (source / "b").symlink_to(source / "a")
    with pytest.raises(CheckpointError, match="regular files and folders only"):
        any_store.put("t1", source)
    assert list(any_store.list()) == []


@pytest.mark.parametrize("dump", [pickle.dumps, cloudpickle.dumps])
def test_a_pickled_store_is_the_same_store(dump: Any, store: FsspecStore, tmp_path: Path) -> None:
    uri = store.put("t1", fill(tmp_path / "in", {"a": b"1"}))
    again = pickle.loads(dump(store))
    assert vars(again).keys() == vars(store).keys()
    again.get(uri, empty(tmp_path / "out"))
    assert contents(tmp_path / "out") == {"a": b"1"}


def test_the_plan_records_nothing_that_a_resume_may_change(tmp_path: Path) -> None:
    """The plan holds an object's plain fields, and must stay as it is."""

    def plain(store: FsspecStore) -> dict[str, object]:
        fields = vars(store).items()
        return {n: v for n, v in fields if isinstance(v, str | int | float | bool | None)}

    assert plain(FsspecStore("memory://a")) == {"root": "memory://a"}
    other = FsspecStore("memory://a", parallel=2, patience=1, cache=tmp_path, read_back=True)
    assert plain(other) == {"root": "memory://a"}


def test_making_a_store_sends_nothing(proxy: Proxy, bucket: str) -> None:
    FsspecStore(f"s3://{bucket}/a", endpoint_url=proxy.url)
    assert proxy.requests == []


def test_a_small_checkpoint_takes_two_requests(
    fragile: FsspecStore, proxy: Proxy, tmp_path: Path
) -> None:
    uri = fragile.put("t1", fill(tmp_path / "in", {"model.pickle": noise(1000)}))
    assert proxy.counts() == {"GET": 1, "PUT": 1}
    fragile.get(uri, empty(tmp_path / "out"))
    assert proxy.counts() == {"GET": 2, "PUT": 1}
    fragile.delete(uri)
    assert proxy.counts() == {"DELETE": 1, "GET": 3, "PUT": 1}


def test_a_large_checkpoint_takes_a_request_for_each_object_and_three(
    fragile: FsspecStore, proxy: Proxy, tmp_path: Path
) -> None:
    files = {"a": noise(PART + 1), "b": noise(INLINE + 1), "c": b"1"}
    uri = fragile.put("t1", fill(tmp_path / "in", files))
    assert proxy.counts() == {"GET": 2, "PUT": 4}  # GET: of the listing, and of the manifest
    fragile.get(uri, empty(tmp_path / "out"))
    assert proxy.counts() == {"GET": 6, "PUT": 4}
    assert contents(tmp_path / "out") == files


def test_reading_back_asks_for_every_object(bucket: str, proxy: Proxy, tmp_path: Path) -> None:
    careful = FsspecStore(f"s3://{bucket}/a", endpoint_url=proxy.url, read_back=True)
    careful.put("t1", fill(tmp_path / "in", {"a": noise(PART + 1)}))
    assert proxy.counts() == {"GET": 4, "PUT": 3}


def test_objects_are_sent_at_the_same_time(
    fragile: FsspecStore, proxy: Proxy, tmp_path: Path
) -> None:
    together = threading.Barrier(8, timeout=30)

    proxy.before = lambda request: together.wait() if request.size > INLINE else None
    fragile.put("t1", fill(tmp_path / "in", {str(i): noise(INLINE + 1, i) for i in range(8)}))
    assert not together.broken


def test_two_writers_never_meet(store: FsspecStore, tmp_path: Path) -> None:
    """Two processes, each with many checkpoints, all of which come back."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        found = pool.starmap(write_some, [(store, str(tmp_path / w), w) for w in ("x", "y")])
        pool.close()
        pool.join()
    uris = [uri for some in found for uri in some]
    assert sorted(store.list()) == sorted(uris)
    assert len(set(uris)) == 10
    for uri in uris:
        writer, number = uri.split("--")[0].split("-")
        store.get(uri, empty(tmp_path / uri))
        assert contents(tmp_path / uri) == written(writer, int(number))


def written(writer: str, number: int) -> dict[str, bytes]:
    return {"a": f"{writer} {number}".encode(), "b": noise(INLINE + 1 + number, ord(writer))}


def write_some(store: FsspecStore, folder: str, writer: str) -> list[str]:
    return [
        store.put(f"{writer}-{i}", fill(Path(folder, str(i)), written(writer, i))) for i in range(5)
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_can_use_its_parents_store(store: FsspecStore, tmp_path: Path) -> None:
    uri = store.put("t1", fill(tmp_path / "in", {"a": b"1"}))
    process = multiprocessing.get_context("fork").Process(
        target=store.get, args=(uri, empty(tmp_path / "out"))
    )
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert contents(tmp_path / "out") == {"a": b"1"}
    store.get(uri, empty(tmp_path / "again"))  # nor has the parent lost its own


def test_a_store_that_is_let_go_leaves_no_warning(store: FsspecStore, tmp_path: Path) -> None:
    other = pickle.loads(pickle.dumps(store))
    other.put("t1", fill(tmp_path / "in", {"a": b"1"}))
    del other
    gc.collect()


def test_an_altered_object_is_refused(store: FsspecStore, s3: Any, tmp_path: Path) -> None:
    stored = save(store, "t1", {"a": noise(INLINE + 1), "b": b"1"})
    path = f"{store.root}/{stored.uri}/0"
    fetch(store, stored, empty(tmp_path / "before"), "It")
    for altered in (noise(INLINE + 1, 1), noise(INLINE), noise(INLINE + 2), b""):
        s3.pipe_file(path, altered)
        with pytest.raises(CheckpointError, match=r"damaged: its object 0 has .* check --fix"):
            fetch(store, stored, empty(tmp_path / uuid4().hex), "It")
    s3.rm_file(path)
    with pytest.raises(CheckpointError, match="damaged: its object 0 is gone"):
        fetch(store, stored, empty(tmp_path / "gone"), "It")


def test_an_altered_manifest_is_refused(store: FsspecStore, s3: Any, tmp_path: Path) -> None:
    uri = store.put("t1", fill(tmp_path / "in", {"a": b"weights"}))
    path = f"{store.root}/{uri}/manifest"
    good = s3.cat_file(path)
    for altered in (
        good.replace(b"d2VpZ2h0cw", b"d2VpZ2h0cx"),
        good + b" ",
        b"{}\n{}",
        b"x" + good,
    ):
        assert altered != good
        s3.pipe_file(path, altered)
        with pytest.raises(CheckpointError, match=r"damaged: its manifest is not"):
            store.get(uri, empty(tmp_path / uuid4().hex))
    for size in (0, 1, 30, len(good) - 1):
        s3.pipe_file(path, good[:size])
        with pytest.raises(FileNotFoundError, match="its manifest is cut off"):
            store.get(uri, empty(tmp_path / uuid4().hex))


def test_another_checkpoints_objects_in_its_place_are_refused(
    store: FsspecStore, s3: Any, tmp_path: Path
) -> None:
    """All is well of itself, but it is not what the journal recorded."""
    one, two = (save(store, f"t{i}", {"a": noise(10, i)}) for i in (1, 2))
    s3.cp_file(f"{store.root}/{two.uri}/manifest", f"{store.root}/{one.uri}/manifest")
    with pytest.raises(CheckpointError, match="is not what was saved"):
        fetch(store, one, empty(tmp_path / "out"), "It")


def test_it_is_registered_for_every_scheme_that_it_names() -> None:
    from importlib.metadata import entry_points

    import letstune_fsspec

    found: dict[str, Any] = {}
    letstune_fsspec.register_stores(lambda name, factory: found.update({name: factory}))
    entries = [
        e for e in entry_points(group="letstune") if e.dist and e.dist.name == "letstune-fsspec"
    ]
    assert {entry.name for entry in entries} == {f"store.{name}" for name in found}
    assert {entry.load() for entry in entries} == {letstune_fsspec}
    assert letstune_fsspec.LETSTUNE_API == 1
    store = found["*"]("memory://x", parallel=2)
    assert isinstance(store, Store)
    assert hasattr(letstune_fsspec.register_stores, "letstune_impl")
    assert letstune.hookimpl.project_name == "letstune"


@pytest.mark.slow
def test_200_megabytes_make_the_round_trip(store: FsspecStore, tmp_path: Path) -> None:
    files = {"model": noise(200_000_000), "optimizer/state": b"1"}
    uri = store.put("t1", fill(tmp_path / "in", files))
    store.get(uri, empty(tmp_path / "out"))
    assert contents(tmp_path / "out") == files
    store.delete(uri)
    assert list(store.list()) == []
