"""What workers print, on the terminal of who waits for it."""

from __future__ import annotations

import sys
from collections.abc import Callable

from letstune.telling.lines import pass_on


class Echo:
    """Shows what trials print: on a terminal, each line with its trial; elsewhere, as it comes.

    Args:
        tell: writes a line on the terminal, between those of the progress.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._begun: dict[int, bytes] = {}  # lines without an end

    def show(self, trial: int, data: bytes) -> None:
        """Show what a trial has printed; b"" says that there is no more."""
        if not self._terminal:
            pass_on(data)
            return
        *lines, rest = (self._begun.pop(trial, b"") + data).split(b"\n")
        if not data and rest:
            lines.append(rest)
        elif rest:
            self._begun[trial] = rest
        for line in lines:
            self._tell(f"trial {trial}: {last_state(line.decode(errors='replace'))}")


def last_state(line: str) -> str:
    r"""Return what is left of a line that was written over again and again, as progress bars are.

    >>> last_state("10%\r50%\r100%\r")
    '100%'
    """
    return line.rstrip("\r").rpartition("\r")[2]
