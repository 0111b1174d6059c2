"""A second opinion: what fails in a process that others were trained in may be their doing."""

from __future__ import annotations

from collections.abc import Sequence

from letstune.rounds.events import (
    EpochFinished,
    Event,
    Task,
    TaskEnded,
    TrialFailed,
    TrialStopped,
)
from letstune.rounds.failures import signature
from letstune.telling.lines import say
from letstune.workers.experience import Experience
from letstune.workers.work import Work


class SecondOpinion:
    """What is thought of a task's failure.

    Args:
        experience: which failures were confirmed before.

    Attributes:
        again: what is to be trained once more, in a fresh process; None if nothing is.
    """

    def __init__(self, experience: Experience) -> None:
        self._experience = experience
        self.again: Task | None = None
        self._doubted: TrialFailed | None = None

    def believes(self, failure: TrialFailed, work: Work, *, fresh: bool) -> bool:
        """Tell whether a failure is the trial's own; else, what is left of it is tried `again`.

        Args:
            failure: what has happened.
            work: to what.
            fresh: whether the process had trained nothing else before.
        """
        if not fresh and not self._experience.believes(failure):
            self.again, self._doubted = work.rest, failure
            return False
        if self._doubted is not None and signature(self._doubted) == signature(failure):
            self._experience.believe(failure)
        self._doubted = None
        return True

    def see(self, trial: int, events: Sequence[Event | TaskEnded]) -> None:
        """See what is delivered: after an epoch, say that the failure was not the trial's own."""
        if self._doubted is not None and isinstance(events[0], EpochFinished | TrialStopped):
            say(
                f"letstune: trial {trial} failed in a process that had trained others, and not in "
                f"a fresh one, so it goes on: {self._doubted.message}"
            )
            self._doubted = None
