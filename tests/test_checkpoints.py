import errno
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from files import in_all
from processes import python
from small_trainers import Climb, Folders, Hill, tune

import letstune
from letstune.errors import CheckpointError, CheckpointNotKeptError, StoreError
from letstune.rounds.events import Stored
from letstune.runs.check import check_run
from letstune.training.checkpoints import Checkpoint, Keeper, digest, fetch, fetched
from letstune.training.stores import DirectoryStore, Store, temporary

FOLDERS = {
    "a single file": {"model": b"weights"},
    "an empty file": {"model": b""},
    "many files": {"a": b"1", "b": b"", "c": b"x" * 100_000},
    "a folder": {"sub/model": b"weights"},
    "nested folders": {"a/b/c": b"1", "a/b/d": b"2", "a/e": b"3", "f": b"4"},
    "names of all kinds": {
        ".hidden": b"0",
        "höhe 10%/~": b"1",
        "日本": b"2",
        "a b": b"3",
        "-x": b"4",
        "*": b"5",
    },
    "a name with a newline": {"a\nb": b"1"},
    "a single file whose name has the joint": {"a--b": b"1"},
    "a single file with a long name": {"n" * 240: b"1"},
}


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def keeper(store: DirectoryStore) -> Keeper:
    return Keeper(store, "token")


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def save(keeper: Keeper, name: str, files: dict[str, bytes]) -> Stored:
    stored = keeper.save(name, lambda checkpoint: void(fill(checkpoint.path, files)))
    assert stored is not None
    return stored


def void(value: object) -> None:
    pass


# The directory store


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


def test_a_temporary_folder_that_was_cleaned_away_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("letstune.training.stores._temporary_folder", None)
    monkeypatch.setattr(MemoryStore, "kept", {})
    keeper = Keeper(MemoryStore(), "token")
    save(keeper, "t1", {"a": b"1"})
    shutil.rmtree(temporary())
    stored = save(keeper, "t2", {"a": b"2"})
    assert in_all(fetched(MemoryStore(), stored, "It")) == {"a": b"2"}
    keeper.close()
    assert not list(temporary().glob(".new/*"))
    shutil.rmtree(temporary())
    assert in_all(fetched(MemoryStore(), stored, "It")) == {"a": b"2"}


# The digest


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum here")
@pytest.mark.parametrize(
    "files", [files for files in FOLDERS.values() if not any("\n" in name for name in files)]
)
def test_the_digest_is_what_the_documented_commands_print(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    (documented,) = re.findall("``(.*\\|.*)``", str(digest.__doc__))
    printed = subprocess.run(
        ["bash", "-c", documented],
        cwd=fill(tmp_path, files),
        capture_output=True,
        text=True,
        check=True,
    )
    assert digest(tmp_path)[1] == printed.stdout.split()[0]


def test_the_size_is_that_of_all_files(tmp_path: Path) -> None:
    assert digest(fill(tmp_path, {"a/b": b"12", "c": b"345"}))[0] == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a").write_bytes(b"2"),
        lambda folder: (folder / "a").rename(folder / "b"),
        lambda folder: (folder / "new").touch(),
        lambda folder: (folder / "a").unlink(),
        lambda folder: (folder / "a").replace(folder / "sub" / "a"),
    ],
)
def test_the_digest_tells_any_change(change: Any, tmp_path: Path) -> None:
    before = digest(fill(tmp_path, {"a": b"1", "sub/c": b"3"}))
    change(tmp_path)
    assert digest(tmp_path) != before


@pytest.mark.parametrize("target", ["a", "sub", "nowhere", "/"])
def test_symlinks_are_refused(target: str, keeper: Keeper, store: DirectoryStore) -> None:
    def filling(checkpoint: Checkpoint) -> None:
        fill(checkpoint.path, {"a": b"1", "sub/b": b"2"})
        (checkpoint.path / "link").symlink_to(target)

    with pytest.raises(CheckpointError, match=r"regular files and folders only.*link"):
        keeper.save("t1", filling)
    assert list(store.list()) == []


# The keeper


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_what_is_kept_is_fetched(
    files: dict[str, bytes], keeper: Keeper, store: DirectoryStore, tmp_path: Path
) -> None:
    stored = save(keeper, "t1", files)
    assert stored.size == sum(map(len, files.values()))
    assert in_all(fetch(store, stored, empty(tmp_path / "out"), "It")) == files
    assert in_all(fetched(store, stored, "It")) == files


