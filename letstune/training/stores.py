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
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from letstune._private import Rule, make_folder, rule, seal
from letstune._public import public
from letstune.errors import CheckpointError, StoreError
from letstune.training import places
from letstune.training.places import MARKER, Mark, is_own_folder, own_folder

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
        while True:
            folder = temporary() / _STAGING / name
            with suppress(FileNotFoundError):
                _make(folder.parent, 0o700)
                _make(folder)
                return folder

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

    def size(self, uri: str) -> int | None:
        """Return how many bytes all files of a checkpoint have, without reading them.

        What has another size than is recorded is not read at all. By default, None: that is not
        known before `get`.

        Raises:
            FileNotFoundError: see `get`.
        """
        return None

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


FRESH: Final = 1.0
"""How long what was found out about a directory is good for, in seconds.

Whoever may change it may do so right after it was looked at, however often that is done."""


@public("letstune.training")
class DirectoryStore(Store):
    """Keeps checkpoints in a directory, usually next to the journal.

    A folder of several files is kept as a folder. A single file is kept as a file, ``name--file``:
    that takes two syncs, one for its bytes and one for its name, where a folder takes three.

    Args:
        root: the directory; made when it is first needed. It must be the user's own, and no one
            else may write it.
        mark: which run it belongs to: it gets a marker, and nothing is kept or deleted in a
            directory without it. By default, it belongs to no run.
    """

    _mark: Mark | None = None  # of an object that was pickled before there were any
    _watched: int | None = None  # its descriptor, in the process that watches it
    _claimed = -FRESH  # when it was last looked at, on the monotonic clock
    _rule: Rule | None = None  # for what is made in it, as it was then

    def __init__(self, root: Path, *, mark: Mark | None = None) -> None:
        self.root = root.absolute()  # a run may be resumed in another directory
        self._staging = self.root / _STAGING
        if mark is not None:
            self._mark = mark

    def __getstate__(self) -> dict[str, Any]:
        here = ("_claimed", "_rule", "_watched")
        return {name: value for name, value in vars(self).items() if name not in here}

    def stage(self, name: str) -> Path:
        """Return a folder on the same disk; see `Store.stage`."""
        folder = self._staging / name
        while True:
            self._make()
            # A worker that closes removes the folder above its own.
            with suppress(FileNotFoundError):
                if not is_own_folder(folder) and not _make(folder):
                    own_folder(folder)  # tells why it is not
                return folder
            self._claimed = -FRESH

    def _make(self) -> None:
        """Make the directory, and the folder that is staged in, unless they are there."""
        if self._is_fresh():
            return
        while not self.claim():
            if self.root.is_symlink():
                raise StoreError(f"There is no folder {self.root.resolve()}, {GONE}")
            make_durably(self.root.parent)
            _make(self.root)
            _sync(self.root.parent)
        try:
            own_folder(self._staging)
        except FileNotFoundError:
            _make(self._staging, 0o700)  # whatever is in it is being made
            _sync(self.root)
        self._claimed, self._rule = time.monotonic(), rule(self.root)

    def _is_fresh(self) -> bool:
        return time.monotonic() < self._claimed + FRESH

    def claim(self) -> bool:
        """Tell whether the directory is there; if it is, it must be the run's own, and is marked.

        Raises:
            StoreError: it is not.
        """
        if self._is_fresh():
            return True
        try:
            own_folder(self.root, linked=True)  # to a larger disk: the marker in it decides
        except FileNotFoundError:
            return False
        if self._mark is not None:
            self._mark.require(self.root)
        return True

    def put(self, name: str, folder: Path) -> str:
        """Move the folder into place; see `Store.put`."""
        if not re.fullmatch(r"\w[\w.]*(-[\w.]+)*", name):
            raise CheckpointError(f"{name!r} is no name for a checkpoint in {self.root}.")
        if folder.parent == self._staging:
            self.claim()
            return self._move(name, folder)
        # The folder may be on another disk; then it cannot be moved.
        copy = self.stage(name)
        try:
            places.copy(folder, copy)
            return self._move(name, copy)
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _move(self, name: str, folder: Path) -> str:
        if not self._is_fresh() or self._rule is None:
            self._rule = rule(self.root)
        allowed = self._rule  # of what the trainer has written, by its umask
        with os.scandir(folder) as entries:
            first, *others = entries
        if others or first.is_dir() or len(os.fsencode(first.name)) > 150 or not _utf8(first.name):
            for directory, _, files in os.walk(folder):
                for file in files:
                    _sync(os.path.join(directory, file), allowed)  # noqa: PTH118 (hot)
                _sync(directory, allowed)
            source, uri = os.fspath(folder), name
        else:
            _sync(first.path, allowed)
            source, uri = first.path, f"{name}{_JOINT}{first.name}"
        target = os.path.join(self.root, uri)  # noqa: PTH118 (hot)
        if os.path.lexists(target):
            raise CheckpointError(f"{target} exists already; a checkpoint is never overwritten.")
        os.rename(source, target)  # noqa: PTH104 (hot)
        _sync(self.root)
        return uri

    def get(self, uri: str, folder: Path) -> None:
        """Copy the files; see `Store.get`."""
        source, file = self._locate(uri), uri.partition(_JOINT)[2]
        with self._told(source):
            places.copy(source, folder if source.is_dir() else folder / file)

    def size(self, uri: str) -> int:
        """Return how many bytes the files have; see `Store.size`."""
        source = self._locate(uri)
        with self._told(source):
            return places.size(source)

    @contextmanager
    def _told(self, source: Path) -> Iterator[None]:
        """Tell a checkpoint that is not there from a directory that is not there."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            if not self.root.is_dir():
                raise StoreError(f"There is no folder {self.root}, {GONE}") from error
            raise FileNotFoundError(f"there is no {source}") from error

    def list(self) -> Iterator[str]:
        """Yield the names in the directory; see `Store.list`."""
        for folder, prefix in ((self.root, ""), (self._staging, f"{_STAGING}/")):
            if prefix:
                self._refuse_link()
            if folder.is_dir():
                for name in sorted(os.listdir(folder)):  # noqa: PTH208 (names are wanted)
                    if name != _STAGING and not name.startswith(MARKER):
                        yield prefix + name

    def delete(self, uri: str) -> None:
        """Delete the file or folder; see `Store.delete`."""
        target = self._locate(uri)
        if self.claim():
            places.remove(target)

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
        if (
            name in ("", "..", _STAGING)
            or name != Path(name).name
            or name.startswith(MARKER)
            or name.partition(_JOINT)[2] in (".", "..")
        ):
            raise CheckpointError(f"{uri!r} is no checkpoint of {self.root}.")
        if name != uri:
            self._refuse_link()
        return self.root / uri

    def _refuse_link(self) -> None:
        if self._staging.is_symlink():
            raise StoreError(
                f"{self._staging} is a link, which is not followed. Remove it; nothing recorded is "
                "lost."
            )


def _make(folder: Path, mode: int = 0o777) -> bool:
    """Make a folder, unless it is there; tell whether it was made."""
    # Not exist_ok=True, with which pathlib looks again whether it is a folder: by then, another
    # worker may have removed it. Others may not write it, whatever the umask is.
    try:
        make_folder(folder, mode)
    except FileExistsError:
        return False
    return True


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
    # In a folder for all, another user may have made one of that name since.
    if _temporary_folder is None or not is_own_folder(_temporary_folder):
        _temporary_folder = Path(tempfile.mkdtemp(prefix="letstune-"))
        atexit.register(shutil.rmtree, _temporary_folder, ignore_errors=True)
    return _temporary_folder


def _sync(path: str | os.PathLike[str], allowed: Rule | None = None) -> None:
    """Make a file or folder durable, with the mode that it may have."""
    if os.name == "nt" and os.path.isdir(path):  # noqa: PTH112 (hot)
        return  # Windows cannot sync a directory, and keeps its names durable by itself
    handle = os.open(path, os.O_RDONLY)
    try:
        if allowed is not None:
            seal(handle, allowed)
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
