"""Preemptions: what takes a process that trains away from outside, and a trainer that meets it."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from letstune.rounds.events import EpochFinished, Task, TaskEnded, TrialFailed
from letstune.testing.tasks import Events, Steady, Watched, task_of
from letstune.workers.executor import Executor

_PATIENCE: Final = 120.0  # seconds from one preemption to the next

_CHILD: Final = [sys.executable, "-c", "import time; time.sleep(1000)"]


class Victim(NamedTuple):
    """Who is to be preempted: the numbers of the process that trains, and of a child of it."""

    trains: int
    child: int


Preemption = Callable[[Victim], object]
"""Preempts. What was there to train in is there again some time after it."""


def _send(which: int, victim: Victim) -> None:
    """Send a signal as to all processes of a job: to the one that trains, twice, and to its child.

    As a rule, the one that trains hears of it before it misses the child.
    """
    for pid, pause in ((victim.trains, 0.01), (victim.trains, 0.1), (victim.child, 0.0)):
        with suppress(ProcessLookupError):
            os.kill(pid, which)
        time.sleep(pause)


def by_signals() -> list[Preemption]:
    """Return preemptions by each of the signals that ask for a stop; twice, see `Parent`."""
    names = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")
    found = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [partial(_send, which) for which in found for _ in range(2)]


class Parent(Steady):
    """Has a child in its second epoch, and fails if that ends, until it is told to go on.

    Its dataset is a folder. Every second time, it lets the signals have their usual effect, as
    some libraries do.
    """

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Wait to be preempted, or climb by a random step."""
        if epoch == 1:
            self._wait(Path(self.witness))
        self.model["height"] += float(self.rng.normal())
        return {"height": self.model["height"]}

    def _wait(self, folder: Path) -> None:
        notes = len(list(folder.glob("*.json")))
        if notes % 2:
            for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"):
                with suppress(AttributeError, ValueError):  # of Windows; of another thread
                    signal.signal(getattr(signal, name), signal.SIG_DFL)
        child = subprocess.Popen(_CHILD, stderr=subprocess.DEVNULL)
        try:
            note = [platform.node(), os.getpid(), child.pid]
            (folder / "note").write_text(json.dumps(note))
            (folder / "note").rename(folder / f"{notes}.json")
            here = note[:2] == json.loads((folder / "owner").read_text())
            while not here and not (folder / "go").exists():
                if child.poll() is not None:
                    raise RuntimeError("a child exited unexpectedly")
                time.sleep(0.01)
        finally:
            child.kill()
            child.wait()


def events_in_spite_of(
    preemptions: Sequence[Preemption], executor: Executor, folder: Path
) -> Events:
    """Have a task of a `Parent` trained, again and again, and preempt it in its second epoch.

    Args:
        preemptions: what happens, one after another.
        executor: trains it; it is closed.
        folder: the dataset of its job.

    Returns:
        All that is delivered, up to the end of the task's last epoch, or of the trial.

    Raises:
        TimeoutError: nothing has come of it for too long.
    """
    folder.mkdir()
    (folder / "owner").write_text(json.dumps([platform.node(), os.getpid()]))
    watched, task = Watched(executor), task_of(0)._replace(attempt=f"{folder.name}-0")
    events: Events = []
    meanwhile = ThreadPoolExecutor(1)  # `deliveries` may wait for a second
    try:
        preempting = meanwhile.submit(_preempt, preemptions, folder)
        watched.start(task)
        while not preempting.done() or preempting.result() is None:
            came = [event for delivery in watched.deliveries() for event in delivery.events]
            events += came
            watched.recorded()
            if came and isinstance(came[-1], TaskEnded):
                task = _rest(task, events)
                if task.epochs >= task.limit or isinstance(came[0], TrialFailed):
                    break
                watched.start(task)
    finally:
        (folder / "over").touch()
        meanwhile.shutdown()
        watched.close()
    if why_not := preempting.result():
        pytest.skip(why_not)
    return events


def _preempt(preemptions: Sequence[Preemption], folder: Path) -> str | None:
    """Preempt what trains, whenever it is in its second epoch; return why that cannot be done."""
    for number, preempt in enumerate(preemptions):
        note = folder / f"{number}.json"
        until = time.monotonic() + _PATIENCE
        while not note.exists():
            if time.monotonic() > until:
                raise TimeoutError(f"nothing has come of preemption {number} in {_PATIENCE:g} s")
            if (folder / "over").exists():
                return None
            time.sleep(0.01)
        node, trains, child = json.loads(note.read_text())
        if node != platform.node():
            return "it trains on another machine, whose processes are out of reach from here"
        if trains == os.getpid():
            return "it trains in the process of the run, which hears of signals itself"
        preempt(Victim(trains, child))
    (folder / "go").touch()
    return None


def _rest(task: Task, events: Events) -> Task:
    """Return what is left of a task, for a new attempt."""
    done = [event for event in events if isinstance(event, EpochFinished)]
    name = task.attempt.rpartition("-")[0]
    task = task._replace(attempt=f"{name}-{events.count(TaskEnded(task.trial))}")
    if not done:
        return task
    return task._replace(
        epochs=len(done),
        seconds=sum(epoch.seconds for epoch in done),
        loaded=done[-1].epoch,
        checkpoint=done[-1].checkpoint,
    )