def damage(store: DirectoryStore, stored: Stored, how: str) -> None:
    place = store.root / stored.uri
    file = place / "a" if place.is_dir() else place
    if how == "missing":
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    elif how == "altered":
        file.write_bytes(b"WEIGHTS")
    elif how == "truncated":
        file.write_bytes(b"")


@pytest.mark.parametrize("files", [{"a": b"weights"}, {"a": b"weights", "b": b""}])
@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("missing", "The model is missing: there is no 't1"),
        ("altered", "The model, 't1.* is not what was saved: 7 bytes"),
        ("truncated", "The model, 't1.* is not what was saved: 0 bytes .* expected 7"),
    ],
)
def test_what_happened_to_a_checkpoint_is_told(
    files: dict[str, bytes],
    how: str,
    text: str,
    keeper: Keeper,
    store: DirectoryStore,
    tmp_path: Path,
) -> None:
    stored = save(keeper, "t1", files)
    damage(store, stored, how)
    with pytest.raises(CheckpointError, match=text) as caught:
        fetch(store, stored, empty(tmp_path / "out"), "The model")
    assert str(store.root) in str(caught.value)
    assert "check --fix" in str(caught.value)


def test_an_empty_checkpoint_is_none(keeper: Keeper, store: DirectoryStore) -> None:
    assert keeper.save("t1", lambda checkpoint: None) is None
    assert keeper.save("t1", lambda checkpoint: void(checkpoint.path)) is None
    assert in_all(store.root) == {}


def test_what_failed_leaves_nothing_for_the_next_one(
    keeper: Keeper, store: DirectoryStore, tmp_path: Path
) -> None:
    def failing(checkpoint: Checkpoint) -> None:
        fill(checkpoint.path, {"half": b"1"})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        keeper.save("t1", failing)
    stored = save(keeper, "t2", {"whole": b"2"})
    assert in_all(fetch(store, stored, empty(tmp_path / "out"), "It")) == {"whole": b"2"}
    assert len(list(store.list())) == 2  # and the staging folder, until the keeper is closed
    keeper.close()
    assert len(list(store.list())) == 1


# Pickles


def test_a_pickle_comes_back(tmp_path: Path) -> None:
    checkpoint = Checkpoint(lambda: tmp_path)
    checkpoint.save_pickle({"weights": [1, 2.5]})
    assert checkpoint.load_pickle() == {"weights": [1, 2.5]}


def test_a_checkpoint_without_a_pickle_says_what_it_has(tmp_path: Path) -> None:
    fill(tmp_path, {"model.json": b"{}"})
    with pytest.raises(CheckpointError, match=r"\['model.json'\], but no model.pickle.*path"):
        Checkpoint(lambda: tmp_path).load_pickle()


SCRIPT = """
import sys
from pathlib import Path
from letstune.training.checkpoints import Checkpoint

class Model:
    def predict(self):
        return helper() + 1

def helper():
    return 41

Checkpoint(lambda: Path(sys.argv[1])).save_pickle(Model())
"""


