"""What runs in a worker process: it trains the tasks that it is sent, and tells what comes of them.

The owner's side is a `Slot`. They speak in pickled values over a socket. After each epoch, the
worker waits for the owner's word: it comes when the epoch is recorded, so that a crash of the owner
costs the epoch in flight only.
"""

from __future__ import annotations

import faulthandler
import fcntl
import io
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Final

from letstune.rounds.events import EpochFinished, Task, TaskEnded, TrialFailed
from letstune.rounds.seeding import Purpose
from letstune.training.script import standing_in
from letstune.training.supervisor import OUTSIDE, STACKS
from letstune.training.trainer import TRAINING
from letstune.training.worker import Worker, told
from letstune.workers.job import Job
from letstune.workers.messages import (
    CLEANING,
    CUT_OFF,
    ENDINGS,
    Began,
    Happened,
    Message,
    Raised,
    Ready,
    Signalled,
    pack,
)
from letstune.workers.output import flush
from letstune.workers.process_state import ProcessState, identity

HIGH: Final = 900
"""Where the descriptors of letstune's own begin, out of the reach of ``os.closerange(3, 256)``."""


class _GoneError(Exception):
    """The owner has no more work, or is gone."""


class _Owner:
    """Whom the worker speaks to."""

    def __init__(self, connection: Connection, signals: list[int]) -> None:
        self._connection = connection
        self._signals = signals
        self._identity = identity(connection.fileno())

    def tell(self, message: Message) -> None:
        """Send a message."""
        try:
            mine = identity(self._connection.fileno()) == self._identity
        except OSError:
            mine = False
        if not mine:  # by now, it may be a file of the trainer's, into which to write is to harm
            os._exit(CUT_OFF)
        flush()  # so that who hears it finds all that was printed before
        try:
            if self._signals:  # ahead of a failure that they may be behind
                heard, self._signals[:] = list(self._signals), []
                self._connection.send(Signalled(heard))
            self._connection.send(message)
        except ConnectionError:
            raise _GoneError from None

    def hear(self) -> Any:
        """Wait for a message, and return it."""
        try:
            return self._connection.recv()
        except (EOFError, ConnectionError):
            raise _GoneError from None


def main(data: int, log: int, job: int, token: str, told: bool) -> None:
    """Train until the owner ends the conversation.

    Args:
        data: a socket to the owner.
        log: a file for stacks.
        job: a file with the job.
        token: names this worker.
        told: whether the owner wants to know of each beginning.
    """
    for stream in (sys.stdout, sys.stderr):  # it is no terminal, and yet somebody may wait for it
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    signals = leave_signals_to_the_owner()
    data, log, job = map(put_away, (data, log, job))
    faulthandler.enable(log)
    # On demand, and not now and then, so that even a worker that is killed had told its last one:
    # with a thread for that, be it Python's or faulthandler's, each fork in a trainer is one of a
    # process with threads, of which Python warns; with a signal, system calls of C libraries are
    # interrupted that do not expect it.
    faulthandler.register(STACKS, log, all_threads=True)
    with Connection(data) as connection, ExitStack() as opened:
        owner = _Owner(connection, signals)

        worker: Worker | None = None
        try:
            read = Job.read(job)
            with read.set_up.applied():
                worker = read.worker(token, _telling(owner) if told else Worker)
            assigned = worker.assignment
            opened.enter_context(standing_in(assigned.make_trainer(), assigned.dataset))
            os.close(job)
            if told:
                owner.tell(Began(-1))
            worker.prepare()
            # From now on, since what `load_dataset` does to the process is there for all trials.
            state = ProcessState([0, 1, 2, data, log])
            owner.tell(Ready())
            while True:
                _train(worker, owner.hear(), owner, state)
        except _GoneError:
            pass
        except ENDINGS as error:
            raised = Raised.of(error)
            error.add_note(f"It was raised in a worker process:\n{raised.text}")
            owner.tell(Raised(pack(error), raised.text))
        finally:
            if worker is not None:
                worker.close()


def _telling(owner: _Owner) -> type[Worker]:
    """Return the class of a worker that tells its owner of each beginning."""

    class Telling(Worker):
        def _begin(self, purpose: Purpose, trial: int, epoch: int) -> Any:
            owner.tell(Began(epoch))
            return super()._begin(purpose, trial, epoch)

        def _forget(self) -> None:
            if self._trainer is not None and TRAINING in vars(self._trainer):
                with suppress(_GoneError):  # all the more should it be over
                    owner.tell(Began(CLEANING))
            super()._forget()

    return Telling


def put_away(file: int) -> int:
    """Return another descriptor for an open file, which is not inherited by what is started.

    A high one, since some programs close a row of low ones, to have none that they do not know.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = HIGH if most == resource.RLIM_INFINITY else max(0, min(HIGH, most - 8))
    moved = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, high)
    os.close(file)
    return moved


def leave_signals_to_the_owner() -> list[int]:
    """Let no signal that asks for a stop end this process: the owner has it as well, and decides.

    With a handler, since what is ignored would be so in all that the trainer starts: a handler is
    gone in a new program, and in a fork it steps back. The supervisor hears of each signal; and
    they are in the list that is returned.
    """
    heard: list[int] = []
    worker, supervisor = os.getpid(), os.getppid()

    def handle(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != worker:  # a fork that Python knows nothing of
            _step_back(handle)
            os.kill(os.getpid(), signum)
        elif os.getppid() == supervisor:
            heard.append(signum)
            with suppress(ProcessLookupError):
                os.kill(supervisor, signum)

    for which in OUTSIDE:
        signal.signal(which, handle)
        signal.siginterrupt(which, False)  # for C libraries that do not expect to be
    _step_back_in_forks(handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OUTSIDE)
    return heard


def _step_back_in_forks(handle: Callable[[int, FrameType | None], None]) -> None:
    """Let each fork begin without our handler.

    It runs only between two steps of Python, and interrupts no system call, so a child that waits
    for a lock would wait on; and whoever ends a `multiprocessing.Pool` waits for its children. What
    comes before the child is without it is held back, since it would be lost.
    """
    masks = threading.local()  # each thread has its own, and may fork

    def hold() -> None:
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, OUTSIDE)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    def begin() -> None:
        _step_back(handle)
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=begin)


def _step_back(handle: Callable[[int, FrameType | None], None]) -> None:
    for which in OUTSIDE:
        if signal.getsignal(which) is handle:
            usual = signal.default_int_handler if which == signal.SIGINT else signal.SIG_DFL
            signal.signal(which, usual)


def _train(worker: Worker, task: Task, owner: _Owner, state: ProcessState) -> None:
    at = task.epochs
    try:
        for events, error in worker.train(task):
            at += sum(isinstance(event, EpochFinished) for event in events)
            over = isinstance(events[-1], TaskEnded)
            owner.tell(Happened(events, pack(error), state.restore() if over else ()))
            if over:
                return
            go_on: bool = owner.hear()
            if not go_on:
                owner.tell(Happened([TaskEnded(task.trial)], None, state.restore()))
                return
    except _GoneError:
        raise
    except Exception as error:
        # Of letstune's own, such as a checkpoint that cannot be stored: it ends the run, since it
        # would be each trial's. But not what a trial has brought about by its limits.
        lowered = state.lowered()
        state.restore()
        if not lowered:
            raise
        message, text = told(error)
        message += f" (The trial has lowered limits of its process: {', '.join(lowered)}.)"
        owner.tell(Happened([TrialFailed(task.trial, at, "raised", message, text)], None))
        owner.hear()
