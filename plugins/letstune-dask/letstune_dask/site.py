"""The Dask actor: one on each Dask worker of the run.

Its methods are coroutines, since all other methods share one thread of the Dask worker. Commands
and items are numbered, so that both may be sent again after a call that failed on its way.
"""

from __future__ import annotations

import asyncio
import pickle
import secrets
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from distributed import Status, get_worker

from letstune.errors import WorkerError
from letstune.training import Stored
from letstune.workers import GRACE, Command
from letstune_dask.bench import Bench
from letstune_dask.check import check

LOOK: Final = 1.0
"""How often it looks whether the Dask worker is going to close, in seconds."""


_benches: weakref.WeakValueDictionary[str, Bench] = weakref.WeakValueDictionary()


def occupy(token: str) -> None:
    """Hold a thread and resources of the Dask worker for as long as it trains: a Dask task.

    Dask counts an actor's resources only while it is made, and takes a worker with nothing but
    actors for an idle one: it would give both away, or shut them down.
    """
    bench, worker = _benches.get(token), get_worker()
    if bench is None:
        return
    bench.occupied = True
    while not bench.closed:
        if worker.status not in (Status.running, Status.paused):
            bench.close()  # it is being retired: the trials go on elsewhere
        bench.join(LOOK)


class Site:
    """Trains tasks on a Dask worker.

    If Dask makes it anew, here or elsewhere, the new one has no job and no task. It says so at the
    first word, and the owner starts the trials' next attempts. A checkpoint's name has the
    attempt's, and so is never used twice.

    Args:
        token: names the run's executor.
        slots: how many tasks it trains at a time.
        epoch_timeout: see `letstune.workers.RemoteSlots`.
        trial_timeout: see `letstune.workers.RemoteSlots`.
    """

    def __init__(
        self, token: str, slots: int, epoch_timeout: float | None, trial_timeout: float | None
    ) -> None:
        # Another one each time it is made: staging folders are named by it.
        self._token = f"{token}-{secrets.token_hex(4)}"
        self._how = (slots, epoch_timeout, trial_timeout)
        self._file = tempfile.TemporaryFile(prefix="letstune-")  # noqa: SIM115 (the bench closes it)
        self._bench: Bench | None = None

    async def receive(self, offset: int, data: bytes) -> None:
        """Take a part of the job."""
        self._file.seek(offset)
        self._file.write(data)
        self._file.flush()

    async def check(self, probe: Stored) -> bytes:
        """Make sure that this machine can train, and return a probe for the owner, pickled.

        Raises:
            Exception: it cannot; see `letstune_dask.check.check`.
        """
        return pickle.dumps(await asyncio.to_thread(check, self._file, self._token, probe))

    async def open(self) -> str:
        """Be ready to train, and return the token for `occupy`.

        If the owner goes, Dask lets go of this object, and it closes.
        """
        self._bench = _benches[self._token] = Bench(self._file, self._token, *self._how)
        weakref.finalize(self, self._bench.close)
        return self._token

    async def occupied(self) -> bool:
        """Tell whether Dask has given it a thread and the resources, a second later if not."""
        bench = self._open()
        if not bench.occupied:
            await asyncio.sleep(LOOK)
        return bench.occupied

    async def tell(self, first: int, commands: Sequence[Command]) -> None:
        """Take commands; see `Bench.tell`."""
        self._open().tell(first, commands)

    async def hear(self, heard: int, patience: float) -> bytes:
        """Return what has come after the first ``heard`` items, pickled; wait if nothing has.

        Args:
            heard: how many were heard; they are forgotten here.
            patience: how long to wait at most, in seconds.
        """
        bench, loop = self._open(), asyncio.get_running_loop()
        news = asyncio.Event()

        def told() -> None:
            loop.call_soon_threadsafe(news.set)

        bench.listen(heard, told)
        with suppress(TimeoutError):
            await asyncio.wait_for(news.wait(), patience)
        return pickle.dumps(bench.items())

    async def close(self) -> None:
        """End all training, and wait for it."""
        if self._bench is not None:
            self._bench.close()
            await asyncio.to_thread(self._bench.join, 2 * GRACE)

    def _open(self) -> Bench:
        if self._bench is None or self._bench.closed:
            raise WorkerError("it was made anew, or has not heard of its owner for too long")
        return self._bench
