"""A slot: one place to train, with a worker process that is replaced when anything went wrong.

It knows of no runner and no journal: an executor on another machine has slots as well.
"""

from __future__ import annotations

import math
import signal
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any, Final

from letstune.errors import WorkerError
from letstune.rounds.blame import preempted
from letstune.rounds.decisions import describe_death, ended
from letstune.rounds.events import (
    EpochFinished,
    Event,
    Stored,
    Task,
    TaskEnded,
    TrialFailed,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.failures import signature
from letstune.telling.lines import say
from letstune.workers.executor import Delivery
from letstune.workers.messages import Began, Happened, Message, Raised, Ready, unpack
from letstune.workers.worker_process import LAST, Ended, WorkerProcess

STILLBORN: Final = 3
"""So many workers may die before they have loaded the dataset, one after another."""

KILLING: Final = 2
"""The stage of ending a process at which it is killed."""

DUMPING: Final = 1.0
"""How long a hung process has for dumping its stacks, in seconds."""

SUSPENDED: Final = 1.0
"""Who comes back so much too late from waiting was suspended meanwhile, in seconds."""

ENOUGH: Final = 2
"""So often is a failure confirmed in a fresh process before all that are like it are believed."""

GRACE: Final = 5.0
"""How long a process has to end by itself when asked to, in seconds."""


class Slot:
    """Trains one task at a time.

    Args:
        job: a file from `Job.spool`.
        token: names its workers; no other slot, of any run, has the same.
        environment: variables of its workers' own.
        epoch_timeout: how long one call of the trainer may take, in seconds.
        trial_timeout: how long the epochs of a trial may take in all, in seconds: then it is
            stopped, and keeps what it has.
        confirmed: how often failures were confirmed, by their `signature`; slots may share it.

    Attributes:
        task: what is trained, or None.
        ending: whether a worker of it was told to end from outside, as the whole job is then.
        killed: the tokens of the workers that could not tidy up.
        dropped: the URIs of checkpoints that they had saved when it was too late. Not all of them:
            what a worker has saved and not told of when it is killed is for `letstune check`.
    """

    def __init__(
        self,
        job: IO[bytes],
        token: str,
        environment: Mapping[str, str],
        *,
        epoch_timeout: float | None = None,
        trial_timeout: float | None = None,
        confirmed: Counter[tuple[str, str, str]] | None = None,
    ) -> None:
        self.ending = False
        self._confirmed = Counter() if confirmed is None else confirmed
        self.killed: list[str] = []
        self.dropped: list[str] = []
        self._job = job
        self._token = token
        self._environment = environment
        self._limits = (epoch_timeout, trial_timeout)
        self._process: WorkerProcess | None = None
        self._given_up: list[WorkerProcess] = []
        self._started = self._stillborn = 0
        self._ready = False
        self._fresh = True  # whether the process has trained nothing before the task
        self._forget()

    def _forget(self) -> None:
        self.task: Task | None = None
        self._epoch = 0
        self._seconds = 0.0
        self._saved: tuple[int, Stored] | None = None  # the last epoch's checkpoint
        self._listening = False  # whether the worker waits for a word
        self._in_flight = False  # whether there is an epoch that a death would cost
        self._more = True  # whether another one is to come
        self._paused = 0.0
        self._deadline = math.inf
        self._overdue = ""  # why the task's time is up, if it is
        self._loaded = True  # whether the dataset was loaded then
        self._stage = 0
        self._leaving = False  # whether the process is to end before anything else is trained
        self._again: Task | None = None  # what to train then
        self._doubt: TrialFailed | None = None  # what happened to it in a process that was used

    @property
    def warm(self) -> bool:
        """Whether it has a worker that has loaded the dataset."""
        return self._ready and not self._leaving

    @property
    def deadline(self) -> float:
        """When `poll` is to be called even without news, on the monotonic clock."""
        return self._deadline

    @property
    def waitables(self) -> list[Any]:
        """What becomes readable when there is news."""
        found = [] if self._process is None else self._process.waitables
        return found + [process.control for process in self._given_up]

    def start(self, task: Task) -> None:
        """Begin to train a task, in a new process if there is none."""
        self._forget()
        self.task, self._epoch, self._seconds = task, task.epochs, task.seconds
        self._in_flight = True
        if self._process is not None and self._process.ended():  # while it had nothing to do
            self._retire(self._process)
        self._fresh = self._process is None
        if self._process is None:
            self._process = self._spawn()
        self._process.send(task)

    def _spawn(self) -> WorkerProcess:
        self._started += 1
        return WorkerProcess(
            self._job,
            f"{self._token}-{self._started}",
            self._environment,
            told=self._limits != (None, None),
        )

    def answer(self, go_on: bool) -> None:
        """Let the worker go on to the next epoch, or end its task, if it has asked."""
        if self._listening and self._process is not None:
            self._listening = False
            self._in_flight = go_on and self._more
            self._process.send(go_on)

    def cancel(self) -> None:
        """Give the task up, and its worker with it."""
        if self._process is not None and self.task is not None:
            self._process.kill()
            self._give_up(self._process)
        self._forget()

    def _give_up(self, process: WorkerProcess) -> None:
        """Wait for a process's end no longer than for other news."""
        self.killed.append(process.token)
        self._given_up.append(process)
        self._process, self._ready = None, False

    def poll(self) -> list[Delivery]:
        """Return what has come of the task since the last call.

        Raises:
            WorkerError: workers die before they have loaded the dataset.
            Exception: what must end the run, as `Worker.train` raises it.
        """
        for process in [p for p in self._given_up if p.ended()]:
            for message in process.receive():
                self._drop(message)
            process.close(GRACE)
            self._given_up.remove(process)
        if self._process is None:
            return []
        end = self._process.ended()  # asked first, so that all it said before is heard
        self.ending = self.ending or signal.SIGTERM in self._process.signals
        deliveries = []
        for message in self._process.receive():
            deliveries += self._hear(message)
        if end is not None:
            deliveries += self._bury(self._process, end)
        elif time.monotonic() >= self._deadline:
            deliveries += self._hurry(self._process)
        return deliveries

    def _hear(self, message: Message) -> list[Delivery]:
        match message:
            case Ready():
                self._ready, self._stillborn = True, 0
                if not self._overdue:
                    self._deadline = math.inf
            case Raised():
                raise message.exception()
            case Began():
                if not self._overdue:
                    self._set_deadline()
            case Happened(events, error):
                if self._overdue:  # too late
                    self._drop(message)
                    return []
                self._deadline = math.inf
                failures = [event for event in events if isinstance(event, TrialFailed)]
                if failures and not self._believe(failures[0]):
                    return []
                return [self._deliver(events, unpack(error))]
        return []

    # Second opinion

    def _believe(self, failure: TrialFailed) -> bool:
        """Tell whether a failure is the trial's own; else, have it trained again.

        Either way, the process is replaced: who knows what the trial did to it. And what fails in
        one that others were trained in may be their doing.
        """
        process, task = self._process, self.task
        if process is None or task is None:
            raise RuntimeError("a worker without a task has something to tell")
        self._leaving, self._stage = True, KILLING
        self._deadline = time.monotonic() + GRACE
        process.hang_up()
        if process.signals:
            self._excuse(process.signals, failure.message)
            return False
        alike = signature(failure)
        if not self._fresh and self._confirmed[alike] < ENOUGH:
            self._again, self._doubt = self._rest(task), failure
            return False
        if self._doubt is not None and signature(self._doubt) == alike:
            self._confirmed[alike] += 1
        self._doubt = None
        return True

    def _rest(self, task: Task) -> Task:
        """Return what is left of a task: its epochs so far are recorded."""
        return task._replace(
            epochs=self._epoch,
            seconds=self._seconds,
            loaded=self._saved[0] if self._saved else task.loaded,
            checkpoint=self._saved[1] if self._saved else task.checkpoint,
        )

    def _excuse(self, signals: list[int], what: str) -> None:
        """Let an epoch be lost: its worker, or what that had started, was to end from outside."""
        self._in_flight = False
        names = " and ".join(sorted({signal.Signals(which).name for which in signals}))
        trial = -1 if self.task is None else self.task.trial
        say(
            f"letstune: epoch {self._epoch} of trial {trial} ended after {names} came from "
            f"outside: {what} It is trained again."
        )

    def _left(self, task: Task) -> list[Delivery]:
        """Go on after the process of a failure is gone."""
        if self._again is None:
            return [self._deliver([TaskEnded(task.trial)])]
        again, doubt = self._again, self._doubt
        self.start(again)
        self._doubt = doubt
        return []

    def _drop(self, message: Message) -> None:
        """Take note of what a worker saved in vain."""
        for event in message.events if isinstance(message, Happened) else ():
            if isinstance(event, EpochFinished) and event.checkpoint is not None:
                self.dropped.append(event.checkpoint.uri)

    def _deliver(
        self, events: list[Event | TaskEnded], error: BaseException | None = None
    ) -> Delivery:
        if self.task is None:
            raise RuntimeError("a worker without a task has something to tell")
        delivery = Delivery(self.task.trial, self.task.attempt, events, error)
        self._in_flight = False
        for event in events:
            if isinstance(event, EpochFinished):
                if event.checkpoint is not None:
                    self._saved = (event.epoch, event.checkpoint)
                self._epoch += 1
                self._seconds += event.seconds
                done = self._seconds if self.task.timed else self._epoch
                self._more = done < self.task.limit
            else:
                self._more = False
        if self._doubt is not None and isinstance(events[0], EpochFinished | TrialStopped):
            say(
                f"letstune: trial {self.task.trial} failed in a process that had trained others, "
                f"and not in a fresh one, so it goes on: {self._doubt.message}"
            )
            self._doubt = None
        over = isinstance(events[-1], TaskEnded)
        self._listening = not over and not self._leaving
        if over:
            self._forget()
        return delivery

    # Hanging

    def _set_deadline(self) -> None:
        epoch_timeout, trial_timeout = self._limits
        lefts = []
        if epoch_timeout is not None:
            lefts.append((epoch_timeout, f"epoch_timeout, {epoch_timeout:g} s"))
        if trial_timeout is not None and self._ready:
            left = max(0.0, trial_timeout + self._paused - self._seconds)
            lefts.append((left, f"trial_timeout, {trial_timeout:g} s"))
        left, self._limit = min(lefts, default=(math.inf, ""))
        self._deadline = time.monotonic() + left

    def postpone(self, seconds: float) -> None:
        """Leave time out of account in which this process, and so all of them, was suspended."""
        self._deadline += seconds
        self._paused += seconds

    def _hurry(self, process: WorkerProcess) -> list[Delivery]:
        """End a process whose time is up: first its stacks, then TERM, then KILL.

        Then its supervisor tells its end, or leaves it behind if it cannot be killed. One that
        does neither is given up, so that nothing at all can hold up the run.
        """
        if self._stage == 0:
            self._overdue = f"It took longer than {self._limit}."
            self._loaded = self._ready
            process.dump_stacks()
            self._deadline = time.monotonic() + DUMPING
        elif self._stage == 1:
            process.terminate()
            self._deadline = time.monotonic() + GRACE
        elif self._stage == KILLING:
            process.kill()
            self._deadline = time.monotonic() + LAST
        elif self.task is not None:
            process.abandon()
            self._give_up(process)
            if self._leaving:
                return self._left(self.task)
            return self._time_out(self.task, process.signals, process.stack())
        self._stage += 1
        return []

    def _time_out(self, task: Task, signals: list[int], stack: str) -> list[Delivery]:
        """Tell of a task whose process is gone since its time was up."""
        over = TaskEnded(task.trial)
        if not self._loaded:
            return self._load_again(task, stack)
        if signals:
            self._excuse(signals, self._overdue)
            return [self._deliver([over])]
        if "trial_timeout" in self._limit and self._epoch:
            say(f"letstune: trial {task.trial} is stopped. {self._overdue}")
            return [self._deliver([TrialStopped(task.trial, self._epoch - 1), over])]
        told = f"{self._overdue} Its stacks then:\n{stack or 'none: it did not react'}"
        failed = TrialFailed(task.trial, self._epoch, "timed out", self._overdue, told)
        return [self._deliver([failed, over], WorkerError(told))]

    def _load_again(self, task: Task, stack: str) -> list[Delivery]:
        """Begin anew where the dataset took too long: that is no trial's fault."""
        self._stillborn += 1
        told = f"load_dataset took longer than {self._limit}"
        if self._stillborn >= STILLBORN:
            raise WorkerError(
                f"{told}, in {STILLBORN} worker processes in a row. No trial is to blame, and "
                "nothing is lost: resume when that is mended, or with a longer epoch_timeout.\n"
                f"Its stacks then:\n{stack or 'none: it did not react'}"
            )
        say(f"letstune: {told}. Another worker tries.")
        self.start(task)
        return []

    # Death

    def _bury(self, process: WorkerProcess, end: Ended) -> list[Delivery]:
        """Tell how a worker ended; the next task gets a new one."""
        stack, task, ready = process.stack(), self.task, self._ready
        self._retire(process)
        if task is None:
            return []  # nobody's loss
        if self._overdue:
            return self._time_out(task, process.signals, stack)
        if self._leaving:
            return self._left(task)
        over = TaskEnded(task.trial)
        if not self._in_flight:  # the epoch is delivered
            return [self._deliver([over])]
        at = datetime.now(UTC).isoformat()
        died = WorkerDied(task.trial, self._epoch, task.attempt, *end, stack, at)
        if process.signals and not preempted(died):
            self._excuse(process.signals, f"the worker died, {ended(end.code)}.")
            return [self._deliver([over])]
        if ready or preempted(died):
            return [self._deliver([died, over])]
        self._stillborn += 1
        if self._stillborn >= STILLBORN:
            raise WorkerError(
                f"{STILLBORN} worker processes in a row died before they had loaded the dataset, "
                f"the last one of {ended(end.code)}. Nothing is lost: resume when that is mended, "
                f"or with fewer workers if memory is short.\n{describe_death(died)}"
            )
        self.start(task)
        return []

    def _retire(self, process: WorkerProcess) -> None:
        """Let go of a process that has ended."""
        process.close(GRACE)
        self.killed.append(process.token)
        self._process, self._ready = None, False

    def hang_up(self) -> None:
        """Begin to close: an idle worker ends by itself, one that trains is told to."""
        if self._process is not None:
            if self.task is not None:
                self._process.terminate()
                self.killed.append(self._process.token)
            self._process.hang_up()

    def end(self, timeout: float) -> None:
        """Begin to kill what is left if it takes longer than that, in seconds."""
        if self._process is not None:
            self._process.end(timeout)

    def close(self, timeout: float) -> None:
        """End what is left, by force if it takes longer than that, in seconds."""
        for process in [*self._given_up, *([self._process] if self._process else [])]:
            process.close(timeout)
        self._given_up, self._process = [], None
