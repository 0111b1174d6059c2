"""Keeps what trials print in workers: in a log for each, beside the journal."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from letstune._private import make_folder
from letstune.errors import JournalError, StoreError
from letstune.journal.beside import open_beside
from letstune.results.logs import log_files, logs_folder
from letstune.telling.lines import say
from letstune.training.pickling import limit_of
from letstune.training.places import own_folder

LIMIT: Final = 10 * 2**20
"""How much of a trial's log is kept, in bytes, unless LETSTUNE_LOG_LIMIT is set."""


def log_limit() -> int:
    """Return how much of a trial's log is kept, in bytes; 0 if there are to be none.

    Raises:
        PlanError: the environment variable LETSTUNE_LOG_LIMIT is not a number.
    """
    return limit_of("LETSTUNE_LOG_LIMIT", LIMIT)


class TrialLogs:
    """Writes the logs of a run's trials. Where that fails, the log gives way, and not the run.

    Of a trial, there are two files of half the limit each: when the newer one is full, it takes the
    place of the older one. Only this process writes them, so nothing is lost or cut meanwhile.

    Args:
        journal: the run's.
        limit: how much of a trial's log is kept, in bytes.
    """

    def __init__(self, journal: Path, limit: int) -> None:
        self._journal = journal
        self._half = limit // 2
        self._told = False

    def append(self, trial: int, data: bytes) -> None:
        """Write what a trial has printed."""
        if not self._half or not data:
            return
        try:
            self._append(trial, data[-self._half :])
        except (OSError, JournalError, StoreError) as error:
            if not self._told:
                self._told = True
                say(
                    f"letstune: what trials print cannot be kept in {logs_folder(self._journal)}: "
                    f"{error} The run goes on without."
                )

    def _append(self, trial: int, data: bytes) -> None:
        new, old = log_files(self._journal, trial)
        with suppress(FileExistsError):
            make_folder(new.parent)
        own_folder(new.parent)
        file = self._open(new)
        try:
            if os.fstat(file).st_size + len(data) > self._half:
                os.close(file)
                new.replace(old)
                file = self._open(new)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
        finally:
            os.close(file)

    def _open(self, path: Path) -> int:
        return open_beside(path, self._journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
