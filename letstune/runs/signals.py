"""Signals that ask a run to stop: of a terminal, a service, or a scheduler that needs its place."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from letstune.rounds.blame import PREEMPTIONS


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Take the first signal that asks for a stop for a request, and the second one for an order.

    Yields a function that tells whether the request has come. Only the main thread can do this;
    in another one, signals keep their meaning.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    count = 0

    owner = os.getpid()

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal count
        if os.getpid() != owner:  # a process that the trainer forked, and that is not ours
            if signum != signal.SIGINT:  # which a terminal sends to all, and is not meant for it
                signal.signal(signum, signal.SIG_DFL)
                os.kill(os.getpid(), signum)
            return
        count += 1
        if count > 1:
            raise KeyboardInterrupt
        # Not print(): a handler may come in the middle of another one.
        with suppress(OSError):  # of a terminal that is gone
            os.write(2, b"\nletstune: finishing the epoch in flight; once more to stop at once.\n")

    previous = {which: signal.signal(which, handle) for which in _asking()}
    try:
        yield lambda: count > 0
    finally:
        for which, handler in previous.items():
            signal.signal(which, signal.SIG_DFL if handler is None else handler)


def at_a_prompt() -> bool:
    """Tell whether a person calls from a notebook or a prompt, which a `SystemExit` would end."""
    return hasattr(sys, "ps1")  # IPython and its kernels set it, too


def _asking() -> list[int]:
    """Return the signals that ask for a stop.

    Not those for which somebody has a handler of their own, or which `nohup` has had ignored; a
    terminal's and a service's are always for the run.
    """
    return [
        which
        for which in sorted(PREEMPTIONS)
        if which in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(which) is signal.SIG_DFL
    ]
