"""Processes that tests wait for: whether they run, and until they are gone."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from letstune.workers import worker_process as worker_processes


def alive(pid: int, mark: str = f"{worker_processes.MARK}=") -> bool:
    """Whether a process runs that has a variable which begins so: by default, one of a worker.

    The numbers of processes are used again. One that has ended, and whose end nobody cares to
    hear, has no variables any more.
    """
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(variable.startswith(mark.encode()) for variable in variables)


def gone(pids: list[int], within: float = 20) -> bool:
    """Wait until processes have ended, for some seconds at most; tell whether they have."""
    until = time.monotonic() + within
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    return not any(map(alive, pids))


def pids(file: Path) -> list[int]:
    return [int(word) for word in file.read_text().split()]


def wait_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + 60
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.005)
