"""Real processes: functions called in a new one, and writers killed or stopped in mid-call."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import cloudpickle

_MAIN: Final = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    sys.path[:] = pickle.load(file)
    function, arguments = pickle.load(file)
returned = function(*arguments)
import cloudpickle
with open(sys.argv[2], "wb") as file:
    cloudpickle.dump(returned, file)
"""

CAN_KILL: Final = hasattr(os, "fork") and hasattr(signal, "SIGKILL")
"""Whether this system has what `called_and_cut` needs."""


class Child:
    """A new process that calls a function.

    Args:
        function: pickled by cloudpickle, as its arguments are.
        arguments: its arguments.
    """

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="letstune-")
        self._returned = Path(self._folder.name, "returned")
        called = Path(self._folder.name, "called")
        with called.open("wb") as file:
            pickle.dump(sys.path, file)
            cloudpickle.dump((function, arguments), file)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, str(called), str(self._returned)],
            # Not the hash seed of this process: the order of a set must not matter.
            env={**os.environ, "PYTHONHASHSEED": "4321"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def ended(self, patience: float = 0.002) -> bool:
        """Wait that many seconds at most for the process to end, and tell whether it has."""
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """Kill the process, as a power cut would, and wait until it is gone."""
        self.process.kill()
        self.process.communicate()
        self._folder.cleanup()

    def result(self) -> Any:
        """Return what the function returned.

        Raises:
            RuntimeError: it raised something; the message holds the traceback.
        """
        errors = self.process.communicate()[1].decode(errors="replace")
        try:
            if self.process.returncode:
                raise RuntimeError(f"in a new process:\n{errors}")
            return pickle.loads(self._returned.read_bytes())
        finally:
            self._folder.cleanup()


def called_and_cut(calls: Sequence[tuple[Callable[[], Any], float | None]]) -> list[Any]:
    """Make calls, each in a process of its own that is killed some way into the call.

    Call this in a `Child`, which has no other threads to fork. The first call is made in full,
    to count the steps that Python takes in it.

    Args:
        calls: pairs of a function, and the share of its steps after which the process kills itself
            with SIGKILL; None for never.

    Returns:
        What the calls returned, None for those that did not get that far.
    """
    steps, results = 0, []
    for i, (function, share) in enumerate(calls):
        at = None if share is None else int(steps * share)
        returned = _collect(_forked(function, at, signal.SIGKILL))
        results.append(None if returned is None else returned[0])
        if i == 0 and returned is not None:
            steps = returned[1]
    return results


def called_meanwhile(
    rehearsed: Callable[[], Any],
    held: Callable[[], Any],
    meanwhile: Callable[[], Any],
    share: float,
    patience: float = 5,
) -> tuple[Any, Any]:
    """Hold a call up some way into it, make another one meanwhile, and let the first go on.

    Call this in a `Child`.

    Args:
        rehearsed: a call like the one that is held up, made to count its steps.
        held: the call that is held up, in a process of its own.
        meanwhile: the call that is made meanwhile, in another process.
        share: the share of its steps after which it is held up.
        patience: how many seconds to wait for the other before letting this one go on: the two
            may share a lock.
    """
    counted = _collect(_forked(rehearsed, None, 0))
    pid, pipe = _forked(held, int((counted or (None, 0))[1] * share), signal.SIGSTOP)
    status: int | None = os.waitpid(pid, os.WUNTRACED)[1]
    timer = threading.Timer(patience, _go_on, [pid])
    timer.start()
    other = _collect(_forked(meanwhile, None, 0))
    timer.cancel()
    timer.join()
    if status is not None and os.WIFSTOPPED(status):
        _go_on(pid)
        status = None
    mine = _collect((pid, pipe), status)
    return mine and mine[0], other and other[0]


def _go_on(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return  # it was never held up, and is through


def _forked(function: Callable[[], Any], at: int | None, how: int) -> tuple[int, int]:
    """Call a function in a fork, which sends itself a signal at a step; return pid and pipe."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    try:
        os.close(reading)
        returned = _counted(function, at, how)
        with os.fdopen(writing, "wb") as file:
            file.write(cloudpickle.dumps(returned))
        code = 0
    except BaseException:  # noqa: BLE001 (whatever it is, it must not get into the parent's code)
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


def _counted(function: Callable[[], Any], at: int | None, how: int) -> tuple[Any, int]:
    """Call a function and count the steps, those of threads that it starts included."""
    steps = 0

    def step(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == at:
            os.kill(os.getpid(), how)

    threading.setprofile(step)
    sys.setprofile(step)
    try:
        return function(), steps
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type, unused-ignore]


def _collect(forked: tuple[int, int], status: int | None = None) -> Any:
    """Return what a fork wrote, None if it was killed before; a status if it was waited for.

    Raises:
        RuntimeError: it raised something, which its standard error tells.
    """
    pid, pipe = forked
    with os.fdopen(pipe, "rb") as file:
        data = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1] if status is None else status)
    if code > 0:
        raise RuntimeError("a call failed; see above")
    return pickle.loads(data) if code == 0 else None
