"""What trains on a Dask worker: slots, in a thread of their own.

The training processes are fresh ones, below the Dask worker. So a trainer that crashes, hangs or
takes all memory does not take the Dask worker with it, is timed out and told of as on one
machine, and the Dask worker's own thread is never held up. It ends with the Dask worker.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from typing import IO, Final

from letstune.rounds.events import TaskEnded
from letstune.workers.executor import Delivery
from letstune.workers.job import Job
from letstune.workers.machine import thread_limits
from letstune.workers.messages import pack
from letstune.workers.slot import GRACE, Slot
from letstune_dask.messages import Answer, Broke, Came, Cancel, Command, Item, Start, Stop

LEASE: Final = 60.0
"""After so many seconds without a word from the owner, it is given up, and so is its work."""


class Bench:
    """Slots that do what they are told, and keep what comes of it until that was heard.

    Args:
        file: from `Job.spool`; closed along with this.
        token: names its workers; no other bench, of any run, has the same.
        slots: how many tasks it trains at a time.
        epoch_timeout: see `letstune.workers.slot.Slot`.
        trial_timeout: see `letstune.workers.slot.Slot`.

    Attributes:
        occupied: whether Dask has given it a thread and the resources.
    """

    def __init__(
        self,
        file: IO[bytes],
        token: str,
        slots: int,
        epoch_timeout: float | None,
        trial_timeout: float | None,
    ) -> None:
        self.occupied = False
        self._file = file
        limits = thread_limits(slots, os.environ)
        self._slots = [
            Slot(
                *(file, f"{token}-w{number}", limits),
                epoch_timeout=epoch_timeout,
                trial_timeout=trial_timeout,
            )
            for number in range(slots)
        ]
        self._lock = threading.Lock()
        self._commands: deque[Command] = deque()
        self._obeyed = 0
        self._items: deque[Item] = deque()
        self._heard = 0
        self._told: Callable[[], None] | None = None
        self._word = time.monotonic()
        self._closing = False
        self._bell, self._ring = socket.socketpair()
        self._bell.setblocking(False)
        self._ring.setblocking(False)
        self._thread = threading.Thread(target=self._run, name=f"letstune-{token}", daemon=True)
        self._thread.start()

    # For the Dask worker's thread

    def tell(self, first: int, commands: Sequence[Command]) -> None:
        """Take commands, of which the first has this number; those known already are skipped."""
        with self._lock:
            self._word = time.monotonic()
            new = commands[max(0, self._obeyed - first) :]
            self._commands.extend(new)
            self._obeyed += len(new)
        self._wake()

    def listen(self, heard: int, told: Callable[[], None]) -> None:
        """Forget the first ``heard`` items; call ``told`` once there are others."""
        with self._lock:
            self._word = time.monotonic()
            while self._heard < heard:
                self._items.popleft()
                self._heard += 1
            self._told = None if self._items else told
            if self._items:
                told()

    def items(self) -> list[Item]:
        """Return all items that were not heard yet."""
        with self._lock:
            return list(self._items)

    def close(self) -> None:
        """Begin to end all training."""
        self._closing = True
        self._wake()

    def join(self, timeout: float) -> None:
        """Wait until all training has ended."""
        self._thread.join(timeout)

    @property
    def closed(self) -> bool:
        """Whether it does nothing any more."""
        return not self._thread.is_alive()

    def _wake(self) -> None:
        with suppress(OSError):  # it is full, and so rings anyway; or closed
            self._ring.send(b"!")

    # In a thread of its own

    def _run(self) -> None:
        try:
            while not (self._closing or time.monotonic() > self._word + LEASE):
                self._obey()
                self._wait()
        except Exception as error:  # noqa: BLE001 (it is the owner's to judge)
            self._say([Broke(pack(error), traceback.format_exc())])
        finally:
            self._tidy_up()

    def _wait(self) -> None:
        places = [(waitable, slot) for slot in self._slots for waitable in slot.waitables]
        soonest = min(self._word + LEASE, *(slot.deadline for slot in self._slots))
        left = max(0.0, soonest - time.monotonic())
        heard = wait([self._bell, *(waitable for waitable, _ in places)], left)
        if self._bell in heard:
            with suppress(BlockingIOError):
                while self._bell.recv(100):
                    pass
        moment = time.monotonic()
        news = [slot for waitable, slot in places if waitable in heard]
        news += [slot for slot in self._slots if slot.deadline <= moment]
        for slot in dict.fromkeys(news):
            try:
                self._deliver(slot.poll())
            except Exception as error:  # noqa: BLE001 (the others may still have something to tell)
                self._say([Broke(pack(error), traceback.format_exc())])

    def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        self._say([Came(d.trial, d.attempt, d.events, pack(d.error)) for d in deliveries])

    def _say(self, items: Sequence[Item]) -> None:
        with self._lock:
            self._items.extend(items)
            if items and self._told is not None:
                self._told()
                self._told = None

    def _obey(self) -> None:
        while True:
            with self._lock:
                if not self._commands:
                    return
                command = self._commands.popleft()
            match command:
                case Start(task):
                    idle = [slot for slot in self._slots if slot.task is None]
                    next((slot for slot in idle if slot.warm), idle[0]).start(task)
                case Answer(attempt, go_on):
                    for slot in self._of(attempt):
                        slot.answer(go_on)
                case Cancel(attempt):
                    for slot in self._of(attempt):
                        slot.cancel()
                case Stop():
                    self._end_what_is_cold()

    def _of(self, attempt: str) -> list[Slot]:
        return [s for s in self._slots if s.task is not None and s.task.attempt == attempt]

    def _end_what_is_cold(self) -> None:
        for slot in self._slots:
            if slot.task is not None and not slot.warm:  # loading a dataset may take long
                trial, attempt = slot.task.trial, slot.task.attempt
                slot.cancel()
                self._say([Came(trial, attempt, [TaskEnded(trial)], None)])

    def _tidy_up(self) -> None:
        until = time.monotonic() + GRACE
        for slot in self._slots:
            slot.hang_up()
        for slot in self._slots:  # all at a time: if one cannot be killed, others may be like it
            slot.end(max(0.0, until - time.monotonic()))
        for slot in self._slots:
            slot.close(0.0)
        self._bell.close()
        self._ring.close()
        killed = [token for slot in self._slots for token in slot.killed]
        dropped = [uri for slot in self._slots for uri in slot.dropped]
        with self._file as file:
            if killed or dropped:
                job = Job.read(file.fileno())
                replace(job, dataset=replace(job.dataset, data=b"")).sweep(killed, dropped)
