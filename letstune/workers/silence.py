"""Silence: how long a worker may say nothing before a person is told, and what is told then.

It ends nothing. A person may have stopped the process to let it go on later, and only a person
knows how long an epoch may take; who does says so by a timeout.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Final, Literal

LOOK: Final = 5.0
"""How often it is looked whether a silent worker is stopped, in seconds; it is if so twice."""

LEAST: Final = 60.0
"""So long a silence is always right, in seconds."""

TIMES: Final = 10
"""So many times as long as usual is too long."""

UNKNOWN: Final = 600.0
"""How long is too long as long as nobody knows what is usual, in seconds."""

Kind = Literal["load_dataset", "first epoch", "epoch"]
"""What a worker does; the first epoch of a task comes with its model, made or loaded."""


class Pace:
    """How long what workers do takes, as far as that is known; slots may share it."""

    def __init__(self) -> None:
        self._spans: dict[Kind, deque[float]] = {}

    def took(self, kind: Kind, seconds: float) -> None:
        """Note how long something took."""
        self._spans.setdefault(kind, deque(maxlen=50)).append(seconds)

    def usual(self, kind: Kind) -> float | None:
        """Return how long it usually takes, in seconds, if that is known."""
        return median(self._spans[kind]) if kind in self._spans else None


class Silence:
    """How long a worker has said nothing.

    Args:
        pace: what is known of all workers.
        clock: returns seconds.

    Attributes:
        due: when to `look`; infinity when nothing is expected of the worker.
    """

    def __init__(self, pace: Pace, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = pace
        self._clock = clock
        self.due = math.inf

    @property
    def up(self) -> bool:
        """Whether it is time to `look`."""
        return self._clock() >= self.due

    def begin(self, kind: Kind, what: str, times: int = 1) -> None:
        """Expect a word of a worker.

        Args:
            kind: what it does.
            what: the same for people.
            times: so many times as long as usual may it take.
        """
        usual = self._pace.usual(kind)
        self._kind, self._what, self._usual = kind, what, usual
        self._since = self._clock()
        self._patience = UNKNOWN if usual is None else max(LEAST, TIMES * times * usual)
        self._stops = 0.0  # how long a silence of a worker that is stopped is told next
        self._stopped = False
        self.due = self._since + LOOK

    def end(self) -> None:
        """Hear that what was expected has come."""
        if self.due < math.inf:
            self._pace.took(self._kind, self._clock() - self._since)
        self.forget()

    def forget(self) -> None:
        """Expect nothing any more."""
        self.due = math.inf

    def postpone(self, seconds: float) -> None:
        """Leave time out of account in which this process was suspended."""
        if self.due < math.inf:
            self._since += seconds

    def look(self, pid: int, stopped: bool) -> str:
        """Return what a person should know by now; nothing if all is well, or told already.

        Each time, it takes twice as long until it is told again.

        Args:
            pid: the worker's.
            stopped: whether it is stopped, as by SIGSTOP.
        """
        moment = self._clock()
        self.due = moment + LOOK
        silent = moment - self._since
        # Twice, since whoever was suspended with this process may go on a little later.
        before, self._stopped = self._stopped, stopped
        about = f"{self._what} has been silent for {_span(silent)}"
        if stopped and before and silent >= self._stops:
            self._stops = 2 * max(silent, LEAST)
            return (
                f"{about}: its worker, process {pid}, is stopped, as by SIGSTOP. "
                f"`kill -CONT {pid}` lets it go on."
            )
        if stopped or silent < self._patience:
            return ""
        self._patience = 2 * silent
        known = "it is not known how long it takes"
        if self._usual is not None:
            known = f"it takes about {_span(self._usual)} otherwise"
        if self._kind == "load_dataset":
            help_with = "If it hangs, stop the run; with epoch_timeout, another worker would try."
        else:
            help_with = (
                "If it hangs, `letstune skip` ends the trial; epoch_timeout ends such epochs by "
                "itself."
            )
        return f"{about}; {known}. Its worker is process {pid}. {help_with}"


def _span(seconds: float) -> str:
    """Return a span of time for people.

    >>> _span(4.21), _span(90), _span(600), _span(9000)
    ('4.2 s', '90 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.2g} h"
