"""What runs in a worker process: it trains the tasks that it is sent, and tells what comes of them.

The owner's side is a `Slot`. They speak in pickled values over a socket. After each epoch, the
worker waits for the owner's word: it comes when the epoch is recorded, so that a crash of the owner
costs the epoch in flight only.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from letstune.rounds.events import Task, TaskEnded
from letstune.rounds.seeding import Purpose
from letstune.training.worker import Worker
from letstune.workers.job import Job
from letstune.workers.messages import Began, Happened, Message, Raised, Ready, pack
from letstune.workers.supervisor import OUTSIDE, STACKS


class _GoneError(Exception):
    """The owner has no more work, or is gone."""


class _Owner:
    """Whom the worker speaks to."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tell(self, message: Message) -> None:
        """Send a message."""
        try:
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
    _leave_signals_to_the_owner()
    for file in (data, log, job):
        os.set_inheritable(file, False)  # by what the trainer starts
    faulthandler.enable(log)
    # On demand, and not now and then, so that even a worker that is killed had told its last one:
    # with a thread for that, be it Python's or faulthandler's, each fork in a trainer is one of a
    # process with threads, of which Python warns; with a signal, system calls of C libraries are
    # interrupted that do not expect it.
    faulthandler.register(STACKS, log, all_threads=True)
    with Connection(data) as connection:
        owner = _Owner(connection)

        class Telling(Worker):
            def _begin(self, purpose: Purpose, trial: int, epoch: int) -> Any:
                owner.tell(Began(epoch))
                return super()._begin(purpose, trial, epoch)

        worker: Worker | None = None
        try:
            worker = Job.read(job).worker(token, Telling if told else Worker)
            os.close(job)
            if told:
                owner.tell(Began(-1))
            worker.prepare()
            owner.tell(Ready())
            while True:
                _train(worker, owner.hear(), owner)
        except _GoneError:
            pass
        except Exception as error:  # noqa: BLE001 (it is the owner's to judge)
            text = traceback.format_exc()
            error.add_note(f"It was raised in a worker process:\n{text}")
            owner.tell(Raised(pack(error), text))
        finally:
            if worker is not None:
                worker.close()


def _leave_signals_to_the_owner() -> None:
    """Let no signal that asks for a stop end this process: the owner has it as well, and decides.

    With a handler, since what is ignored would be so in all that the trainer starts: a handler is
    gone in a new program, and in a fork it steps back. The supervisor hears of each signal.
    """
    worker, supervisor = os.getpid(), os.getppid()

    def handle(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != worker:
            usual = signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
            signal.signal(signum, usual)
            os.kill(os.getpid(), signum)
        elif os.getppid() == supervisor:
            with suppress(ProcessLookupError):
                os.kill(supervisor, signum)

    for which in OUTSIDE:
        signal.signal(which, handle)
        signal.siginterrupt(which, False)  # for C libraries that do not expect to be
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OUTSIDE)


def _train(worker: Worker, task: Task, owner: _Owner) -> None:
    for events, error in worker.train(task):
        owner.tell(Happened(events, pack(error)))
        if isinstance(events[-1], TaskEnded):
            return
        go_on: bool = owner.hear()
        if not go_on:
            owner.tell(Happened([TaskEnded(task.trial)], None))
            return
