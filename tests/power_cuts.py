"""The disk as a power cut may leave it, made of what was done to it until then.

The model is the worst that POSIX lets a disk do, which is more than ext4, XFS or APFS will do:

- Of a file, what is certain is its content when it was last synced (`fsync`, `fdatasync`). Each
  write and each change of its length since then has reached the disk or not, whatever came of those
  before and after it. Of a write, only some of the sectors of 512 bytes may have. Bytes that
  never came, before others that did, are zeros. A sector is written whole or not at all, and bytes
  beside a write are never harmed ("powersafe overwrite", on which SQLite relies, too).
- Of a folder, what is certain is the names in it when it was last synced. To sync a file makes its
  content last, not its name. Each new name, removed name and renaming since then is there or not,
  whatever came of the others. A file that was made and synced, in a folder that was not, may
  thus be gone, and a file that was removed may be back.
- A renaming within a folder has happened as a whole or not at all. Of one to another folder, the
  new name is certain once that folder is synced; the old name may be there as well. That it has
  neither is not meant here: file systems with a log, and those that copy on write, do not lose it.
- A sync that returned has reached the disk. No disk that lies about that is meant here.

A disk is drawn from all of these by a seed: with nothing that is not certain, with all, with what
was done up to a moment (as of a file system that keeps the order), or with any of it, torn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from random import Random
from typing import Final

from disk import Operation

SECTOR: Final = 512

Kept = Callable[[int], bool]
"""Tells of the number of an operation whether it has reached the disk, if that is not certain."""


class File:
    """A file: what is certain of its content, and what is not."""

    def __init__(self) -> None:
        self.now = bytearray()
        self.synced = b""
        self.pending: list[tuple[int, int, bytes | None]] = []

    def change(self, moment: int, offset: int, data: bytes | None) -> None:
        """Write, or with None, cut."""
        _apply(self.now, offset, data)
        self.pending.append((moment, offset, data))

    def sync(self) -> None:
        """Make certain what it holds."""
        if self.pending:
            self.synced = bytes(self.now)
            self.pending.clear()

    def left(self, kept: Kept, torn: Random | None) -> bytes:
        """Return what may be left of it."""
        left = bytearray(self.synced)
        for moment, offset, data in self.pending:
            if kept(moment):
                for at, part in _torn(offset, data, torn):
                    _apply(left, at, part)
        return bytes(left)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
    content.extend(bytes(max(0, offset - len(content))))
    if data is not None:
        content[offset : offset + len(data)] = data


def _torn(
    offset: int, data: bytes | None, torn: Random | None
) -> Iterator[tuple[int, bytes | None]]:
    if data is None or torn is None or torn.random() < 0.5:
        yield offset, data
        return
    at = offset
    while at < offset + len(data):
        end = min(offset + len(data), (at // SECTOR + 1) * SECTOR)
        if torn.random() < 0.5:
            yield at, data[at - offset : end - offset]
        at = end


class Change:
    """What was done to the names in a folder: to none or some of them, files are given."""

    def __init__(self, moment: int, names: dict[str, File | Folder | None]) -> None:
        self.moment, self.names = moment, names
        self.certain = False
        self.moved_to: Change | None = None  # in another folder

    def happened(self, kept: Kept) -> bool:
        """Tell whether it has reached the disk."""
        first = self.moved_to is None or self.moved_to.happened(kept)
        return self.certain or (first and kept(self.moment))


class Folder:
    """A folder: which names in it are certain, and which are not."""

    def __init__(self) -> None:
        self.now: dict[str, File | Folder] = {}
        self.synced: dict[str, File | Folder] = {}
        self.pending: list[Change] = []

    def change(self, moment: int, names: dict[str, File | Folder | None]) -> Change:
        """Give names to files and folders, or with None, take them away."""
        change = Change(moment, names)
        _rename(self.now, change)
        self.pending.append(change)
        return change

    def sync(self) -> None:
        """Make certain which names are in it."""
        for change in self.pending:
            change.certain = True
        self.synced = dict(self.now)
        self.pending.clear()

    def write(self, place: Path, kept: Kept, torn: Random | None) -> None:
        """Make, in an empty folder, what may be left of it."""
        left = dict(self.synced)
        for change in self.pending:
            if change.happened(kept):
                _rename(left, change)
        for name, what in left.items():
            if isinstance(what, File):
                (place / name).write_bytes(what.left(kept, torn))
            else:
                (place / name).mkdir()
                what.write(place / name, kept, torn)


def _rename(names: dict[str, File | Folder], change: Change) -> None:
    for name, what in change.names.items():
        if what is None:
            names.pop(name, None)
        else:
            names[name] = what


class Disk:
    """A folder that was empty, and synced, and all that was done below it since."""

    def __init__(self) -> None:
        self.root = Folder()
        self.moment = 0
        self._by_number: dict[int, File | Folder] = {}

    def do(self, operation: Operation) -> None:
        """Do what was recorded."""
        self.moment += 1
        kind, number, offset, path, data = operation
        if kind in ("create", "make"):
            made = File() if kind == "create" else Folder()
            self._by_number[number] = made
            folder, name = self._place(path)
            folder.change(self.moment, {name: made})
        elif kind == "remove":
            folder, name = self._place(path)
            folder.change(self.moment, {name: None})
        elif kind == "rename":
            self._rename(path, data.decode())
        elif kind == "sync":
            # The root itself was there before.
            self._by_number.get(number, self.root).sync()
        else:
            file = self._by_number[number]
            assert isinstance(file, File)
            file.change(self.moment, offset, data if kind == "write" else None)

    def _place(self, path: str) -> tuple[Folder, str]:
        folder = self.root
        *above, name = PurePosixPath(path).parts
        for part in above:
            below = folder.now[part]
            assert isinstance(below, Folder)
            folder = below
        return folder, name

    def _rename(self, old: str, new: str) -> None:
        (source, before), (target, after) = self._place(old), self._place(new)
        what = source.now[before]
        if source is target:
            source.change(self.moment, {before: None, after: what})
        else:
            added = target.change(self.moment, {after: what})
            source.change(self.moment, {before: None}).moved_to = added

    def left_by_a_cut(self, place: Path, how: str, seed: int) -> None:
        """Make, in an empty folder, what a cut at this moment may leave: see `HOW`."""
        rng = Random(seed)
        torn = rng if how == "any" else None
        self.root.write(place, _kept(how, self.moment, rng), torn)


HOW: Final = ("none", "all", "until", "any")
"""How much of what is not certain has reached the disk; see above."""


def _kept(how: str, moment: int, rng: Random) -> Kept:
    if how in ("none", "all"):
        return lambda _: how == "all"
    if how == "until":
        until = moment - rng.randrange(30)
        return lambda when: when <= until
    share, drawn = rng.random(), dict[int, bool]()
    # Drawn once for each operation, whoever asks again.
    return lambda when: drawn.setdefault(when, rng.random() < share)


def replayed(done: Iterable[Operation]) -> Iterator[Disk]:
    """Yield the disk before each operation, and in the end."""
    disk = Disk()
    for operation in done:
        yield disk
        disk.do(operation)
    yield disk
