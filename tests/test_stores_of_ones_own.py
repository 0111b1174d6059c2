"""A store of one's own keeps the checkpoints of a run, and is found again."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import empty, kept, save
from files import in_all
from memory_store import MemoryStore
from own_keys import become_another
from small_trainers import Climb, Folders, Hill, tune

import letstune
from letstune.errors import TrustError
from letstune.runs.check import check_run
from letstune.training.checkpoints import Keeper, fetched
from letstune.training.stores import DirectoryStore, temporary


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


def test_a_store_of_ones_own_is_unpickled_for_who_trusts_the_journal(
    memory: MemoryStore, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tune(Hill(), 2, path, store=memory)
    assert check_run(path) == []
    become_another(monkeypatch, tmp_path)
    with pytest.raises(TrustError, match=r"kept as a pickle, .*MemoryStore.*`letstune trust"):
        letstune.load(path)[0].checkpoint.load_pickle()
    with pytest.raises(TrustError, match=r"the pickled store \(.*MemoryStore.*`letstune trust"):
        check_run(path)
    trusting = letstune.load(path, trust=True)[0]
    assert trusting.checkpoint.load_pickle().to_dict() == trusting.params.to_dict()
    assert check_run(path, trust=True) == []


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
    assert check_run(path) == []


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
