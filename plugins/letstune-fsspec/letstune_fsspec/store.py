"""The store: letstune's four verbs over what fsspec can reach."""

from __future__ import annotations

import hashlib
import os
import random
import re
import secrets
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from letstune import Store
from letstune.errors import CheckpointError, LetstuneError, PlanError, StoreError
from letstune.plugins import check_harmless, redacted, say
from letstune.training import REMEDY

from letstune_fsspec.cache import Cache
from letstune_fsspec.manifest import File, Manifest, Part, Piece, survey
from letstune_fsspec.options import (
    CONTAINERS,
    HARMLESS,
    HARMLESS_WITH_CONTAINERS,
    check_options,
    check_uri,
    filesystem_class,
    scheme_of,
    where_secrets_go,
    with_defaults,
)
from letstune_fsspec.place import MANIFEST, Place

_NAME: Final = r"\w[\w.]*(-[\w.]+)*"
_URI: Final = re.compile(rf"{_NAME}--[0-9a-f]{{16}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manner:
    """How to transfer: nothing that matters to what is kept, and where."""

    cache: str | None
    cache_size: int
    parallel: int
    patience: float
    read_back: bool


class FsspecStore(Store):
    """Keeps checkpoints below a URI of any scheme that fsspec knows.

    A checkpoint is a prefix, ``NAME--TOKEN``, with objects for its larger files and a manifest,
    which is uploaded last and makes it whole. The URIs that it returns are these names, not full
    URLs: so a bucket can be moved, copied or reached by another name, and a journal from elsewhere
    cannot make it touch anything that is not below its own URI.

    Nothing is sent before the first call; `check` finds out early whether all will be well.

    Args:
        uri: where to keep them, such as ``s3://bucket/prefix``. Give each run a prefix of its own:
            sweeping one run must not touch another.
        cache: a directory on this machine that keeps what was uploaded or downloaded, so that
            loading it again asks only for the manifest. By default there is none.
        cache_size: how many bytes the cache may take, for all processes that share it.
        parallel: how many objects may be on their way at once; each takes up to 16 MiB of memory.
        patience: for how many seconds to try again when a server fails, from the first failure of a
            transfer on.
        read_back: whether to read all objects back after uploading them, and not only the
            manifest and their sizes.
        storage_options: what fsspec's filesystem takes, such as ``endpoint_url``. No credentials:
            they would be recorded in the journal.

    Raises:
        PlanError: the URI or an option is not what it must be, or may hold a secret.
        MissingPackageError: the package for the scheme is not installed.

    >>> FsspecStore("memory://runs/1").root
    'memory://runs/1'
    """

    def __init__(
        self,
        uri: str,
        *,
        cache: str | os.PathLike[str] | None = None,
        cache_size: int = 10_000_000_000,
        parallel: int = 8,
        patience: float = 120,
        read_back: bool = False,
        **storage_options: Any,
    ) -> None:
        self._check_harmless(uri, storage_options)
        # The plan records plain fields of an object, and a run may not change them. So all that
        # may differ from one resume to the next is in values of their own.
        self.root = check_uri(uri)
        self._options = check_options(self.root, storage_options)
        self._manner = _Manner(
            # Absolute, since a run may be resumed in another directory.
            cache=None if cache is None else str(Path(cache).expanduser().absolute()),
            cache_size=_whole(0, "cache_size", cache_size),
            parallel=_whole(1, "parallel", parallel),
            patience=_seconds("patience", patience),
            read_back=bool(read_back),
        )
        self._begin()

    def _check_harmless(self, uri: object, options: Mapping[str, Any]) -> None:
        """Refuse what may hold a secret: an object is pickled into the journal."""
        at_containers = isinstance(uri, str) and scheme_of(uri) in CONTAINERS
        factory = StoreWithContainers if at_containers else StoreByName
        what = f"store={redacted(uri)!r}" if isinstance(uri, str) else "store"
        check_harmless(what, uri, options, factory)

    def _begin(self) -> None:
        # By process: a connection of the parent is of no use to its fork.
        self._filesystems: dict[int, tuple[Any, str]] = {}
        self._lock = threading.Lock()
        self._told = threading.Event()
        self._looked_at: dict[str, Manifest] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings: connections are of one process."""
        return {"root": self.root, "options": self._options, "manner": self._manner}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over the settings."""
        self.root, self._options, self._manner = state["root"], state["options"], state["manner"]
        self._begin()

    def check(self) -> None:
        """Put, get, list and delete a small checkpoint, to know before a run that the store works.

        Raises:
            StoreError: it does not; the message says why, and what to do.
        """
        with tempfile.TemporaryDirectory(prefix="letstune-") as temporary:
            source, target = Path(temporary, "source"), Path(temporary, "target")
            source.mkdir()
            target.mkdir()
            (source / "probe").write_text("letstune was here")
            uri = self.put("check", source)
            try:
                self.get(uri, target)
                if uri not in self.list():
                    raise StoreError(f"{self.root} does not list what was just put there, {uri}.")
            finally:
                self.delete(uri)

    def put(self, name: str, folder: Path) -> str:
        """Upload the files; see `Store.put`. They stay in the folder, too."""
        if not re.fullmatch(_NAME, name):
            raise CheckpointError(f"{name!r} is no name for a checkpoint in {self.root}.")
        # New, though names are never used again: of nothing that may be there is anything known.
        uri = f"{name}--{secrets.token_hex(8)}"
        manifest, pieces = survey(folder)
        with self._at_work() as place:
            place.begin(uri)
            flat = [piece for some in pieces.values() for piece in some]
            sent = dict(
                zip(flat, place.map(lambda p: self._send(place, uri, p), flat), strict=True)
            )
            large = [File(path=p, parts=tuple(sent[x] for x in xs)) for p, xs in pieces.items()]
            if sent:
                place.verify(uri, {part.object: part.size for part in sent.values()})
            if self._manner.read_back:
                place.map(lambda part: self._received(place, uri, part), list(sent.values()))
            manifest = replace(manifest, files=(*manifest.files, *large))
            place.write_verified(f"{uri}/{MANIFEST}", manifest.to_bytes())
            place.end(uri)
        return uri

    def _send(self, place: Place, uri: str, piece: Piece) -> Part:
        data = piece.read()
        part = Part(object=piece.object, size=piece.size, sha256=hashlib.sha256(data).hexdigest())
        place.write(f"{uri}/{part.object}", data)
        self._keep(part, data)
        return part

    def get(self, uri: str, folder: Path) -> None:
        """Download the files, or take them from the cache; see `Store.get`.

        Raises:
            FileNotFoundError: there is no such checkpoint, or it was never whole.
            CheckpointError: it is damaged.
            StoreError: nothing can be said about it, since the store cannot be reached.
        """
        self._locate(uri)
        with self._at_work() as place:
            manifest = self._looked_at.pop(uri, None) or self._manifest(place, uri)
            for name in manifest.folders:
                (folder / name).mkdir(parents=True, exist_ok=True)
            jobs = []
            for file in manifest.files:
                target = folder / file.path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.data)
                offset = 0
                for part in file.parts:
                    jobs.append((target, offset, part))
                    offset += part.size

            def fetch(job: tuple[Path, int, Part]) -> None:
                target, offset, part = job
                data = self._cached(part) or self._received(place, uri, part)
                with target.open("r+b") as file:
                    file.seek(offset)
                    file.write(data)

            place.map(fetch, jobs)

    def size(self, uri: str) -> int:
        """Return how many bytes the files have, by the manifest; see `Store.size`."""
        self._locate(uri)
        with self._at_work() as place:
            manifest = self._manifest(place, uri)
        self._looked_at = {uri: manifest}  # for `get`, which is to come: a request less
        return manifest.size

    def _manifest(self, place: Place, uri: str) -> Manifest:
        try:
            data = place.read(f"{uri}/{MANIFEST}")
        except FileNotFoundError as error:
            place.must_be_there()
            raise _NotThereError(f"there is no whole checkpoint {uri} in {self.root}") from error
        try:
            return Manifest.from_bytes(data)
        except FileNotFoundError as error:
            raise _NotThereError(f"{uri} in {self.root} is not whole: {error}") from error
        except CheckpointError as error:
            raise self._damaged(uri, str(error)) from error

    def _received(self, place: Place, uri: str, part: Part) -> bytes:
        """Return the bytes of an object, verified."""
        for _ in range(2):  # what was damaged on its way is well the second time
            try:
                data = place.read(f"{uri}/{part.object}", part.size)
            except FileNotFoundError as error:
                place.must_be_there()
                raise self._damaged(uri, f"its object {part.object} is gone") from error
            if hashlib.sha256(data).hexdigest() == part.sha256:
                self._keep(part, data)
                return data
        raise self._damaged(
            uri,
            f"its object {part.object} has {len(data)} bytes that are not the {part.size} that "
            "were saved",
        )

    def _damaged(self, uri: str, why: str) -> CheckpointError:
        return CheckpointError(f"Checkpoint {uri} in {self.root} is damaged: {why}. {REMEDY}")

    def list(self) -> Iterator[str]:
        """Yield the names below the URI that are checkpoints, whole or not; see `Store.list`.

        Whatever else somebody keeps there is left alone.
        """
        with self._at_work() as place:
            return iter([name for name in place.names() if _URI.fullmatch(name)])

    def delete(self, uri: str) -> None:
        """Delete all objects of a checkpoint; see `Store.delete`."""
        self._locate(uri)
        with self._at_work() as place:
            try:
                place.remove(uri)
            except FileNotFoundError:
                place.must_be_there()

    def _locate(self, uri: str) -> None:
        # A journal from elsewhere must not make us read, let alone delete, beyond the store.
        if not _URI.fullmatch(uri):
            raise CheckpointError(f"{uri!r} is no checkpoint of {self.root}.")

    @contextmanager
    def _at_work(self) -> Iterator[Place]:
        """Connect, unless that was done, and turn what goes wrong into `StoreError`."""
        # A library that draws from the global generator, as botocore does before it tries again,
        # must not change what the trainer draws after loading its checkpoint.
        state = random.getstate()
        place = None
        try:
            filesystem, root = self._filesystem()
            place = Place(
                filesystem,
                root,
                uri=self.root,
                threads=self._manner.parallel,
                patience=self._manner.patience,
            )
            yield place
        except (LetstuneError, _NotThereError):
            raise
        except Exception as error:
            if place is None:
                raise StoreError(
                    f"{self.root} cannot be opened ({type(error).__name__}: "
                    f"{redacted(str(error))}). Check its "
                    f"options, {sorted(self._options)}, with fsspec's documentation; then resume."
                ) from error
            raise place.explained(error) from error
        finally:
            random.setstate(state)

    def _filesystem(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        with self._lock:
            if os.getpid() not in self._filesystems:
                filesystem_class(self.root)
                options = with_defaults(self.root, self._options)
                # Our own: fsspec would share it with the trainer's, and this one is changed.
                found, path = url_to_fs(self.root, skip_instance_cache=True, **options)
                if scheme_of(self.root) in ("s3", "s3a"):
                    found.retries = 1  # ours are enough; see with_defaults
                self._filesystems[os.getpid()] = found, str(path)
            return self._filesystems[os.getpid()]

    def _cached(self, part: Part) -> bytes | None:
        manner = self._manner
        if manner.cache is None:
            return None
        return Cache(Path(manner.cache), manner.cache_size).get(part.sha256)

    def _keep(self, part: Part, data: bytes) -> None:
        manner = self._manner
        if manner.cache is None:
            return
        try:
            Cache(Path(manner.cache), manner.cache_size).add(part.sha256, data)
        except OSError as error:
            # What is in the cache can be had again, so a full disk there must not end a run, as a
            # warning might.
            with self._lock:
                if self._told.is_set():
                    return
                self._told.set()
            say(f"The cache {manner.cache} cannot be written to: {error}. All goes on without it.")


class StoreByName(FsspecStore):
    """The store of a plan. letstune has checked its options when they were given.

    So a journal resumes whose options were recorded when the list of harmless ones was another.
    """

    harmless_options = HARMLESS
    where_secrets_go = staticmethod(where_secrets_go)

    def _check_harmless(self, uri: object, options: Mapping[str, Any]) -> None:
        pass


class StoreWithContainers(StoreByName):
    """The same, at schemes in whose URIs the container is before an @."""

    harmless_options = HARMLESS_WITH_CONTAINERS


class _NotThereError(FileNotFoundError):
    """There is no such checkpoint, which is known: the store was asked, and has answered."""


def _whole(least: int, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PlanError(f"{name}={value!r}: expected a whole number, {least} or more.")
    return value


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise PlanError(f"{name}={value!r}: expected a number of seconds, 0 or more.")
    return float(value)
