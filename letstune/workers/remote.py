"""The base of executors far away: which task is in hand, and at which place of a cluster.

A cluster is reached in its own way, by a subclass. All that is the same whatever the cluster is
done here: what is started where, what is still owed an answer, what a place took with it when it
was lost.
"""

from __future__ import annotations

import signal
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar, Final, Generic, TypeVar

from letstune.errors import Interrupted
from letstune.rounds.events import EpochFinished, Event, Task, TaskEnded, WorkerDied
from letstune.telling.lines import say
from letstune.workers.commands import Answer, Came, Cancel, Command, Item, Start, Stop
from letstune.workers.executor import Delivery, Executor
from letstune.workers.job import Job
from letstune.workers.messages import Raised

TICK: Final = 1.0
"""How long `Remote.deliveries` waits at most, in seconds."""

QUIET: Final = 5.0
"""How long nothing is said of there being no places, in seconds."""

P = TypeVar("P", bound=Hashable)


@dataclass
class _Work:
    """A task in hand at some place."""

    task: Task
    epoch: int  # the one in flight
    owed: bool = False  # whether it waits to hear that its last epoch is recorded


class Remote(Executor, Generic[P]):
    """Trains at places of a cluster: machines, actors, or jobs of a queue, which come and go.

    A subclass reaches the cluster. It supplies `send`, `listen`, `end` and `name`; from `listen`,
    it tells what it has heard: `joined`, `heard`, `left`, `fail`, `interrupt`. A place is any
    object that can be a key. At each, a `RemoteSlots` does what was sent and says what came of it.

    Args:
        job: what is trained.
        slots_per_place: how many tasks each place trains at a time.

    Attributes:
        spared: so many times in a row, without an epoch in-between, a trial may lose its place
            before that counts as a worker's death.
        waiting: what is said once tasks have waited for a place for some seconds; by default,
            nothing.
        job: the job, without the dataset.
        stopped: whether no further epoch is to begin.
    """

    spared: ClassVar[float] = 3
    waiting: ClassVar[str] = ""

    def __init__(self, job: Job, *, slots_per_place: int = 1) -> None:
        self.job = job.without_dataset()
        self.stopped = False
        self._slots_per_place = slots_per_place
        self._works: dict[P, dict[str, _Work]] = {}  # by attempts
        self._used: set[P] = set()
        self._joined = False
        self._queue: deque[Task] = deque()
        self._found: list[Delivery] = []
        self._failure: BaseException | None = None
        self._losses: dict[int, int] = {}
        self._killed: list[str] = []
        self._dropped: list[str] = []
        self._said: set[str] = set()
        self._busy = time.monotonic()

    # What a subclass supplies

    @abstractmethod
    def send(self, place: P, command: Command) -> None:
        """Send a command to a place, after all those before it, and do not wait for it to arrive.

        If the place cannot be reached, `listen` is to tell so.
        """

    @abstractmethod
    def listen(self, seconds: float) -> None:
        """Wait for that long at most until there is news, and tell all that there is."""

    @abstractmethod
    def end(self) -> None:
        """End all training at all places, as far as they can still be reached; see `close`."""

    @abstractmethod
    def name(self, place: P) -> str:
        """Return what people call a place, such as ``the Dask worker tcp://10.0.0.7:4321``."""

    # What it tells

    def joined(self, place: P) -> None:
        """Take in a place that is ready to train, for the first time or once again."""
        self.left(place)  # if nobody has told that it was gone, what it trained was lost
        self._works[place] = {}
        self._used.discard(place)
        self._said.discard(self.waiting)
        self._joined = True
        self._assign()

    def heard(self, place: P, items: Iterable[Item]) -> None:
        """Take what a place has said; what it says of a task that it no longer has is dropped."""
        works = self._works.get(place)
        if works is None:  # it has left
            return
        for item in items:
            if isinstance(item, Raised):
                error = item.exception()
                error.add_note(f"It was raised on {self.name(place)}.")
                self.fail(error)
            elif item.attempt in works:
                self._came(works, item)

    def _came(self, works: dict[str, _Work], item: Came) -> None:
        work = works[item.attempt]
        if epochs := sum(isinstance(event, EpochFinished) for event in item.events):
            work.epoch += epochs
            self._losses.pop(item.trial, None)
        work.owed = not isinstance(item.events[-1], TaskEnded)
        if not work.owed:
            del works[item.attempt]
        self._found.append(item.delivery())

    def left(self, place: P, blame: str = "", *, preempted: bool = False) -> None:
        """Let a place go, and with it what it trained: new attempts go on from checkpoints.

        That is no death: places are lost for reasons of their own, and no trial is to fail because
        of where it was. But one that is lost again and again, and never gets through an epoch, may
        be what takes the places down: then it counts.

        Args:
            place: the place; if it has not joined, there is nothing to do.
            blame: what shows that the task itself has taken the place down, if that is known: then
                it counts at once.
            preempted: whether it was asked to leave, as by whoever needs its machine: then it never
                counts.
        """
        for attempt, work in self._works.pop(place, {}).items():
            trial = work.task.trial
            losses = self._losses[trial] = self._losses.get(trial, 0) + (not preempted)
            events: list[Event | TaskEnded] = [TaskEnded(trial)]
            if not preempted and (blame or losses > self.spared):
                name = self.name(place)
                lost = f"{name[:1].upper()}{name[1:]} was lost with it"
                told = blame or f"{lost}: {losses} losses without an epoch."
                at = datetime.now(UTC).isoformat()
                code = -signal.SIGKILL
                events.insert(0, WorkerDied(trial, work.epoch, attempt, code, None, told, at))
            self._found.append(Delivery(trial, attempt, events))

    def fail(self, error: BaseException) -> None:
        """Have an error end the run, once all that came before it is recorded. The first counts."""
        self._failure = self._failure or error

    def interrupt(self, why: str) -> None:
        """Have the run end, to be resumed: the cluster is lost, which is nobody's fault."""
        self.say(why)
        self.fail(Interrupted(str(self.job.journal)))

    def leave_behind(self, tokens: Iterable[str], uris: Iterable[str] = ()) -> None:
        """Have what workers that were killed left in the store removed by `close`.

        Args:
            tokens: theirs; see `RemoteSlots.killed`.
            uris: see `RemoteSlots.dropped`.
        """
        self._killed += tokens
        self._dropped += uris

    def say(self, line: str, *, again: bool = False) -> None:
        """Write a line to stderr, unless it was said before; ``again`` if it is to be repeated."""
        if again or line not in self._said:
            self._said.add(line)
            say(f"letstune: {line}")

    # What it sees

    def tasks(self, place: P) -> Sequence[Task]:
        """Return what a place trains."""
        return [work.task for work in self._works.get(place, {}).values()]

    @property
    def error(self) -> BaseException | None:
        """What is to end the run, if anything is."""
        return self._failure

    # What an executor is asked

    @property
    def slots(self) -> int:  # type: ignore[override]
        """How many tasks it can train now; at least one, which waits if there are no places."""
        return max(1, len(self._works) * self._slots_per_place)

    def start(self, task: Task) -> None:
        """Have a task trained; see `Executor.start`."""
        self._queue.append(task)
        self._assign()

    def _assign(self) -> None:
        while self._queue:
            free = [
                (len(works), place not in self._used, number, place)
                for number, (place, works) in enumerate(self._works.items())
                if len(works) < self._slots_per_place
            ]
            if not free:
                return
            # The least busy, and of these one that has loaded the dataset.
            *_, place = min(free, key=lambda found: found[:3])
            task = self._queue.popleft()
            self._works[place][task.attempt] = _Work(task, task.epochs)
            self._used.add(place)
            self._tell(place, Start(task))

    def _tell(self, place: P, command: Command) -> None:
        if self._failure is None:  # else, the cluster may be gone, and all is about to end
            self.send(place, command)

    def deliveries(self) -> list[Delivery]:
        """Wait for news; see `Executor.deliveries`.

        Raises:
            Interrupted: the cluster is lost.
            Exception: what a place raised.
        """
        until = time.monotonic() + TICK
        self._joined = False
        self._tell_of_waiting()
        while self._failure is None or self._found:
            # All that has arrived, so that it is recorded together.
            self.listen(0.0 if self._found else max(0.0, until - time.monotonic()))
            found, self._found = self._found, []
            self._assign()
            # A place that has joined can have a task.
            enough = self._joined or time.monotonic() >= until
            if found or (enough and self._failure is None):
                return found
        raise self._failure

    def _tell_of_waiting(self) -> None:
        moment = time.monotonic()
        if self._works or not self._queue:
            self._busy = moment
        elif moment > self._busy + QUIET and self.waiting:
            self.say(self.waiting)

    def recorded(self) -> None:
        """Let workers go on, or not; see `Executor.recorded`."""
        for place, works in self._works.items():
            for attempt, work in works.items():
                if work.owed:
                    work.owed = False
                    self._tell(place, Answer(attempt, not self.stopped))

    def cancel(self, trial: int) -> None:
        """Give a task up, and its worker; see `Executor.cancel`."""
        self._queue = deque(task for task in self._queue if task.trial != trial)
        self._found = [delivery for delivery in self._found if delivery.trial != trial]
        for place, works in self._works.items():
            for attempt in [a for a, work in works.items() if work.task.trial == trial]:
                del works[attempt]
                self._tell(place, Cancel(attempt))
        self._assign()

    def stop(self) -> None:
        """Begin no further epoch; see `Executor.stop`."""
        self.stopped = True
        for task in self._queue:  # nobody knows when there is a place
            self._found.append(Delivery(task.trial, task.attempt, [TaskEnded(task.trial)]))
        self._queue.clear()
        for place in self._works:
            self._tell(place, Stop())

    def close(self) -> None:
        """End all training, and tidy up; see `Executor.close`."""
        try:
            self.end()
        finally:
            killed, self._killed = self._killed, []
            dropped, self._dropped = self._dropped, []
            self.job.sweep(killed, dropped)
