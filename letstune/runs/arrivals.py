"""What arrives from an executor, judged before anything of it is recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from letstune.errors import PluginError
from letstune.plugins.hookspecs import PROJECT
from letstune.rounds.arriving import refused
from letstune.rounds.events import Task, TaskEnded
from letstune.rounds.state import State
from letstune.workers.executor import Delivery

VAIN: Final = 5
"""So many tasks of a trial may end one after another without anything to record."""

SILENT: Final = 60.0
"""When to tell that nothing but stale deliveries has come, in seconds."""


class Arrivals:
    """Sorts what arrives: what is of a running task, and may be recorded, from what is not.

    Args:
        metric: that of the plan.
        executor: the plan's fact about who trains; None for this process.
        tell: tells a person something.
    """

    def __init__(
        self, metric: str, executor: Mapping[str, Any] | None, tell: Callable[[str], None]
    ) -> None:
        self._metric, self._executor, self._tell = metric, executor or {}, tell
        self._stale, self._since = 0, time.monotonic()
        self._vain: dict[int, int] = {}
        self._fruitful: set[str] = set()

    def of(
        self, deliveries: object, running: Mapping[int, Task], state: State, apart: int | None
    ) -> list[tuple[Task, Delivery]]:
        """Return the deliveries of running tasks, each with its task.

        Args:
            deliveries: what the executor has returned.
            running: the tasks that it was given, by trial.
            state: the run as it is recorded.
            apart: the trial of which nothing is recorded, if there is one.

        Raises:
            PluginError: something cannot have happened. Nothing is recorded.
        """
        if not isinstance(deliveries, list | tuple):
            self._refuse(f"{deliveries!r:.200}, where a list of deliveries was expected")
        found = list(self._current(deliveries, running))
        arrived: dict[int, list[Any]] = {}
        for task, delivery in found:
            if task.trial != apart:
                arrived.setdefault(task.trial, []).extend(delivery.events)
        for trial, events in arrived.items():
            why = refused(self._metric, running[trial], state.trials[trial], events)
            if why:
                self._refuse(f"for trial {trial}: {why}")
            self._count(running[trial], events)
        self._tell_stale(heard=bool(found))
        return found

    def _current(
        self, deliveries: Sequence[object], running: Mapping[int, Task]
    ) -> Iterator[tuple[Task, Delivery]]:
        for delivery in deliveries:
            if not isinstance(delivery, Delivery) or not isinstance(delivery.events, list | tuple):
                self._refuse(f"{delivery!r:.200}, where a Delivery with a list of events belongs")
            task = running.get(delivery.trial)
            if task is None or task.attempt != delivery.attempt:
                self._stale += 1  # from a worker that was given up
            else:
                yield task, delivery

    def _count(self, task: Task, events: Sequence[object]) -> None:
        """Refuse tasks of one trial that end without anything, one after another."""
        if any(not isinstance(event, TaskEnded) for event in events):
            self._fruitful.add(task.attempt)
        if not any(isinstance(event, TaskEnded) for event in events):
            return
        if task.attempt in self._fruitful:
            self._fruitful.discard(task.attempt)
            self._vain.pop(task.trial, None)
            return
        self._vain[task.trial] = self._vain.get(task.trial, 0) + 1
        if self._vain[task.trial] >= VAIN:
            self._refuse(
                f"the end of {VAIN} tasks of trial {task.trial}, one after another, without an "
                "epoch, a failure or a death in any of them"
            )

    def _tell_stale(self, *, heard: bool) -> None:
        """Tell, once, that all that comes is of tasks that are not running."""
        now = time.monotonic()
        if heard:
            self._stale, self._since = 0, now
        elif self._stale and now >= self._since + SILENT:
            self._tell(
                f"Nothing from {self._who()} for {SILENT:.0f} s but {self._stale} stale "
                "deliveries, which were dropped: their attempts are not those of running tasks."
            )
            self._since = float("inf")

    def _who(self) -> str:
        name = self._executor.get("name", "in-process")
        by = self._executor.get("by") or {}
        if by.get("distribution", PROJECT) == PROJECT:
            return f"letstune's own executor {name!r}"
        return f"executor {name!r} ({by['distribution']} {by.get('version', '')})".replace(
            " )", ")"
        )

    def _refuse(self, what: str) -> NoReturn:
        raise PluginError(
            f"{self._who()} delivered {what}. Nothing of that is recorded, and the run can be "
            "resumed once that is mended; `letstune plugins check` tries the laws of executors."
        )
