"""Tasks that an executor is given by hand: what they train, and what comes of them."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from random import Random
from typing import Final

from letstune.errors import StopTraining
from letstune.rounds.events import Event, SpaceExhausted, Task, TaskEnded
from letstune.testing.runs import Climb, Corners, Job
from letstune.training.stores import DirectoryStore, Store
from letstune.workers.executor import Delivery, Executor

Events = list[Event | TaskEnded]

MANY: Final = 400
"""More epochs than are trained before a task is stopped or given up."""

_PATIENCE: Final = 10_000  # deliveries, none of which ends a task
_TASKS: Final = 500  # that a run of these laws never needs


class Raises(Climb):
    """Fails in its second epoch."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Raise, or climb."""
        if epoch == 1:
            raise ValueError("no way on: größer")
        return {"height": 1.0}


class Stops(Climb):
    """Stops in its second epoch."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Stop, or climb."""
        if epoch == 1:
            raise StopTraining({"height": 2.0})
        return {"height": 1.0}


class Steady(Climb):
    """Neither fails nor stops."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Climb."""
        return {"height": float(epoch)}


class Slow(Steady):
    """Takes its time, so that a task of many epochs does not come to its end meanwhile."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Climb slowly."""
        time.sleep(0.005)
        return super().train_epoch(epoch)


class Counted(Steady):
    """Leaves a dot in a file, the dataset, for each epoch that begins."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Leave a dot, and climb."""
        with Path(self.witness).open("a") as file:
            file.write(".")
        return super().train_epoch(epoch)


class FullStore(DirectoryStore):
    """Cannot take anything."""

    def put(self, name: str, folder: Path) -> str:
        """Refuse."""
        raise OSError("no space left")


class Watched(Executor):
    """Another executor, whose deliveries are watched, and may be handed on in another order.

    Args:
        executor: the other one.
        seed: decides the order in which deliveries of different trials are handed on; None keeps
            the order.
    """

    def __init__(self, executor: Executor, seed: int | None = None) -> None:
        self._executor = executor
        self._random = None if seed is None else Random(seed)
        self._held: list[Delivery] = []
        self._silent = 0
        self.started: dict[str, int] = {}
        self.most = 0
        self.running: set[str] = set()
        self.seen: dict[str, list[Delivery]] = defaultdict(list)

    @property
    def slots(self) -> int:  # type: ignore[override]
        """What the other one says, which may change."""
        return self._executor.slots

    def start(self, task: Task) -> None:
        """Hand a task on.

        Raises:
            RuntimeError: tasks end without the epochs that they should train, and are started for
                ever.
        """
        if len(self.started) >= _TASKS:
            raise RuntimeError(f"{_TASKS} tasks were started, and the run has not come to its end")
        self.started[task.attempt] = task.trial
        self.running.add(task.attempt)
        self.most = max(self.most, len(self.running))
        self._executor.start(task)

    def deliveries(self) -> list[Delivery]:
        """Return what is delivered, or some of what is held back.

        Raises:
            RuntimeError: nothing has come of the tasks for too long.
        """
        if self._random is None:
            self._take(self._executor.deliveries())
            handed, self._held = self._held, []
            return handed
        # The runner waits as long as it likes: in-between, more may have been delivered.
        if self.running and (not self._held or self._random.random() < 0.5):
            self._take(self._executor.deliveries())
        if not self._held:
            return []
        chosen = self._random.choice(self._held).attempt
        first = next(i for i, held in enumerate(self._held) if held.attempt == chosen)
        return [self._held.pop(first)]

    def _take(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.seen[delivery.attempt].append(delivery)
            ended = any(isinstance(event, TaskEnded) for event in delivery.events)
            if ended and delivery.attempt in self.running:
                self.running.remove(delivery.attempt)
                self._silent = 0
        self._silent += 1
        if self._silent > _PATIENCE:
            raise RuntimeError(f"no task has ended in {_PATIENCE} deliveries: {self.running}")
        self._held += deliveries

    def recorded(self) -> None:
        """Hand the word on."""
        self._executor.recorded()

    def cancel(self, trial: int) -> None:
        """Hand on that a task is given up."""
        self._executor.cancel(trial)
        self.running -= {attempt for attempt, number in self.started.items() if number == trial}

    def stop(self) -> None:
        """Hand the request on."""
        self._executor.stop()

    def close(self) -> None:
        """Hand the request on."""
        self._executor.close()


def job_of(trainer: type[Climb], store: Store) -> Job:
    """Return a job without a dataset."""
    return Job(
        trainer=trainer(Corners),
        dataset=None,
        params_cls=Corners,
        metric=Climb.metric,
        seed=1,
        store=store,
    )


def task_of(trial: int, limit: float = 3) -> Task:
    """Return a task of so many epochs, from the first on."""
    params = Corners.space().point(trial).to_json()
    return Task(trial, f"a{trial}", params, epochs=0, seconds=0.0, limit=limit, timed=False)


def drained(executor: Watched, tasks: list[Task]) -> Events:
    """Start tasks, and return all events up to the end of the last task."""
    for task in tasks:
        executor.start(task)
    events: Events = []
    while executor.running:
        events += [event for delivery in executor.deliveries() for event in delivery.events]
        executor.recorded()
    return events


def trial_of(event: Event | TaskEnded) -> int:
    """Return the trial that an event is of; -1 if it is of none."""
    return -1 if isinstance(event, SpaceExhausted) else event.trial
