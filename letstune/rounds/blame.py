"""Whose fault it is that an epoch ended without a result: the trial's, or something outside's.

Pure, like all that decides. What is the trial's is recorded; what is not costs the epoch in flight.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from typing import Final, TypeVar

from letstune.rounds.events import Event, TaskEnded, TrialFailed, WorkerDied

E = TypeVar("E", bound=Event | TaskEnded)

PREEMPTIONS: Final = frozenset(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)  # Windows lacks some
)
"""The signals by which schedulers, services and terminals ask processes to end."""


def preempted(death: WorkerDied) -> bool:
    """Tell whether a worker was ended from outside: no trial is to blame for that."""
    return -death.code in PREEMPTIONS


def blameless(events: Iterable[E]) -> list[E]:
    """Return what is to be recorded of what came after a stop was asked for.

    Whatever asks for a stop may end processes that a trainer has started, the network, or the
    worker itself. So what went wrong since is nobody's: the epoch is trained again.
    """
    return [event for event in events if not isinstance(event, TrialFailed | WorkerDied)]
