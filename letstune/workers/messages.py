"""What a worker process tells its owner, and how exceptions travel between processes."""

from __future__ import annotations

import json
import traceback
from typing import NamedTuple

from letstune import errors
from letstune.errors import LetstuneError, WorkerError
from letstune.rounds.events import Event, TaskEnded


class Ready(NamedTuple):
    """The dataset is loaded."""


class Began(NamedTuple):
    """The trainer was called for something that may take too long: training, or a model's load.

    ``epoch`` is -1 for `load_dataset`.
    """

    epoch: int


class Happened(NamedTuple):
    """What is to be recorded together, and the exception behind it, if that is letstune's own."""

    events: list[Event | TaskEnded]
    error: bytes | None


class Raised(NamedTuple):
    """What must end the run: the exception, if that is letstune's own, and its traceback."""

    error: bytes | None
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


def pack(error: BaseException | None) -> bytes | None:
    """Return an exception as text, if it is letstune's own; else None.

    An exception of the trainer's is of a class of its own, and to bring it back is to run what
    that class says. What there is to know of it is in its traceback. So this is JSON and no
    pickle: the name of a class in `letstune.errors`, the message, and the notes.
    """
    if not isinstance(error, LetstuneError):
        return None
    own = (cls.__name__ for cls in type(error).__mro__ if vars(errors).get(cls.__name__) is cls)
    try:
        notes = [str(note) for note in getattr(error, "__notes__", ())]
        return json.dumps([next(own), str(error), notes]).encode()
    except Exception:  # noqa: BLE001 (of a class that the trainer has derived)
        return None


def unpack(error: bytes | None) -> LetstuneError | None:
    """Return an exception of letstune's that a worker sent; None if it was another one."""
    if error is None:
        return None
    name, message, notes = json.loads(error)
    found = vars(errors).get(name)
    if not (isinstance(found, type) and issubclass(found, LetstuneError)):
        return None
    made = found(message)
    for note in notes:
        made.add_note(note)
    return made
