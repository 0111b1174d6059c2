"""Trains on a Ray cluster: an actor for each slot, and an owner that listens to all of them."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from letstune.errors import CheckpointError, PlanError, WorkerError
from letstune.plugins import whole_number
from letstune.training import Stored
from letstune.workers import GRACE, Command, Job, Raised, Remote, put_probe, usable_cores
from letstune_ray.cluster import connect, import_ray, needs, room
from letstune_ray.place import Place
from letstune_ray.seat import News, Seat, versions

FETCHING: Final = 30.0
"""How long an answer that is there may take on its way, in seconds."""

LOOK: Final = 1.0
"""How long the start waits for actors before it looks at the clock, in seconds."""

STILLBORN: Final = 3
"""How many actors in a row may end before they could train."""

SETTLING: Final = 10.0
"""How long the start waits for the last actor, in seconds; those that come later join in."""


class RayExecutor(Remote[Place]):
    """Trains in the actors of a Ray cluster, one task in each at a time.

    Args:
        address: ``"ray://auto"`` for the cluster to which this process is connected, or that
            RAY_ADDRESS names, or that runs on this machine; ``"ray://local"`` for a new one on this
            machine, which ends with the run; ``"ray://host:10001"`` for one behind a Ray client
            server; or what ``ray.init`` returned.
        job: what is trained.
        token: names the workers; no other executor, of any run, has the same.
        epoch_timeout: how long one epoch may take, in seconds.
        trial_timeout: how long the epochs of a trial may take in all, in seconds.
        workers: how many actors; by default as many as the cluster has room for now.
        num_cpus: how many CPUs each takes, and how many threads its libraries may use.
        num_gpus: how many GPUs each takes.
        resources: what else each takes, by Ray's names.
        patience: how long to wait for room for the first one, in seconds.

    Raises:
        PlanError: an option is not what it must be.
        WorkerError: there is no cluster, or no room in it.
        LetstuneError: a node is not what the run needs.
    """

    harmless_options = ("resources",)
    spared = math.inf  # Ray says when it was the trial: when memory was short

    def __init__(
        self,
        address: Any,
        job: Job,
        *,
        token: str,
        epoch_timeout: float | None = None,
        trial_timeout: float | None = None,
        workers: int | None = None,
        num_cpus: float = 1,
        num_gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        patience: float = 60,
    ) -> None:
        _check_options({"patience": patience})
        self._needs = _needs_of(workers, num_cpus, num_gpus, resources)
        self._ray = import_ray()
        super().__init__(job)
        self._token = token
        self._places: list[Place] = []
        self._store = job.load_store("mend the store.")
        self._opened = False
        self._probe: Stored | None = None
        try:
            self._probe = put_probe(self._store, token)
        except CheckpointError as error:  # as any worker's would, it ends the run when that begins
            self.fail(error)
            return
        try:
            self._opened = connect(address)
            limits = {"epoch_timeout": epoch_timeout, "trial_timeout": trial_timeout}
            cores = max(1, int(num_cpus))
            self._given = versions(), self._ray.put(pickle.dumps(job)), self._probe, cores, limits
            self._make = self._ray.remote(
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                resources=dict(resources or {}),
                # An actor that comes back by itself would know nothing of its task.
                max_restarts=0,
                max_task_retries=0,
                max_concurrency=1,
                concurrency_groups={"polls": 1},
            )(Seat)
            self._settle(room(self._needs) if workers is None else workers, patience)
        except BaseException:
            self.close()
            raise

    def _settle(self, workers: int, patience: float) -> None:
        """Make the actors, and wait for those that there is room for."""
        self._places = [Place(number) for number in range(workers)]
        for place in self._places:
            self._occupy(place)
        until, last = time.monotonic() + patience, time.monotonic() + SETTLING
        while self.error is None and not all(place.here for place in self._places):
            self.listen(LOOK)
            moment = time.monotonic()
            if moment >= (last if any(place.here for place in self._places) else until):
                break
        if self.error is not None:
            raise self.error
        if not any(place.here for place in self._places):
            raise WorkerError(
                f"The Ray cluster has no room for an actor that takes {self._needs}: it has "
                f"{self._ray.cluster_resources()}, of which {self._ray.available_resources()} are "
                "free. Ask for less, or resume when there is more."
            )

    @staticmethod
    def count(
        address: Any,
        *,
        workers: int | None = None,
        num_cpus: float = 1,
        num_gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        **_others: Any,
    ) -> int:
        """Return how many actors the cluster has room for now; see `Executor.count`."""
        takes = _needs_of(workers, num_cpus, num_gpus, resources)
        if workers is not None:
            return workers
        own = address == "ray://local" and not import_ray().is_initialized()
        if own and takes.keys() == {"CPU"}:  # starting one takes seconds
            return max(1, int(usable_cores() / num_cpus))
        opened = connect(address)
        try:
            return max(1, room(takes))
        finally:
            if opened:
                import_ray().shutdown()

    def name(self, place: Place) -> str:
        """Return what the actor at a place is called; see `Remote.name`."""
        return f"node {place.here.node}" if place.here else "a node of the Ray cluster"

    def send(self, place: Place, command: Command) -> None:
        """Send a command; see `Remote.send`."""
        with self._reaching():
            place.tell(command)

    def listen(self, seconds: float) -> None:
        """Wait for answers of actors; see `Remote.listen`."""
        with self._reaching():
            for place in self._places:
                if self.tasks(place):  # else, there can be no news
                    place.listen()
            asked = {place.asked: place for place in self._places if place.asked is not None}
            if not asked:
                time.sleep(seconds)
                return
            ready, others = self._ray.wait(list(asked), timeout=seconds, fetch_local=False)
            if ready and others:  # what came with it
                ready += self._ray.wait(others, num_returns=len(others), timeout=0)[0]
            for answer in ready:
                self._hear(asked[answer], answer)

    def _hear(self, place: Place, answer: Any) -> None:
        errors = self._ray.exceptions
        # Of the last two: the actor may be there yet, but what it said was on a node that is not.
        lost = (
            *(errors.RayActorError, errors.OutOfMemoryError),
            *(errors.ObjectLostError, errors.GetTimeoutError),
        )
        place.asked = None
        try:
            said = self._ray.get(answer, timeout=FETCHING)
        except lost as error:
            self._lose(place, error)
            return
        if isinstance(said, Raised):
            self.fail(said.exception("A node of the Ray cluster"))
        elif isinstance(said, News):
            place.killed = said.killed
            self.heard(place, said.items)
        else:
            place.here, place.stillborn = said, 0
            self.joined(place)

    def _lose(self, place: Place, error: Exception) -> None:
        """Let go of an actor that is gone, and make another one."""
        if place.here is None:
            place.stillborn += 1
            if place.stillborn >= STILLBORN:
                self.fail(
                    WorkerError(
                        f"{STILLBORN} actors in a row ended before they could train. letstune-ray "
                        "must be installed on all nodes. Nothing is lost: resume when that is "
                        f"mended. Ray says:\n{error}"
                    )
                )
                return
        self.leave_behind(place.lost_tokens(self._token))
        # That is the trial's doing as much as the machine's: it counts like any other death, or a
        # trial that takes too much would be tried for ever.
        short = isinstance(error, self._ray.exceptions.OutOfMemoryError)
        self.left(place, blame=str(error) if short else "")
        # It may be Ray's mistake, as when the network is cut: two must not train one task.
        self._ray.kill(place.actor)
        self._occupy(place)

    def _occupy(self, place: Place) -> None:
        """Have an actor made, which comes when there is room for it."""
        place.occupy(self._make, self._token, *self._given)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Take the loss of the cluster for an interruption: a resume finds another one."""
        errors = self._ray.exceptions
        try:
            yield
        except (ConnectionError, errors.LocalRayletDiedError, errors.RaySystemError) as error:
            self.interrupt(f"the Ray cluster is lost: {error}")

    def end(self) -> None:
        """End all actors; see `Remote.end`."""
        # A cluster that is lost may have taken the store along. Of whatever class their errors
        # are, the run has one of its own.
        with suppress(Exception):
            if self._ray.is_initialized():
                self._close_places()
        for place in self._places:
            self.leave_behind(place.killed, place.dropped)
        with suppress(Exception):
            if self._probe is not None:
                self._store.delete(self._probe.uri)

    def close(self) -> None:
        """End all actors, and the cluster if it was begun here; see `Executor.close`."""
        try:
            super().close()
        finally:
            if self._opened:
                self._ray.shutdown()

    def _close_places(self) -> None:
        closing = {
            place.actor.close.remote(): place for place in self._places if place.here is not None
        }
        if closing:
            limit = 2 * GRACE
            for answer in self._ray.wait(list(closing), num_returns=len(closing), timeout=limit)[0]:
                with suppress(self._ray.exceptions.RayError):  # it has just died, or its node
                    place = closing[answer]
                    place.killed, place.dropped = self._ray.get(answer, timeout=GRACE)
        for place in self._places:
            if place.actor is not None:
                self._ray.kill(place.actor)


def _needs_of(
    workers: int | None, num_cpus: float, num_gpus: float, resources: Mapping[str, float] | None
) -> dict[str, float]:
    """Return what an actor takes of the cluster, after all of that was found to be a number."""
    if workers is not None:
        whole_number("workers", workers, 1)
    _check_options({"num_cpus": num_cpus, "num_gpus": num_gpus, **(resources or {})})
    found = needs(num_cpus, num_gpus, resources or {})
    if workers is None and not found:
        raise PlanError("With num_cpus=0 and no GPUs or resources, workers=N must be given.")
    return found


def _check_options(given: Mapping[str, object]) -> None:
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise PlanError(f"{name}={value!r}: expected a number, 0 or more.")
