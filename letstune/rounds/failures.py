"""Whose fault it is that an epoch ended without a result: the trial's, or something outside's.

Pure, like all that decides. What is the trial's is recorded; what is not costs the epoch in flight.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from typing import Final, TypeVar

from letstune.rounds.events import Event, TaskEnded, TrialFailed, WorkerDied

E = TypeVar("E", bound=Event | TaskEnded)

PREEMPTIONS: Final = frozenset(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)  # Windows lacks some
)
"""The signals by which schedulers, services and terminals ask processes to end."""

_FRAME: Final = re.compile(r'^ *File "(?P<file>.*)", line \d+, in (?P<function>.*)$', re.MULTILINE)
_INSTALLED: Final = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python[^/\\]*)[/\\]|^<")


def preempted(death: WorkerDied) -> bool:
    """Tell whether a worker was ended from outside: no trial is to blame for that."""
    return -death.code in PREEMPTIONS


def blameless(events: Iterable[E]) -> list[E]:
    """Return what is to be recorded of what came after a stop was asked for.

    Whatever asks for a stop may end processes that a trainer has started, the network, or the
    worker itself. So what went wrong since is nobody's: the epoch is trained again.
    """
    return [event for event in events if not isinstance(event, TrialFailed | WorkerDied)]


def signature(failure: TrialFailed) -> tuple[str, str, str]:
    """Return what failures of the same cause have in common.

    That is the type of the exception, its message with all digits masked, and the innermost
    ``file:function`` of the user's code in its traceback.

    >>> signature(TrialFailed(7, 0, "timed out", "It took longer than 4 s.", ""))
    ('timed out', 'It took longer than # s.', '')
    """
    kind, message = failure.kind, failure.message
    if kind == "raised":
        kind, _, message = failure.message.partition(": ")
    frames = [(frame["file"], frame["function"]) for frame in _FRAME.finditer(failure.traceback)]
    own = [frame for frame in frames if not _INSTALLED.search(frame[0]) and not _ours(frame[0])]
    file, function = (own or frames or [("", "")])[-1]
    return kind, re.sub(r"\d+", "#", message), f"{file}:{function}" if file else ""


def _ours(file: str) -> bool:
    return file.replace("\\", "/").rpartition("/letstune/")[2] in _ROOMS


_ROOMS: Final = frozenset(["training/worker.py", "workers/worker_main.py", "training/trainer.py"])
"""Where letstune calls the user's code, wherever letstune is installed."""
