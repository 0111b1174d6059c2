"""The part of the owner that runs in the Dask client's event loop: workers come, train and go.

What happens goes into a queue, for the owner's own thread.
"""

from __future__ import annotations

import asyncio
import math
import pickle
import platform
import queue
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import IO, Any, Final, NamedTuple, TypeVar

from distributed import Actor, Client, Future, wait

from letstune import Store
from letstune.errors import CheckpointError, LetstuneError, PickleError, WorkerError
from letstune.workers import (
    GRACE,
    Came,
    Command,
    EpochFinished,
    Item,
    Job,
    put_probe,
    read_probe,
)
from letstune_dask.bench import LEASE
from letstune_dask.site import Site, occupy

LOOK: Final = 1.0
"""How often it looks which workers there are, in seconds."""

PATIENCE: Final = 10.0
"""How long the scheduler may be silent, and a call be on its way, in seconds."""

CHUNK: Final = 8 * 2**20
"""The job is sent in parts of so many bytes: the scheduler passes them on, and is shared."""

TRIES: Final = 3
"""How many times in a row, without an epoch in-between, a Dask worker may lose its actor."""

REST: Final = 60.0
"""How long it is left alone after each further time, in seconds: a link may stay cut for long."""

ENDING: Final = 4 * GRACE
"""How long ending all training may take, in seconds; longer than it may take on a Dask worker."""

T = TypeVar("T")


@dataclass(frozen=True)
class How:
    """How to train on each Dask worker.

    ``token`` names the executor; no other one, of any run, has the same.
    """

    token: str
    slots: int
    resources: Mapping[str, float]
    epoch_timeout: float | None
    trial_timeout: float | None


class Joined(NamedTuple):
    """A Dask worker is ready to train."""

    member: Member


class Heard(NamedTuple):
    """A Dask worker has told something new."""

    member: Member
    items: list[Item]


class Left(NamedTuple):
    """A Dask worker does not train any more; ``asked``, if it was asked to leave the cluster."""

    member: Member
    why: str
    asked: bool


class Refused(NamedTuple):
    """A Dask worker cannot train."""

    error: Exception


class Lost(NamedTuple):
    """There is no scheduler any more."""

    why: str


News = Joined | Heard | Left | Refused | Lost


@dataclass(eq=False)
class Member:
    """A Dask worker of the run, as its owner sees it. `tell` is for any thread."""

    address: str
    loop: asyncio.AbstractEventLoop
    commands: list[Command] = field(default_factory=list)
    written: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    future: Future | None = None
    place: Future | None = None
    admitted: bool = False
    joined: bool = False

    def tell(self, command: Command) -> None:
        """Have a command sent, after all those before it."""
        with suppress(RuntimeError):  # the client was closed; see `Cluster.alive`
            self.loop.call_soon_threadsafe(self._write, command)

    def _write(self, command: Command) -> None:
        self.commands.append(command)
        self.written.set()


class _GoneError(Exception):
    """The Dask worker has left the cluster."""


