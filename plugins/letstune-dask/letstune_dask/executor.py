"""Trains on a Dask cluster."""

from __future__ import annotations

import queue
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from dask.base import get_annotations
from distributed import Client

from letstune.errors import PlanError, WorkerError
from letstune.plugins import whole_number
from letstune.workers import Command, Job, Remote
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

CONNECTING: Final = 30.0
"""How long a scheduler may take to answer at first, in seconds."""


class DaskExecutor(Remote[Member]):
    """Trains on all workers of a Dask cluster; they may come and go.

    Args:
        address: the address of a scheduler, ``dask://HOST:PORT``, ``tcp://HOST:PORT`` or
            ``tls://HOST:PORT``; ``dask:///PATH`` for a scheduler file; or a `distributed.Client`.
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

    harmless_options = ("resources",)
    waiting = "There are no Dask workers that can train; waiting for some."

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
        super().__init__(job, slots_per_place=slots_per_worker)
        how = How(token, slots_per_worker, needs, epoch_timeout, trial_timeout)
        self._ours = not isinstance(address, Client)
        self._client = _connect(address)
        self._file = job.spool()
        self._cluster = Cluster(self._client, self.job, self._file, how)
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

    def name(self, place: Member) -> str:
        """Return what a Dask worker is called; see `Remote.name`."""
        return f"the Dask worker {place.address}"

    def send(self, place: Member, command: Command) -> None:
        """Have a command sent; see `Remote.send`."""
        place.tell(command)

    def listen(self, seconds: float) -> None:
        """Wait for news; see `Remote.listen`."""
        if not self._cluster.alive:
            self._take(Lost("its client was closed"))
        news = self._cluster.news
        with suppress(queue.Empty):
            self._take(news.get(timeout=seconds) if seconds > 0 else news.get_nowait())
            while True:
                self._take(news.get_nowait())

    def _take(self, news: News | None) -> None:
        match news:
            case Joined(member):
                self.joined(member)
            case Heard(member, items):
                self.heard(member, items)
            case Left(member, why, asked):
                lost = len(self.tasks(member))
                told = f" {lost} of its trials go on from their last checkpoints." if lost else ""
                self.say(f"{self.name(member)} is gone: {why}.{told}", again=True)
                self.left(member, preempted=asked)
            case Refused(error):
                self.say(f"{error} The run goes on without it.")
            case Lost(why):
                self.interrupt(f"The Dask scheduler is lost: {why}.")

    def end(self) -> None:
        """End all training; see `Remote.end`."""
        try:
            self._cluster.end()
        finally:
            self._file.close()
            if self._ours:
                with suppress(Exception):  # as in `Cluster.end`
                    self._client.close()


def _check_options(slots_per_worker: object, resources: object) -> dict[str, float]:
    """Return the resources, after both were found to be what they must be."""
    if resources is None:
        resources = get_annotations().get("resources")
    whole_number("slots_per_worker", slots_per_worker, 1)
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
    """Return a client: the given one, or a new one for an address.

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
