"""What a worker process tells its owner, and how exceptions travel between processes."""

from __future__ import annotations

import traceback
from typing import NamedTuple

from letstune import errors
from letstune.errors import LetstuneError, WorkerError
from letstune.rounds.events import Event, TaskEnded


class Packed(NamedTuple):
    """One of letstune's own exceptions, as text: its class in `letstune.errors`, and its notes."""

    name: str
    message: str
    notes: tuple[str, ...]


class Ready(NamedTuple):
    """The dataset is loaded."""


class Began(NamedTuple):
    """The trainer was called for something that may take too long: training, or a model's load."""

    epoch: int


class Happened(NamedTuple):
    """What is to be recorded together, and the exception behind it, if that is letstune's own."""

    events: list[Event | TaskEnded]
    error: Packed | None


class Raised(NamedTuple):
    """What must end the run: the exception, if that is letstune's own, and its traceback."""

    error: Packed | None
    text: str

    @staticmethod
    def of(error: BaseException) -> Raised:
        """Return an exception as it can be sent, wherever it is caught."""
        return Raised(pack(error), "".join(traceback.format_exception(error)))

    def exception(self, who: str = "A worker process") -> BaseException:
        """Return the exception that was sent; a `WorkerError` if it cannot be brought back here.

        Args:
            who: raised it, for the `WorkerError`.
        """
        return unpack(self.error) or WorkerError(f"{who} raised:\n{self.text}")


Message = Ready | Began | Happened | Raised


def pack(error: BaseException | None) -> Packed | None:
    """Return an exception as text, if it is letstune's own; else None.

    An exception of the trainer's is of a class of its own, and to bring it back is to run what
    that class says. What there is to know of it is in its traceback.
    """
    if not isinstance(error, LetstuneError):
        return None
    own = (cls.__name__ for cls in type(error).__mro__ if vars(errors).get(cls.__name__) is cls)
    try:
        notes = tuple(_plain(note) for note in getattr(error, "__notes__", ()))
        return Packed(next(own), _plain(error), notes)
    except Exception:  # noqa: BLE001 (of a class that the trainer has derived)
        return None


def _plain(said: object) -> str:
    # str() may return an object of a class that is derived from it.
    return str.encode(str(said), "utf-8", "backslashreplace").decode()


def unpack(error: Packed | None) -> LetstuneError | None:
    """Return an exception of letstune's that a worker sent; None if it was another one."""
    found = None if error is None else vars(errors).get(error.name)
    if error is None or not (isinstance(found, type) and issubclass(found, LetstuneError)):
        return None
    made = found(error.message)
    for note in error.notes:
        made.add_note(note)
    return made
