"""What an executor and a machine far away say to each other. All of it can be pickled.

An executor's commands arrive in their order; what comes of them, the items, does as well.
"""

from __future__ import annotations

from typing import NamedTuple

from letstune.rounds.events import Event, Task, TaskEnded
from letstune.workers.executor import Delivery
from letstune.workers.messages import Raised, pack, unpack


class Start(NamedTuple):
    """Train this task."""

    task: Task


class Answer(NamedTuple):
    """What came of this attempt is recorded: train its next epoch, or end it."""

    attempt: str
    go_on: bool


class Cancel(NamedTuple):
    """Give this attempt up."""

    attempt: str


class Stop(NamedTuple):
    """End the tasks for which the dataset is not even loaded."""


Command = Start | Answer | Cancel | Stop


class Came(NamedTuple):
    """What came of a task: a `Delivery` whose exception is pickled, if that is possible."""

    trial: int
    attempt: str
    events: list[Event | TaskEnded]
    error: bytes | None

    @staticmethod
    def of(delivery: Delivery) -> Came:
        """Return a delivery as it can be sent."""
        return Came(delivery.trial, delivery.attempt, delivery.events, pack(delivery.error))

    def delivery(self) -> Delivery:
        """Return the delivery that was sent, without its exception if this process lacks it."""
        return Delivery(self.trial, self.attempt, self.events, unpack(self.error))


Item = Came | Raised
