"""The user's keys: where they are, who may have them, and what the user has said to trust.

They are read in the process that works on a run, and in none of its workers.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from letstune._private import for_group
from letstune.errors import TrustError
from letstune.journal.create import sync_folder
from letstune.training.stores import make_durably

VARIABLE: Final = "LETSTUNE_KEY_FILE"
_KEY: Final = re.compile("[0-9a-fA-F]{64}")
_LONGEST: Final = 1 << 24  # bytes that are read
_SAFELY: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe may be there

_of_this_process: list[bytes] = []
"""The key that is made where none can be kept: whatever this process signs, it can verify."""


def key_file() -> Path:
    """Return where the keys are, or would be.

    Raises:
        OSError: the user has no folder for them.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).absolute()
    folder = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    if not folder.is_absolute():
        folder = _home() / _CONFIGURATION.get(sys.platform, ".config")
    return folder / "letstune" / "key"


_CONFIGURATION: Final = {"darwin": "Library/Application Support", "win32": "AppData/Roaming"}


def _home() -> Path:
    try:
        home = Path.home()
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error
    if not home.is_absolute():
        raise FileNotFoundError(f"the user's home is {str(home)!r}")
    return home


def list_file() -> Path:
    """Return where the list of what is trusted is, or would be: beside the keys.

    Raises:
        OSError: see `key_file`.
    """
    keys = key_file()
    return keys.with_name(f"{keys.name}.trusted")


def all_keys() -> list[bytes]:
    """Return the keys that there are: the first one signs, and all of them verify.

    Raises:
        TrustError: others may have them, or the file holds something else, or is not to be read.
    """
    text = None
    try:
        text = _read(path := key_file())
    except TrustError:  # which is an OSError, too
        raise
    except OSError as error:
        if VARIABLE in os.environ:
            raise TrustError(
                f"{VARIABLE} names {key_file()}, which cannot be read: {error.strerror}. Make it "
                "readable for you alone, or name another file."
            ) from error
    kept = [] if text is None else _parsed(path, text)
    return [*kept, *_of_this_process]


def signing_key() -> tuple[bytes, str]:
    """Return the key to sign with, made if there is none, and what to tell about that.

    Raises:
        TrustError: see `all_keys`; or LETSTUNE_KEY_FILE names a file that cannot be made.
    """
    if not (keys := all_keys()):
        try:
            _make(path := key_file())
            if not (keys := all_keys()):
                raise PermissionError(f"{path} cannot be read")
            if VARIABLE not in os.environ:
                return keys[0], (
                    f"letstune: made a key to sign your runs with, {path}. Where that does not "
                    f"stay, as in a container, set {VARIABLE} to a file that does: without its "
                    "key, a run is not resumed before `letstune trust`."
                )
        except TrustError:
            raise
        except OSError as error:
            if VARIABLE in os.environ:
                raise TrustError(
                    f"{VARIABLE} names {key_file()}, which cannot be made: {error.strerror}. Name "
                    "a file in a folder of yours that is there."
                ) from error
            _of_this_process.append(secrets.token_bytes(32))
            return _of_this_process[0], (
                "letstune: no key to sign the run with can be kept in the user's configuration "
                f"folder ({error}), so whoever resumes it is asked to trust it. To have it resume "
                f"by itself, set {VARIABLE} to a file that stays, before the run begins."
            )
    return keys[0], ""


def made_at() -> float | None:
    """Return when the key file was written, in seconds since the epoch; None if there is none."""
    try:
        return key_file().stat().st_mtime
    except OSError:
        return None


def is_trusted(digest: str) -> bool:
    """Tell whether the user has said to trust what a digest stands for.

    Raises:
        TrustError: others may write the list.
    """
    try:
        text = _read(list_file())
    except TrustError:
        raise
    except OSError:
        return False
    return digest in {line.split(" ")[0] for line in (text or "").splitlines()} - {""}


