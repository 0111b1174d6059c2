"""Checkpoints: folders that a trainer fills, kept in a store and verified when they come back."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from letstune._public import public
from letstune._visible import visible
from letstune.errors import CheckpointError, StoreError
from letstune.rounds.events import Stored
from letstune.training.places import files
from letstune.training.stores import Store, temporary
from letstune.training.unpickler import load

PICKLE: Final = "model.pickle"


REMEDY: Final = (
    "Bring it back from a backup; or let `letstune check --fix` write it off, and `letstune "
    "resume` train again what it still needs. `letstune retrain` trains any trial again."
)


@public("letstune")
class Checkpoint:
    """A folder to fill with a model, or to get it back from.

    Args:
        folder: called when the folder is needed for the first time; returns it, or raises an error
            that says why there is none.
        what: which one it is, for its repr.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(lambda: Path(folder))
    ...     checkpoint.save_pickle({"weights": [1, 2]})
    ...     checkpoint.load_pickle()
    {'weights': [1, 2]}
    """

    def __init__(self, folder: Callable[[], Path], what: str = "in the making") -> None:
        self._folder = folder
        self._what = what
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        """The folder, for a framework's own format.

        In `save`, it is an empty folder to fill. In `load` and in results, it is a verified copy of
        what was saved, which lives until `load` returns or, in results, until the program ends.

        Raises:
            CheckpointNotKeptError: the checkpoint was let go.
            CheckpointError: it is missing, or not what was saved.
            TrustError: the run is neither the user's own nor trusted; see `letstune.load`.
        """
        if self._path is None:
            self._path = self._folder()
        return self._path

    def __repr__(self) -> str:
        return f"<Checkpoint {visible(self._what, keep='')}>"

    def save_pickle(self, model: Any) -> None:
        """Save a model with cloudpickle, so that classes of a script or notebook are included."""
        from letstune.training.pickler import Pickler

        with (self.path / PICKLE).open("wb") as file:
            Pickler(file).dump(model)

    def load_pickle(self) -> Any:
        """Return the model that `save_pickle` saved. Unpickling runs code.

        Raises:
            CheckpointNotKeptError: the checkpoint was let go.
            CheckpointError: it is missing, or not what was saved, or has no pickle.
            TrustError: see `path`.
        """
        path = self.path / PICKLE
        if not path.exists():
            names = sorted(entry.name for entry in self.path.iterdir())
            raise CheckpointError(
                f"The checkpoint holds {names}, but no {PICKLE}, which save_pickle writes. "
                "Read it from checkpoint.path, in the format in which it was saved."
            )
        with path.open("rb") as file:
            return load(file)


def digest(folder: Path) -> tuple[int, str]:
    """Return the size in bytes and the SHA-256 of a folder's files.

    The digest is that of a listing with a line per file, sorted by path, as ``sha256sum`` prints
    it; in the folder,
    ``find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d'\\n' sha256sum -- | sha256sum``.

    Raises:
        CheckpointError: the folder holds something other than regular files and folders.
    """
    import hashlib

    size, lines = 0, []
    for path, file in files(folder):
        hashed = hashlib.file_digest(file, "sha256")
        size += file.tell()
        lines.append((os.fsencode(path), hashed.hexdigest()))
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
        self._token = token
        self._staging: Path | None = None

    def save(self, name: str, fill: Callable[[Checkpoint], None]) -> Stored | None:
        """Have ``fill`` fill a checkpoint, and return where it is kept; None if it is left empty.

        Whatever ``fill`` raises is raised, and leaves nothing behind.

        Raises:
            CheckpointError: the store cannot take it.
        """
        if self._staging is None:
            # Made before fill() asks for it: if it cannot be made, the trial is not to blame.
            with self._blamed_on_the_store(name):
                self._stage()
        blamed: list[CheckpointError] = []

        def folder() -> Path:
            try:
                with self._blamed_on_the_store(name):
                    # Perhaps not the same as before, if that was removed as a temporary file.
                    return self._stage()
            except CheckpointError as error:
                blamed.append(error)
                raise

        checkpoint = Checkpoint(folder)
        try:
            try:
                fill(checkpoint)
            except Exception:
                if blamed:  # whatever the trainer made of it
                    raise blamed[0] from None
                raise
            if checkpoint._path is None or not any(checkpoint._path.iterdir()):
                return None
            size, sha256 = digest(checkpoint._path)
            with self._blamed_on_the_store(name):
                return Stored(self._store.put(name, checkpoint._path), size, sha256)
        finally:
            if checkpoint._path is not None and not _is_empty(checkpoint._path):
                shutil.rmtree(checkpoint._path, ignore_errors=True)

    def _stage(self) -> Path:
        """Return the staging folder, empty.

        A disk that failed for a moment may have left something in it, which would be taken for a
        part of the next checkpoint.
        """
        folder = self._staging = self._store.stage(self._token)
        if not _is_empty(folder):
            shutil.rmtree(folder)
            folder = self._staging = self._store.stage(self._token)
        return folder

    @contextmanager
    def fetched(self, stored: Stored, what: str) -> Iterator[Path]:
        """Lend a folder with a checkpoint, verified; ``what`` names it in an error.

        It is the staging folder. If it were among the system's temporary files, nobody would remove
        it after this process was killed.

        Raises:
            CheckpointError: see `fetch`; or there is no room for it.
            StoreError: see `fetch`.
        """
        with self._blamed_on_the_store(stored.uri):
            folder = self._stage()
        try:
            yield fetch(self._store, stored, folder, what)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def passed_on(self, fill: Callable[[Checkpoint], None]) -> Iterator[Path | None]:
        """Have ``fill`` fill a checkpoint, and lend its folder; None if it is left empty.

        Raises:
            CheckpointError: there is no room for it.
        """
        with self._blamed_on_the_store("that is passed on"):
            folder = self._stage()
        try:
            fill(Checkpoint(lambda: folder))
            yield folder if any(folder.iterdir()) else None
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _blamed_on_the_store(self, name: str) -> Iterator[None]:
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"Checkpoint {name} cannot be stored in {_where(self._store)}: {error}. Mend that "
                "and resume; all that was recorded is safe."
            ) from error

    def sweep(self) -> None:
        """Remove what another process with this token left half saved when it was killed."""
        self._staging = self._store.stage(self._token)
        self.close()

    def close(self) -> None:
        """Remove the staging folder."""
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
            with suppress(OSError):  # of other workers, or gone
                self._staging.parent.rmdir()


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except FileNotFoundError:  # it was moved
        return True


def fetch(store: Store, stored: Stored, folder: Path, what: str) -> Path:
    """Copy a checkpoint into an empty folder, verify it, and return the folder.

    Args:
        store: where it is kept.
        stored: what was recorded about it.
        folder: an empty one.
        what: names the checkpoint in an error.

    Raises:
        CheckpointError: it is missing, or not what was saved.
        StoreError: the store cannot be read, so nothing is known about the checkpoint.
    """
    try:
        size = store.size(stored.uri)  # before a byte is copied, of which there may be too many
        if size in (None, stored.size):
            store.get(stored.uri, folder)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{what} is missing: there is no {stored.uri!r} in {_where(store)}. {REMEDY}"
        ) from error
    except CheckpointError:
        raise
    except Exception as error:
        raise StoreError(
            f"{what}, {stored.uri!r}, cannot be read from {_where(store)}: {error}. Mend that and "
            "try again; nothing recorded is lost."
        ) from error
    found = f"{size} bytes, expected {stored.size}"
    if size in (None, stored.size):
        size, sha256 = digest(folder)
        if (size, sha256) == (stored.size, stored.sha256):
            return folder
        found = (
            f"{size} bytes with SHA-256 {sha256[:12]}..., expected {stored.size} with "
            f"{stored.sha256[:12]}..."
        )
    raise CheckpointError(
        f"{what}, {stored.uri!r} in {_where(store)}, is not what was saved: {found}. {REMEDY}"
    )


def fetched(store: Store, stored: Stored, what: str) -> Path:
    """Return a folder with a verified checkpoint, which lives until the program ends."""
    return fetch(store, stored, Path(tempfile.mkdtemp(dir=temporary())), what)


def _where(store: Store) -> str:
    return str(getattr(store, "root", type(store).__name__))
