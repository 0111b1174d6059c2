"""Trains on a Dask cluster."""

from __future__ import annotations

import queue
import signal
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from dask.base import get_annotations
from distributed import Client

from letstune.errors import Interrupted, PlanError, WorkerError
from letstune.rounds.events import EpochFinished, Event, Task, TaskEnded, WorkerDied
from letstune.telling.progress import say
from letstune.workers.executor import Delivery, Executor
from letstune.workers.job import Job
from letstune.workers.messages import unpack
from letstune_dask.cluster import (
    Cluster,
    Heard,
    How,
    Joined,
    Left,
    Lost,
    Member,
    News,
    Refused,
    usable,
)
from letstune_dask.messages import Answer, Broke, Came, Cancel, Item, Start, Stop

TICK: Final = 1.0
"""How long `DaskExecutor.deliveries` waits at most, in seconds."""

CONNECTING: Final = 30.0
"""How long a scheduler may take to answer at first, in seconds."""

QUIET: Final = 5.0
"""How long nothing is said of there being no workers, in seconds."""

SPARED: Final = 3
"""So many times in a row a trial may lose its machine before that counts as a worker's death."""


@dataclass
class _Place:
    """A Dask worker, and what it trains: tasks by their attempts."""

    tasks: dict[str, Task] = field(default_factory=dict)
    used: bool = False


