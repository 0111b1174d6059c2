"""Trains in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from letstune.rounds.events import Task, TaskEnded
from letstune.training.pickling import clone
from letstune.training.stores import Store
from letstune.training.trainer import Trainer, check_trainer, params_class
from letstune.training.worker import Assignment, Outcome, Worker
from letstune.workers.executor import Delivery, Executor


@dataclass(frozen=True, kw_only=True)
class InProcessJob:
    """What a worker in this process needs: a `Job` of which nothing is pickled.

    So a run in this process may have a dataset that cannot be, or that is too large.
    """

    trainer: Trainer[Any]
    dataset: object
    store: Store
    seed: int
    horizon: int | None = None

    def worker(self, token: str) -> Worker:
        """Return a new worker, with a clone of the trainer.

        Args:
            token: names it; no other worker, of any run, has the same.
        """
        assignment = Assignment(
            make_trainer=partial(clone, self.trainer),
            dataset=self.dataset,
            params_cls=params_class(self.trainer),
            metric=check_trainer(self.trainer),
            seed=self.seed,
            store=self.store,
            horizon=self.horizon,
        )
        return Worker(assignment, token)


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
