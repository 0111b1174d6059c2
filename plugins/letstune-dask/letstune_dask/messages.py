"""What the owner of a run and a Dask worker say to each other. All of it can be pickled."""

from __future__ import annotations

from dataclasses import dataclass

from letstune.rounds.events import Event, Task, TaskEnded


@dataclass(frozen=True)
class Start:
    """Train this task."""

    task: Task


@dataclass(frozen=True)
class Answer:
    """What came of this attempt is recorded: train its next epoch, or end it."""

    attempt: str
    go_on: bool


@dataclass(frozen=True)
class Cancel:
    """Give this attempt up."""

    attempt: str


@dataclass(frozen=True)
class Stop:
    """End the tasks for which the dataset is not even loaded."""


Command = Start | Answer | Cancel | Stop


@dataclass(frozen=True)
class Came:
    """What came of a task: a `letstune.workers.executor.Delivery`, its exception pickled."""

    trial: int
    attempt: str
    events: list[Event | TaskEnded]
    error: bytes | None


@dataclass(frozen=True)
class Broke:
    """What must end the run: the exception, pickled if that is possible, and its traceback."""

    error: bytes | None
    text: str


Item = Came | Broke