class Cluster:
    """Has all Dask workers of the cluster train.

    Args:
        client: connected to the scheduler.
        job: what is trained.
        file: from `Job.spool`.
        how: how to train.
    """

    def __init__(self, client: Client, job: Job, file: IO[bytes], how: How) -> None:
        self.news: queue.SimpleQueue[News | None] = queue.SimpleQueue()
        self._client = client
        self._loop: asyncio.AbstractEventLoop = client.loop.asyncio_loop
        self._job = job
        self._file = file
        self._how = how
        self._members: dict[str, Member] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        # Until when Dask workers that are in the cluster are left alone
        self._resting: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._scheduler = ""
        self._probes = 0
        # One thread: a store need not stand more.
        self._storing = ThreadPoolExecutor(1, thread_name_prefix="letstune-probe")
        self._store: Store | None = None

    # Called from another thread

    def begin(self) -> None:
        """Make sure that all workers that are there can train, and watch out for others.

        Raises:
            LetstuneError: one of them cannot; the message names it.
        """
        beginning = self._call(self._begin())
        try:
            beginning.result()
        except LetstuneError:
            raise
        except (OSError, TimeoutError) as error:
            raise WorkerError(
                f"The Dask scheduler does not answer: {error}. Start one, or give its address."
            ) from error
        except BaseException:  # Ctrl-C
            beginning.cancel()
            raise

    @property
    def alive(self) -> bool:
        """Whether the client's event loop runs: not so once the user has closed the client."""
        return self._loop.is_running()

    def end(self) -> None:
        """End all training, as far as the workers can still be reached.

        If they cannot, Dask lets go of the actors, and they close.
        """
        try:
            if self.alive:
                with suppress(Exception):  # of whatever class: the run has an error of its own
                    self._call(self._end()).result(ENDING)
        finally:
            self._storing.shutdown()

    def _call(self, work: Any) -> Any:
        # Not in the caller's context: with its `dask.annotate`, actors might never be made.
        return Context().run(asyncio.run_coroutine_threadsafe, work, self._loop)

    # In the event loop

    async def _begin(self) -> None:
        self._scheduler, workers = await self._identity()
        members = [Member(address, self._loop) for address in workers]
        self._members = {member.address: member for member in members}
        results = await asyncio.gather(*map(self._admit, members), return_exceptions=True)
        for error in results:
            if isinstance(error, BaseException) and not isinstance(error, _GoneError):
                raise error
        for member in members:
            # Of one that has left meanwhile, this takes note.
            self._spawn(self._serve(member))
        self._watching = asyncio.create_task(self._watch())

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        closing = [self._let_go(member) for member in self._members.values()]
        await asyncio.gather(*closing)
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _let_go(self, member: Member) -> None:
        with suppress(Exception):  # of whatever class: it is gone, or Dask lets go of it
            if member.admitted and self._client.status == "running":
                await asyncio.wait_for(self._calling(member, "close"), 3 * GRACE)
        self._release(member)

    def _release(self, member: Member) -> None:
        for future in (member.future, member.place):
            if future is not None:
                future.release()
        member.future = member.place = None

    async def _identity(self) -> tuple[str, dict[str, Any]]:
        """Return which scheduler this is, and the workers that can be used."""
        if self._client.status != "running" or self._client.scheduler is None:
            raise OSError("the connection to it was closed")
        found = await asyncio.wait_for(self._client.scheduler.identity(), PATIENCE)
        return found["id"], usable(found, self._how.resources)

    async def _watch(self) -> None:
        lost_at = None
        while True:
            await asyncio.sleep(LOOK)
            try:
                scheduler, workers = await self._identity()
            except (OSError, TimeoutError) as error:
                moment = self._loop.time()
                lost_at = moment if lost_at is None else lost_at
                if moment - lost_at >= PATIENCE or self._client.status == "closed":
                    self.news.put(Lost(str(error) or f"it does not answer for {PATIENCE:g} s"))
                    return
                continue
            lost_at = None
            if scheduler != self._scheduler:
                self.news.put(Lost("another one has taken its place"))
                return
            for address in self._members.keys() - workers.keys():
                self._members.pop(address).gone.set()
            for address in self._resting.keys() - workers.keys():
                del self._resting[address]
            for address, about in workers.items():
                resting = self._loop.time() < self._resting.get(address, 0.0)
                known = address in self._members or resting
                if not known and about["status"] == "running":
                    member = self._members[address] = Member(address, self._loop)
                    self._spawn(self._serve(member))

    async def _serve(self, member: Member) -> None:
        """See to a worker until it goes."""
        try:
            why = await self._see_to(member)
            if member.joined:
                self.news.put(Left(member, why, await self._was_asked(member)))
            # If it was the link, the worker would go on to train for nobody, and keep the thread
            # and the resources that the next actor needs. (Dask lets go of an actor only once
            # what its calls have left here is collected as garbage.)
            with suppress(Exception):  # of whatever class: it is gone, or has closed by itself
                if member.admitted:
                    await self._insist(member, "close", hope=LEASE)
            self._count_failure(member, why)
        finally:
            self._release(member)
            if self._members.get(member.address) is member:
                del self._members[member.address]

    async def _was_asked(self, member: Member) -> bool:
        """Tell whether a worker was told to close: by a signal to its nanny, or by its lifetime.

        Not so if it was killed, which may be the doing of what it trained.
        """
        try:
            asking = self._client.scheduler.events(topic=member.address)
            events = await asyncio.wait_for(asking, PATIENCE)
        except Exception:  # noqa: BLE001 (of whatever class: nobody knows then)
            return False
        return any(
            about.get("expected") or str(about.get("status")).startswith("closing")
            for _, about in events
            if isinstance(about, dict)
        )

    async def _see_to(self, member: Member) -> str:
        """Have a worker train, and return why it does not do so any more."""
        try:
            if not member.admitted:
                await self._admit(member)
            await self._occupy(member)
            member.joined = True
            self.news.put(Joined(member))
            await self._converse(member)
        except _GoneError:
            pass
        except LetstuneError as error:
            if not member.joined:
                self._resting[member.address] = math.inf
                self.news.put(Refused(error))
            return str(error)
        except Exception as error:  # noqa: BLE001 (of whatever class: the actor is gone)
            return f"{type(error).__name__}: {error}"
        return "it has left the cluster" if member.gone.is_set() else "it cannot be reached"

    def _count_failure(self, member: Member, why: str) -> None:
        address = member.address
        if member.gone.is_set():  # a Dask worker that comes to this address later is another one
            self._failures.pop(address, None)
            return
        if self._resting.get(address) == math.inf:  # that is told already
            return
        failures = self._failures[address] = self._failures.get(address, 0) + 1
        if failures >= TRIES:
            self._resting[address] = self._loop.time() + REST
        if failures == TRIES:
            error = WorkerError(
                f"The Dask worker {address} was lost {TRIES} times, without an epoch in-between "
                f"and without leaving the cluster; the last time: {why}. Restart it, or mend the "
                f"link to it: it is tried again every {REST:g} s."
            )
            self.news.put(Refused(error))

    # Admission

    async def _admit(self, member: Member) -> None:
        """Make sure that a worker can train.

        Raises:
            LetstuneError: it cannot; the message names it.
            _GoneError: it left meanwhile.
        """
        try:
            await self._compare_versions(member)
            await self._make_site(member)
            await self._send_job(member)
            await self._check(member)
            member.admitted = True
        except (_GoneError, LetstuneError):
            raise
        except OSError as error:  # it cannot be reached: the scheduler is soon going to know
            raise _GoneError from error
        except Exception as error:
            raise WorkerError(
                f"The Dask worker {member.address} cannot train: {type(error).__name__}: {error}"
            ) from error

    async def _compare_versions(self, member: Member) -> None:
        """Ask Dask for versions, before any code is sent: it may be bytecode of another Python."""
        told = await self._during(
            member,
            self._client.scheduler.broadcast(
                msg={"op": "versions", "packages": ["letstune", "letstune_dask"]},
                workers=[member.address],
                on_error="return",
            ),
        )
        found = told[member.address]
        if isinstance(found, Exception):
            raise found
        packages = found["packages"]
        here, there = platform.python_version(), packages["python"]
        if here.split(".")[:2] != str(there).split(".")[:2]:
            raise PickleError(
                f"The Dask worker {member.address} has Python {there}, and this is Python {here}. "
                "Start its workers with the same Python."
            )
        mine = self._job.versions["letstune"]
        for name, wanted in (("letstune", mine), ("letstune_dask", None)):
            version = packages[name]
            if version is None or (wanted is not None and version != wanted):
                package = name.replace("_", "-")
                has = f"{package} {version}" if version else f"no {package}"
                raise PickleError(
                    f"The Dask worker {member.address} has {has}, but the run is of letstune "
                    f"{mine}. Install the same there, and letstune-dask."
                )

    async def _make_site(self, member: Member) -> None:
        how = self._how
        with self._client.as_current():
            member.future = future = self._client.submit(
                *(Site, how.token, how.slots, how.epoch_timeout, how.trial_timeout),
                actor=True,
                workers=[member.address],
                allow_other_workers=False,
                pure=False,
            )
            await self._during(member, wait(future))
            if future.status != "finished":
                raise await future.exception()

    async def _send_job(self, member: Member) -> None:
        size = self._file.seek(0, 2)
        for offset in range(0, size, CHUNK):
            self._file.seek(offset)
            await self._calling(member, "receive", offset, self._file.read(CHUNK))

    async def _check(self, member: Member) -> None:
        self._probes += 1
        mine = await self._stored(self._put, f"{self._how.token}-p{self._probes}")
        probes = [mine]
        try:
            told = await self._calling(member, "check", mine)
            probes.append(pickle.loads(told))
            await self._stored(self._read, probes[-1])
        except CheckpointError as error:
            raise CheckpointError(
                f"The Dask worker {member.address} does not reach the run's checkpoint store: "
                f"{error} Give a store that all machines reach: a folder on a file system that "
                "they share, or a bucket, with letstune-fsspec."
            ) from error
        except PickleError as error:
            raise PickleError(f"The Dask worker {member.address} cannot train: {error}") from error
        finally:
            for probe in probes:
                await self._stored(self._delete, probe)

    async def _stored(self, work: Callable[[Any], T], value: Any) -> T:
        return await self._loop.run_in_executor(self._storing, work, value)

    def _get_store(self) -> Store:
        # Of its own: the runner uses the other one in another thread.
        self._store = self._store or self._job.load_store()
        return self._store

    def _put(self, token: str) -> Any:
        return put_probe(self._get_store(), token)

    def _read(self, probe: Any) -> None:
        read_probe(self._get_store(), probe)

    def _delete(self, probe: Any) -> None:
        self._get_store().delete(probe.uri)

    # Conversation

    async def _occupy(self, member: Member) -> None:
        token = await self._calling(member, "open")
        member.place = self._client.submit(
            *(occupy, token),
            workers=[member.address],
            allow_other_workers=False,
            resources=dict(self._how.resources) or None,
            pure=False,
        )
        while not await self._calling(member, "occupied"):
            pass

    async def _converse(self, member: Member) -> None:
        both = [asyncio.create_task(self._speak(member)), asyncio.create_task(self._listen(member))]
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _speak(self, member: Member) -> None:
        told = 0
        while True:
            await member.written.wait()
            member.written.clear()
            commands = list(member.commands)
            await self._insist(member, "tell", told, commands)
            told += len(commands)
            del member.commands[: len(commands)]

    async def _listen(self, member: Member) -> None:
        heard = 0
        while True:
            items: list[Item] = pickle.loads(await self._insist(member, "hear", heard, LOOK))
            heard += len(items)
            if any(map(_has_epoch, items)):
                self._failures.pop(member.address, None)
            if items:
                self.news.put(Heard(member, items))

    async def _insist(
        self, member: Member, method: str, *arguments: Any, hope: float = PATIENCE
    ) -> Any:
        """Call a method that may be called again if a call got lost, for as long as there is hope.

        A link that is cut for a moment loses no work then.
        """
        until = self._loop.time() + hope
        while True:
            try:
                return await asyncio.wait_for(self._calling(member, method, *arguments), PATIENCE)
            except (OSError, TimeoutError) as error:
                # A LetstuneError may be an OSError as well, and comes from over there.
                if isinstance(error, LetstuneError) or self._loop.time() > until:
                    raise
                await asyncio.sleep(LOOK / 10)

    async def _calling(self, member: Member, method: str, *arguments: Any) -> Any:
        """Call a method of a worker's actor.

        Raises:
            _GoneError: the worker left meanwhile.
            Exception: the method raised it, or the worker cannot be reached.
        """
        if member.future is None:
            raise _GoneError
        with self._client.as_current():
            actor = Actor(Site, member.address, member.future.key)
        return await self._during(member, getattr(actor, method)(*arguments))

    async def _during(self, member: Member, work: Awaitable[T]) -> T:
        """Wait for something, unless the worker leaves the cluster meanwhile."""
        done = asyncio.ensure_future(_awaited(work))
        gone = asyncio.ensure_future(member.gone.wait())
        try:
            await asyncio.wait([done, gone], return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                raise _GoneError
            return done.result()
        finally:
            done.cancel()
            gone.cancel()


def usable(identity: Mapping[str, Any], resources: Mapping[str, float]) -> dict[str, Any]:
    """Return the workers that have these resources, by their addresses.

    Args:
        identity: what the scheduler says of itself.
        resources: what each is to have.
    """
    workers: dict[str, Any] = identity["workers"]
    return {
        address: about
        for address, about in workers.items()
        if all(about["resources"].get(name, 0) >= count for name, count in resources.items())
    }


def _has_epoch(item: Item) -> bool:
    return isinstance(item, Came) and any(isinstance(e, EpochFinished) for e in item.events)


async def _awaited(work: Awaitable[T]) -> T:
    return await work
