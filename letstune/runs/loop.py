"""The loop: ask what is next, have it trained, record what comes of it.

This is the only place that does and records. It decides nothing.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from letstune.errors import Interrupted, JournalError, StoreError, TrainerError, WorkerError
from letstune.journal.journal import Journal
from letstune.rounds.blame import blameless, preempted
from letstune.rounds.decisions import (
    Proposal,
    doomed,
    ended,
    next_proposal,
    next_tasks,
    useless,
)
from letstune.rounds.events import (
    CheckpointDeleted,
    EpochFinished,
    Event,
    SpaceExhausted,
    Task,
    TaskEnded,
    TrialFailed,
    WorkerDied,
)
from letstune.rounds.state import State
from letstune.rounds.streaks import Streaks
from letstune.runs.arrivals import Arrivals
from letstune.runs.deadline import Deadline
from letstune.runs.dress_rehearsal import DressRehearsal
from letstune.runs.proposals import Proposals
from letstune.runs.remarks import Remarks, mistaken
from letstune.runs.signals import interruptible
from letstune.runs.skip import may_skip, requests, stop_of
from letstune.samplers.sampler import Sampler
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
    ``rehearse`` asks for a dress rehearsal. ``endless`` adds trials as long as there is time.
    ``stopped`` tells why it has ended too early, if it has.
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
    streaks: Streaks = field(default_factory=lambda: Streaks(0))
    deadline: Deadline = field(default_factory=Deadline)
    rehearse: bool = False
    endless: bool = False
    stopped: str = ""
    _running: dict[int, Task] = field(default_factory=dict)
    _due: list[CheckpointDeleted] = field(default_factory=list)
    _started: int = 0
    _looked: float = -LOOK
    _deaf: bool = False
    _began: float = field(init=False)  # the seconds of training that were recorded then
    _interrupted: Callable[[], bool] = field(init=False, default=lambda: False)
    _stopping: bool = False
    _kept: bool = field(init=False)  # whether the store has anything of the run
    _rehearsal: DressRehearsal = field(init=False)
    _proposals: Proposals = field(init=False)
    _arrivals: Arrivals = field(init=False)
    _remarks: Remarks = field(init=False)

    def __post_init__(self) -> None:
        self._kept = any(trial.kept for trial in self.state.trials)
        self._rehearsal = DressRehearsal(self.state, self.rehearse)
        self._proposals = Proposals(self.sampler, self.space, self.journal, self.audience.doing)
        self._began = self.state.total_seconds
        plan = self.state.plan
        self._arrivals = Arrivals(plan.metric, plan.executor, self.audience.tell)
        path = shlex.quote(str(self.journal.path))
        self._remarks = Remarks(self.state, self.audience.tell, path)

    def run(self) -> None:
        """Train until the plan is done.

        Raises:
            Interrupted: a signal asked for a stop; the epoch in flight was recorded.
            KeyboardInterrupt: one of them came twice.
            LetstuneError: the trainer breaks its contract in the very first epoch, a checkpoint is
                missing, or the journal cannot be written.
            Exception: a trainer raised it, and ``passthrough_errors`` is set; if that was in
                another process, a `TrainerError` with its traceback.
        """
        with interruptible() as interrupted:
            try:
                self.audience.started(self.journal.path, self.state.plan)
                self._go_round(interrupted)
                if dear := self._proposals.dear(self.state.total_seconds - self._began):
                    self.audience.tell(dear)
                planned = self.state.finished or (self.endless and self.deadline.passed)
                if not planned and not self.stopped:
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
                how = "error" if self.stopped else "finished"
                self.journal.end_session(how)
                self.audience.finished(how)
            finally:
                self.executor.close()

    def _go_round(self, interrupted: Callable[[], bool]) -> None:
        self._interrupted = interrupted
        self._let_go()
        self._fail_doomed()
        while self._running if self._stopping else self._start_tasks():
            arrived = self._arrivals.of(
                self.executor.deliveries(), self._running, self.state, self._rehearsal.trial
            )
            if any(isinstance(event, TrialFailed) for _, d in arrived for event in d.events):
                # What asks for a stop may have reached what the trainer has started before us.
                time.sleep(MOMENT)
                self._look()
            if interrupted():
                self._stop()
            errors = self._take(arrived)
            if errors and self.passthrough_errors:
                raise errors[0]
            if self._is_to_end():
                return
            self._call_off()
            self.executor.recorded()
            if time.monotonic() >= self._looked + LOOK:
                self._watch()
                self._look()
        # Requests may have come as the run ended. If they were left behind, whoever extends the run
        # would obey them, though the trials had ended when they were made.
        self._look()
        self._due += self._rehearsal.over()  # for which there may have been no time
        self._record(())  # what was let go last

    def _start_tasks(self) -> bool:
        """Keep the executor busy; tell whether it is."""
        while (slots := self.executor.slots - len(self._running)) > 0:
            late, running = self.deadline.late, self._running
            busy = {*running, *late} if late else running
            tasks = next_tasks(self.state.plan, self.state, busy, slots)
            if self._rehearsal.on:
                tasks = self._rehearsal.before(tasks, self.state, busy)[:slots]
            if self.deadline.too_late(self.state, [task.trial for task in tasks]):
                continue  # others may be quicker
            for task in tasks:
                self._started += 1
                task = task._replace(attempt=f"{self.token}-{self._started}")
                self._running[task.trial] = task
                self.executor.start(task)
                slots -= 1
            # Only now, since a sampler may take its time, and workers need not wait for it.
            proposal = next_proposal(self.state.plan, self.state, slots) if slots else None
            if proposal is None and not self._grow():
                break
            if proposal is not None:
                if not self.deadline.allows(self.state):
                    break
                if not self._propose(proposal):
                    break
        return bool(self._running)

    def _grow(self) -> bool:
        """Plan more trials, if nothing but the time is an end to them; tell whether it did."""
        if not (self.endless and self.state.finished and self.deadline.allows(self.state)):
            return False
        sizes = self.state.plan.cohort_sizes
        more = self.state.plan.n_trials + max(sizes[-1], self.executor.slots)
        self.journal.grow({"n_trials": more})
        self.state = self.journal.load()[1]
        self._let_go()
        return not self.state.finished

    def _call_off(self) -> None:
        """Let no trial go on to an epoch for which there is no time."""
        for trial in self.deadline.overdue(self.state, self._running):
            del self._running[trial]
            self.executor.cancel(trial)

    def _is_to_end(self) -> bool:
        """Tell whether the session is to end, since nothing good would come of going on."""
        if self.streaks.end is not None and not self.state.finished:
            self.stopped = self.streaks.why(shlex.quote(str(self.journal.path)))
        return bool(self.stopped)

    def _propose(self, proposal: Proposal) -> bool:
        """Have a cohort proposed, all of it or nothing; tell whether it was."""
        events = self._proposals.of(proposal, self.state, self._interrupted)
        if remark := self._proposals.remark():
            self.audience.tell(remark)
        self._record(events)
        if events and isinstance(events[0], SpaceExhausted):
            # There are fewer trials than the state took for granted: fold it anew.
            self.state = self.journal.load()[1]
            self._let_go()
        return bool(events)

    def _take(self, arrived: Sequence[tuple[Task, Delivery]]) -> list[BaseException]:
        """Record what arrived together, with one sync; return the errors of trials that failed."""
        events: list[Event] = []
        deaths: list[tuple[Task, WorkerDied]] = []
        errors: list[BaseException] = []
        # Somebody may have skipped a trial since.
        arrived = [(task, d) for task, d in arrived if self._running.get(task.trial) is task]
        if not self.state.total_epochs:
            self._refuse_mistaken([delivery for _, delivery in arrived])
        for task, delivery in arrived:
            if self._stopping:
                delivery = delivery._replace(events=blameless(delivery.events))
            if delivery.trial == self._rehearsal.trial:
                errors += self._rehearsed(delivery)
                continue
            for event in delivery.events:
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

    def _rehearsed(self, delivery: Delivery) -> list[BaseException]:
        """Take note of what came of the dress rehearsal; return the error that it ended in."""
        for uri in self._rehearsal.take(delivery, self.state):
            self._delete(uri)
        if any(isinstance(event, TaskEnded) for event in delivery.events):
            del self._running[delivery.trial]
            if self._rehearsal.done:
                self._due += self._rehearsal.over()
                self.stopped = self._rehearsal.failed
                if self._rehearsal.remark:
                    self.audience.tell(self._rehearsal.remark)
        if not self._rehearsal.failed:
            return []
        failures = [event for event in delivery.events if isinstance(event, TrialFailed)]
        return [_error(delivery.error, failure) for failure in failures]

    def _refuse_mistaken(self, first: Sequence[Delivery]) -> None:
        """End a run with nothing recorded, if its very first epoch shows that it is no good."""
        error = mistaken(self.state.plan, first)
        if error is None:
            return
        for delivery in first:
            for event in delivery.events:
                if isinstance(event, EpochFinished) and event.checkpoint is not None:
                    self._delete(event.checkpoint.uri)
        raise error

    def _tell_preempted(self, death: WorkerDied) -> None:
        self.audience.tell(
            f"A worker was preempted in epoch {death.epoch} of trial {death.trial}, by "
            f"{ended(death.code)}. The epoch is trained again, and nobody is blamed."
        )

    def _died_in_flight(self, task: Task, death: WorkerDied) -> bool:
        """Tell whether a worker died in an epoch, now that all that it delivered is recorded.

        A death after the last epoch of its task costs nothing. If it were recorded, a resume could
        not tell it from a death at the beginning of the trial's next round.
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
                if trial == self._rehearsal.trial:
                    self._due += self._rehearsal.over()
                self._record([stop_of(self.state, trial)])

    def _watch(self) -> None:
        """Stop if what is recorded, or is going to be, would not be where it is looked for."""
        self.journal.check_place()
        if self._kept:
            self.store.watch()

    def _watch_store(self) -> None:
        try:
            self.store.watch()
        except StoreError:
            self.journal.check_place()  # if both are gone, that says more
            raise

    def _tell_deaf(self, line: str) -> None:
        if not self._deaf:
            self._deaf = True
            self.audience.tell(line)

    def _record(self, events: Sequence[Event]) -> None:
        """Make events true: journal first, then state, then whoever wants to know.

        Deletions that earlier events have made due are recorded along with these events, which
        saves a sync per epoch. The checkpoints are deleted after that, so the journal never points
        to one that is gone.
        """
        due, self._due = self._due, []
        for event in events:
            if isinstance(event, EpochFinished) and event.checkpoint is not None:
                self._kept = True
                self._watch_store()
                break
        self.journal.append([*events, *due])
        for deletion in due:
            stored = self.state.trials[deletion.trial].kept[deletion.epoch]
            self.state.apply(deletion)
            self._delete(stored.uri)
        for event in events:
            self.state.apply(event)
            self.streaks.see(event, self.state)
            if isinstance(event, EpochFinished):
                self.deadline.see(event)
            self._rehearsal.see(event, self.state)
        self._let_go()
        self.audience.recorded(events, self.state)
        self._remarks.recorded(events, self.state)

    def _delete(self, uri: str) -> None:
        try:
            self.store.delete(uri)
        except Exception as error:  # noqa: BLE001 (whatever a store may raise)
            # Nothing points to it any more, so the run can go on while it is still there.
            line = f"Checkpoint {uri} cannot be deleted: {error}. `letstune check --fix` does it."
            self.audience.tell(line)

    def _let_go(self) -> None:
        self._due = useless(self.state.plan, self.state)
        if self._rehearsal.on:
            self._due = [one for one in self._due if not self._rehearsal.holds(one)]
        self.state.changed.clear()


def _error(error: BaseException | None, event: TrialFailed) -> BaseException:
    """Return the exception behind a failure, with where it was raised."""
    if error is None:
        return TrainerError(event.traceback)
    if error.__traceback__ is None:  # it has come from another process
        error.add_note(f"It was raised in a worker:\n{event.traceback}")
    return error
