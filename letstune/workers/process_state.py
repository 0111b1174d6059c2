"""The state of a worker's process that a trainer may change, and how it is put back.

It is what the kernel keeps of a process, and its environment: what a program can change in one
call, and forget. What is in Python's memory, such as the settings of libraries, nobody can list.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from letstune.training.supervisor import STACKS
from letstune.workers.messages import Change

_LIMITS: Final = {
    number: name  # the first one: RLIMIT_NOFILE is RLIMIT_OFILE as well
    for name, number in sorted(vars(resource).items(), reverse=True)
    if name.startswith("RLIMIT_")
}
_TIMERS: Final = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")

_Part = tuple[str, Callable[[], Mapping[Any, Any]], Callable[[Any, Any], object]]


class ProcessState:
    """Notes the state that this process is in, to compare it with what trials make of it.

    Args:
        descriptors: files that have to stay open.
    """

    def __init__(self, descriptors: Sequence[int]) -> None:
        # Limits first: with too low ones, nothing else can be put back.
        self._parts: list[_Part] = [
            ("limit {}", _limits, _limit),
            ("working directory", _folder, _enter),
            ("value of the environment variable {}", lambda: dict(os.environ), _export),
            ("handler of {}", _handlers, _handle),
            ("set of blocked signals", _mask, _block),
            ("umask", _umask, lambda _, mask: os.umask(mask)),
            ("timer {}", _timers, _time),
            ("file descriptor {}", partial(_files, descriptors), _open),
        ]
        self._before = [read() for _, read, _ in self._parts]

    def restore(self) -> list[Change]:
        """Put back what has changed, as far as that can be done; return what had."""
        changes = []
        for (what, read, write), before in zip(self._parts, self._before, strict=True):
            now = read()
            if now == before:
                continue
            for name in sorted(now.keys() | before.keys()):
                if now.get(name) != before.get(name):
                    undone = _done(write, name, before.get(name))
                    changes.append(Change(what.format(_shown(name)), undone))
        return changes

    def lowered(self) -> list[str]:
        """Return the limits that have become lower."""
        now = _limits()
        return [
            name
            for name, (soft, _) in self._before[0].items()
            if _height(now[name][0]) < _height(soft)
        ]


def _shown(name: object) -> str:
    return signal.Signals(name).name if isinstance(name, signal.Signals) else str(name)


def _done(write: Callable[[Any, Any], object], name: object, value: object) -> bool:
    try:
        write(name, value)
    except (OSError, TypeError, ValueError):
        return False
    return True


def _height(limit: int) -> float:
    return float("inf") if limit == resource.RLIM_INFINITY else limit


def _limits() -> dict[str, tuple[int, int]]:
    return {name: resource.getrlimit(number) for number, name in _LIMITS.items()}


def _limit(name: str, limits: tuple[int, int]) -> None:
    resource.setrlimit(getattr(resource, name), limits)


def _folder() -> dict[str, str]:
    try:
        return {"": str(Path.cwd())}
    except OSError:  # it is deleted
        return {}


def _enter(_: str, folder: str | None) -> None:
    os.chdir(folder)  # type: ignore[arg-type]  # of None, it raises a TypeError


def _export(name: str, value: str | None) -> None:
    if value is None:
        del os.environ[name]
    else:
        os.environ[name] = value


def _handlers() -> dict[int, Any]:
    return {which: signal.getsignal(which) for which in signal.valid_signals()}


def _handle(which: int, handler: Any) -> None:
    if which == STACKS:
        raise ValueError("it is faulthandler's, of which Python's signal module knows nothing")
    signal.signal(which, handler)


def _mask() -> dict[str, set[int]]:
    return {"": signal.pthread_sigmask(signal.SIG_BLOCK, ())}


def _block(_: str, mask: set[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _umask() -> dict[str, int]:
    # It can only be read by setting it; and a file that a thread makes meanwhile, be it private.
    mask = os.umask(0o077)
    os.umask(mask)
    return {"": mask}


def _timers() -> dict[str, bool]:
    return {name: signal.getitimer(getattr(signal, name)) != (0.0, 0.0) for name in _TIMERS}


def _time(name: str, runs: bool) -> None:
    if runs:
        raise ValueError("nobody knows for how long it has run")
    signal.setitimer(getattr(signal, name), 0.0)


def _files(descriptors: Sequence[int]) -> dict[int, tuple[int, int]]:
    found = {}
    for file in descriptors:
        with suppress(OSError):  # it is closed
            found[file] = identity(file)
    return found


def _open(file: int, _: object) -> None:
    raise OSError(f"file descriptor {file} cannot be opened again")


def identity(file: int) -> tuple[int, int]:
    """Return what tells an open file from any other one.

    Raises:
        OSError: it is not open.
    """
    status = os.fstat(file)
    return status.st_dev, status.st_ino
