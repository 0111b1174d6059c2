"""What a worker process tells its owner, and how exceptions travel between processes."""

from __future__ import annotations

import pickle
import traceback
from typing import Final, NamedTuple

from letstune.errors import WorkerError
from letstune.rounds.events import Event, TaskEnded

LARGEST: Final = 2**20
"""The largest exception that is sent, in bytes; of a larger one, only the text is."""


class Ready(NamedTuple):
    """The dataset is loaded."""


class Began(NamedTuple):
    """The trainer was called for something that may take too long: training, or a model's load.

    ``epoch`` is -1 for `load_dataset`.
    """

    epoch: int


class Happened(NamedTuple):
    """What is to be recorded together, and the exception behind it, pickled, if it is a failure."""

    events: list[Event | TaskEnded]
    error: bytes | None


class Raised(NamedTuple):
    """What must end the run: the exception, pickled if that is possible, and its traceback."""

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
    """Return an exception as bytes; None if it is too large, or cannot be pickled."""
    if error is None:
        return None
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(error)
    except Exception:  # noqa: BLE001 (of whatever the exception holds)
        return None
    return data if len(data) <= LARGEST else None


def unpack(error: bytes | None) -> BaseException | None:
    """Return an exception that a worker sent; None if it cannot be brought back here."""
    if error is None:
        return None
    try:
        found: BaseException = pickle.loads(error)
    except Exception:  # noqa: BLE001 (of whatever class it is)
        return None
    return found
