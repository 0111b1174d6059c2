"""`letstune skip` and `letstune stop`: end a trial of a run, or its session, whoever works on it.

Only the owner of a run writes its journal, so a request to a live run goes through a file beside
the journal. That file is locked while it is written or taken, and is removed after what it asks for
is recorded. So no request is lost, and none is half read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Final, NamedTuple

from letstune.errors import (
    JournalError,
    JournalLockedError,
    TrialEndedError,
    TrialNotFoundError,
)
from letstune.journal.beside import open_beside
from letstune.journal.journal import Journal, check_journal, now
from letstune.journal.lock import JournalLock, waiting_lock
from letstune.journal.paths import journal_path
from letstune.rounds.events import TrialStopped
from letstune.rounds.state import State

STOP: Final = "stop"
"""What is asked for in the place of a trial, to stop all of it."""

PATIENCE: Final = 10.0
"""How long a request waits until it can be written, in seconds."""

MOMENT: Final = 0.1
"""How long a run waits until it can read requests, in seconds, each time that it looks."""

_LONGEST: Final = 1 << 20
"""So many bytes of requests are heard."""


class Requests(NamedTuple):
    """What others want: the end of trials, in that order, or of the session."""

    trials: list[int]
    stop: bool


def skip_trial(path: Path, trial: int) -> bool:
    """End a trial as stopped after its last recorded epoch.

    Returns whether the end is recorded. If not, the process that works on the run was asked to end
    the trial. It does so within about a second, or after the epoch in flight if it trains by
    itself.

    Args:
        path: the journal.
        trial: which one.

    Raises:
        JournalError: the journal cannot be read, or the request cannot be written.
        TrialNotFoundError: there is no such trial.
        TrialEndedError: it has ended already.
    """
    path = journal_path(path)
    with closing(Journal(path)) as source:
        _check(source.load()[1], trial, path)
    try:
        with JournalLock(path, now()), closing(Journal(path, write=True)) as journal:
            state = journal.load()[1]
            _check(state, trial, path)
            journal.append([stop_of(state, trial)])
            journal.end_session("skipped")
            return True
    except JournalLockedError:
        _ask(path, trial)
        return False


def stop_run(path: Path) -> bool:
    """Ask whoever works on a run to stop, as a signal does; tell whether anybody does.

    It is obeyed within about a second, and then the epochs in flight are still recorded.

    Args:
        path: the journal.

    Raises:
        JournalError: there is none, or the request cannot be written.
    """
    path = journal_path(path)
    check_journal(path)  # for its errors, before a lock file is made
    try:
        with JournalLock(path, now()):
            return False
    except JournalLockedError:
        _ask(path, STOP)
        return True


def stop_of(state: State, trial: int) -> TrialStopped:
    """Return the event that ends a trial after its last recorded epoch."""
    return TrialStopped(trial, state.trials[trial].epochs - 1)


def may_skip(state: State, trial: int) -> bool:
    """Tell whether there is such a trial that has not ended."""
    return (
        trial < len(state.trials)
        and not state.trials[trial].settled
        and state.trials[trial].status in ("proposed", "trained")
    )


def _check(state: State, trial: int, path: Path) -> None:
    if trial >= len(state.trials):
        raise TrialNotFoundError(
            f"{path} has no trial {trial} so far; the last one is {len(state.trials) - 1}."
        )
    if not may_skip(state, trial):
        found = state.trials[trial]
        how = found.status if found.status in ("stopped", "failed") else "trained to its end"
        raise TrialEndedError(
            f"Trial {trial} of {path} is {how}, so there is nothing to skip. `letstune status` "
            "tells what is left."
        )


def _ask(path: Path, what: int | str) -> None:
    """Leave a request beside a journal."""
    beside = _beside(path)
    try:
        while True:
            file = open_beside(beside, path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            with (
                os.fdopen(file, "ab") as opened,
                waiting_lock(file, PATIENCE),
                suppress(FileNotFoundError),
            ):
                if os.path.samestat(os.fstat(file), beside.lstat()):
                    opened.write(f"{what}\n".encode())
                    opened.flush()
                    os.fsync(file)
                    return
            # It was taken between our opening and locking it.
    except JournalError:
        raise
    except OSError as error:
        raise JournalError(
            f"{beside} cannot be written: {error.strerror}. A request to a run is a file in the "
            "folder of its journal: make that folder writable."
        ) from error


def forget_stop(path: Path) -> None:
    """Take back what was asked of a session that is over. The caller has just got the lock."""
    with suppress(OSError), _opened(path) as file:
        lines = [line for line in file.read().split() if line != STOP.encode()]
        file.seek(0)
        file.truncate()
        file.writelines(line + b"\n" for line in lines)


@contextmanager
def requests(path: Path, tell: Callable[[str], None]) -> Iterator[Requests]:
    """Yield what others want, and forget it after the block.

    If the file cannot be read, ``tell`` gets a line that says so, and there are no requests.
    """
    with ExitStack() as opened:
        text: bytes | None = None
        try:
            text = opened.enter_context(_opened(path)).read(_LONGEST)
        except FileNotFoundError:
            pass
        except OSError as error:  # somebody else's, a folder, or on a disk without locks
            why = f"{_beside(path)} cannot be read: {error.strerror}. Remove it."
            if isinstance(error, JournalError):
                why = str(error)
            tell(
                f"{why} Requests of `letstune skip` and `letstune stop` are not heard as long as "
                "it is there. The run goes on."
            )
        lines = (text or b"").decode(errors="replace").split()
        trials = [int(line) for line in lines if line.isascii() and line.isdecimal()]
        yield Requests(trials, STOP in lines)
        if text is not None:
            # If it cannot be removed, its requests are old news when they are read again.
            with suppress(OSError):
                _beside(path).unlink(missing_ok=True)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open the requests to a run, and lock them; whoever holds that for long is none of ours."""
    file = open_beside(_beside(path), path, os.O_RDWR)
    with os.fdopen(file, "r+b") as opened, waiting_lock(file, MOMENT):
        yield opened


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".skip")
