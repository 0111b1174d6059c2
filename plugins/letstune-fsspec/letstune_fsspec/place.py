"""A place: one fsspec filesystem below one URI, with retries, in parallel, and its errors told."""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from letstune.errors import CheckpointError, StoreError
from letstune.plugins import redacted
from letstune.training import GONE, tighten

from letstune_fsspec.options import BUCKETS, FOLDERS, scheme_of, where_secrets_go

T = TypeVar("T")
R = TypeVar("R")

_SHORTEST: Final = 0.1
_LONGEST: Final = 10.0
"""Seconds between two attempts, at first and at last, before a random part is taken off."""

_PERMANENT: Final = (
    *(PermissionError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError),
    *(NotImplementedError, ImportError, TypeError, ValueError, AttributeError, LookupError),
)
_PERMANENT_ERRNO: Final = frozenset(
    [errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, errno.ENOSPC, errno.EROFS]
    + [getattr(errno, name) for name in ("EREMCHG", "EDQUOT") if hasattr(errno, name)]
)
_REFUSED: Final = {
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
    *("ProfileNotFound", "TokenRetrievalError", "SSOError", "DefaultCredentialsError"),
    *("RefreshError", "ClientAuthenticationError", "AuthenticationException"),
    *("BadHostKeyException",),
}
"""Of botocore, google-auth, azure and paramiko, by name, so that none of them is imported here."""

MANIFEST: Final = "manifest"
"""The object that makes a checkpoint whole."""

_jitter: Final = random.SystemRandom()  # the global generator is the trainer's