def test_a_model_of_a_scripts_own_class_comes_back_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = python(tmp_path / "script.py", empty(tmp_path / "model"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Checkpoint(lambda: tmp_path / "model").load_pickle().predict() == 42


# Retention


def kept(path: Path) -> set[tuple[int, int]]:
    """Return trial and epoch of what is not deleted, which must be what is there."""
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT trial, epoch, checkpoint FROM checkpoints WHERE deleted IS NULL"
        rows = db.execute(query).fetchall()
    folder = path.with_name("run.checkpoints")
    there = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    assert there == {uri for _, _, uri in rows}
    return {(trial, epoch) for trial, epoch, _ in rows}


def deleted(path: Path) -> dict[tuple[int, int], str]:
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT trial, epoch, why FROM deletions").fetchall()
    return {(trial, epoch): why for trial, epoch, why in rows}


@pytest.mark.parametrize("trainer", [Climb(), Folders()])
@pytest.mark.parametrize("n", [0, 1, 3, 10])
def test_the_best_epochs_of_the_best_trials_are_kept(n: int, trainer: Any, path: Path) -> None:
    tuning = tune(trainer, 12, path, rounds=[1, 2, 2], keep_checkpoints=n)
    best = {(trial.trial_id, trial.best_epoch.epoch) for trial in tuning[:n] if trial.best_epoch}
    assert kept(path) == best
    epochs = {(trial.trial_id, epoch.epoch) for trial in tuning for epoch in trial.epochs}
    assert deleted(path).keys() == epochs - best


def test_ten_are_kept_by_default(path: Path) -> None:
    tune(Hill(), 12, path)
    assert len(kept(path)) == 10


def test_all_are_kept_if_asked_for(path: Path) -> None:
    tuning = tune(Climb(), 12, path, rounds=[1, 2], keep_checkpoints="all")
    assert kept(path) == {(t.trial_id, epoch.epoch) for t in tuning for epoch in t.epochs}
    assert deleted(path) == {}


def test_every_epoch_that_is_kept_is_the_model_after_it(path: Path) -> None:
    tuning = tune(Folders(), 4, path, rounds=[2, 2], keep_checkpoints="all")
    for trial in tuning:
        for epoch in trial.epochs:
            trainer = Folders()
            trainer.load(epoch.checkpoint, trial.params)
            assert trainer.model[-1] == epoch.metric_value


class Watching(Climb):
    """Notes, as the dataset's file, what is in the store when an epoch begins."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        names = [file.name for file in Path(self.dataset).iterdir() if file.name != ".new"]
        return super().train_epoch(epoch) | {"kept": len(names)}


def test_while_it_runs_little_more_is_kept_than_what_may_be_needed(path: Path) -> None:
    store = path.with_name("run.checkpoints")
    store.mkdir()
    tuning = tune(Watching(), 1, path, rounds=[30], dataset=str(store), keep_checkpoints=1)
    # The best and the last epoch, and the one before, until the next one is recorded.
    assert max(epoch.metric_values["kept"] for epoch in tuning[0].epochs) <= 3


class Failing(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 2:
            raise ValueError
        return super().train_epoch(epoch)


def test_checkpoints_of_failed_trials_are_let_go(path: Path) -> None:
    tune(Failing(), 2, path, rounds=[4])
    assert kept(path) == set()
    assert "failed" in deleted(path).values()


@pytest.mark.parametrize("read", [lambda tuning, path: tuning, lambda t, path: letstune.load(path)])
def test_a_checkpoint_that_was_let_go_says_so_and_how_to_keep_it(read: Any, path: Path) -> None:
    trial = read(tune(Climb(), 4, path, rounds=[2], keep_checkpoints=1), path)[-1]
    with pytest.raises(CheckpointNotKeptError) as caught:
        trial.checkpoint.load_pickle()
    told = str(caught.value)
    assert f"{path}: the checkpoint of epoch {trial.best_epoch.epoch} of trial" in told
    assert "let go (outranked)" in told
    assert "keep_checkpoints='all'" in told


def test_a_checkpoint_shows_which_one_it_is(path: Path) -> None:
    tuning = tune(Climb(), 4, path, rounds=[2], keep_checkpoints=1)
    winner, last = tuning[0], tuning[-1]
    epoch = winner.best_epoch.epoch if winner.best_epoch else None
    shown = repr(winner.checkpoint)
    assert shown.startswith(f"<Checkpoint of epoch {epoch} of trial {winner.trial_id}: t0")
    assert repr(last.checkpoint).endswith(f"of trial {last.trial_id}: not kept>")


def test_a_checkpoint_that_was_never_made_says_so(path: Path) -> None:
    class Silent(Hill):
        def save(self, checkpoint: Checkpoint, model: Any) -> None:
            pass

    with pytest.raises(CheckpointNotKeptError, match=r"never there.*save"):
        _ = tune(Silent(), 1, path)[0].checkpoint.path


@pytest.mark.parametrize("how", ["missing", "altered"])
def test_a_winner_whose_checkpoint_was_damaged_is_not_unpickled(how: str, path: Path) -> None:
    tuning = tune(Hill(), 2, path)
    store = DirectoryStore(path.with_name("run.checkpoints"))
    for trial in tuning._run.state.trials:
        damage(store, trial.kept[0], how)
    with pytest.raises(CheckpointError, match=r"missing|not what was saved"):
        tuning[0].checkpoint.load_pickle()


# Other stores


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


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    monkeypatch.setattr(MemoryStore, "kept", {})
    return MemoryStore()


def test_a_store_of_ones_own_keeps_the_checkpoints(memory: MemoryStore, path: Path) -> None:
    tuning = tune(Folders(), 8, path, rounds=[1, 2], store=memory, keep_checkpoints=2)
    assert len(memory.kept) == 2
    assert not path.with_name("run.checkpoints").exists()
    assert len(list(tuning[0].checkpoint.path.iterdir())) == 1 + tuning[0].best_epoch.epoch + 1  # type: ignore[union-attr]


def test_a_store_of_ones_own_is_resumed(memory: MemoryStore, path: Path) -> None:
    tune(Folders(), 2, path, rounds=[2], store=memory)
    tuning = letstune.resume(path, rounds=[4], progress=False)
    assert tuning.errors == []
    assert len(tuning[0].epochs) == 4


def test_reading_a_run_with_a_store_of_ones_own_says_who_can_bring_it_back(
    memory: MemoryStore, path: Path
) -> None:
    tune(Hill(), 2, path, store=memory)
    with pytest.raises(CheckpointError, match=r"a store of its own.*letstune\.resume"):
        letstune.load(path)[0].checkpoint.load_pickle()


def test_a_store_that_is_full_is_no_trials_failure(
    memory: MemoryStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryStore, "broken", True)
    with pytest.raises((CheckpointError, OSError), match="No space left"):
        tune(Hill(), 4, path, store=memory)
    monkeypatch.setattr(MemoryStore, "broken", False)
    tuning = letstune.resume(path, progress=False)
    assert tuning.errors == []
    assert len(memory.kept) == 4


class DiskFull(Hill):
    full = True

    def save(self, checkpoint: Checkpoint, model: Any) -> None:
        if DiskFull.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().save(checkpoint, model)


def test_a_full_disk_is_no_trials_failure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((CheckpointError, OSError), match="No space left"):
        tune(DiskFull(), 4, path)
    monkeypatch.setattr(DiskFull, "full", False)
    assert letstune.resume(path, progress=False).errors == []


@pytest.mark.parametrize("relative", [True, False])
def test_a_directory_of_ones_own_is_found_from_anywhere(
    relative: bool, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tune(Hill(), 2, path, store="models" if relative else tmp_path / "models")
    assert list((tmp_path / "models").iterdir())
    monkeypatch.chdir("/")
    tuning = letstune.load(path)
    assert tuning[0].checkpoint.load_pickle().to_dict() == tuning[0].params.to_dict()


def test_two_runs_in_one_directory_have_a_folder_each(path: Path, tmp_path: Path) -> None:
    for name in ("a.db", "b.db"):
        tune(Hill(), 2, path.with_name(name), store=tmp_path / "models")
    assert len(list((tmp_path / "models").iterdir())) == 2


@pytest.mark.parametrize("store", ["s4://bucket/x", 5, b"x", ("x",), ("x", 5)])
def test_what_is_no_store_is_refused(store: Any, path: Path) -> None:
    with pytest.raises(letstune.LetstuneError, match=r"store=|no store 's4'"):
        tune(Hill(), 2, path, store=store)
    assert not path.exists()


def test_journals_that_differ_by_suffix_do_not_share_checkpoints(path: Path) -> None:
    tune(Hill(), 2, path)
    tune(Hill(), 2, path.with_suffix(""))
    assert len(kept(path)) == 2


# Stores that give trouble


class Wanderer(Folders):
    """Goes to another folder."""

    def load_dataset(self, dataset: Any) -> None:
        os.chdir(dataset)


@pytest.mark.parametrize("store", [None, "models"])
def test_a_trainer_may_go_to_another_folder(
    store: str | None, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = empty(tmp_path / "elsewhere")
    monkeypatch.chdir(path.parent)
    tuning = tune(Wanderer(), 2, Path("run.db"), rounds=[1, 2], store=store, dataset=str(elsewhere))
    assert Path.cwd() == elsewhere
    assert list(elsewhere.iterdir()) == []
    assert {e.name for e in path.parent.iterdir()} == {"run.db", store or "run.checkpoints"}
    for found in (tuning, letstune.load(path)):
        assert list(found[0].checkpoint.path.iterdir())
        assert found[0].epochs
    assert check_run(path) == []


@pytest.mark.parametrize("trainer", [Climb(), Folders(), Hill()])
def test_a_folder_that_cannot_be_made_is_no_trials_failure(trainer: Any, path: Path) -> None:
    in_the_way = path.with_name("run.checkpoints")
    in_the_way.write_text("a file")
    with pytest.raises(CheckpointError, match=r"run\.checkpoints"):
        tune(trainer, 3, path)
    assert letstune.load(path).errors == []
    in_the_way.unlink()
    tuning = letstune.resume(path, progress=False)
    assert tuning.finished
    assert tuning.errors == []


def test_the_names_of_the_folders_that_it_makes_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("letstune.training.stores._sync", lambda path: synced.append(Path(path)))
    store = DirectoryStore(tmp_path / "a" / "b")
    assert store.stage("name").is_dir()
    # The name of a folder is in the folder above; that of what is staged need not last.
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    store.stage("other")
    assert len(synced) == 3


def test_a_checkpoint_that_cannot_be_deleted_ends_no_run_and_is_swept_later(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def undeletable(*_: Any) -> None:
        raise OSError("it is busy")

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryStore, "delete", undeletable)
        tuning = tune(Climb(), 2, path, rounds=[3], progress=True)
    assert tuning.finished
    assert tuning.errors == []
    assert "cannot be deleted: it is busy" in capsys.readouterr().err
    left = check_run(path, fix=True)
    assert len(left) == 4
    assert {finding.what for finding in left} == {"no row points to this checkpoint"}
    assert check_run(path) == []
    assert len(kept(path)) == 2
    assert tuning[0].checkpoint.load_pickle()


def test_a_store_below_the_journals_folder_moves_with_it(path: Path, tmp_path: Path) -> None:
    tune(Climb(), 3, path, rounds=[2], store=path.parent / "deep" / "models")
    path.parent.rename(tmp_path / "moved")
    moved = tmp_path / "moved" / path.name
    tuning = letstune.resume(moved, n_trials=4, rounds=[3], progress=False)
    assert tuning.finished
    assert tuning.errors == []
    assert len(tuning[0].checkpoint.load_pickle()) == 2 + tuning[0].best_epoch.epoch  # type: ignore[union-attr]
    assert check_run(moved) == []
    assert not path.parent.exists()


def test_nothing_is_written_off_while_the_store_cannot_be_reached(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = tune(Climb(), 2, path, rounds=[2])
    with monkeypatch.context() as patch:

        def get(self: DirectoryStore, uri: str, folder: Path) -> None:
            raise ConnectionResetError("the network is down")

        patch.setattr(DirectoryStore, "get", get)
        with pytest.raises(StoreError, match=r"network is down.*nothing recorded is lost"):
            check_run(path, fix=True)
    assert check_run(path) == []
    assert tuning[0].checkpoint.load_pickle()


def test_nothing_is_written_off_while_the_stores_folder_is_not_there(path: Path) -> None:
    tuning = tune(Climb(), 2, path, rounds=[2])
    folder = path.with_name("run.checkpoints")
    folder.rename(path.with_name("unmounted"))
    before = path.read_bytes()
    for fix in (False, True):
        with pytest.raises(StoreError, match=r"run\.checkpoints.*Mount"):
            check_run(path, fix=fix)
    with pytest.raises(StoreError, match=r"run\.checkpoints.*Mount"):
        tuning[0].checkpoint.load_pickle()
    assert path.read_bytes() == before
    path.with_name("unmounted").rename(folder)
    assert check_run(path) == []
    assert tuning[0].checkpoint.load_pickle()


def test_a_store_that_is_gone_for_good_can_be_written_off(path: Path) -> None:
    tune(Climb(), 2, path, rounds=[2])
    folder = path.with_name("run.checkpoints")
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match=r"make an empty folder.*check --fix"):
        letstune.resume(path, rounds=[3], progress=False)
    folder.mkdir()
    assert len(check_run(path, fix=True)) == 2
    assert check_run(path) == []
    tuning = letstune.resume(path, rounds=[3], progress=False)
    assert tuning.finished
    assert {len(trial.epochs) for trial in tuning} == {3}


def test_a_store_of_ones_own_in_a_relative_directory_is_resumed_from_elsewhere(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tune(Climb(), 2, path, rounds=[2], store=DirectoryStore(Path("ck")))
    monkeypatch.chdir(empty(tmp_path / "elsewhere"))
    tuning = letstune.resume(path, rounds=[3], progress=False)
    assert tuning.errors == []
    assert tuning[0].checkpoint.load_pickle()
    assert not list((tmp_path / "elsewhere").iterdir())
