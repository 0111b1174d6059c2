"""A directory store keeps what is put, whatever it is, and touches nothing beyond."""

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from checkpoint_files import FOLDERS, empty, fill
from files import in_all

from letstune.errors import CheckpointError, StoreError
from letstune.training.checkpoints import Keeper
from letstune.training.stores import DirectoryStore


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_what_is_put_can_be_got(
    files: dict[str, bytes], store: DirectoryStore, tmp_path: Path
) -> None:
    uri = store.put("t1", fill(empty(tmp_path / "in"), files))
    store.get(uri, empty(tmp_path / "out"))
    assert in_all(tmp_path / "out") == files
    assert list(store.list()) == [uri]


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_what_is_deleted_is_gone(
    files: dict[str, bytes], store: DirectoryStore, tmp_path: Path
) -> None:
    uri = store.put("t1", fill(empty(tmp_path / "in"), files))
    store.delete(uri)
    assert list(store.list()) == []
    assert in_all(store.root) == {}
    with pytest.raises(FileNotFoundError):
        store.get(uri, empty(tmp_path / "out"))


def test_a_checkpoint_may_be_deleted_twice(store: DirectoryStore, tmp_path: Path) -> None:
    for files in ({"a": b""}, {"a": b"", "b": b""}):
        uri = store.put("t1", fill(empty(tmp_path / str(len(files))), files))
        store.delete(uri)
        store.delete(uri)


@pytest.mark.parametrize("files", [{"a": b"2"}, {"a": b"2", "b": b"2"}], ids=["file", "folder"])
def test_a_name_is_never_used_again(
    files: dict[str, bytes], store: DirectoryStore, tmp_path: Path
) -> None:
    first = dict.fromkeys(files, b"1")
    uri = store.put("t1", fill(empty(tmp_path / "first"), first))
    with pytest.raises(CheckpointError, match="never overwritten"):
        store.put("t1", fill(empty(tmp_path / "second"), files))
    store.get(uri, empty(tmp_path / "out"))
    assert in_all(tmp_path / "out") == first


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a--b", "-a", ".new", "a b"])
def test_odd_names_are_refused(name: str, store: DirectoryStore, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no name for a checkpoint"):
        store.put(name, fill(empty(tmp_path / "in"), {"a": b""}))


BEYOND = [
    *("", ".", "..", "../x", "/etc/passwd", "a/b", "a/", "a/.", "a/..", "./a", "//"),
    *(".new", ".new/", ".new//", ".new/.", ".new/..", ".new/./", ".new/../", ".new/../x"),
    *(".new/.new", ".new/a/", ".new/a/b", ".new//etc/passwd"),
]


@pytest.mark.parametrize("uri", BEYOND)
def test_nothing_is_touched_beyond_the_store(uri: str, store: DirectoryStore) -> None:
    fill(store.root, {".new/a/half": b"1", "a": b"2"})
    with pytest.raises(CheckpointError, match="is no checkpoint of"):
        store.delete(uri)
    with pytest.raises(CheckpointError, match="is no checkpoint of"):
        store.get(uri, store.root)
    assert in_all(store.root) == {".new/a/half": b"1", "a": b"2"}


def test_a_relative_directory_is_the_same_from_every_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = DirectoryStore(Path("ck"))
    monkeypatch.chdir("/")
    uri = store.put("t1", fill(empty(tmp_path / "in"), {"a": b"1"}))
    assert in_all(tmp_path / "ck") == {uri: b"1"}


@pytest.mark.parametrize("files", [{"a": b"1"}, {"a": b"1", "b": b"2"}], ids=["file", "folder"])
@pytest.mark.parametrize("instead", ["nothing", "file", "link"])
def test_a_directory_that_is_not_there_says_nothing_of_what_was_in_it(
    instead: str, files: dict[str, bytes], store: DirectoryStore, tmp_path: Path
) -> None:
    uri = store.put("t1", fill(empty(tmp_path / "in"), files))
    shutil.rmtree(store.root)
    if instead == "file":
        store.root.touch()
    elif instead == "link":
        store.root.symlink_to(tmp_path / "unmounted")
    with pytest.raises(StoreError, match=r"no folder .*store, .*Mount.*empty folder.*check --fix"):
        store.get(uri, empty(tmp_path / "out"))
    store.root.unlink(missing_ok=True)
    store.root.mkdir()
    with pytest.raises(FileNotFoundError):
        store.get(uri, tmp_path / "out")


def test_a_store_that_is_not_there_yet_is_empty(store: DirectoryStore) -> None:
    assert list(store.list()) == []


def test_what_a_crash_left_incomplete_is_listed_and_deleted(store: DirectoryStore) -> None:
    fill(store.root, {".new/abc/half": b"1"})
    assert list(store.list()) == [".new/abc"]
    store.delete(".new/abc")
    assert in_all(store.root) == {}


def test_workers_that_end_leave_those_that_begin_their_folders(store: DirectoryStore) -> None:
    def come_and_go(number: int) -> None:
        for _ in range(200):
            keeper = Keeper(store, f"w{number}")
            if keeper.save("unused", lambda checkpoint: None) is None:
                keeper.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, range(4)))
    assert list(store.list()) == []


def test_a_folder_on_another_disk_is_put_as_well(store: DirectoryStore, tmp_path: Path) -> None:
    for i, files in enumerate(({"a": b"1"}, {"a": b"1", "b/c": b"2"})):
        with tempfile.TemporaryDirectory() as folder:
            if Path(folder).stat().st_dev == tmp_path.stat().st_dev:
                pytest.skip("there is one disk only")
            uri = store.put(f"t{i}", fill(Path(folder), files))
        store.get(uri, empty(tmp_path / str(i)))
        assert in_all(tmp_path / str(i)) == files
        assert not any(name.startswith(".new") for name in store.list())
