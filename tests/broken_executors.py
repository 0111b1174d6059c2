"""Executors that are broken on purpose, one for each law. `test_conformance.py` runs this file."""

from __future__ import annotations

import secrets
import threading
from typing import Any

from broken_plugins import suites

from letstune.plugins.installed import find, make
from letstune.rounds.events import EpochFinished, TaskEnded, TrialFailed, TrialStopped
from letstune.testing import ExecutorSuite
from letstune.workers.executor import Delivery, Executor
from letstune.workers.in_process import InProcessExecutor


class Wrapper(Executor):
    """Hands all on to an executor in this process."""

    slots = 1

    def __init__(self, job: Any) -> None:
        self.inner: Executor = InProcessExecutor(job.worker())

    def start(self, task: Any) -> None:
        self.inner.start(task)

    def deliveries(self) -> list[Delivery]:
        return [
            delivery._replace(events=events)
            for delivery in self.inner.deliveries()
            if (events := self.changed(list(delivery.events)))
        ]

    def changed(self, events: Any) -> Any:
        return events

    def recorded(self) -> None:
        self.inner.recorded()

    def cancel(self, trial: int) -> None:
        self.inner.cancel(trial)

    def stop(self) -> None:
        self.inner.stop()

    def close(self) -> None:
        self.inner.close()


class NotWaiting(Wrapper):
    """Law: an_epoch_begins_when_the_one_before_is_recorded."""

    def deliveries(self) -> list[Delivery]:
        delivered = super().deliveries()
        self.inner.recorded()
        return delivered


class OutOfOrder(Wrapper):
    """Law: events_of_a_trial_come_in_order."""

    held: Any = ()

    def changed(self, events: Any) -> Any:
        if isinstance(events[0], EpochFinished) and not self.held:
            self.held = events
            return []
        events, self.held = [*events[:-1], *self.held, events[-1]], ()
        return events if isinstance(events[-1], TaskEnded) else [*events[::-1]]


class WithoutAnEndOfTasks(Wrapper):
    """Law: a_task_ends_with_task_ended."""

    def deliveries(self) -> list[Delivery]:
        try:
            return super().deliveries()
        except StopIteration:
            return []

    def changed(self, events: Any) -> Any:
        return [event for event in events if not isinstance(event, TaskEnded)]


class WithStaleAttempts(Wrapper):
    """Law: deliveries_carry_the_attempt_of_their_task."""

    first: Any = None

    def deliveries(self) -> list[Delivery]:
        delivered = super().deliveries()
        self.first = self.first or delivered[0].attempt
        return [*delivered, delivered[0]._replace(attempt="stale")]


class WithAnotherSeed(Wrapper):
    """Law: the_journal_is_that_of_a_run_in_process."""

    def __init__(self, job: Any) -> None:
        from dataclasses import replace

        super().__init__(replace(job, seed=job.seed + 1))


class ByTheOrderOfDeliveries(Wrapper):
    """Law: the_order_of_deliveries_does_not_matter."""

    slots = 2

    def __init__(self, job: Any) -> None:
        from letstune.testing.runs import ShuffledExecutor

        self.inner = ShuffledExecutor(job, 2, 1)
        self.begun: dict[int, int] = {}

    def start(self, task: Any) -> None:
        self.begun[task.trial] = len(self.begun)
        super().start(task)

    def deliveries(self) -> list[Delivery]:
        # Trials that were started later than they would have been are given up.
        return [
            d._replace(events=[TrialStopped(d.trial, -1), TaskEnded(d.trial)])
            if self.begun[d.trial] != d.trial and isinstance(d.events[0], TaskEnded)
            else d
            for d in self.inner.deliveries()
        ]


class BoastingOfSlots(Wrapper):
    """Law: as_many_tasks_are_trained_as_there_are_slots."""

    slots = 2

    def deliveries(self) -> list[Delivery]:
        try:
            return super().deliveries()
        except StopIteration:
            return []


class Unstoppable(Wrapper):
    """Law: stop_ends_after_the_epochs_in_flight."""

    def stop(self) -> None:
        return


class LeavingAThread(Wrapper):
    """Law: close_leaves_nothing_behind."""

    def close(self) -> None:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        super().close()


class HidingFailures(Wrapper):
    """Law: an_exception_of_a_trainer_is_a_failed_trial."""

    def changed(self, events: Any) -> Any:
        return [event for event in events if not isinstance(event, TrialFailed)]


class TakingApart(Wrapper):
    """Law: an_early_stop_is_a_stopped_trial."""

    def deliveries(self) -> list[Delivery]:
        return [d._replace(events=[e]) for d in super().deliveries() for e in d.events]


class BlamingTrials(Wrapper):
    """Law: a_preemption_costs_an_epoch_and_blames_nobody."""

    trained = 0

    def __init__(self, job: Any) -> None:
        given = {"token": secrets.token_hex(4), "epoch_timeout": None, "trial_timeout": None}
        self.inner = make(find("executor", "processes"), 1, job.packed(), **given)

    def changed(self, events: Any) -> Any:
        self.trained += isinstance(events[0], EpochFinished)
        if isinstance(events[-1], TaskEnded) and self.trained < 3:
            trial = events[-1].trial
            return [TrialFailed(trial, self.trained, "worker died", "signal 15", ""), events[-1]]
        return events


class HidingErrors(Wrapper):
    """Law: what_must_end_the_run_is_raised."""

    task: Any = None

    def start(self, task: Any) -> None:
        self.task = task
        super().start(task)

    def deliveries(self) -> list[Delivery]:
        try:
            return super().deliveries()
        except OSError:
            return [Delivery(self.task.trial, self.task.attempt, [TaskEnded(self.task.trial)])]


globals().update(suites(globals(), ExecutorSuite, lambda cls: {"make_executor": lambda self: cls}))
