"""Work: a task in training, as far as it has come."""

from __future__ import annotations

from collections.abc import Iterable

from letstune.rounds.events import EpochFinished, Event, Stored, Task, TaskEnded


class Work:
    """A task, and what has come of it.

    Attributes:
        task: the task.
        epoch: the one in flight, or to come.
        seconds: how long the trial's epochs have taken.
        more: whether the task has another epoch.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.epoch = task.epochs
        self.seconds = task.seconds
        self.more = True
        self._saved: tuple[int, Stored] | None = None  # the last epoch's checkpoint

    def see(self, events: Iterable[Event | TaskEnded]) -> None:
        """See what has come of it."""
        for event in events:
            if isinstance(event, EpochFinished):
                if event.checkpoint is not None:
                    self._saved = (event.epoch, event.checkpoint)
                self.epoch += 1
                self.seconds += event.seconds
                done = self.seconds if self.task.timed else self.epoch
                self.more = done < self.task.limit
            else:
                self.more = False

    @property
    def what(self) -> str:
        """What is done of it, for people."""
        return f"trial {self.task.trial}, in epoch {self.epoch},"

    @property
    def untold(self) -> int:
        """How many epochs are trained until the first one is told: some are trained again."""
        return self.task.epochs - self.task.loaded

    @property
    def rest(self) -> Task:
        """What is left of the task: its epochs so far are recorded."""
        return self.task._replace(
            epochs=self.epoch,
            seconds=self.seconds,
            loaded=self._saved[0] if self._saved else self.task.loaded,
            checkpoint=self._saved[1] if self._saved else self.task.checkpoint,
        )
