"""Checkpoints: folders that a trainer fills, and the stores that keep them.

A checkpoint is written beside, synced, moved into place, and its folder synced, before the
journal may point to it. Names are new each time and nothing is ever overwritten, so the journal's
row is the only pointer, and what has none is what a crash left behind.
"""

from __future__ import annotations

import atexit
import os
import pickle
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from letstune.errors import CheckpointError
from letstune.records import Stored

PICKLE: Final = "model.pickle"
_STAGING: Final = ".new"
_JOINT: Final = "--"


class Checkpoint:
    """A folder to fill with a model, or to get it back from.

    Args:
        folder: called when the folder is needed for the first time; returns it, or raises
            why there is none.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(lambda: Path(folder))
    ...     checkpoint.save_pickle({"weights": [1, 2]})
    ...     checkpoint.load_pickle()
    {'weights': [1, 2]}
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """The folder, for a framework's own format.

        In `save`, an empty folder to fill. In `load` and in results, a copy of what was saved,
        verified, that lives until `load` returns, or, in results, until the program ends.

        Raises:
            CheckpointNotKeptError: the checkpoint was let go.
            CheckpointError: it is missing, or not what was saved.
        """
        if self._path is None:
            self._path = self._folder()
        return self._path

    def save_pickle(self, model: Any) -> None:
        """Save a model with cloudpickle, so that classes of a script or notebook are included."""
        import cloudpickle

        with (self.path / PICKLE).open("wb") as file:
            cloudpickle.dump(model, file)

    def load_pickle(self) -> Any:
        """Return the model that `save_pickle` saved. Unpickling runs code: trust the journal.

        Raises:
            CheckpointNotKeptError: the checkpoint was let go.
            CheckpointError: it is missing, or not what was saved, or has no pickle.
        """
        path = self.path / PICKLE
        if not path.exists():
            names = sorted(entry.name for entry in self.path.iterdir())
            raise CheckpointError(
                f"The checkpoint holds {names}, but no {PICKLE}, which save_pickle writes. "
                "Read it from checkpoint.path, in the format in which it was saved."
            )
        with path.open("rb") as file:
            return pickle.load(file)


class Store(ABC):
    """Keeps folders under names that are never used again: four verbs.

    Attributes:
        staging: a folder from which `put` can move rather than copy; None if there is none.
    """

    staging: Path | None = None

    @abstractmethod
    def put(self, name: str, folder: Path) -> str:
        """Keep all files of a folder, which may be moved away, and return their URI.

        When this returns, they are durable; when it does not, nothing of them is listed as whole.

        Args:
            name: letters, digits, dots and single dashes; never used before.
            folder: holds one file at least; regular files and folders only.
        """

    @abstractmethod
    def get(self, uri: str, folder: Path) -> None:
        """Copy all files of a checkpoint into an empty folder.

        Raises:
            FileNotFoundError: there is none of that URI.
        """

    @abstractmethod
    def list(self) -> Iterator[str]:
        """Yield the URIs of all that is there, what a crash left incomplete included."""

    @abstractmethod
    def delete(self, uri: str) -> None:
        """Delete a checkpoint. It may be gone already."""


class DirectoryStore(Store):
    """Keeps checkpoints in a directory, usually next to the journal.

    A folder of several files is kept as a folder. A single file is kept as a file, ``name--file``:
    that takes two syncs, one for its bytes and one for its name, where a folder takes three.

    Args:
        root: the directory; made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staging = root / _STAGING

    def put(self, name: str, folder: Path) -> str:
        """Move the folder into place; see `Store.put`."""
        if not re.fullmatch(r"\w[\w.]*(-[\w.]+)*", name):
            raise CheckpointError(f"{name!r} is no name for a checkpoint in {self.root}.")
        self._make_root()
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
        if source.is_dir():
            shutil.copytree(source, folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
        elif not source.is_file():
            raise FileNotFoundError(f"there is no {source}")
        else:
            shutil.copyfile(source, folder / uri.split(_JOINT, 1)[1])

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

    def _locate(self, uri: str) -> Path:
        # A journal from elsewhere must not make us read, let alone delete, beyond the store.
        if uri in ("", ".", "..", _STAGING) or "/" in uri.removeprefix(f"{_STAGING}/"):
            raise CheckpointError(f"{uri!r} is no checkpoint of {self.root}.")
        return self.root / uri

    def _make_root(self) -> None:
        if not self.root.is_dir():
            self.root.mkdir(parents=True)
            _sync(self.root.parent)


def _sync(path: str | os.PathLike[str]) -> None:
    if os.name == "nt" and os.path.isdir(path):  # noqa: PTH112 (hot)
        return  # Windows cannot sync a directory, and keeps its names durable by itself
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest(folder: Path) -> tuple[int, str]:
    """Return the size in bytes and the SHA-256 of a folder's files.

    The digest is that of a listing with a line a file, sorted by path, as ``sha256sum`` prints
    it; in the folder,
    ``find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d'\\n' sha256sum -- | sha256sum``.

    Raises:
        CheckpointError: there is something else than regular files and folders.
    """
    import hashlib

    size, lines = 0, []
    for directory, folders, files in os.walk(folder):
        for name in files + [name for name in folders if Path(directory, name).is_symlink()]:
            path = os.path.join(directory, name)  # noqa: PTH118 (hot)
            if os.path.islink(path) or not os.path.isfile(path):  # noqa: PTH113, PTH114 (hot)
                raise CheckpointError(
                    f"A checkpoint may hold regular files and folders only, but {path} is neither."
                )
            with open(path, "rb") as file:  # noqa: PTH123 (hot)
                hashed = hashlib.file_digest(file, "sha256")
                size += file.tell()
            relative = os.path.relpath(path, folder).replace(os.sep, "/")
            lines.append((os.fsencode(relative), hashed.hexdigest()))
    listing = b"".join(f"{hashed}  ".encode() + name + b"\n" for name, hashed in sorted(lines))
    return size, hashlib.sha256(listing).hexdigest()


class Keeper:
    """Puts a worker's checkpoints into a store, and gets them back, verified.

    Args:
        store: where they are kept.
        token: names this worker's staging folder; used by nobody else.
    """

    def __init__(self, store: Store, token: str) -> None:
        self._store = store
        self._staging = (store.staging or _temporary()) / token

    def save(self, name: str, fill: Callable[[Checkpoint], None]) -> Stored | None:
        """Let ``fill`` fill a checkpoint and return where it is kept; None if it left it empty.

        Whatever ``fill`` raises is raised, and leaves nothing behind.
        """
        staging = self._staging
        checkpoint = Checkpoint(self._folder)
        try:
            fill(checkpoint)
            if checkpoint._path is None or not any(staging.iterdir()):
                return None
            size, sha256 = digest(staging)
            uri = self._put(name)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        if self._store.staging is None:
            shutil.rmtree(staging, ignore_errors=True)
        return Stored(uri, size, sha256)

    def _put(self, name: str) -> str:
        try:
            return self._store.put(name, self._staging)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"Checkpoint {name} cannot be stored in {_where(self._store)}: {error}. Mend that "
                "and resume; all that was recorded is safe."
            ) from error

    def close(self) -> None:
        """Remove the staging folder."""
        shutil.rmtree(self._staging, ignore_errors=True)
        with suppress(OSError):  # of other workers, or gone
            self._staging.parent.rmdir()

    def _folder(self) -> Path:
        self._staging.mkdir(parents=True, exist_ok=True)
        return self._staging


