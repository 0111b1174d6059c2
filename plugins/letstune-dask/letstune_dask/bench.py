"""What trains on a Dask worker: slots, in a thread of their own.

The training processes are fresh ones, below the Dask worker. So a trainer that crashes, hangs or
takes all memory does not take the Dask worker with it. It is timed out and reported as on one
machine, never holds up the Dask worker's own thread, and ends with the Dask worker.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Final

from letstune.workers import Command, Item, Job, Raised, RemoteSlots

LEASE: Final = 60.0
"""After so many seconds without a word from the owner, the owner and its work are given up."""


class Bench:
    """Slots that do what they are told, and keep what comes of it until the owner has heard it.

    Args:
        file: from `Job.spool`; it is closed along with this object.
        token: names its workers; no other bench, of any run, has the same.
        slots: how many tasks it trains at a time.
        epoch_timeout: see `letstune.workers.RemoteSlots`.
        trial_timeout: see `letstune.workers.RemoteSlots`.

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
        self._slots = RemoteSlots(
            file,
            [f"{token}-w{number}" for number in range(slots)],
            epoch_timeout=epoch_timeout,
            trial_timeout=trial_timeout,
        )
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
                self._say(self._slots.poll(self._word + LEASE - time.monotonic(), self._bell))
                with suppress(BlockingIOError):
                    while self._bell.recv(100):
                        pass
        except Exception as error:  # noqa: BLE001 (it is the owner's to judge)
            self._say([Raised.of(error)])
        finally:
            self._tidy_up()

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
            self._say(self._slots.obey(command))

    def _tidy_up(self) -> None:
        self._slots.close()
        self._bell.close()
        self._ring.close()
        killed, dropped = self._slots.killed, self._slots.dropped
        with self._file as file:
            if killed or dropped:
                Job.read(file.fileno()).without_dataset().sweep(killed, dropped)
