"""Lines for a person: written to stderr, with numbers and nouns that agree."""

from __future__ import annotations

import sys
from contextlib import suppress


def say(line: str) -> None:
    """Write a line to stderr, if that is still there: a terminal or pipe may be gone."""
    with suppress(OSError, ValueError):  # a closed file is a ValueError
        print(line, file=sys.stderr, flush=True)


def counted(number: int | str, noun: str) -> str:
    """Return a number and its noun, which gets an ``s`` unless there is one of it.

    >>> [counted(0, "trial"), counted(1, "trial"), counted(2, "best trial")]
    ['0 trials', '1 trial', '2 best trials']
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
