"""A deadline: no epoch is begun that is not expected to end before it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Final

from letstune.errors import PlanError
from letstune.rounds.events import EpochFinished
from letstune.rounds.state import State

_MARGIN: Final = 1.5  # by which an epoch may take longer than the median of those before it
_REMEMBERED: Final = 50  # durations


class Deadline:
    """When a session is to end, and whether an epoch may still be begun.

    Args:
        left: how many seconds are left; infinity for as many as it takes.
        clock: returns seconds, for tests.

    Attributes:
        late: the trials for whose next epoch there is no time.
        passed: whether there was not enough time for all that was left to do.
    """

    def __init__(self, left: float = math.inf, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock() + left
        self._of_trial: dict[int, list[float]] = {}
        self._of_all: list[float] = []
        self._between: set[int] = set()  # the trials that have ended an epoch
        self.late: set[int] = set()
        self.passed = False

    @property
    def set(self) -> bool:
        """Whether there is one."""
        return self._at < math.inf

    def see(self, epoch: EpochFinished) -> None:
        """Note how long an epoch took."""
        if self.set:
            self._between.add(epoch.trial)
            for durations in (self._of_trial.setdefault(epoch.trial, []), self._of_all):
                durations.append(epoch.seconds)
                del durations[:-_REMEMBERED]

    def allows(self, state: State, number: int | None = None) -> bool:
        """Tell whether the next epoch of a trial, or of a new one, is expected to end in time."""
        if not self.set:
            return True
        durations = self._of_trial.get(-1 if number is None else number) or self._of_all
        if durations:
            expected = median(durations)
        else:  # nothing was trained in this session
            expected = state.total_seconds / (state.total_epochs or 1)
        allowed = self._clock() + _MARGIN * expected < self._at
        self.passed = self.passed or not allowed
        return allowed

    def too_late(self, state: State, trials: Iterable[int]) -> list[int]:
        """Return which of the trials have no time left for their next epoch."""
        late = [trial for trial in trials if not self.allows(state, trial)]
        self.late.update(late)
        return late

    def overdue(self, state: State, running: Collection[int]) -> list[int]:
        """Return which of those in training have ended an epoch, and have no time for another."""
        if not self._between:  # as in most rounds of most runs
            return []
        between = [trial for trial in self._between if trial in running]
        self._between.clear()
        return self.too_late(state, between)


def seconds_left(until: Any, for_: Any) -> float:
    """Return how many seconds a session has; infinity without a deadline.

    Args:
        until: a `datetime`, a text such as ``07:00`` or ``2026-11-28T07:00``, or ``slurm`` for the
            end of the job as SLURM_JOB_END_TIME has it; None for no such time.
        for_: seconds, or a `timedelta`; None for as long as it takes. The earlier end holds.

    Raises:
        PlanError: they are something else, or in the past.
    """
    left = math.inf
    if until is not None:
        left = (_moment(until) - datetime.now().astimezone()).total_seconds()
        if left <= 0:
            raise PlanError(f"until={until!r} is in the past. Give a time that is to come.")
    if for_ is not None:
        span = for_.total_seconds() if isinstance(for_, timedelta) else for_
        if isinstance(span, bool) or not isinstance(span, int | float) or not 0 < span < math.inf:
            raise PlanError(f"for_={for_!r}: expected seconds, more than 0, or a timedelta.")
        left = min(left, float(span))
    return left


def _moment(until: Any) -> datetime:
    """Return a time that is to come, with its time zone."""
    if isinstance(until, datetime):
        return until.astimezone()
    if until == "slurm":
        end = os.environ.get("SLURM_JOB_END_TIME", "")
        if not end.isdecimal():
            raise PlanError(
                f"until='slurm': SLURM_JOB_END_TIME is {end!r}, so this is no job of Slurm, or one "
                "without an end. Give the time itself, such as until='07:00'."
            )
        return datetime.fromtimestamp(int(end)).astimezone()
    try:
        now = datetime.now().astimezone()
        if len(str(until)) <= len("07:00:00"):
            moment = datetime.combine(now, datetime.strptime(until, "%H:%M").time()).astimezone()
            return moment if moment > now else moment + timedelta(days=1)
        return datetime.fromisoformat(until).astimezone()
    except (TypeError, ValueError) as error:
        raise PlanError(
            f"until={until!r}: expected a datetime, or a time such as '07:00', "
            "'2026-11-28T07:00' or 'slurm'."
        ) from error