def fetch(store: Store, stored: Stored, folder: Path, what: str) -> Path:
    """Copy a checkpoint into an empty folder, verify it, and return the folder.

    Args:
        store: where it is kept.
        stored: what was recorded of it.
        folder: an empty one.
        what: names the checkpoint in an error.

    Raises:
        CheckpointError: it is missing, or not what was saved.
    """
    remedy = (
        "Bring it back from a backup; or let `letstune check --fix` write it off, and `letstune "
        "resume` train the epochs again that nothing else can bring back."
    )
    try:
        store.get(stored.uri, folder)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{what} is missing: there is no {stored.uri!r} in {_where(store)}. {remedy}"
        ) from error
    size, sha256 = digest(folder)
    if (size, sha256) != (stored.size, stored.sha256):
        raise CheckpointError(
            f"{what}, {stored.uri!r} in {_where(store)}, is not what was saved: {size} bytes "
            f"with SHA-256 {sha256[:12]}..., expected {stored.size} with {stored.sha256[:12]}... "
            f"{remedy}"
        )
    return folder


def fetched(store: Store, stored: Stored, what: str) -> Checkpoint:
    """Return a checkpoint that is fetched when it is needed, and lives until the program ends."""
    return Checkpoint(lambda: fetch(store, stored, Path(tempfile.mkdtemp(dir=_temporary())), what))


_temporary_folder: Path | None = None


def _temporary() -> Path:
    """Return a folder that is removed when the program ends."""
    global _temporary_folder
    if _temporary_folder is None:
        _temporary_folder = Path(tempfile.mkdtemp(prefix="letstune-"))
        atexit.register(shutil.rmtree, _temporary_folder, ignore_errors=True)
    return _temporary_folder


def _utf8(name: str) -> bool:
    """Tell whether a file's name is text, and so can be part of a URI."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _where(store: Store) -> str:
    return str(getattr(store, "root", type(store).__name__))
