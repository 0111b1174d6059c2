"""Places: folders that are a run's own, and the files in them, never reached through a link.

Whoever made a folder may have put anything into it. So what is no regular file is not opened, and
files are read by the descriptor that was looked at, not by a path that may lead elsewhere by then.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

from letstune._private import for_group, open_file
from letstune.errors import CheckpointError, StoreError

MARKER: Final = ".letstune-"
"""With the run's id, the name of an empty file. A name is made whole or not at all."""

_CHUNK: Final = 2**20
_READ: Final = (
    os.O_RDONLY
    # Of a FIFO, a plain open would wait for a writer.
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


# Whose a folder is


def own_folder(folder: Path, *, linked: bool = False) -> os.stat_result:
    """Return what is known of a folder that is the user's own, and that no one else may write.

    These are the rules of ssh for its keys. Whoever may write a folder can swap what is in it
    between the moment when it is looked at and the moment when it is used. With
    LETSTUNE_SHARE=group, those of the folder's group, if it is the user's as well, are no others.

    Args:
        folder: it.
        linked: whether a link to it will do.

    Raises:
        FileNotFoundError: it is not there.
        StoreError: it is something else, or somebody else's, or others may write it.
    """
    found = os.stat(folder, follow_symlinks=linked)  # noqa: PTH116 (hot)
    if stat.S_ISLNK(found.st_mode):
        raise StoreError(
            f"{folder} is a link, which is not followed. Put a folder there, and resume; nothing "
            "recorded is lost."
        )
    if not stat.S_ISDIR(found.st_mode):
        raise StoreError(f"{folder} is no folder. Remove it, and resume; nothing recorded is lost.")
    if os.name == "nt":
        return found
    shared = for_group() and found.st_gid in {os.getegid(), *os.getgroups()}
    if found.st_uid not in (os.geteuid(), 0) and not shared:
        raise StoreError(
            f"{folder} belongs to user {found.st_uid}, expected {os.geteuid()}, who runs this: its "
            "owner may change what is in it at any time. Move it away, or have it made yours with "
            "chown; LETSTUNE_SHARE=group trusts its group. Nothing recorded is lost."
        )
    if found.st_mode & stat.S_IWOTH or (
        found.st_mode & stat.S_IWGRP and not shared and not _is_private(found.st_gid)
    ):
        raise StoreError(
            f"{folder} can be written by others (mode {stat.S_IMODE(found.st_mode):o}), who may "
            "change what is in it at any time. `chmod go-w` it, and resume; LETSTUNE_SHARE=group "
            "trusts its group. Nothing recorded is lost."
        )
    return found


def is_own_folder(folder: Path) -> bool:
    """Tell whether a folder is there, and is the user's own; see `own_folder`."""
    try:
        own_folder(folder)
    except (OSError, StoreError):
        return False
    return True


def _is_private(gid: int) -> bool:
    """Tell whether a group is that of this user alone, as many systems make one for each user."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False
    return group.gr_name == user and set(group.gr_mem) <= {user}


@dataclass(frozen=True)
class Mark:
    """Which run a folder of checkpoints belongs to. It is there as a file, so it moves with it.

    Attributes:
        run: the run's id.
        old: whether a folder without any marker is taken for the run's by its name, and marked: it
            was made before there were markers. Of what a link leads to, only an empty one is.
        vouched: whether the run goes on there, as its user wants. Then the marker of another run
            beside it is no objection: its journal was removed, and the name used again.
    """

    run: str
    old: bool
    vouched: bool

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w{1,64}", self.run, re.ASCII):
            raise StoreError(f"{self.run!r:.80} is no id of a run; expected letters and digits.")

    def is_on(self, folder: Path) -> bool:
        """Tell whether a folder has this marker."""
        try:
            found = os.lstat(f"{folder}{os.sep}{MARKER}{self.run}")
            return stat.S_ISREG(found.st_mode)
        except OSError:
            return False

    def require(self, folder: Path) -> None:
        """Mark a folder, unless that is done.

        Raises:
            StoreError: it may not be the run's own.
        """
        if self.is_on(folder):
            return
        names, linked = [entry.name for entry in folder.iterdir()], folder.is_symlink()
        others = sorted(name for name in names if name.startswith(MARKER))
        where = f"{folder}, a link to {folder.resolve()}," if linked else str(folder)
        if others and (linked or not self.vouched):
            raise StoreError(
                f"{where} is of run {others[0].removeprefix(MARKER)}, and not of this one, "
                f"{self.run}. Move it away, or rename the journal; nothing recorded is lost."
            )
        if names if linked else not self.old:
            raise StoreError(
                f"{where} has no marker of this run, so what is in it may be something else, and "
                f"nothing is changed there. If it is the run's, `touch {folder / MARKER}{self.run}`"
                "; nothing recorded is lost."
            )
        with suppress(FileExistsError):  # another worker was faster
            os.close(open_file(folder / f"{MARKER}{self.run}", os.O_WRONLY | os.O_EXCL))


# What is in it


def files(folder: Path) -> Iterator[tuple[str, BufferedReader]]:
    """Yield the path in a folder, with slashes, of each file below it, and the file, open.

    Raises:
        CheckpointError: something else than regular files and folders is there. It was not opened.
    """
    for directory, _, names, at in _walk(folder):
        for name in names:
            with _opened(directory, name, at) as file:
                yield _relative(folder, directory, name), file


def size(path: Path) -> int:
    """Return how many bytes a file has, or all files below a folder, without opening any.

    Raises:
        FileNotFoundError: it is not there.
        CheckpointError: see `files`.
    """
    found = _looked_at("", os.fspath(path), None)
    if stat.S_ISREG(found.st_mode):
        return found.st_size
    return sum(
        _looked_at(directory, name, at).st_size
        for directory, _, names, at in _walk(path)
        for name in names
    )


def copy(source: Path, target: Path) -> None:
    """Copy a file to a new one, or what is in a folder into an empty one.

    Of a file, as many bytes are copied as it had when it was opened: no more, if it grows.

    Raises:
        FileNotFoundError: it is not there.
        CheckpointError: see `files`.
    """
    if stat.S_ISREG(_looked_at("", os.fspath(source), None).st_mode):
        with _opened("", os.fspath(source), None) as file:
            _copy(file, target)
        return
    for directory, folders, names, at in _walk(source):
        into = target / _relative(source, directory, "")
        for name in folders:
            (into / name).mkdir()
        for name in names:
            with _opened(directory, name, at) as file:
                _copy(file, into / name)


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with all that is in it; what links lead to stays."""
    try:
        path.unlink(missing_ok=True)
    except (IsADirectoryError, PermissionError):  # what unlink says of a folder
        shutil.rmtree(path)  # by descriptors, where the system can


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str], int | None]]:
    """Yield each folder, the names in it, and its descriptor, where the system has them."""
    walked: Iterator[tuple[str, list[str], list[str], int | None]]
    if os.name == "nt":
        walked = ((*found, None) for found in os.walk(folder, onerror=_raise))
    else:
        walked = os.fwalk(folder, onerror=_raise)
    for directory, folders, names, at in walked:
        for name in folders:  # links to folders are among them
            _looked_at(directory, name, at)
        yield directory, folders, names, at


