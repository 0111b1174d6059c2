"""Folders, as checkpoints are."""

import random
from pathlib import Path

from letstune_fsspec.manifest import INLINE, INLINE_IN_ALL, PART


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


FOLDERS = {
    "a single file": {"model": b"weights"},
    "an empty file": {"model": b""},
    "a large file": {"model": noise(INLINE + 1)},
    "a file in parts": {"model": noise(2 * PART + 1)},
    "a file of two whole parts": {"model": noise(2 * PART)},
    "many small files": {f"{i:03}": noise(100, i) for i in range(200)},
    "many large files": {f"{i:03}": noise(INLINE + 1, i) for i in range(40)},
    "more small files than a manifest holds": {
        f"{i:03}": noise(INLINE, i) for i in range(INLINE_IN_ALL // INLINE + 2)
    },
    "small and large ones": {"a": noise(INLINE + 1), "b": b"", "c/d": noise(INLINE + 2), "e": b"1"},
    "nested folders": {"a/b/c": b"1", "a/b/d": noise(INLINE + 1), "a/e": b"3", "f": b"4"},
    "names of all kinds": {
        ".hidden": b"0",
        "höhe 10%/~": noise(INLINE + 1),
        "日本": b"2",
        "a b": b"3",
        "-x": b"4",
        "*": b"5",
        "manifest": b"6",
        "0": b"7",
        "a\nb\x01": b"8",
        "\udc80": b"9",  # of a system whose names are not Unicode
        "n" * 240: b"10",
    },
}


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
