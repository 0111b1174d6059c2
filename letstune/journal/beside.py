"""The files beside a journal: SQLite's own, the lock and requests, and what they must be.

Their names are known to all, so in a folder that others may write, or that came from somebody
else, anything may lie there. Of what is not a plain file of whoever has the journal, nothing is
read, and nothing is written to it.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from letstune._private import open_file
from letstune.errors import JournalError

# What waits for a device or a pipe, or follows a link, is not to happen; Windows knows none of it.
SAFELY: Final = (
    getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
)
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)

_KINDS: Final = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)

# The end of a rollback journal that is one of several: the name of another file, how long that is,
# its checksum, and this.
_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")


def open_beside(path: Path, journal: Path, flags: int) -> int:
    """Open a file beside a journal; return its descriptor.

    Raises:
        JournalError: it is not what may be opened.
        OSError: it cannot be opened; FileNotFoundError: there is none.
    """
    try:
        opening = open_file if flags & os.O_CREAT else os.open
        file = opening(path, flags | SAFELY | _NO_LINK)
    except OSError:
        with suppress(FileNotFoundError):
            _refuse_foreign(path, path.lstat(), journal)  # it says more than "too many links"
        raise
    try:
        _refuse_foreign(path, os.fstat(file), journal)
    except JournalError:
        os.close(file)
        raise
    return file


def kind(mode: int) -> str:
    """Return what the mode of a file says that it is, if that is no plain file; "" if it is."""
    if stat.S_ISREG(mode):
        return ""
    return next((name for is_it, name in _KINDS if is_it(mode)), "a device")


def _foreign(found: os.stat_result, journal: Path) -> str:
    """Return why a file is not one of the journal's; "" if it is.

    Whoever owns the journal may own them: another user looks at a run, or the root of a container
    goes on with it.
    """
    if why := kind(found.st_mode):
        return why
    if found.st_nlink > 1:  # of which writing would change another file
        return "a file with several names (hard links)"
    if os.name == "nt":
        return ""
    owners = {0, os.geteuid()}
    with suppress(OSError):
        owners.add(journal.stat().st_uid)
    return "" if found.st_uid in owners else f"a file of another user (uid {found.st_uid})"


def _refuse_foreign(path: Path, found: os.stat_result, journal: Path) -> None:
    if why := _foreign(found, journal):
        raise JournalError(
            f"{path} is {why}; expected a plain file of whoever has the journal, or none. Move it "
            "away."
        )


def check_beside(path: Path) -> None:
    """Refuse what SQLite must not find beside a journal that it opens.

    Raises:
        JournalError: what it is.
    """
    for suffix in ("-wal", "-shm", "-journal"):
        beside = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError):
            _refuse_foreign(beside, beside.lstat(), path)
    # Not any rollback journal: a run that is killed in a migration, or just as it begins, leaves
    # one, and after a power cut there may be a -wal file, too.
    if _names_another(path):
        raise JournalError(
            f"{path}-journal is a rollback journal that names another file, which SQLite would "
            "delete; letstune writes none like that. Move it away, if the journal is to be read "
            "as it is."
        )


def _names_another(path: Path) -> bool:
    """Tell whether the rollback journal is one of several that a "super-journal" holds together."""
    try:
        file = open_beside(path.with_name(path.name + "-journal"), path, os.O_RDONLY)
    except OSError:
        return False
    try:
        size = os.fstat(file).st_size
        os.lseek(file, max(0, size - 16), os.SEEK_SET)
        end = os.read(file, 16)
    finally:
        os.close(file)
    return end[8:] == _MAGIC and 0 < int.from_bytes(end[:4]) <= size - 16
