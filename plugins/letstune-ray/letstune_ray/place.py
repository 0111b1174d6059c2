"""A place: what the owner knows of one slot, whatever actor is in it at the time."""

from __future__ import annotations

import signal
from typing import Any, Final

from letstune.rounds.events import EpochFinished, Task, TaskEnded, WorkerDied
from letstune.workers.executor import Delivery
from letstune.workers.messages import unpack
from letstune_ray.seat import Here, News

POLL: Final = 30.0
"""How long a poll waits for news, in seconds. It is answered at once if there are any."""


class Place:
    """One slot of the owner's.

    Attributes:
        actor: the handle of the actor that is in it.
        here: where that is; None until it has been checked.
        asked: the answer that the actor owes, if any.
        task: what is trained, or None.
        epoch: the epoch that is trained.
        used: whether the actor has had a task, and so has the dataset, most likely.
        stillborn: how many actors in a row ended before they were checked.
        killed: the tokens of the actor's workers that could not tidy up.
        dropped: the URIs of checkpoints that these had saved when it was too late.
    """

    def __init__(self, number: int) -> None:
        self.stillborn = 0
        self._number = number
        self._generation = 0
        self._empty()

    def _empty(self) -> None:
        self.actor: Any = None
        self.here: Here | None = None
        self.asked: Any = None
        self.task: Task | None = None
        self.epoch = 0
        self.used = self._owed = False
        self.killed: list[str] = []
        self.dropped: list[str] = []
        self._words = 0

    def occupy(self, make: Any, token: str, *given: Any, stopped: bool) -> None:
        """Have an actor made, and check it.

        Args:
            make: Ray's class of actors.
            token: the executor's.
            given: for `Seat.check`, after its token.
            stopped: whether it shall begin no epoch.
        """
        self._empty()
        self._generation += 1
        self.actor = make.remote()
        self.asked = self.actor.check.remote(self._token(token), *given)
        if stopped:
            self.tell("stop")

    def _token(self, token: str) -> str:
        return f"{token}-r{self._number}-{self._generation}"

    def lost_tokens(self, token: str) -> list[str]:
        """Return the tokens of workers of an actor that is gone, as far as they can be known."""
        # Those before it have been told of; the one that it had last has the next number.
        last = [f"{self._token(token)}-{len(self.killed) + 1}"] if self.used else []
        return self.killed + last

    def tell(self, *word: Any) -> None:
        """Send the actor a word; see `Seat.tell`."""
        self.actor.tell.remote(self._words, *word)
        self._words += 1

    def start(self, task: Task) -> None:
        """Have a task trained."""
        self.task, self.epoch, self.used, self._owed = task, task.epochs, True, False
        self.tell("start", task)

    def answer(self) -> None:
        """Tell the actor that its last epoch is recorded, if there was one."""
        if self._owed:
            self._owed = False
            self.tell("answer")

    def cancel(self) -> None:
        """Give the task up."""
        self.task, self._owed = None, False
        self.tell("cancel")

    def listen(self) -> None:
        """Ask for news, if there can be any and nobody has asked."""
        if self.asked is None and self.task is not None:
            self.asked = self.actor.poll.options(concurrency_group="polls").remote(POLL)

    def hear(self, news: News) -> list[Delivery]:
        """Return the deliveries of the task in hand; those of one that was given up are dropped."""
        self.killed = news.killed
        found = []
        for delivery, error in zip(news.deliveries, news.errors, strict=True):
            if self.task is None or delivery.attempt != self.task.attempt:
                continue
            self.epoch += sum(isinstance(event, EpochFinished) for event in delivery.events)
            self._owed = not isinstance(delivery.events[-1], TaskEnded)
            if not self._owed:
                self.task = None
            found.append(delivery._replace(error=unpack(error)))
        return found


def loss(task: Task, epoch: int, told: str, at: str) -> WorkerDied:
    """Return the event of an actor that Ray ended because its node was short of memory.

    That is the trial's doing as much as the machine's: it counts like any other death, or a trial
    that takes too much would be tried for ever.
    """
    return WorkerDied(task.trial, epoch, task.attempt, -signal.SIGKILL, None, told, at)
