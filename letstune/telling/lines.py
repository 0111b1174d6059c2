"""The way to a terminal: all that letstune writes for people passes here.

Nothing else prints, so that no control character of a journal gets through.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from letstune._visible import visible


def say(line: str) -> None:
    """Write a line to stderr, if that is still there: a terminal or pipe may be gone."""
    with suppress(OSError, ValueError):  # a closed file is a ValueError
        print(visible(line), file=sys.stderr, flush=True)


def pass_on(data: bytes) -> None:
    """Write what a worker has printed to this program's standard error, as if it had done so."""
    with suppress(OSError):  # as for `say`
        rest = memoryview(data if sys.__stderr__ is not None else b"")
        while rest:
            rest = rest[os.write(2, rest) :]


def put(text: str = "") -> None:
    """Write what was asked for to stdout, and a line end."""
    print(shown(text), flush=True)


def put_bytes(data: bytes) -> None:
    """Write a file that was asked for to stdout, as it is."""
    sys.stdout.buffer.write(data)


def shown(text: str) -> str:
    """Return text as stdout can show it: no control characters, and none that it cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return visible(text).encode(encoding, "backslashreplace").decode(encoding)


def on_terminal() -> bool:
    """Tell whether stdout is a terminal."""
    return sys.stdout.isatty()


def counted(number: int | str, noun: str) -> str:
    """Return a number and its noun, which gets an ``s`` unless there is one of it.

    >>> [counted(0, "trial"), counted(1, "trial"), counted(2, "best trial")]
    ['0 trials', '1 trial', '2 best trials']
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
