"""Executors: where tasks are trained, and how what comes of them gets back.

The runner starts tasks and waits for events; it does not know whether they come from this process
or from another machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from letstune.pickling import clone
from letstune.records import Event, Task, TaskEnded
from letstune.stores import Store
from letstune.trainer import Trainer, params_class
from letstune.worker import Outcome, Worker


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


@dataclass(frozen=True, kw_only=True)
class LocalJob:
    """What a worker in this process needs: as `letstune.jobs.Job`, but nothing of it is pickled.

    So a run in this process may have a dataset that cannot be, or that is too large.
    """

    trainer: Trainer[Any]
    dataset: object
    store: Store
    seed: int

    def worker(self, token: str) -> Worker:
        """Return a new worker, with a clone of the trainer.

        Args:
            token: names it; no other worker, of any run, has the same.
        """
        return Worker(
            partial(clone, self.trainer),
            self.dataset,
            params_class(self.trainer),
            self.trainer.metric,
            self.seed,
            self.store,
            token,
        )


class InProcessExecutor(Executor):
    """Trains in this process, one task at a time, an epoch for each call of `deliveries`."""

    slots = 1

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._task: Task | None = None
        self._outcomes: Iterator[Outcome] = iter(())
        self._stopped = False
        self._listening = False  # whether what was delivered is not yet recorded

    def start(self, task: Task) -> None:
        """Take on a task; see `Executor.start`."""
        self._listening = False
        self._task, self._outcomes = task, self._worker.train(task)

    def deliveries(self) -> list[Delivery]:
        """Train one epoch; see `Executor.deliveries`."""
        if self._task is None or self._listening:
            return []
        trial, attempt = self._task.trial, self._task.attempt
        if self._stopped:
            return [Delivery(trial, attempt, [TaskEnded(trial)])]
        events, error = next(self._outcomes)
        self._listening = True
        return [Delivery(trial, attempt, events, error)]

    def recorded(self) -> None:
        """Let the next epoch be trained; see `Executor.recorded`."""
        self._listening = False

    def cancel(self, trial: int) -> None:
        """Forget the task; see `Executor.cancel`."""
        self._task, self._outcomes = None, iter(())

    def stop(self) -> None:
        """Train no further epoch; see `Executor.stop`."""
        self._stopped = True

    def close(self) -> None:
        """Forget the task; see `Executor.close`."""
        self._outcomes = iter(())
        self._worker.close()
