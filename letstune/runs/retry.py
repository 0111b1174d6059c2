"""`letstune retry`: open failed trials again, from their last recorded epochs.

A failure is an event and no verdict. What is recorded of it stays; but from the retry on, the run
goes on as it would have without it, and whoever advanced in the trial's place keeps what it has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from pathlib import Path

from letstune.errors import TrialEndedError, TrialNotFoundError
from letstune.journal.journal import Journal, check_journal, now
from letstune.journal.lock import JournalLock
from letstune.journal.paths import journal_path
from letstune.rounds.events import TrialRetried
from letstune.rounds.failures import signature


def retry_trials(
    path: Path, trials: Collection[int] = (), *, alike: int | None = None
) -> list[int]:
    """Open failed trials again, and return which; they are trained when the run is resumed.

    Args:
        path: the journal.
        trials: which ones; none for all that failed.
        alike: a trial; only those are opened that failed as it did.

    Raises:
        JournalError: the journal cannot be written, or somebody works on it.
        TrialNotFoundError: there is no such trial.
        TrialEndedError: a trial has not failed.
    """
    path = journal_path(path)
    check_journal(path)  # so that an error comes before a lock file is made
    with JournalLock(path, now()), closing(Journal(path, write=True)) as journal:
        failures = {failure.trial: failure for failure in journal.failures()}
        _check(path, len(journal.load()[1].trials), failures, [*trials, *_given(alike)])
        chosen = [
            trial
            for trial in (sorted(trials) or failures)
            if alike is None or signature(failures[trial]) == signature(failures[alike])
        ]
        journal.append([TrialRetried(trial) for trial in dict.fromkeys(chosen)])
        journal.end_session("retried")
        return chosen


def _given(alike: int | None) -> list[int]:
    return [] if alike is None else [alike]


def _check(path: Path, count: int, failures: Collection[int], wanted: Sequence[int]) -> None:
    for trial in wanted:
        if trial >= count:
            there = f"the last one is {count - 1}" if count else "none was proposed yet"
            raise TrialNotFoundError(f"{path} has no trial {trial} so far; {there}.")
        if trial not in failures:
            raise TrialEndedError(
                f"Trial {trial} of {path} has not failed, so there is nothing to retry. "
                f"`letstune trials {path}` tells which have."
            )
