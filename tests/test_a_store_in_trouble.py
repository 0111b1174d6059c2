"""Trouble with a store is no trial's failure, and nothing is written off that may come back."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import empty, kept
from memory_store import MemoryStore
from small_trainers import Climb, Folders, Hill, tune

import letstune
from letstune.errors import CheckpointError, StoreError
from letstune.runs.check import check_run
from letstune.training.checkpoints import Checkpoint
from letstune.training.stores import DirectoryStore


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


class Unsaved(Hill):
    trouble = 0

    def save(self, checkpoint: Checkpoint, model: Any) -> None:
        if Unsaved.trouble:
            raise OSError(Unsaved.trouble, os.strerror(Unsaved.trouble))
        super().save(checkpoint, model)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (errno.ENOSPC, "disk is full: .*Free some space and resume"),
        (errno.EDQUOT, "disk is full: .*Free some space and resume"),
        (errno.EIO, "disk fails, or is read-only: .*Mend that and resume"),
        (errno.EROFS, "disk fails, or is read-only: .*Mend that and resume"),
    ],
    ids=["full", "quota", "failing", "read-only"],
)
def test_a_disk_in_trouble_is_no_trials_failure(
    trouble: int, told: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Unsaved, "trouble", trouble)
    with pytest.raises(CheckpointError, match=told):
        tune(Unsaved(), 4, path)
    monkeypatch.setattr(Unsaved, "trouble", 0)
    assert letstune.resume(path, progress=False).errors == []


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
    assert len(check_run(path, fix=True, trust=True)) == 2
    assert check_run(path) == []
    tuning = letstune.resume(path, rounds=[3], progress=False)
    assert tuning.finished
    assert {len(trial.epochs) for trial in tuning} == {3}
