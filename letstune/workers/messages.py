"""What a worker process tells its owner, and how exceptions travel between processes."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from typing import Final, NamedTuple

from letstune import errors
from letstune.errors import Interrupted, LetstuneError, WorkerError
from letstune.rounds.events import Event, TaskEnded


class Ready(NamedTuple):
    """The dataset is loaded."""


CLEANING: Final = -2


class Began(NamedTuple):
    """The trainer was called for something that may take too long: training, or a model's load.

    ``epoch`` is -1 for `load_dataset`, and `CLEANING` for what ends the training of another trial.
    """

    epoch: int


class Change(NamedTuple):
    """What is no longer as it was in a process before a trial; whether it could be put back."""

    what: str
    undone: bool


class Happened(NamedTuple):
    """What is to be recorded together, and the exception behind it, if that is letstune's own.

    With the end of a task comes what it has made of its process.
    """

    events: list[Event | TaskEnded]
    error: bytes | None
    changes: Sequence[Change] = ()


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


class Signalled(NamedTuple):
    """Signals that asked for a stop. The supervisor tells of them as well, but maybe too late."""

    signals: list[int]


Message = Ready | Began | Happened | Raised | Signalled

INTERRUPTIONS: Final = (Interrupted, KeyboardInterrupt)
"""What ends a run and is no `Exception`: from a worker, it means what it means in this process."""

ENDINGS: Final = (Exception, *INTERRUPTIONS)
"""What may be raised where tasks are trained, and is the owner's to judge."""

CUT_OFF: Final = 113
"""The exit code of a worker whose trainer has closed the connection to the owner."""


def pack(error: BaseException | None) -> bytes | None:
    """Return an exception as text, if it is letstune's own or an interruption; else None.

    An exception of the trainer's is of a class of its own, and to bring it back is to run what
    that class says. What there is to know of it is in its traceback. So this is JSON and no
    pickle: the name of a class in `letstune.errors`, the message, and the notes.
    """
    if isinstance(error, INTERRUPTIONS):
        name = "Interrupted" if isinstance(error, Interrupted) else "KeyboardInterrupt"
        return json.dumps([name, str(getattr(error, "journal", "")), []]).encode()
    if not isinstance(error, LetstuneError):
        return None
    own = (cls.__name__ for cls in type(error).__mro__ if vars(errors).get(cls.__name__) is cls)
    try:
        notes = [str(note) for note in getattr(error, "__notes__", ())]
        return json.dumps([next(own), str(error), notes]).encode()
    except Exception:  # noqa: BLE001 (of a class that the trainer has derived)
        return None


def unpack(error: bytes | None) -> BaseException | None:
    """Return an exception that a worker sent, if `pack` could; else None."""
    if error is None:
        return None
    name, message, notes = json.loads(error)
    if name == "KeyboardInterrupt":
        return KeyboardInterrupt()
    if name == "Interrupted":
        return Interrupted(message)
    found = vars(errors).get(name)
    if not (isinstance(found, type) and issubclass(found, LetstuneError)):
        return None
    made = found(message)
    for note in notes:
        made.add_note(note)
    return made
