"""What is kept comes back to the last byte, or what happened to it is told."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import FOLDERS, damage, empty, fill, save, void
from files import in_all
from processes import python
from small_trainers import Hill, tune

from letstune.errors import CheckpointError
from letstune.training.checkpoints import Checkpoint, Keeper, digest, fetch, fetched
from letstune.training.stores import DirectoryStore

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


@pytest.mark.parametrize("files", [{"a": b"weights"}, {"a": b"weights", "b": b""}])
@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("missing", "The model is missing: there is no 't1"),
        ("altered", "The model, 't1.* is not what was saved: 7 bytes"),
        ("truncated", "The model, 't1.* is not what was saved: 0 bytes.* expected 7"),
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


@pytest.mark.parametrize("how", ["missing", "altered"])
def test_a_winner_whose_checkpoint_was_damaged_is_not_unpickled(how: str, path: Path) -> None:
    tuning = tune(Hill(), 2, path)
    store = DirectoryStore(path.with_name("run.checkpoints"))
    for trial in tuning._run.state.trials:
        damage(store, trial.kept[0], how)
    with pytest.raises(CheckpointError, match=r"missing|not what was saved"):
        tuning[0].checkpoint.load_pickle()


def test_what_a_failing_disk_left_is_no_part_of_the_next_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(checkpoint: Checkpoint) -> None:
        (checkpoint.path / "sub").mkdir()
        raise ZeroDivisionError

    def whole(checkpoint: Checkpoint) -> None:
        (checkpoint.path / "sub").mkdir()
        (checkpoint.path / "sub" / "model").write_text("whole")

    keeper = Keeper(DirectoryStore(tmp_path / "store"), "token")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as of a disk that fails
        with pytest.raises(ZeroDivisionError):
            keeper.save("first", half)
    stored = keeper.save("second", whole)
    assert stored is not None
    assert stored.size == len("whole")
