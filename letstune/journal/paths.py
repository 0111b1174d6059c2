"""Where a journal is."""

from __future__ import annotations

import os
from pathlib import Path

from letstune.errors import PlanError


def journal_path(journal: str | os.PathLike[str]) -> Path:
    """Return the path of a journal; a symbolic link to it is followed.

    Its lock and its checkpoints are beside the file itself, whatever name leads to it.

    Raises:
        PlanError: it is not the path of a file.
    """
    if not isinstance(journal, str | os.PathLike):
        raise PlanError(f"journal={journal!r}: expected a path of a file, such as run.db.")
    path = Path(journal)
    if not os.fspath(journal) or path.is_dir():
        found = "is a directory" if os.fspath(journal) else "is empty"
        raise PlanError(
            f"journal={os.fspath(journal)!r} {found}; expected a path of a file, such as run.db."
        )
    # Absolute, since a trainer or script may go to another folder meanwhile.
    if not path.is_symlink():
        return Path.cwd() / path
    # Not resolve(), which raises a RuntimeError if links lead to each other.
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise PlanError(f"journal={os.fspath(journal)!r} is a link that leads to itself.")
    return target
