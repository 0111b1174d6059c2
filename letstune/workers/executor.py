"""Executors: where tasks are trained, and how what comes of them gets back.

The runner starts tasks and waits for events; it does not know whether they come from this process
or from another machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from letstune._public import public
from letstune.rounds.events import Event, Task, TaskEnded


class Delivery(NamedTuple):
    """Events of one task, to be recorded together.

    ``attempt`` is the task's. Deliveries of an attempt that is not the trial's latest are stale
    and dropped: they may come from a worker that was given up. ``error`` is the exception behind
    a `TrialFailed`, where it is at hand.
    """

    trial: int
    attempt: str
    events: list[Event | TaskEnded]
    error: BaseException | None = None


@public("letstune")
class Executor(ABC):
    """Trains tasks.

    Attributes:
        slots: how many tasks it can train at the same time.
    """

    slots: int

    @staticmethod
    def count(address: Any, **options: Any) -> int:
        """Return how many tasks could be trained at an address now, for the default of ``lag``.

        Args:
            address: what the factory gets.
            options: those of the user that the factory gets; any of them may be missing.
        """
        return 1

    @abstractmethod
    def start(self, task: Task) -> None:
        """Begin to train a task. Called for at most `slots` tasks at a time."""

    @abstractmethod
    def deliveries(self) -> list[Delivery]:
        """Wait until something has come of the tasks, and return all that has.

        Return without anything after about a second, so that the caller can look at other things.
        The last delivery of a task ends with a `TaskEnded`. The events of one trial come in order.
        What must end the run, such as a `CheckpointError` of a worker, is raised.
        """

    def recorded(self) -> None:
        """Hear that all that was delivered is durable: those who wait for that may go on."""
        return

    @abstractmethod
    def cancel(self, trial: int) -> None:
        """Give up a trial's task: nothing more of it is delivered, and its slot is free."""

    @abstractmethod
    def stop(self) -> None:
        """Begin no further epoch; those in flight are still delivered, and end their tasks."""

    @abstractmethod
    def close(self) -> None:
        """Stop all training and tidy up. What was not delivered is lost."""