def add_trusted(digest: str, what: str) -> None:
    """Add what a digest stands for to the list of what is trusted; ``what`` is for people.

    Raises:
        TrustError: the list cannot be written, or others may write it.
    """
    when = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        path = list_file()
        _make_folder(path.parent)
        _read(path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        file = os.open(path, flags | _SAFELY, 0o600)
        try:
            # On a line of its own, even after one that a crash has cut short.
            os.write(file, f"\n{digest} {when} {what!r}\n".encode(errors="backslashreplace"))
            os.fsync(file)
        finally:
            os.close(file)
    except TrustError:
        raise
    except OSError as error:
        raise TrustError(
            f"What is trusted cannot be remembered beside your key: {error}. Set {VARIABLE} to a "
            "file in a folder that you may write."
        ) from error


def _read(path: Path) -> str | None:
    """Return what is in a file that is the user's alone; None if it is not there.

    Raises:
        OSError: it cannot be read.
        TrustError: it is not.
    """
    try:
        file = os.open(path, os.O_RDONLY | _SAFELY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        _refuse_open(path, path.stat())  # which says more, if it is somebody else's
        raise
    with os.fdopen(file, "rb") as opened:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise TrustError(f"{path} is no plain file; expected one of letstune's. Move it away.")
        if os.name != "nt":
            _refuse_open(path, found)
            for folder in dict.fromkeys([path.parent, path.resolve().parent]):
                _refuse_open_folder(folder)
        return opened.read(_LONGEST).decode("ascii", "replace")


def _refuse_open(path: Path, found: os.stat_result) -> None:
    """Refuse a file that others may read or write, or that is somebody else's.

    With LETSTUNE_SHARE=group, those of its group, if it is the user's as well, are no others.
    """
    mine, mode = os.geteuid(), stat.S_IMODE(found.st_mode)
    ours = found.st_gid in {os.getegid(), *os.getgroups()}
    shared = for_group() and ours
    if found.st_uid not in (mine, 0) and not shared:
        raise TrustError(
            f"{path} belongs to user {found.st_uid}, expected {mine}, who runs this. Whoever has "
            f"the keys decides what is run: make the file yours, or set {VARIABLE} to one of yours."
        )
    # What root has mounted for a group that this user is in is no file of another user.
    given = found.st_uid != mine and ours
    if mode & (0o007 if shared else 0o037 if given else 0o077):
        raise TrustError(
            f"{path} is open to others (mode {mode:o}), who could have what they like run as you. "
            f"`chmod 600` it if nobody has read or written it; else remove it, for a new key."
        )


def _refuse_open_folder(folder: Path) -> None:
    """Refuse a folder in which others could put another file in the place of the user's."""
    found = folder.stat()
    sticky = found.st_mode & stat.S_ISVTX
    shared = for_group() and found.st_gid in {os.getegid(), *os.getgroups()}
    written = found.st_mode & (0o002 if shared else 0o022)
    if (found.st_uid not in (os.geteuid(), 0) and not shared) or (written and not sticky):
        raise TrustError(
            f"{folder}, in which your key is, belongs to somebody else, or can be written by "
            "others. `chmod 700` it, and see whether the key is yours."
        )


def _parsed(path: Path, text: str) -> list[bytes]:
    """Return the keys in a file: one a line, in hexadecimal, besides comments."""
    words = [line.partition("#")[0].strip() for line in text.splitlines()]
    words = [word for word in words if word]
    if not words or not all(_KEY.fullmatch(word) for word in words):
        # Nothing of it is shown: it may be a key, but for a letter.
        raise TrustError(
            f"{path} holds something else than keys: expected lines of 64 hexadecimal digits. "
            "Restore it, or move it away to have a new key made."
        )
    return [bytes.fromhex(word) for word in words]


def _make(path: Path) -> None:
    """Make a file with a new key, all of it or nothing, unless there is one.

    Raises:
        OSError: it cannot be made.
    """
    _make_folder(path.parent)
    beside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        _write_new(beside, text := f"{secrets.token_hex(32)}\n")
        try:
            os.link(beside, path)  # unlike a renaming, it takes the place of no other process's
        except FileExistsError:
            return
        except OSError:  # a file system without links
            with suppress(FileExistsError):
                _write_new(path, text)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def _write_new(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    """Make the folder of the keys, for the user alone, if it is not there."""
    make_durably(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(0o700)
        sync_folder(folder.parent)
