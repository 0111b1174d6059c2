"""The logs of trials: what each has printed in a worker, in files beside the journal.

They are no part of the run: nothing is decided by them, and nothing is lost without them.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from letstune.errors import JournalError
from letstune.journal.beside import open_beside
from letstune.journal.lock import is_locked
from letstune.journal.paths import journal_path

_CHUNK: Final = 2**16
_LOOK: Final = 0.2
"""How often a log that is followed is looked at, in seconds."""


def logs_folder(journal: Path) -> Path:
    """Return where the logs of a run are."""
    # As of its checkpoints: "run" and "run.db" must not share a folder.
    stem, joint = journal.name.removesuffix(".db"), "." if journal.name.endswith(".db") else "-"
    return journal.with_name(f"{stem}{joint}logs")


def log_files(journal: Path, trial: int) -> tuple[Path, Path]:
    """Return the two files of a trial's log: the newer part, and the older one, if there is any."""
    folder = logs_folder(journal)
    return folder / f"{trial}.log", folder / f"{trial}.old.log"


def read_log(
    journal: str | os.PathLike[str], trial: int, *, follow: bool = False
) -> Iterator[bytes]:
    """Yield what a trial has printed, as bytes, oldest first.

    Args:
        journal: the run's.
        trial: its id.
        follow: whether to wait for more, for as long as somebody works on the run.

    Raises:
        JournalError: there is no log of it, or what is there is not the run's own.
    """
    path = journal_path(journal)
    new, old = log_files(path, trial)
    _require_folder(new.parent)
    going = is_locked(path)
    waits = (lambda: is_locked(path)) if follow else None
    found = False
    for data in _both(path, new, old, waits):
        found = True
        yield data
    if not found and not (follow and going):
        raise JournalError(
            f"{path}: there is no log of trial {trial}. It has printed nothing, or was not trained "
            "by a worker on this machine: what it printed then is where it was trained."
        )


def _require_folder(folder: Path) -> None:
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise JournalError(f"{folder} is no folder; expected the logs of a run. Move it away.")


def _both(journal: Path, new: Path, old: Path, waits: Callable[[], bool] | None) -> Iterator[bytes]:
    """Yield both files, and go on with the newer one as it grows and is put in the older's place.

    The newer one is opened first: if it is moved meanwhile, it is read all the same, and the older
    one is then the one that it was.
    """
    file = _open(new, journal)
    before = _open(old, journal)
    try:
        if before is not None and (file is None or not os.path.sameopenfile(before, file)):
            yield from _rest(before)
        while True:
            going = waits is not None and waits()  # asked first, so that nothing is missed
            if file is not None:
                yield from _rest(file)
            following = _open(new, journal) if waits is not None else None
            if following is not None and not (file and os.path.sameopenfile(file, following)):
                if file is not None:
                    yield from _rest(file)
                    os.close(file)
                file = following
                continue
            if following is not None:
                os.close(following)
            if not going:
                return
            time.sleep(_LOOK)
    finally:
        for opened in (file, before):
            if opened is not None:
                os.close(opened)


def _open(path: Path, journal: Path) -> int | None:
    try:
        return open_beside(path, journal, os.O_RDONLY)
    except FileNotFoundError:
        return None
    except JournalError:
        raise
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}.") from error


def _rest(file: int) -> Iterator[bytes]:
    while data := os.read(file, _CHUNK):
        yield data
