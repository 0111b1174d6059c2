"""A seat: the actor that holds a `Slot` on a node of the cluster.

Nothing is trained in the actor itself: what crashes or hangs is a process below it, and the actor
is there to tell.
"""

from __future__ import annotations

import os
import pickle
import platform
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Pipe, wait
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from letstune import __version__
from letstune.errors import CheckpointError, PickleError
from letstune.rounds.events import Stored, TaskEnded
from letstune.training import pickling
from letstune.training.checkpoints import Checkpoint, Keeper, fetch
from letstune.training.stores import Store
from letstune.workers.executor import Delivery
from letstune.workers.job import Job
from letstune.workers.machine import thread_limits
from letstune.workers.messages import Raised, pack
from letstune.workers.slot import GRACE, Slot

PROBE: Final = "probe"
"""The file in a probe: a checkpoint that shows whether all nodes have the same store."""


class Here(NamedTuple):
    """Where a seat is."""

    node: str
    pid: int


class News(NamedTuple):
    """What came of a poll.

    Attributes:
        deliveries: without their errors, which Ray might not be able to send.
        errors: theirs, pickled, one a delivery.
        raised: what must end the run.
        killed: the tokens of the seat's workers that could not tidy up, so far.
    """

    deliveries: list[Delivery]
    errors: list[bytes | None]
    raised: Raised | None
    killed: list[str]


class Seat:
    """Trains one task at a time, on whatever node Ray puts it.

    `tell` and `poll` are called on different threads. Only `poll` touches the slot, which has no
    lock of its own; `tell` puts a word down for it, and rings.
    """

    def __init__(self) -> None:
        self._slot: Slot | None = None
        self._job: IO[bytes] | None = None
        self._words: dict[int, tuple[Any, ...]] = {}
        self._next = 0
        self._stopped = self._closing = False
        self._turn = threading.Lock()
        self._heard, self._bell = Pipe(duplex=False)

    def check(
        self,
        token: str,
        versions: Mapping[str, str],
        job: bytes,
        probe: Stored,
        cores: int,
        limits: Mapping[str, float | None],
    ) -> Here | Raised:
        """See whether tasks can be trained here, and get ready for it; called first.

        Args:
            token: for `Slot`.
            versions: those of the owner, to be compared before anything is unpickled.
            job: the job, pickled.
            probe: a checkpoint that the owner put into the store.
            cores: how many threads a library may use that computes.
            limits: the slot's timeouts.
        """
        here = Here(f"{platform.node()} (Ray node {_node()})", os.getpid())
        try:
            _compare(versions, here.node)
            unpickled: Job = pickle.loads(job)
            advice = f"let node {here.node} have the same packages."
            pickling.load(unpickled.trainer, unpickled.journal, advice)
            store: Store = pickling.load(unpickled.store, unpickled.journal, advice)
            _probe(store, probe, f"probe-{token}", here.node)
            given = {"OMP_NUM_THREADS": str(cores), **os.environ}
            # Ray has set CUDA_VISIBLE_DEVICES for this process; a worker inherits it.
            environment = {
                **thread_limits(1, given),
                "OMP_NUM_THREADS": given["OMP_NUM_THREADS"],
            }
            self._job = unpickled.spool()
            self._slot = Slot(self._job, token, environment, **limits)
        except Exception as error:  # noqa: BLE001 (it is the owner's to judge)
            error.add_note(f"It was raised on node {here.node}.")
            return _raised(error)
        return here

    def tell(self, number: int, *word: Any) -> None:
        """Put down a word: ``start`` with a task, ``answer``, ``cancel`` or ``stop``.

        Words are numbered, since Ray does not promise to keep the order of calls of an actor with
        more than one thread.
        """
        self._words[number] = word
        self._bell.send_bytes(b"!")

    def poll(self, seconds: float) -> News:
        """Do as told, and wait for that long at most for news."""
        news = News([], [], None, [])
        until = time.monotonic() + seconds
        with self._turn:
            slot = self._slot
            while slot is not None and not self._closing:
                try:
                    self._wait(slot, until)
                    self._note(news, slot.poll())
                    self._note(news, self._obey(slot))
                except Exception as error:  # noqa: BLE001 (it is the owner's to judge)
                    news = news._replace(raised=_raised(error))
                if news.deliveries or news.raised or time.monotonic() >= until:
                    break
            return news._replace(killed=list(slot.killed) if slot is not None else [])

    def _wait(self, slot: Slot, until: float) -> None:
        left = max(0.0, min(until, slot.deadline) - time.monotonic())
        if self._heard in wait([self._heard, *slot.waitables], left):
            self._heard.recv_bytes()

    def _note(self, news: News, deliveries: Sequence[Delivery]) -> None:
        news.deliveries.extend(delivery._replace(error=None) for delivery in deliveries)
        news.errors.extend(pack(delivery.error) for delivery in deliveries)

    def _obey(self, slot: Slot) -> list[Delivery]:
        deliveries = []
        while (word := self._words.pop(self._next, None)) is not None:
            self._next += 1
            match word:
                case ("start", task):
                    slot.start(task)
                case ("answer",):
                    slot.answer(not self._stopped)
                case ("cancel",):
                    slot.cancel()
                case ("stop",):
                    self._stopped = True
                    if slot.task is not None and not slot.warm:  # loading a dataset may take long
                        task = slot.task
                        slot.cancel()
                        deliveries.append(
                            Delivery(task.trial, task.attempt, [TaskEnded(task.trial)])
                        )
        return deliveries

    def close(self) -> tuple[list[str], list[str]]:
        """End the worker, and return what it left; see `Slot.killed` and `Slot.dropped`."""
        self._closing = True
        self._bell.send_bytes(b"!")
        with self._turn:
            if self._slot is None or self._job is None:
                return [], []
            self._slot.hang_up()
            self._slot.close(GRACE)
            self._job.close()
            return self._slot.killed, self._slot.dropped


def versions() -> dict[str, str]:
    """Return what must be the same on all nodes. Of Python, the patch release may differ."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"letstune": __version__, "Python": python}


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())[:12]


def _compare(theirs: Mapping[str, str], node: str) -> None:
    for name, found in versions().items():
        if found != theirs[name]:
            raise PickleError(
                f"Node {node} has {name} {found}, but the run is of {name} {theirs[name]}. "
                "Install the same on all nodes, and resume."
            )


def _probe(store: Store, stored: Stored, name: str, node: str) -> None:
    """Read what the owner put into the store, and put something as well."""
    keeper = Keeper(store, name)
    try:
        with tempfile.TemporaryDirectory(prefix="letstune-") as folder:
            fetch(store, stored, Path(folder), "The probe")
        mine = put_probe(keeper, name)
        store.delete(mine.uri)
    except Exception as error:
        raise CheckpointError(
            f"Node {node} cannot reach the checkpoint store of the run: {error} Use a store that "
            "all nodes reach, such as a shared folder or store='s3://bucket/runs', and resume."
        ) from error
    finally:
        keeper.close()


def put_probe(keeper: Keeper, name: str) -> Stored:
    """Put a probe into a store.

    Raises:
        CheckpointError: the store does not take it.
    """

    def fill(probe: Checkpoint) -> None:
        (probe.path / PROBE).write_text(name)

    stored = keeper.save(name, fill)
    if stored is None:
        raise CheckpointError(f"The checkpoint store of the run has lost its probe {name}.")
    return stored


def _raised(error: Exception) -> Raised:
    return Raised(pack(error), "".join(traceback.format_exception(error)))
