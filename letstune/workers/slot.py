"""A slot: one place to train, with a worker process that is replaced when anything went wrong.

It knows of no runner and no journal: an executor on another machine has slots as well.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import IO, Any, Final

from letstune.errors import WorkerError
from letstune.rounds.blame import preempted
from letstune.rounds.decisions import describe_death, ended
from letstune.rounds.events import (
    EpochFinished,
    Event,
    Task,
    TaskEnded,
    TrialFailed,
    TrialStopped,
    WorkerDied,
)
from letstune.telling.lines import say
from letstune.workers.executor import Delivery
from letstune.workers.experience import Experience
from letstune.workers.messages import (
    CLEANING,
    CUT_OFF,
    INTERRUPTIONS,
    Began,
    Happened,
    Message,
    Raised,
    Ready,
    Signalled,
    unpack,
)
from letstune.workers.second_opinion import SecondOpinion
from letstune.workers.silence import Silence
from letstune.workers.timeouts import Timeouts
from letstune.workers.work import Work
from letstune.workers.worker_process import LAST, Ended, WorkerProcess

STILLBORN: Final = 3
"""So many workers may die before they have loaded the dataset, one after another."""

KILLING: Final = 2
"""The stage of ending a process at which it is killed."""

DUMPING: Final = 1.0
"""How long a hung process has for dumping its stacks, in seconds."""

SUSPENDED: Final = 1.0
"""Who comes back so much too late from waiting was suspended meanwhile, in seconds."""

ABOUT_CUT_OFF: Final = (
    "It ended itself, since the trainer has closed the file by which it speaks with the run. Of a "
    "process's open files, not all are the trainer's.\n"
)

GRACE: Final = 5.0
"""How long a process has to end by itself when asked to, in seconds."""


Printed = Callable[[int, bytes], None]
"""Takes the id of a trial, and what that has printed."""


class Slot:
    """Trains one task at a time.

    Args:
        job: a file from `Job.spool`.
        token: names its workers; no other slot, of any run, has the same.
        environment: variables of its workers' own.
        epoch_timeout: how long one call of the trainer may take, in seconds.
        trial_timeout: how long the epochs of a trial may take in all, in seconds: then it is
            stopped, and keeps what it has.
        experience: what is known of the trainer; slots may share it.
        printed: takes what a trial has printed, b"" for its end; by default, that goes to this
            program's stderr.

    Attributes:
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
        experience: Experience | None = None,
        printed: Printed | None = None,
    ) -> None:
        self.ending = False
        self._experience = Experience() if experience is None else experience
        self._silence = Silence(self._experience.pace)
        self._time = Timeouts(epoch_timeout, trial_timeout)
        self.killed: list[str] = []
        self.dropped: list[str] = []
        self._printed = printed
        self._job = job
        self._token = token
        self._environment = environment
        self._process: WorkerProcess | None = None
        self._given_up: list[WorkerProcess] = []
        self._started = self._stillborn = 0
        self._ready = False
        self._fresh = True  # whether the process has trained nothing before the task
        self._forget()

    def _forget(self) -> None:
        self._work: Work | None = None
        self._listening = False  # whether the worker waits for a word
        self._in_flight = False  # whether there is an epoch that a death would cost
        self._time.forget()
        self._silence.forget()
        self._overdue = ""  # why the task's time is up, if it is
        self._loaded = True  # whether the dataset was loaded then
        self._cleaning = False  # whether another trial's training is not yet over
        self._stage = 0
        self._leaving = False  # whether the process is to end before anything else is trained
        self._opinion = SecondOpinion(self._experience)

    @property
    def task(self) -> Task | None:
        """What is trained, or None."""
        return None if self._work is None else self._work.task

    @property
    def warm(self) -> bool:
        """Whether it has a worker that has loaded the dataset."""
        return self._ready and not self._leaving

    @property
    def deadline(self) -> float:
        """When `poll` is to be called even without news, on the monotonic clock."""
        return min(self._time.deadline, self._silence.due)

    @property
    def waitables(self) -> list[Any]:
        """What becomes readable when there is news."""
        found = [] if self._process is None else self._process.waitables
        return found + [process.control for process in self._given_up]

    def start(self, task: Task) -> None:
        """Begin to train a task, in a new process if there is none."""
        self.pump()  # what it has printed until now is of the task before
        self._forget()
        self._work = work = Work(task)
        self._in_flight = True
        if self._process is not None and self._process.ended():  # while it had nothing to do
            self._retire(self._process)
        if self._process is not None and self._process.stopped:
            say(
                f"letstune: a worker, process {self._process.pid}, was stopped, as by SIGSTOP, "
                "while it had nothing to do. A fresh process takes its place."
            )
            self._process.kill()
            self._give_up(self._process)
        self._fresh = self._process is None
        if self._process is None:
            self._process = self._spawn()
        if self._printed is not None and self._process.trial not in (-1, task.trial):
            self._printed(self._process.trial, b"")
        self._process.trial = task.trial
        self._process.send(task)
        if self._ready:
            self._silence.begin("first epoch", work.what, work.untold)
        else:
            self._silence.begin("load_dataset", "load_dataset")

    def _spawn(self) -> WorkerProcess:
        self._started += 1
        return WorkerProcess(
            self._job,
            f"{self._token}-{self._started}",
            self._environment,
            told=self._time.any,
            kept=self._printed is not None,
        )

    def pump(self) -> None:
        """Hand on what has been printed."""
        for process in [*self._given_up, *([self._process] if self._process else [])]:
            self._pump(process)

    def _pump(self, process: WorkerProcess) -> None:
        if self._printed is not None:
            for data in process.printed():
                self._printed(process.trial, data)

    def _close(self, process: WorkerProcess, timeout: float) -> None:
        """End a process, if it has not ended, within some seconds, and hear its last words."""
        process.close(timeout)
        self._pump(process)
        process.let_go()
        if self._printed is not None and process.trial >= 0:
            self._printed(process.trial, b"")

    def answer(self, go_on: bool) -> None:
        """Let the worker go on to the next epoch, or end its task, if it has asked."""
        if self._listening and self._process is not None and self._work is not None:
            self._listening = False
            self._in_flight = go_on and self._work.more
            self._process.send(go_on)
            if self._in_flight:
                self._silence.begin("epoch", self._work.what)

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
        for old in [process for process in self._given_up if process.ended()]:
            for message in old.receive():
                self._drop(message)
            self._close(old, GRACE)
            self._given_up.remove(old)
        process = self._process
        if process is None:
            return []
        end = process.ended()  # asked first, so that all it said before is heard
        self.ending = self.ending or signal.SIGTERM in process.signals
        deliveries = []
        messages = process.receive()
        self._pump(process)  # before them, as they are told when all is printed
        for message in messages:
            deliveries += self._hear(process, message)
        if end is not None:
            deliveries += self._bury(process, end)
        elif self._time.up:
            deliveries += self._hurry(process)
        elif self._silence.up and (line := self._silence.look(process.pid, process.stopped)):
            say(f"letstune: {line}")
        return deliveries

    def _hear(self, process: WorkerProcess, message: Message) -> list[Delivery]:
        work = self._work
        match message:
            case Ready():
                self._ready, self._stillborn = True, 0
                self._silence.end()
                if work is not None:
                    self._silence.begin("first epoch", work.what, work.untold)
                if not self._overdue:
                    self._time.stop()
            case Signalled(signals):
                if not self._overdue:  # then, they are our own
                    process.signals += signals
            case Raised():
                error = message.exception()
                if isinstance(error, INTERRUPTIONS) and process.signals:
                    return []  # it came from outside, and to the owner, if it is meant for the run
                raise error
            case Began(epoch):
                if work is not None and not self._overdue:
                    self._cleaning = epoch == CLEANING
                    its_own = self._ready and not self._cleaning
                    self._time.begin(work.seconds, loaded=its_own)
            case Happened(events, error, changes):
                if self._overdue or work is None:  # too late
                    self._drop(message)
                    return []
                self._time.stop()
                self._silence.end()
                failures = [event for event in events if isinstance(event, TrialFailed)]
                if failures and not self._believe(process, work, failures[0]):
                    return []
                if changes and self._experience.spoilt(work.task.trial, changes):
                    self._leave(process)  # the end of the task is told when it is gone
                    return []
                return [self._deliver(work, events, unpack(error))]
        return []

    def _leave(self, process: WorkerProcess) -> None:
        """Have a process end before anything else is trained."""
        self._leaving, self._stage = True, KILLING
        self._time.within(GRACE)
        process.hang_up()

    def _believe(self, process: WorkerProcess, work: Work, failure: TrialFailed) -> bool:
        """Tell whether a failure is the trial's own; if not, it is trained again.

        Either way, the process is replaced: who knows what the trial did to it.
        """
        self._leave(process)
        if process.signals:
            self._excuse(work, process.signals, failure.message)
            return False
        return self._opinion.believes(failure, work, fresh=self._fresh)

    def _excuse(self, work: Work, signals: list[int], what: str) -> None:
        """Let an epoch be lost: its worker, or what that had started, was to end from outside."""
        self._in_flight = False
        names = " and ".join(sorted({signal.Signals(which).name for which in signals}))
        say(
            f"letstune: epoch {work.epoch} of trial {work.task.trial} ended after {names} came "
            f"from outside: {what} It is trained again."
        )

    def _left(self, work: Work) -> list[Delivery]:
        """Go on after a process that was to end is gone."""
        opinion = self._opinion
        if opinion.again is None:
            return [self._deliver(work, [TaskEnded(work.task.trial)])]
        self.start(opinion.again)
        self._opinion, opinion.again = opinion, None
        return []

    def _drop(self, message: Message) -> None:
        """Take note of what a worker saved in vain."""
        for event in message.events if isinstance(message, Happened) else ():
            if isinstance(event, EpochFinished) and event.checkpoint is not None:
                self.dropped.append(event.checkpoint.uri)

    def _deliver(
        self, work: Work, events: list[Event | TaskEnded], error: BaseException | None = None
    ) -> Delivery:
        delivery = Delivery(work.task.trial, work.task.attempt, events, error)
        self._in_flight = False
        work.see(events)
        self._opinion.see(work.task.trial, events)
        over = isinstance(events[-1], TaskEnded)
        self._listening = not over and not self._leaving
        if over:
            self._forget()
        return delivery

    # Hanging

    def postpone(self, seconds: float) -> None:
        """Leave time out of account in which this process, and so all of them, was suspended."""
        self._time.postpone(seconds)
        self._silence.postpone(seconds)

    def _hurry(self, process: WorkerProcess) -> list[Delivery]:
        """End a process whose time is up: first its stacks, then TERM, then KILL.

        Then its supervisor tells its end, or leaves it behind if it cannot be killed. One that
        does neither is given up, so that nothing at all can hold up the run.
        """
        if self._stage == 0:
            self._overdue = f"It took longer than {self._time.limit}."
            self._loaded = self._ready
            self._silence.forget()
            if process.stopped:  # then it can do neither
                self._overdue += " Its process was stopped then, as by SIGSTOP."
                self._stage = KILLING
        if self._stage == 0:
            process.dump_stacks()
            self._time.within(DUMPING)
        elif self._stage == 1:
            process.terminate()
            self._time.within(GRACE)
        elif self._stage == KILLING:
            process.kill()
            self._time.within(LAST)
        elif self._work is not None:
            process.abandon()
            self._give_up(process)
            if self._leaving:
                return self._left(self._work)
            return self._time_out(self._work, process.signals, process.stack())
        self._stage += 1
        return []

    def _time_out(self, work: Work, signals: list[int], stack: str) -> list[Delivery]:
        """Tell of a task whose process is gone since its time was up."""
        trial, over = work.task.trial, TaskEnded(work.task.trial)
        if not self._loaded:
            return self._load_again(work.task, stack)
        if self._cleaning:
            say(
                f"letstune: what a trainer does when a training is over took longer than "
                f"{self._time.limit}. Nothing is lost, and a fresh process trains what comes next."
            )
            self.start(work.task)
            return []
        if signals:
            self._excuse(work, signals, self._overdue)
            return [self._deliver(work, [over])]
        if "trial_timeout" in self._time.limit and work.epoch:
            say(f"letstune: trial {trial} is stopped. {self._overdue}")
            return [self._deliver(work, [TrialStopped(trial, work.epoch - 1), over])]
        told = f"{self._overdue} Its stacks then:\n{stack or 'none: it did not react'}"
        failed = TrialFailed(trial, work.epoch, "timed out", self._overdue, told)
        return [self._deliver(work, [failed, over], WorkerError(told))]

    def _load_again(self, task: Task, stack: str) -> list[Delivery]:
        """Begin anew where the dataset took too long: that is no trial's fault."""
        self._stillborn += 1
        told = f"load_dataset took longer than {self._time.limit}"
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
        stack, work, ready = process.stack(), self._work, self._ready
        self._retire(process)
        if work is None:
            return []  # nobody's loss
        if self._overdue:
            return self._time_out(work, process.signals, stack)
        if self._leaving:
            return self._left(work)
        over = TaskEnded(work.task.trial)
        if not self._in_flight:  # the epoch is delivered
            return [self._deliver(work, [over])]
        at = datetime.now(UTC).isoformat()
        stack = (ABOUT_CUT_OFF if end.code == CUT_OFF else "") + stack
        died = WorkerDied(work.task.trial, work.epoch, work.task.attempt, *end, stack, at)
        if process.signals and not preempted(died):
            self._excuse(work, process.signals, f"the worker died, {ended(end.code)}.")
            return [self._deliver(work, [over])]
        if ready or preempted(died):
            return [self._deliver(work, [died, over])]
        self._stillborn += 1
        if self._stillborn >= STILLBORN:
            raise WorkerError(
                f"{STILLBORN} worker processes in a row died before they had loaded the dataset, "
                f"the last one of {ended(end.code)}. Nothing is lost: resume when that is mended, "
                f"or with fewer workers if memory is short.\n{describe_death(died)}"
            )
        self.start(work.task)
        return []

    def _retire(self, process: WorkerProcess) -> None:
        """Let go of a process that has ended."""
        self._close(process, GRACE)
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
            self._close(process, timeout)
        self._given_up, self._process = [], None
