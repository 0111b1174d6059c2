"""The owner's side that runs in the Dask client's event loop: workers come, train and go.

What happens goes into a queue, for the owner's own thread.
"""

from __future__ import annotations

import asyncio
import pickle
import platform
import queue
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any, Final, NamedTuple, TypeVar

from distributed import Actor, Client, Future, wait

from letstune.errors import CheckpointError, LetstuneError, PickleError, WorkerError
from letstune.jobs import Job
from letstune.slots import GRACE
from letstune.stores import Store
from letstune_dask.check import put_probe, read_probe, store_of
from letstune_dask.messages import Command, Item
from letstune_dask.site import Site, occupy

LOOK: Final = 1.0
"""How often it looks which workers there are, in seconds."""

PATIENCE: Final = 10.0
"""How long the scheduler may be silent, and a call be on its way, in seconds."""

CHUNK: Final = 8 * 2**20
"""The job is sent in parts of so many bytes: the scheduler passes them on, and is shared."""

TRIES: Final = 3
"""So many times a Dask worker may lose its actor without having left, before it is left alone."""

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
    """A Dask worker does not train any more."""

    member: Member
    why: str


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
        self.loop.call_soon_threadsafe(self._write, command)

    def _write(self, command: Command) -> None:
        self.commands.append(command)
        self.written.set()


class _GoneError(Exception):
    """The Dask worker has left the cluster."""


class Cluster:
    """Has all Dask workers train that there are.

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
        self._refused: set[str] = set()
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

    def end(self) -> None:
        """End all training, as far as the workers can still be reached."""
        try:
            self._call(self._end()).result()
        finally:
            self._storing.shutdown()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

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
        wanted = self._how.resources
        workers = {
            address: about
            for address, about in found["workers"].items()
            if all(about["resources"].get(name, 0) >= count for name, count in wanted.items())
        }
        return found["id"], workers

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
            self._refused &= workers.keys()
            for address, about in workers.items():
                known = address in self._members or address in self._refused
                if not known and about["status"] == "running":
                    member = self._members[address] = Member(address, self._loop)
                    self._spawn(self._serve(member))

    async def _serve(self, member: Member) -> None:
        """See to a worker until it goes."""
        why = "it has left the cluster"
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
                self._refused.add(member.address)
                self.news.put(Refused(error))
            why = str(error)
        except Exception as error:  # noqa: BLE001 (of whatever class: the actor is gone)
            why = f"{type(error).__name__}: {error}"
        finally:
            self._release(member)
            if self._members.get(member.address) is member:
                del self._members[member.address]
        failures = self._failures[member.address] = self._failures.get(member.address, 0) + 1
        if failures >= TRIES:  # addresses are not used again, but for a worker that stays
            self._refused.add(member.address)
        if member.joined:
            self.news.put(Left(member, why))

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
        self._store = self._store or store_of(self._job)
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
            if items:
                self.news.put(Heard(member, items))

    async def _insist(self, member: Member, method: str, *arguments: Any) -> Any:
        """Call a method that may be called again if a call got lost, for as long as there is hope.

        A link that is cut for a moment loses no work then.
        """
        until = self._loop.time() + PATIENCE
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


async def _awaited(work: Awaitable[T]) -> T:
    return await work