class DaskExecutor(Executor):
    """Trains on all workers of a Dask cluster; they may come and go.

    Args:
        address: ``dask://HOST:PORT``, ``tcp://HOST:PORT`` or ``tls://HOST:PORT`` of a scheduler,
            ``dask:///PATH`` of a scheduler file, or a `distributed.Client`.
        job: what is trained.
        token: names it; no other executor, of any run, has the same.
        epoch_timeout: how long one epoch may take, in seconds.
        trial_timeout: how long the epochs of a trial may take in all, in seconds.
        slots_per_worker: how many trials each Dask worker trains at the same time, each in a
            process that loads the dataset.
        resources: what each Dask worker gives to the run, such as ``{"GPU": 1}``; those that have
            less of it are not used. By default, those of ``dask.annotate(resources=...)``.

    Raises:
        PlanError: an argument is not what it must be.
        WorkerError: there is no scheduler, or a Dask worker cannot train.
        PickleError: a Dask worker has other packages.
        CheckpointError: a Dask worker does not reach the store.
    """

    def __init__(
        self,
        address: Any,
        job: Job,
        *,
        token: str,
        epoch_timeout: float | None = None,
        trial_timeout: float | None = None,
        slots_per_worker: int = 1,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        needs = _check_options(slots_per_worker, resources)
        self._how = How(token, slots_per_worker, needs, epoch_timeout, trial_timeout)
        self._places: dict[Member, _Place] = {}
        self._waiting: deque[Task] = deque()
        self._unanswered: list[tuple[Member, str]] = []
        self._ended: list[Delivery] = []
        self._raised: BaseException | None = None
        self._losses: dict[int, int] = {}
        self._epochs: dict[int, int] = {}
        self._stopped = False
        self._busy = time.monotonic()
        self._told: set[str] = set()
        self._journal = str(job.journal)
        self._ours = not isinstance(address, Client)
        self._client = _connect(address)
        self._file = job.spool()
        self._cluster = Cluster(self._client, job, self._file, self._how)
        try:
            self._cluster.begin()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def count(
        address: Any,
        *,
        slots_per_worker: int = 1,
        resources: Mapping[str, float] | None = None,
        **_others: Any,
    ) -> int:
        """Return how many slots there are now on Dask workers; see `Executor.count`."""
        needs = _check_options(slots_per_worker, resources)
        client = _connect(address)
        try:
            identity = client.sync(client.scheduler.identity)
            return max(1, len(usable(identity, needs)) * slots_per_worker)
        finally:
            if client is not address:
                client.close()

    @property
    def slots(self) -> int:  # type: ignore[override]
        """How many tasks it can train now; at least one, which waits if there are no workers."""
        return max(1, len(self._places) * self._how.slots)

    def start(self, task: Task) -> None:
        """Have a task trained; see `Executor.start`."""
        self._epochs[task.trial] = task.epochs
        self._waiting.append(task)
        self._assign()

    def _assign(self) -> None:
        while self._waiting:
            free = [
                (len(place.tasks), not place.used, number, member)
                for number, (member, place) in enumerate(self._places.items())
                if len(place.tasks) < self._how.slots
            ]
            if not free:
                return
            # The least busy, and of these one that has loaded the dataset.
            *_, member = min(free, key=lambda found: found[:3])
            task, place = self._waiting.popleft(), self._places[member]
            place.tasks[task.attempt], place.used = task, True
            member.tell(Start(task))

    def deliveries(self) -> list[Delivery]:
        """Wait for news; see `Executor.deliveries`.

        Raises:
            Interrupted: the scheduler is lost.
        """
        found, self._ended = self._ended, []
        if self._raised is not None and not found:
            raise self._raised
        self._tell_of_waiting()
        if not self._cluster.alive:
            self._take(Lost("its client was closed"))
        until = time.monotonic() + TICK
        with suppress(queue.Empty):
            # All that has arrived, so that it is recorded together.
            news = self._next(0.0 if found else until - time.monotonic())
            while True:
                found += self._take(news)
                if found or isinstance(news, Joined | Lost):
                    news = self._next(0.0)
                else:
                    news = self._next(until - time.monotonic())
        self._assign()
        return found

    def _next(self, left: float) -> News | None:
        return self._cluster.news.get(timeout=left) if left > 0 else self._cluster.news.get_nowait()

    def _take(self, news: News | None) -> list[Delivery]:
        match news:
            case Joined(member):
                self._places[member] = _Place()
                self._told.discard("waiting")
                self._assign()
            case Heard(member, items) if member in self._places:
                return [d for item in items for d in self._hear(member, item)]
            case Left(member, why):
                return self._bury(member, why)
            case Refused(error):
                self._say(f"{error} The run goes on without it.")
            case Lost(why):
                self._say(f"The Dask scheduler is lost: {why}.")
                self._raised = self._raised or Interrupted(self._journal)
        return []

    def _hear(self, member: Member, item: Item) -> list[Delivery]:
        if isinstance(item, Broke):
            error = unpack(item.error) or WorkerError(f"A worker process raised:\n{item.text}")
            error.add_note(f"It was raised on the Dask worker {member.address}.")
            self._raised = self._raised or error
            return []
        tasks = self._places[member].tasks
        if item.attempt not in tasks:  # it was given up
            return []
        self._count(item)
        if isinstance(item.events[-1], TaskEnded):
            del tasks[item.attempt]
        else:
            self._unanswered.append((member, item.attempt))
        return [Delivery(item.trial, item.attempt, item.events, unpack(item.error))]

    def _count(self, item: Came) -> None:
        epochs = sum(isinstance(event, EpochFinished) for event in item.events)
        if epochs:
            self._epochs[item.trial] += epochs
            self._losses.pop(item.trial, None)

    def _bury(self, member: Member, why: str) -> list[Delivery]:
        """Tell that the tasks of a worker ended; their trials go on in new attempts."""
        place = self._places.pop(member)
        self._unanswered = [(m, a) for m, a in self._unanswered if m is not member]
        lost = len(place.tasks)
        told = f" {lost} of its trials go on from their last checkpoints." if lost else ""
        say(f"letstune: the Dask worker {member.address} is gone: {why}.{told}")
        found = []
        for attempt, task in place.tasks.items():
            losses = self._losses[task.trial] = self._losses.get(task.trial, 0) + 1
            events = of_loss(task.trial, self._epochs[task.trial], attempt, losses, member.address)
            found.append(Delivery(task.trial, attempt, events))
        return found

    def recorded(self) -> None:
        """Let workers go on, or not; see `Executor.recorded`."""
        answered, self._unanswered = self._unanswered, []
        for member, attempt in answered:
            member.tell(Answer(attempt, not self._stopped))

    def cancel(self, trial: int) -> None:
        """Give a task up; see `Executor.cancel`."""
        self._waiting = deque(task for task in self._waiting if task.trial != trial)
        for member, place in self._places.items():
            for attempt in [a for a, task in place.tasks.items() if task.trial == trial]:
                del place.tasks[attempt]
                member.tell(Cancel(attempt))
        self._assign()

    def stop(self) -> None:
        """Begin no further epoch; see `Executor.stop`."""
        self._stopped = True
        self._ended += [
            Delivery(task.trial, task.attempt, [TaskEnded(task.trial)]) for task in self._waiting
        ]
        self._waiting.clear()
        for member in self._places:
            member.tell(Stop())

    def close(self) -> None:
        """End all training; see `Executor.close`."""
        try:
            self._cluster.end()
        finally:
            self._file.close()
            if self._ours:
                with suppress(Exception):  # as in `Cluster.end`
                    self._client.close()

    def _tell_of_waiting(self) -> None:
        moment = time.monotonic()
        if self._places or not self._waiting:
            self._busy = moment
        elif moment > self._busy + QUIET:
            self._say("There are no Dask workers that can train; waiting for some.", "waiting")

    def _say(self, line: str, key: str = "") -> None:
        """Say something, once."""
        if (key or line) not in self._told:
            self._told.add(key or line)
            say(f"letstune: {line}")


def of_loss(
    trial: int, epoch: int, attempt: str, losses: int, address: str
) -> list[Event | TaskEnded]:
    """Return what comes of a task whose Dask worker is lost.

    That is no death: machines are lost for reasons of their own, and no trial is to fail because
    of where it was. But one that is lost again and again, and never gets through an epoch, may be
    what takes the machines down: then it counts.

    Args:
        trial: the task's.
        epoch: the one in flight.
        attempt: the task's.
        losses: how many times in a row, this one included, without an epoch in-between.
        address: of the Dask worker.
    """
    over = TaskEnded(trial)
    if losses <= SPARED:
        return [over]
    at = datetime.now(UTC).isoformat()
    told = f"The Dask worker {address} was lost with it: {losses} losses without an epoch."
    return [WorkerDied(trial, epoch, attempt, -signal.SIGKILL, None, told, at), over]


def _check_options(slots_per_worker: object, resources: object) -> dict[str, float]:
    """Return the resources, after both were found to be what they must be."""
    if resources is None:
        resources = get_annotations().get("resources")
    if not isinstance(slots_per_worker, int) or slots_per_worker < 1:
        raise PlanError(
            f"slots_per_worker={slots_per_worker!r}: expected a whole number, 1 or more."
        )
    named = isinstance(resources, Mapping) and all(
        isinstance(name, str) and isinstance(count, int | float) and count > 0
        for name, count in resources.items()
    )
    if resources is not None and not named:
        raise PlanError(
            f"resources={resources!r}: expected names with numbers, such as {{'GPU': 1}}."
        )
    return dict(resources) if isinstance(resources, Mapping) else {}


def _connect(address: Any) -> Client:
    """Return a client; the one that is given, if it is one.

    Raises:
        PlanError: that is no address.
        WorkerError: there is no scheduler.
    """
    if isinstance(address, Client):
        if address.asynchronous or address.status != "running":
            raise PlanError(
                f"workers={address!r}: expected a Client that is connected and not asynchronous."
            )
        return address
    scheme, _, rest = str(address).partition("://")
    if not rest:
        raise PlanError(
            f"workers={address!r}: expected the address of a Dask scheduler, such as "
            "'dask://scheduler:8786', or of a scheduler file, 'dask:///shared/scheduler.json'."
        )
    found = f"{'tcp' if scheme == 'dask' else scheme}://{rest}"
    where = {"scheduler_file": rest} if rest.startswith("/") else {"address": found}
    try:
        return Client(**where, set_as_default=False, timeout=CONNECTING)
    except (OSError, ValueError) as error:
        raise WorkerError(
            f"workers={address!r}: there is no Dask scheduler: {error}. Start one with "
            "`dask scheduler`, or give the address of one that runs."
        ) from error
