"""Stands between a worker process, or a command that trains, and its owner, and outlives neither.

A script of its own that needs the standard library only: the owner runs it as
``python supervisor.py worker CONTROL,CLOSE,... COMMAND ...``, and it runs the command. Why another
process: the worker itself may hang in C code that never lets a thread of Python look around, and
the owner may be killed. This one does nothing but wait, so it always can:

- kill the worker and all that it started, when the owner is gone: when CONTROL, a socket, ends,
  or the parent process is another one;
- pass on the owner's words: S for a dump of the stacks, T for an end (SIGTERM for what the worker
  has started, since the worker itself ignores that), K for SIGKILL. What does not end even then
  hangs in the kernel, on a network's disk or in a driver: it is left behind;
- tell which signals came to it from outside, or to the worker, which passes them on;
- tell how the worker ended and how much memory it took at most, which only a parent can know,
  after killing what it left behind.

On Linux, nothing that can be killed escapes as long as this process lives, or its owner does: this
process inherits the orphans of its worker ("subreaper"), also those in sessions of their own; the
worker is killed with this process; and the owner then looks for what it has left. Elsewhere,
processes that leave the worker's process group are out of reach.
"""

from __future__ import annotations

import ctypes
import math
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

LOOK: float = 1.0
"""How often it looks whether its parent is still the same, in seconds."""

PATIENCE: float = 5.0
"""How long it waits for killed processes to be gone; one in a hanging system call stays.

That is, twice: for the worker, and then for what it has left behind.
"""

STUCK = (
    "letstune: process {} cannot be killed: it hangs in a system call, perhaps of a disk or a "
    "driver that does not answer. It is left behind.\n"
)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

STACKS: int = signal.SIGRTMIN + 5 if hasattr(signal, "SIGRTMIN") else getattr(signal, "SIGUSR2", 0)
"""The signal at which a worker dumps its stacks: one that trainers leave alone."""

END: int = signal.SIGRTMIN + 6 if hasattr(signal, "SIGRTMIN") else getattr(signal, "SIGKILL", 0)
"""The signal at which a worker ends: one that nobody sends to all processes of a job."""

OUTSIDE: list[int] = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]
"""The signals that ask a run to stop. They are the owner's to react to."""


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Supervisor:
    """Runs one command and watches it.

    Args:
        control: a socket to the owner.
        close: what only the command is to have open.
        command: the program and its arguments.
        held: whether signals that ask for a stop are held back until it has handlers. That is for
            a worker; a script would never let go of them, nor would what it starts.
    """

    def __init__(self, control: int, close: list[int], command: list[str], *, held: bool) -> None:
        self._control = control
        self._held = held
        self._owner = os.getppid()
        self._ended: tuple[int, int] | None = None
        self._patience = math.inf
        self._child_died, writable = os.pipe()
        os.set_blocking(self._child_died, False)
        os.set_blocking(writable, False)
        signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._heard: list[int] = []
        self._outside = True  # whether what is heard is not our own
        for which in OUTSIDE:
            signal.signal(which, lambda signum, _: self._heard.append(signum))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, OUTSIDE)  # the owner has blocked them for us
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._worker = self._start(command)
        for file in close:
            os.close(file)

    def _start(self, command: list[str]) -> int:
        me = os.getpid()
        worker = os.fork()
        if worker:
            return worker
        try:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_SETMASK, OUTSIDE if self._held else [])
            for which in (*OUTSIDE, signal.SIGCHLD):
                signal.signal(which, signal.SIG_DFL)
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != me:  # it died before it could be asked for
                os._exit(1)
            os.set_inheritable(self._control, False)
            os.execv(command[0], command)
        finally:
            os._exit(127)

    def run(self) -> None:
        """Watch until the worker has ended, and leave nothing behind."""
        self._tell(f"{self._worker}\n")
        while self._ended is None:
            readable, _, _ = select.select([self._control, self._child_died], [], [], LOOK)
            if self._control in readable and not self._obey():
                self._signal(signal.SIGKILL)
                break
            if os.getppid() != self._owner:
                self._signal(signal.SIGKILL)
                break
            while self._heard:
                which = self._heard.pop(0)
                if self._outside:
                    self._tell(f"!{which}\n")
            self._reap()
            if time.monotonic() >= self._patience:
                break
        self._sweep()
        if self._ended is not None:
            status, memory = self._ended
            self._tell(f"{status} {memory}\n")
        else:
            with suppress(OSError):
                os.write(2, STUCK.format(self._worker).encode())

    def _obey(self) -> bool:
        """Do what the owner says; tell whether it is still there."""
        try:
            words = os.read(self._control, 100)
        except ConnectionError:
            return False
        for word in words:
            if word == ord("S"):
                with suppress(ProcessLookupError):
                    os.kill(self._worker, STACKS)
            elif word == ord("T"):
                with suppress(ProcessLookupError):
                    os.kill(self._worker, END)
                self._signal(signal.SIGTERM)
                self._outside = False
            else:
                self._signal(signal.SIGKILL)
                self._patience = min(self._patience, time.monotonic() + PATIENCE)
        return bool(words)

    def _tell(self, line: str) -> None:
        with suppress(OSError):  # an owner that is gone needs to know nothing
            os.write(self._control, line.encode())

    def _signal(self, which: int) -> None:
        """Signal the worker and its process group; its number is its own until it is reaped."""
        if self._ended is None:
            for kill in (os.killpg, os.kill):  # not yet a group, if it has just been started
                with suppress(ProcessLookupError, PermissionError):
                    kill(self._worker, which)

    def _reap(self) -> bool:
        """Take note of all children that have ended; tell whether any are left."""
        with suppress(BlockingIOError):
            while os.read(self._child_died, 1000):
                pass
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == self._worker:
                # Its group may live on without it, and keeps its number for itself.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                unit = 1 if sys.platform == "darwin" else 1024
                self._ended = (os.waitstatus_to_exitcode(status), usage.ru_maxrss * unit)
            elif not pid:
                return True

    def _sweep(self) -> None:
        """Kill every process that the worker left behind, and those that these leave behind."""
        until = time.monotonic() + PATIENCE
        while self._reap() and time.monotonic() < until:
            for pid in _children():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            select.select([self._child_died], [], [], 0.05)


def _children() -> list[int]:
    """Return the children of this process; none where there is no /proc."""
    found = []
    me = str(os.getpid()).encode()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            # "pid (name) state ppid ...", and the name may hold anything.
            if stat.read_bytes().rpartition(b")")[2].split()[1] == me:
                found.append(int(stat.parent.name))
    return found


if __name__ == "__main__":
    what, (mine, *others), words = sys.argv[1], map(int, sys.argv[2].split(",")), sys.argv[3:]
    Supervisor(mine, others, words, held=what == "worker").run()
