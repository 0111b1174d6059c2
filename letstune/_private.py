"""Who may read and write what letstune makes.

Nobody else may write it, whatever the umask. In a folder that others may write, such as /tmp, they
may not read it, either: their hands are too near. Elsewhere, the umask says who reads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

SHARE: Final = "LETSTUNE_SHARE"
GROUP: Final = "group"
"""What the environment variable says to share all with the group of a folder."""

Rule = Callable[[int], int]
"""Returns the mode that something is to have, given the one that the umask has left it."""


def rule(folder: str | os.PathLike[str]) -> Rule:
    """Return the rule for what is made in a folder.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if os.name == "nt":  # which has no modes, but lists of who may what, inherited from the folder
        return _as_it_is
    if for_group():
        return _of_group
    return _of_owner if others_may_write(folder) else _unwritable


def for_group() -> bool:
    """Tell whether runs are shared with a group."""
    return os.environ.get(SHARE) == GROUP


def others_may_write(folder: str | os.PathLike[str]) -> bool:
    """Tell whether others than its owner may make files in a folder."""
    writable = stat.S_IWGRP | stat.S_IWOTH
    return os.name != "nt" and bool(os.stat(folder).st_mode & writable)  # noqa: PTH116 (hot)


def _as_it_is(mode: int) -> int:
    return mode


def _of_owner(mode: int) -> int:
    return mode & ~0o077


def _of_group(mode: int) -> int:
    return (mode | (mode & 0o700) >> 3) & ~0o007


def _unwritable(mode: int) -> int:
    return mode & ~0o022


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make a folder.

    Args:
        folder: its path.
        mode: what it may have at most, but for the group that runs are shared with.

    Raises:
        FileExistsError: there is something of that name.
        FileNotFoundError: the folder above is not there.
    """
    allowed = rule(folder.parent)
    folder.mkdir(allowed(mode))
    if allowed is _of_group:  # the umask may say otherwise
        folder.chmod(allowed(stat.S_IMODE(folder.stat().st_mode)))


def open_file(path: Path, flags: int) -> int:
    """Open a file as `os.open` does, and make it if it is not there."""
    allowed = rule(path.parent)
    file = os.open(path, flags | os.O_CREAT, allowed(0o666))
    if allowed is _of_group and os.fstat(file).st_uid == os.geteuid():
        seal(file, allowed)
    return file


def seal(file: int, allowed: Rule) -> None:
    """Give an open file or folder, whoever has made it, the mode that it may have."""
    mode = stat.S_IMODE(os.fstat(file).st_mode)
    if (wanted := allowed(mode)) != mode:
        os.fchmod(file, wanted)


def tighten(path: Path) -> None:
    """Give a file or folder of a run the mode that it may have where it is.

    Nobody else may write it; if others may write the folder that it is in, they may not read it.
    With LETSTUNE_SHARE=group, its group may do both, and others nothing.

    Args:
        path: what was just made.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if (wanted := rule(path.parent)(mode)) != mode:
        path.chmod(wanted)
