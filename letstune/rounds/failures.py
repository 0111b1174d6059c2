"""Failures that are alike: of one cause, as far as their texts tell."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from letstune.rounds.events import TrialFailed

_FRAME: Final = re.compile(r'^ *File "(.*)", line (\d+), in (.*)$', re.MULTILINE)
_NUMBER: Final = re.compile(r"0x[0-9a-f]+|-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_INSTALLED: Final = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python[^/\\]*)[/\\]|^<")


def signature(failure: TrialFailed) -> tuple[str, str, str]:
    r"""Return what failures of the same cause have in common.

    That is the type of the exception, its message with all numbers masked, and the innermost line
    of the user's code in its traceback.

    >>> signature(TrialFailed(7, 0, "timed out", "It took longer than 4 s.", ""))
    ('timed out', 'It took longer than # s.', '')
    >>> told = 'Traceback ...\n  File "/home/me/net.py", line 12, in train_epoch\n'
    >>> signature(TrialFailed(3, 1, "raised", "ValueError: -1.7 rows", told))
    ('ValueError', '# rows', '/home/me/net.py:12 train_epoch')
    """
    kind, message = failure.kind, failure.message
    if kind == "raised":
        kind, _, message = failure.message.partition(": ")
    frames = [match.groups() for match in _FRAME.finditer(failure.traceback)]
    own = [frame for frame in frames if not _INSTALLED.search(frame[0]) and not _ours(frame[0])]
    file, line, function = (own or frames or [("", "", "")])[-1]
    return kind, _NUMBER.sub("#", message), f"{file}:{line} {function}" if file else ""


def _ours(file: str) -> bool:
    return file.replace("\\", "/").rpartition("/letstune/")[2] in _ROOMS


_ROOMS: Final = frozenset(["training/worker.py", "workers/worker_main.py", "training/trainer.py"])
"""Where letstune calls the user's code, wherever letstune is installed."""


class Alike(NamedTuple):
    """Trials that failed alike.

    ``message`` is what the first of them ended with, and ``where`` the innermost line of the
    user's code, if that is known.
    """

    message: str
    where: str
    trials: list[int]


class Failures:
    """How trials have failed, by what they have in common.

    >>> failures = Failures()
    >>> for trial in (3, 5):
    ...     failures.add(TrialFailed(trial, 1, "raised", f"ValueError: {trial} rows", ""))
    >>> failures.alike
    [Alike(message='ValueError: 3 rows', where='', trials=[3, 5])]
    """

    def __init__(self) -> None:
        self._alike: dict[tuple[str, str, str], Alike] = {}

    def add(self, failure: TrialFailed) -> None:
        """Note how a trial failed."""
        found = signature(failure)
        self._alike.setdefault(found, Alike(failure.message, found[-1], [])).trials.append(
            failure.trial
        )

    @property
    def alike(self) -> list[Alike]:
        """Those that failed alike, most of them first."""
        return sorted(self._alike.values(), key=lambda alike: -len(alike.trials))
