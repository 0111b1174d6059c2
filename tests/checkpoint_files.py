"""Folders of files as checkpoints have them, and how tests save and damage them."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from letstune.rounds.events import Stored
from letstune.training.checkpoints import Keeper
from letstune.training.stores import DirectoryStore

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


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def save(keeper: Keeper, name: str, files: dict[str, bytes]) -> Stored:
    stored = keeper.save(name, lambda checkpoint: void(fill(checkpoint.path, files)))
    assert stored is not None
    return stored


def void(value: object) -> None:
    pass


def damage(store: DirectoryStore, stored: Stored, how: str) -> None:
    place = store.root / stored.uri
    file = place / "a" if place.is_dir() else place
    if how == "missing":
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    elif how == "altered":
        file.write_bytes(b"WEIGHTS")
    elif how == "truncated":
        file.write_bytes(b"")


def unhidden(folder: Path) -> list[Path]:
    """Return what is in a folder of checkpoints, without its marker."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def kept(path: Path) -> set[tuple[int, int]]:
    """Return trial and epoch of what is not deleted, which must be what is there."""
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT trial, epoch, checkpoint FROM checkpoints WHERE deleted IS NULL"
        rows = db.execute(query).fetchall()
    folder = path.with_name("run.checkpoints")
    there = {entry.name for entry in unhidden(folder)} if folder.exists() else set()
    assert there == {uri for _, _, uri in rows}
    return {(trial, epoch) for trial, epoch, _ in rows}
