"""Stores: who keeps checkpoints. A store keeps folders, and knows nothing of models.

A checkpoint is written beside, synced and moved into place, and its folder is synced, before the
journal may point to it. Names are new each time and nothing is ever overwritten, so the journal's
row is the only pointer, and a checkpoint without one was left behind by a crash.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from letstune._public import public
from letstune.errors import CheckpointError, StoreError

_STAGING: Final = ".new"
_JOINT: Final = "--"

GONE: Final = (
    "so nothing can be said of its checkpoints. Mount its disk, or bring it back, under the "
    "journal's name if that was renamed; nothing recorded is lost. If it is gone for good, make an "
    "empty folder there, let `letstune check --fix` write off what was in it, and resume."
)
"""What to do when there is no such folder: an empty one is believed, a missing one is not."""


@public("letstune")
class Store(ABC):
    """Keeps folders under names that are never used again: four verbs."""

    def stage(self, name: str) -> Path:
        """Return an empty folder to be filled for `put`, the same for the same name.

        By default, it is in the system's folder for temporary files. A store on this machine does
        better with a folder from which `put` can move files rather than copy them.
        """
        # Not in temporary() itself: a worker that closes removes the folder above its own.
        return _make_staged(temporary() / _STAGING / name, _make)

    @abstractmethod
    def put(self, name: str, folder: Path) -> str:
        """Keep all files of a folder, which may be moved away, and return their URI.

        When this returns, the files are durable. If it does not return, they are not listed as a
        whole checkpoint.

        Args:
            name: letters, digits, dots and single dashes; never used before, except for the same
                files, which were lost, and then deleted.
            folder: it holds at least one file, and only regular files and folders.
        """

    @abstractmethod
    def get(self, uri: str, folder: Path) -> None:
        """Copy all files of a checkpoint into an empty folder.

        Raises:
            FileNotFoundError: there is no checkpoint of that URI, so it may be written off. If all
                of the store is away, such as a disk that is not mounted, raise anything else.
        """

    @abstractmethod
    def list(self) -> Iterator[str]:
        """Yield the URIs of all that is there, including what a crash left incomplete."""

    @abstractmethod
    def delete(self, uri: str) -> None:
        """Delete a checkpoint. It may be gone already."""

    def watch(self) -> None:
        """Make sure that the store which holds a run's checkpoints is still the same.

        Called by the owner of a run while that goes on, each second and with each checkpoint, so it
        must be cheap. By default, nothing is looked at.

        Raises:
            StoreError: it is gone. The run stops, before it records a checkpoint that is nowhere.
        """
        return


@public("letstune.training")
class DirectoryStore(Store):
    """Keeps checkpoints in a directory, usually next to the journal.

    A folder of several files is kept as a folder. A single file is kept as a file, ``name--file``:
    that takes two syncs, one for its bytes and one for its name, where a folder takes three.

    Args:
        root: the directory; made when it is first needed.
    """

    _watched: int | None = None  # its descriptor, in the process that watches it

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()  # a run may be resumed in another directory
        self._staging = self.root / _STAGING

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_watched"}

    def stage(self, name: str) -> Path:
        """Return a folder on the same disk; see `Store.stage`."""
        return _make_staged(self._staging / name, make_durably)

    def put(self, name: str, folder: Path) -> str:
        """Move the folder into place; see `Store.put`."""
        if not re.fullmatch(r"\w[\w.]*(-[\w.]+)*", name):
            raise CheckpointError(f"{name!r} is no name for a checkpoint in {self.root}.")
        if folder.parent == self._staging:
            return self._move(name, folder)
        # The folder may be on another disk; then it cannot be moved.
        copy = self.stage(name)
        try:
            shutil.copytree(folder, copy, symlinks=True, dirs_exist_ok=True)
            return self._move(name, copy)
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _move(self, name: str, folder: Path) -> str:
        with os.scandir(folder) as entries:
            first, *others = entries
        if others or first.is_dir() or len(os.fsencode(first.name)) > 150 or not _utf8(first.name):
            for directory, _, files in os.walk(folder):
                for file in files:
                    _sync(os.path.join(directory, file))  # noqa: PTH118 (hot)
                _sync(directory)
            source, uri = os.fspath(folder), name
        else:
            _sync(first.path)
            source, uri = first.path, f"{name}{_JOINT}{first.name}"
        target = os.path.join(self.root, uri)  # noqa: PTH118 (hot)
        if os.path.lexists(target):
            raise CheckpointError(f"{target} exists already; a checkpoint is never overwritten.")
        os.rename(source, target)  # noqa: PTH104 (hot)
        _sync(self.root)
        return uri

    def get(self, uri: str, folder: Path) -> None:
        """Copy the files; see `Store.get`."""
        source = self._locate(uri)
        try:
            if source.is_dir():
                shutil.copytree(source, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(source, folder / uri.partition(_JOINT)[2])
        except (FileNotFoundError, NotADirectoryError) as error:
            if not self.root.is_dir():
                raise StoreError(f"There is no folder {self.root}, {GONE}") from error
            raise FileNotFoundError(f"there is no {source}") from error

    def list(self) -> Iterator[str]:
        """Yield the names in the directory; see `Store.list`."""
        for folder, prefix in ((self.root, ""), (self.root / _STAGING, f"{_STAGING}/")):
            if folder.is_dir():
                for name in sorted(os.listdir(folder)):  # noqa: PTH208 (names are wanted)
                    if name != _STAGING:
                        yield prefix + name

    def delete(self, uri: str) -> None:
        """Delete the file or folder; see `Store.delete`."""
        target = self._locate(uri)
        try:
            target.unlink(missing_ok=True)
        except (IsADirectoryError, PermissionError):  # what unlink says of a folder
            shutil.rmtree(target)

    def watch(self) -> None:
        """Make sure that the directory is the one that it was; see `Store.watch`."""
        try:
            if self._watched is None and os.name != "nt":
                # Held open, since the number of a folder that is removed may be given to the next.
                self._watched = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                weakref.finalize(self, os.close, self._watched)
            there = os.stat(self.root)  # noqa: PTH116 (hot)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(
                f"The folder {self.root} was removed or moved while the run was going on, {GONE}"
            ) from error
        if self._watched is not None and not os.path.samestat(os.fstat(self._watched), there):
            raise StoreError(
                f"The folder {self.root} was replaced by another one while the run was going on, "
                f"{GONE}"
            )

    def _locate(self, uri: str) -> Path:
        # A journal from elsewhere must not make us read, let alone delete, beyond the store.
        name = uri.removeprefix(f"{_STAGING}/")
        if name in ("", "..", _STAGING) or name != Path(name).name:
            raise CheckpointError(f"{uri!r} is no checkpoint of {self.root}.")
        return self.root / uri


def _make_staged(folder: Path, make_above: Callable[[Path], None]) -> Path:
    """Make a worker's staging folder, even while workers that close remove the one above it."""
    while True:
        try:
            _make(folder)
            return folder
        except FileNotFoundError:
            make_above(folder.parent)


def _make(folder: Path) -> None:
    # Not exist_ok=True, with which pathlib looks again whether it is a folder: by then, another
    # worker may have removed it.
    with suppress(FileExistsError):
        folder.mkdir()


def make_durably(folder: Path) -> None:
    """Make a folder and those above it, and sync the name of each."""
    if not folder.is_dir():
        make_durably(folder.parent)
        _make(folder)
        _sync(folder.parent)


_temporary_folder: Path | None = None


def temporary() -> Path:
    """Return a folder that is removed when the program ends.

    A new one is made if something that tidies up temporary files has removed the first.
    """
    global _temporary_folder
    if _temporary_folder is None or not _temporary_folder.is_dir():
        _temporary_folder = Path(tempfile.mkdtemp(prefix="letstune-"))
        atexit.register(shutil.rmtree, _temporary_folder, ignore_errors=True)
    return _temporary_folder


def _sync(path: str | os.PathLike[str]) -> None:
    if os.name == "nt" and os.path.isdir(path):  # noqa: PTH112 (hot)
        return  # Windows cannot sync a directory, and keeps its names durable by itself
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _utf8(name: str) -> bool:
    """Tell whether a file's name is text, and so can be part of a URI."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
