"""Nobody else can write what letstune makes, nor read it in a folder that others may write."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_trainers import Climb, Folders, tune

from letstune import Observer
from letstune._private import others_may_write
from letstune.errors import PlanError
from letstune.journal import create as creating
from letstune.journal.lock import JournalLock
from letstune.runs.skip import stop_run
from letstune.training import tighten

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")

OPEN = [0o1777, 0o777, 0o770, 0o2775]
"""Modes of folders that others may write: as /tmp, as nobody should, and of a group."""
CLOSED = [0o700, 0o755]


@pytest.fixture(params=[0o000, 0o022, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


class Look(Observer):
    """Looks at all that there is in a folder, whenever anything is recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[str, set[int]] = {}

    def epoch_recorded(self, epoch: Any) -> None:
        for path in self.folder.rglob("*"):
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                continue
            name = os.fspath(path.relative_to(self.folder))
            self.seen.setdefault(name, set()).add(mode)

    run_finished = epoch_recorded


class Staged(Folders):
    """Tells the modes of the folder that it fills."""

    def save(self, checkpoint: Any) -> None:
        super().save(checkpoint)
        modes = [path.stat().st_mode for path in (checkpoint.path, *checkpoint.path.parents[:3])]
        (checkpoint.path / "modes").write_text(repr(modes))


def made(folder: Path, trainer: Any, **options: Any) -> dict[str, set[int]]:
    """Make a run in a folder, and return the modes of all that was ever there, by path."""
    look = Look(folder)
    tune(trainer, 4, folder / "run.db", rounds=[1, 1], observers=[look], **options)
    assert {"run.db", "run.db-wal", "run.db-shm", "run.db.lock", "run.checkpoints"} <= set(
        look.seen
    )
    assert any("-e0000" in name for name in look.seen)
    return look.seen


def a_folder(tmp_path: Path, mode: int) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    return folder


@pytest.mark.parametrize("mode", OPEN, ids=oct)
@pytest.mark.parametrize("trainer", [Climb(), Staged()], ids=["a file", "a folder"])
def test_where_others_may_write_they_may_not_even_read(
    tmp_path: Path, umask: int, mode: int, trainer: Any
) -> None:
    for name, modes in made(a_folder(tmp_path, mode), trainer).items():
        for found in modes:
            assert not found & 0o022, name
            assert "/" in name or not found & 0o077, name  # what is inside is out of reach


@pytest.mark.parametrize("mode", CLOSED, ids=oct)
@pytest.mark.parametrize("trainer", [Climb(), Staged()], ids=["a file", "a folder"])
def test_elsewhere_the_umask_says_who_may_read(
    tmp_path: Path, umask: int, mode: int, trainer: Any
) -> None:
    for name, modes in made(a_folder(tmp_path, mode), trainer).items():
        for found in modes:
            widest = 0o755 if stat.S_ISDIR(found) else 0o644
            if name == "run.checkpoints/.new":
                widest = 0o700  # what is not yet kept is nobody's else, anywhere
            assert stat.S_IMODE(found) == widest & ~umask, name


@pytest.mark.parametrize("mode", [0o2775, 0o755], ids=oct)
def test_a_group_may_share_a_run(
    tmp_path: Path, umask: int, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETSTUNE_SHARE", "group")
    for name, modes in made(a_folder(tmp_path, mode), Staged()).items():
        for found in modes:
            whole = stat.S_IMODE(found) & 0o777
            assert whole == (0o770 if stat.S_ISDIR(found) else 0o660), name
            assert bool(found & stat.S_ISGID) == (stat.S_ISDIR(found) and bool(mode & stat.S_ISGID))


@pytest.mark.slow
@pytest.mark.parametrize("mode", [0o1777, 0o755], ids=oct)
def test_workers_make_private_files_too(tmp_path: Path, umask: int, mode: int) -> None:
    for name, modes in made(a_folder(tmp_path, mode), Climb(), workers=2).items():
        if "/.new/" not in name:  # what a trainer is writing, in a folder that is out of reach
            assert not any(found & 0o022 for found in modes), name


def test_a_store_in_an_open_folder_is_private(tmp_path: Path, umask: int) -> None:
    shared = a_folder(tmp_path, 0o1777)
    tune(Staged(), 3, tmp_path / "run.db", rounds=[1, 1], store=shared)
    assert list(shared.iterdir())
    assert all(not path.stat().st_mode & 0o077 for path in shared.iterdir())


def test_a_request_to_a_run_is_private(tmp_path: Path, umask: int) -> None:
    journal = a_folder(tmp_path, 0o1777) / "run.db"
    tune(Climb(), 1, journal, rounds=[1])
    with JournalLock(journal, "now"):
        assert stop_run(journal)
        assert stat.S_IMODE(journal.with_name("run.db.skip").stat().st_mode) == 0o600


def test_what_is_made_privately_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = a_folder(tmp_path, 0o1777)
    tune(Climb(), 1, shared / "new" / "run.db", rounds=[1])
    assert re.search(
        rf"others may write to {shared}, so only you may read {shared}/new/run.db .*"
        "LETSTUNE_SHARE=group",
        capsys.readouterr().err,
    )
    assert stat.S_IMODE((shared / "new").stat().st_mode) == 0o700
    tune(Climb(), 1, tmp_path / "run.db", rounds=[1])
    monkeypatch.setenv("LETSTUNE_SHARE", "group")
    tune(Climb(), 1, shared / "other.db", rounds=[1])
    assert "others" not in capsys.readouterr().err


def test_what_is_no_way_to_share_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETSTUNE_SHARE", "everybody")
    with pytest.raises(PlanError, match=r"^LETSTUNE_SHARE='everybody': expected 'group'"):
        tune(Climb(), 1, path, rounds=[1])
    assert list(path.parent.iterdir()) == []


def test_a_journal_is_built_where_nobody_else_can_be(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite takes what is at the names of its side files for its own."""
    path.parent.chmod(0o1777)
    seen = []

    def migrate(new: Path) -> None:
        seen.append(new)
        assert stat.S_IMODE(new.parent.stat().st_mode) == 0o700
        assert new.parent.parent == path.parent
        assert list(new.parent.iterdir()) == [new]
        raise KeyboardInterrupt

    monkeypatch.setattr(creating, "migrate", migrate)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            creating.create(path, {}, [])
    assert len({new.parent for new in seen}) == 2  # not to be foreseen
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_process_left_of_a_new_journal_is_swept(path: Path) -> None:
    left = [path.parent / ".run.db.abcd1234", path.parent / ".run.db.5678wxyz"]
    others = [path.parent / ".run.db.tooshort1", path.parent / ".other.db.abcd1234"]
    for folder in (*left, *others):
        folder.mkdir()
        (folder / "new").touch()
        (folder / "new-wal").touch()
    (elsewhere := path.parent / "elsewhere").mkdir()
    (elsewhere / "new").touch()
    (link := path.parent / ".run.db.linklink").symlink_to(elsewhere)
    (left[1] / "own").touch()
    tune(Climb(), 1, path, rounds=[1])
    assert not left[0].exists()
    assert [entry.name for entry in left[1].iterdir()] == ["own"]
    assert all((folder / "new").exists() for folder in (*others, elsewhere))
    assert link.is_symlink()


def test_authors_of_stores_can_do_the_same(tmp_path: Path) -> None:
    shared = a_folder(tmp_path, 0o1777)
    (file := shared / "a").touch(0o666)
    tighten(file)
    assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0
    assert others_may_write(shared)
    assert not others_may_write(tmp_path)