def _raise(error: OSError) -> None:
    raise error


def _relative(folder: Path, directory: str, name: str) -> str:
    below = directory[len(os.fspath(folder)) + 1 :]
    return (f"{below}{os.sep}{name}" if below else name).replace(os.sep, "/")


def _looked_at(directory: str, name: str, at: int | None) -> os.stat_result:
    found = os.stat(_name(directory, name, at), dir_fd=at, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        what = "a link, which is not followed" if stat.S_ISLNK(found.st_mode) else "neither"
        raise CheckpointError(
            "A checkpoint may hold regular files and folders only, but "
            f"{Path(directory, name)} is {what}. Put the file itself in its place."
        )
    return found


def _name(directory: str, name: str, at: int | None) -> str:
    return name if at is not None else os.path.join(directory, name)  # noqa: PTH118 (hot)


@contextmanager
def _opened(directory: str, name: str, at: int | None) -> Iterator[BufferedReader]:
    _looked_at(directory, name, at)  # to open a device may do something already
    with os.fdopen(os.open(_name(directory, name, at), _READ, dir_fd=at), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            path = Path(directory, name)
            raise CheckpointError(f"{path} has changed while it was being read. Try again.")
        yield file


def _copy(file: BufferedReader, target: Path) -> None:
    left = os.fstat(file.fileno()).st_size
    with target.open("xb") as copied:
        while left and (data := file.read(min(left, _CHUNK))):
            copied.write(data)
            left -= len(data)
