"""Timeouts: until when something has to come of what a worker does."""

from __future__ import annotations

import math
import time


class Timeouts:
    """The time that a task has, and that the end of a process may take.

    Args:
        epoch: how long one call of the trainer may take, in seconds.
        trial: how long the epochs of a trial may take in all, in seconds.

    Attributes:
        deadline: when time is up, on the monotonic clock.
        limit: which of the two it is then, for people.
    """

    def __init__(self, epoch: float | None, trial: float | None) -> None:
        self._epoch = epoch
        self._trial = trial
        self.forget()

    @property
    def any(self) -> bool:
        """Whether there are any for a task."""
        return (self._epoch, self._trial) != (None, None)

    @property
    def up(self) -> bool:
        """Whether time is up."""
        return time.monotonic() >= self.deadline

    def forget(self) -> None:
        """Begin with another task."""
        self._paused = 0.0
        self.limit = ""
        self.stop()

    def stop(self) -> None:
        """Let it take as long as it takes."""
        self.deadline = math.inf

    def within(self, seconds: float) -> None:
        """Let time be up in so many seconds."""
        self.deadline = time.monotonic() + seconds

    def begin(self, seconds: float, *, loaded: bool) -> None:
        """See the trainer being called.

        Args:
            seconds: how long the trial's epochs have taken so far.
            loaded: whether the dataset is loaded; that is not part of a trial's time.
        """
        lefts = [(math.inf, "")]
        if self._epoch is not None:
            lefts.append((self._epoch, f"epoch_timeout, {self._epoch:g} s"))
        if self._trial is not None and loaded:
            left = max(0.0, self._trial + self._paused - seconds)
            lefts.append((left, f"trial_timeout, {self._trial:g} s"))
        left, self.limit = min(lefts)
        self.within(left)

    def postpone(self, seconds: float) -> None:
        """Leave time out of account in which this process, and so all of them, was suspended."""
        self.deadline += seconds
        self._paused += seconds