def _names(error: BaseException) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _status(error: BaseException) -> int | None:
    """Return the HTTP status behind an error, as botocore, gcsfs, azure and aiohttp tell it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = next(
            (getattr(error, name) for name in ("status_code", "status", "code", "http_status")
             if hasattr(error, name)),
            None,
        )  # fmt: skip
    return int(status) if str(status).isdigit() else None


def is_refusal(error: BaseException) -> bool:
    """Tell whether an error says that our credentials are refused."""
    return (
        isinstance(error, PermissionError)
        or bool(_names(error) & _REFUSED)
        or _status(error) in (401, 403)
    )


def is_permanent(error: BaseException) -> bool:
    """Tell whether trying again is of no use.

    What is not known to be permanent is tried again. Services and libraries report a cut connection
    in many ways. To take a permanent error for a transient one costs a minute; the other way round
    costs a night.

    >>> is_permanent(FileNotFoundError()), is_permanent(TimeoutError())
    (True, False)
    """
    if isinstance(error, TimeoutError | ConnectionError):
        return False
    if isinstance(error, _PERMANENT) or is_refusal(error):
        return True
    names = _names(error)
    if "BotoCoreError" in names:
        return not names & {"HTTPClientError", "ConnectionError"}
    if isinstance(error, OSError) and error.errno in _PERMANENT_ERRNO:
        # s3fs tells so of an upload whose bytes did not arrive as they were sent.
        cause = str(error.__cause__)
        return not any(code in cause for code in ("IncompleteBody", "BadDigest", "Mismatch"))
    status = _status(error)
    return status is not None and 400 <= status < 500 and status not in (408, 409, 425, 429)


class Place:
    """What a single call of a store works with.

    Args:
        filesystem: fsspec's.
        root: the path of the store in it.
        uri: of the store, for errors.
        threads: how many objects may be on their way at once.
        patience: seconds for which to try again what fails.
    """

    def __init__(
        self, filesystem: Any, root: str, *, uri: str, threads: int, patience: float
    ) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        self._uri = uri
        # Only what was made for it is sure to bear several threads: one SFTP session is not.
        self._threads = threads if getattr(filesystem, "async_impl", False) else 1
        self._patience = patience
        self._stop = threading.Event()
        self._folders = scheme_of(uri) not in BUCKETS
        self._synced = "file" in filesystem.protocol

    def map(self, call: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Return what a function returns of each item, several at a time.

        The first error is raised when all that had begun has ended.
        """
        if self._threads == 1 or len(items) <= 1:
            return [call(item) for item in items]
        with ThreadPoolExecutor(min(self._threads, len(items)), "letstune-fsspec") as pool:
            futures = [pool.submit(call, item) for item in items]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                if failed := [f for f in done if f.exception() is not None]:
                    failed[0].result()
                return [future.result() for future in futures]
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def trying(self, call: Callable[[], R]) -> R:
        """Return what a function returns, trying again as long as that may help."""
        deadline, delay = None, _SHORTEST
        while True:
            try:
                return call()
            except Exception as error:
                now = time.monotonic()
                deadline = deadline or now + self._patience  # from the first failure on
                if is_permanent(error) or now >= deadline:
                    raise
                pause = min(delay * _jitter.uniform(0.5, 1), deadline - now)
                if self._stop.wait(pause):
                    raise
                delay = min(2 * delay, _LONGEST)

    def read(self, name: str, size: int | None = None) -> bytes:
        """Return an object's bytes; of one that is larger than ``size``, one more than that."""
        path = self._path(name)
        if self._synced:
            _refuse_link(Path(path).parent)
            _refuse_link(Path(path))
        if size is None:
            return self.trying(lambda: bytes(self._fs.cat_file(path)))
        return self.trying(lambda: self._bounded(path, size + 1))

    def _bounded(self, path: str, size: int) -> bytes:
        try:
            return bytes(self._fs.cat_file(path, start=0, end=size))
        except FileNotFoundError:
            raise
        except OSError:
            if self._fs.size(path) == 0:  # of nothing, some servers have no range
                return b""
            raise

    def write(self, name: str, data: bytes) -> None:
        """Make an object."""
        path = self._path(name)
        self.trying(lambda: self._fs.pipe_file(path, data))
        if self._synced:
            tighten(Path(path))
            _sync(Path(path))

    def write_verified(self, name: str, data: bytes) -> None:
        """Make an object, and read it back."""
        path = self._path(name)

        def write() -> None:
            self._fs.pipe_file(path, data)
            with suppress(FileNotFoundError):
                if self._fs.cat_file(path) == data:
                    return
            raise _DoubtError(f"{name} is not what was sent")

        self.trying(write)
        if self._synced:
            tighten(Path(path))
            _sync(Path(path))

    def verify(self, folder: str, wanted: dict[str, int]) -> None:
        """Wait until the objects of a checkpoint are listed with these sizes, and no others."""

        def look() -> None:
            if (found := self._sizes(folder)) != wanted:
                wrong = sorted(wanted.items() ^ found.items())
                raise _DoubtError(
                    f"{folder} is listed with {dict(wrong[:3])}, unlike what was sent"
                )

        self.trying(look)  # a listing may lag behind

    def _sizes(self, folder: str) -> dict[str, int]:
        self._fs.invalidate_cache()
        path = self._path(folder)
        found = self._fs.find(path, detail=True)
        return {p[len(path) + 1 :]: int(about["size"]) for p, about in found.items()}

    def names(self) -> list[str]:
        """Return what is right below the root, sorted; nothing if the root is not there yet."""

        def look() -> list[str]:
            self._fs.invalidate_cache()
            found = self._fs.ls(self._root, detail=False)
            return sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)

        try:
            return self.trying(look)
        except FileNotFoundError:
            if not self._folders:
                self.must_be_there()
            return []

    def begin(self, folder: str) -> None:
        """Make a folder for a checkpoint, where there are folders."""
        if self._folders:
            path = Path(self._path(folder))
            new = [p for p in (path, *path.parents) if not p.exists()] if self._synced else []
            self.trying(lambda: self._fs.makedirs(self._path(folder), exist_ok=True))
            for made in reversed(new):  # the outermost first, which may hide the others
                tighten(made)
                _sync(made.parent)

    def end(self, folder: str) -> None:
        """Make the names of a checkpoint's objects durable."""
        if self._synced:
            _sync(Path(self._path(folder)))

    def remove(self, folder: str) -> None:
        """Delete all of a checkpoint; it may be gone already."""
        if self._synced:
            _refuse_link(Path(self._path(folder)))
        names = list(self.trying(lambda: self._sizes(folder)))
        # The manifest first: what is left if we are killed now is not whole.
        for some in ([n for n in names if n == MANIFEST], [n for n in names if n != MANIFEST]):
            # Not in bulk: s3fs says nothing of what such a request did not delete.
            self.map(lambda name: self._remove(f"{folder}/{name}"), some)
        if self._folders:
            try:
                self.trying(lambda: self._fs.rm(self._path(folder), recursive=True))
            except FileNotFoundError:
                return

    def _remove(self, name: str) -> None:
        try:
            self.trying(lambda: self._fs.rm_file(self._path(name)))
        except FileNotFoundError:
            return

    def must_be_there(self) -> None:
        """Raise `StoreError` if the root or bucket is away: nothing is known of what is in it."""
        place = self._root if self._folders else self._root.lstrip("/").partition("/")[0]
        if self._folders and scheme_of(self._uri) not in FOLDERS:
            return
        try:
            self.trying(lambda: self._fs.info(place))
        except FileNotFoundError as error:
            if self._folders:
                raise StoreError(f"There is no folder {self._uri}, {GONE}") from error
            raise self.explained(error) from error
        except PermissionError:  # to look at the bucket, which one need not have
            if self._folders:
                raise

    def explained(self, error: Exception) -> StoreError:
        """Return an error that says where, what was found, and what to do."""
        said = redacted(str(error))  # it may repeat a signed URL
        found = f"{type(error).__name__}: {said}".removesuffix(": ").rstrip(".")
        if is_refusal(error):
            what = f"{self._uri} refuses access ({found})"
            cure = f"Check what your credentials allow, or {where_secrets_go(self._uri)}"
        elif isinstance(error, FileNotFoundError) and not self._folders:
            what = f"{self._uri} is not there ({found})"
            cure = "Make or bring back its bucket, or check the URI and the endpoint"
        elif is_permanent(error):
            what = f"{self._uri} cannot do what is asked of it ({found})"
            cure = "Mend that, or check the store's options"
        else:
            what = f"{self._uri} has not answered well for {self._patience:g} s ({found})"
            cure = "Check that it can be reached; if it is only slow, give it more patience=SECONDS"
        return StoreError(f"{what}. {cure}; then resume. All that was recorded is safe.")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


class _DoubtError(TimeoutError):
    """What was sent is not to be seen, at least not yet."""


def _refuse_link(path: Path) -> None:
    """Refuse a link, and what is no file or folder, on this machine: it may lead anywhere.

    Raises:
        CheckpointError: it is one.
    """
    if path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir())):
        raise CheckpointError(
            f"{path} is neither a regular file nor a folder, and is not read or deleted. Remove it."
        )


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot sync a directory, and keeps its names durable by itself
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
