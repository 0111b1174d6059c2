"""A place: what the owner knows of one slot, whatever actor is in it at the time."""

from __future__ import annotations

from typing import Any, Final

from letstune.workers import Command, Start
from letstune_ray.seat import Here

POLL: Final = 30.0
"""How long a poll waits for news, in seconds. It is answered at once if there are any."""


class Place:
    """One slot of the owner's.

    Attributes:
        actor: the handle of the actor that is in it.
        here: where that is; None until it has been checked.
        asked: the answer that the actor owes, if any.
        used: whether the actor has had a task.
        stillborn: how many actors in a row ended before they were checked.
        killed: the tokens of the actor's workers that could not tidy up.
        dropped: the URIs of checkpoints that these workers saved too late.
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
        self.used = False
        self.killed: list[str] = []
        self.dropped: list[str] = []
        self._commands = 0

    def occupy(self, make: Any, token: str, *given: Any) -> None:
        """Have an actor made, and check it.

        Args:
            make: Ray's class of actors.
            token: the executor's.
            given: for `Seat.check`, after its token.
        """
        self._empty()
        self._generation += 1
        self.actor = make.remote()
        self.asked = self.actor.check.remote(self._token(token), *given)

    def _token(self, token: str) -> str:
        return f"{token}-r{self._number}-{self._generation}"

    def lost_tokens(self, token: str) -> list[str]:
        """Return the tokens of workers of an actor that is gone, as far as they can be known."""
        # Those before it have been told of; the one that it had last has the next number.
        last = [f"{self._token(token)}-{len(self.killed) + 1}"] if self.used else []
        return self.killed + last

    def tell(self, command: Command) -> None:
        """Send the actor a command; see `Seat.tell`."""
        self.used = self.used or isinstance(command, Start)
        self.actor.tell.remote(self._commands, command)
        self._commands += 1

    def listen(self) -> None:
        """Ask for news, if nobody has asked."""
        if self.asked is None:
            self.asked = self.actor.poll.options(concurrency_group="polls").remote(POLL)
