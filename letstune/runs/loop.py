"""The loop: ask what is next, have it trained, record what comes of it.

This is the only place that does and records. It decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from letstune.errors import Interrupted, JournalError, TrainerError, WorkerError
from letstune.journal.journal import Journal
from letstune.rounds.blame import blameless, preempted
from letstune.rounds.decisions import (
    Proposal,
    doomed,
    ended,
    next_proposal,
    next_tasks,
    useless,
    visible,
)
from letstune.rounds.events import (
    CheckpointDeleted,
    Event,
    SpaceExhausted,
    Task,
    TaskEnded,
    TrialFailed,
    TrialProposed,
    WorkerDied,
)
from letstune.rounds.state import State
from letstune.runs.signals import interruptible
from letstune.runs.skip import may_skip, requests, stop_of
from letstune.samplers.sampler import Observation, Sampler, propose_distinct
from letstune.space.params import Space
from letstune.telling.observers import Audience
from letstune.training.stores import Store
from letstune.workers.executor import Delivery, Executor

LOOK: Final = 1.0
"""How often requests of others are looked for, in seconds."""

MOMENT: Final = 0.02
"""How long a failure waits for a signal that may be what is behind it, in seconds."""


@dataclass(kw_only=True)
class Runner:
    """Runs a plan from wherever its journal stands to its end.

    ``token`` names this process in attempts, so that no checkpoint's name is ever used again.
    """

    state: State
    journal: Journal
    space: Space
    sampler: Sampler
    store: Store
    executor: Executor
    audience: Audience
    token: str
    passthrough_errors: bool = False
    _running: dict[int, Task] = field(default_factory=dict)
    _due: list[CheckpointDeleted] = field(default_factory=list)
    _seen: dict[int, Observation] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)
    _started: int = 0
    _looked: float = -LOOK
    _deaf: bool = False
    _stopping: bool = False

    def run(self) -> None:
        """Train until the plan is done.

        Raises:
            Interrupted: a signal asked for a stop; the epoch in flight was recorded.
            KeyboardInterrupt: one of them came twice.
            LetstuneError: the trainer breaks its contract, a checkpoint is missing, or the
                journal cannot be written.
            Exception: a trainer raised it, and ``passthrough_errors`` is set.
        """
        with interruptible() as interrupted:
            try:
                self.audience.started(self.journal.path, self.state.plan)
                self._train(interrupted)
                if not self.state.finished:
                    raise Interrupted(str(self.journal.path))
            except BaseException as error:
                stopped = isinstance(error, Interrupted | KeyboardInterrupt)
                how = "interrupted" if stopped else "error"
                # If not even this can be written, the error that is on its way says why; and a
                # session without an end is what every crash leaves.
                with suppress(JournalError):
                    self.journal.end_session(how)
                self.audience.finished(how)
                raise
            else:
                self.journal.end_session("finished")
                self.audience.finished("finished")
            finally:
                self.executor.close()

    def _train(self, interrupted: Callable[[], bool]) -> None:
        self._let_go()
        self._fail_doomed()
        while self._running if self._stopping else self._start_tasks():
            deliveries = self.executor.deliveries()
            if any(isinstance(event, TrialFailed) for d in deliveries for event in d.events):
                # What asks for a stop may have reached what the trainer has started before us.
                time.sleep(MOMENT)
                self._look()
            if interrupted():
                self._stop()
            errors = self._take(deliveries)
            if errors and self.passthrough_errors:
                raise errors[0]
            self.executor.recorded()
            if time.monotonic() >= self._looked + LOOK:
                self._look()
        # Those asked for as the run ends, too: left behind, they would be obeyed by whoever
        # extends it, of trials that had come to their end when they were asked for.
        self._look()
        self._record(())  # what was let go last

    def _start_tasks(self) -> bool:
        """Keep the executor busy; tell whether it is."""
        while (slots := self.executor.slots - len(self._running)) > 0:
            for task in next_tasks(self.state.plan, self.state, self._running, slots):
                self._started += 1
                task = task._replace(attempt=f"{self.token}-{self._started}")
                self._running[task.trial] = task
                self.executor.start(task)
                slots -= 1
            # Only now, since a sampler may take its time, and workers need not wait for it.
            proposal = next_proposal(self.state.plan, self.state, slots) if slots else None
            if proposal is None:
                break
            self._propose(proposal)
        return bool(self._running)

    def _propose(self, proposal: Proposal) -> None:
        """Have a cohort proposed, all of it or nothing."""
        if not self._taken:
            self._taken.update(trial.params for trial in self.state.trials)
        history = self._history(proposal.cohort)
        events: list[Event] = []
        for trial in range(proposal.first, proposal.first + proposal.size):
            params = propose_distinct(
                self.sampler, self.space, history, self.state.plan.seed, trial, self._taken
            )
            if params is None:
                events.insert(0, SpaceExhausted(trial))
                break
            text = params.to_json()
            self._taken.add(text)
            events.append(TrialProposed(trial, text, self.state.plan.sampler["name"]))
            if self.state.plan.adaptive:
                history.append(Observation(trial, params, "pending"))
        self._record(events)
        if events and isinstance(events[0], SpaceExhausted):
            # There are fewer trials than the state took for granted: fold it anew.
            self.state = self.journal.load()[1]
            self._let_go()

    def _history(self, cohort: int) -> list[Observation]:
        history = []
        for sight in visible(self.state.plan, self.state, cohort):
            seen = self._seen.get(sight.trial)
            if seen is None or (seen.status, len(seen.values)) != (sight.status, sight.epochs):
                params = self.space.decode(self.state.trials[sight.trial].params)
                shown = (
                    list(self.journal.epochs(sight.trial))[: sight.epochs] if sight.epochs else []
                )
                seen = Observation(
                    sight.trial,
                    params,
                    sight.status,
                    tuple(epoch.value for epoch in shown),
                    tuple(epoch.metrics for epoch in shown),
                )
                self._seen[sight.trial] = seen
            history.append(seen)
        return history

    def _take(self, deliveries: Sequence[Delivery]) -> list[BaseException]:
        """Record what arrived together, with one sync; return the errors of trials that failed."""
        events: list[Event] = []
        deaths: list[tuple[Task, WorkerDied]] = []
        errors: list[BaseException] = []
        for delivery in deliveries:
            task = self._running.get(delivery.trial)
            if task is None or task.attempt != delivery.attempt:
                continue  # stale: from a worker that was given up
            for event in blameless(delivery.events) if self._stopping else delivery.events:
                if isinstance(event, TaskEnded):
                    del self._running[delivery.trial]
                elif isinstance(event, WorkerDied) and preempted(event):
                    self._tell_preempted(event)
                elif isinstance(event, WorkerDied):
                    deaths.append((task, event))
                else:
                    events.append(event)
                    if isinstance(event, TrialFailed):
                        errors.append(_error(delivery.error, event))
        if events:
            self._record(events)
        counted = [death for task, death in deaths if self._died_in_flight(task, death)]
        if counted:
            self._record(counted)
        return errors + self._fail_doomed()

    def _tell_preempted(self, death: WorkerDied) -> None:
        self.audience.tell(
            f"A worker was preempted in epoch {death.epoch} of trial {death.trial}, by "
            f"{ended(death.code)}. The epoch is trained again, and nobody is blamed."
        )

    def _died_in_flight(self, task: Task, death: WorkerDied) -> bool:
        """Tell whether a worker died in an epoch, now that all that it delivered is recorded.

        One that died after the last epoch of its task is nobody's loss. And were that recorded, a
        resume, to which the trial may have gone on since, could not tell it from a death at the
        beginning of the next round.
        """
        trial = self.state.trials[task.trial]
        done = trial.seconds if task.timed else trial.epochs
        return done < task.limit and self.state.counts(death)

    def _fail_doomed(self) -> list[BaseException]:
        """Fail the trials that kill their workers again and again."""
        failures = doomed(self.state.plan, self.state) if self.state.deaths else []
        if failures:
            self._record(failures)
        return [WorkerError(failure.traceback) for failure in failures]

    def _stop(self) -> None:
        """Begin no further epoch."""
        if not self._stopping:
            self._stopping = True
            self.executor.stop()

    def _look(self) -> None:
        """End the trials that somebody wants skipped, and all of it if that is asked for."""
        self._looked = time.monotonic()
        with requests(self.journal.path, self._tell_deaf) as asked:
            if asked.stop and not self._stopping:
                self.audience.tell("Asked to stop: finishing the epochs in flight.")
                self._stop()
            for trial in dict.fromkeys(asked.trials):
                if not may_skip(self.state, trial):
                    continue  # it has ended meanwhile
                if self._running.pop(trial, None):
                    self.executor.cancel(trial)
                self._record([stop_of(self.state, trial)])

    def _tell_deaf(self, line: str) -> None:
        if not self._deaf:
            self._deaf = True
            self.audience.tell(line)

    def _record(self, events: Sequence[Event]) -> None:
        """Make events true: journal first, then state, then whoever wants to know.

        Deletions that the events before have made due are recorded along with these, which saves
        a sync an epoch; only then are the checkpoints deleted, so that the journal never points
        to one that is gone.
        """
        due, self._due = self._due, []
        self.journal.append([*events, *due])
        for deletion in due:
            stored = self.state.trials[deletion.trial].kept[deletion.epoch]
            self.state.apply(deletion)
            self._delete(stored.uri)
        for event in events:
            self.state.apply(event)
        self._let_go()
        self.audience.recorded(events, self.state)

    def _delete(self, uri: str) -> None:
        try:
            self.store.delete(uri)
        except Exception as error:  # noqa: BLE001 (whatever a store may raise)
            # Nothing points to it any more, so the run can do without its being gone.
            line = f"Checkpoint {uri} cannot be deleted: {error}. `letstune check --fix` will."
            self.audience.tell(line)

    def _let_go(self) -> None:
        self._due = useless(self.state.plan, self.state)
        self.state.changed.clear()


def _error(error: BaseException | None, event: TrialFailed) -> BaseException:
    """Return the exception behind a failure, with where it was raised."""
    if error is None:
        return TrainerError(event.traceback)
    if error.__traceback__ is None:  # it has come from another process
        error.add_note(f"It was raised in a worker:\n{event.traceback}")
    return error
