"""Trainers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from letstune import EpochTrainer, Params, rand
from letstune.workers import Event, Task, TaskEnded


class Point(Params):
    x: float = rand.uniform(-1, 1)


class Climb(EpochTrainer[Point]):
    """Climbs from x by random steps; its dataset is a folder for notes, or None."""

    metric = "height"

    def load_dataset(self, dataset: Any) -> None:
        self.notes = dataset and Path(dataset)

    def create_model(self, params: Point) -> None:
        self.model = [params.x]

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.model.append(self.model[-1] + float(self.rng.normal()))
        return {"height": self.model[-1]}

    def first_time(self) -> bool:
        """Tell whether this is the first one of the run to ask, of all processes."""
        try:
            (self.notes / "first").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class KillsItsActor(Climb):
    """Kills the actor that it is trained below, once."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1 and self.first_time():
            # Above this process, there is its supervisor, and above that the actor.
            stat = Path(f"/proc/{os.getppid()}/stat").read_text()
            (self.notes / "me").write_text(str(os.getpid()))
            os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
            signal.pause()
        return super().train_epoch(epoch)


class KillsItself(Climb):
    """Dies of SIGKILL, once."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1 and self.first_time():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().train_epoch(epoch)


class Raises(Climb):
    """Fails in its second epoch."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            raise ArithmeticError("no way on")
        return super().train_epoch(epoch)


class Hangs(Climb):
    """Hangs in its second epoch."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            signal.pause()
        return super().train_epoch(epoch)


class HangsOnce(Climb):
    """Hangs in its second epoch, the first time, and notes its x before."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1 and self.first_time():
            (self.notes / "x").write_text(repr(self.model[0]))
            signal.pause()
        return super().train_epoch(epoch)


class Slow(Climb):
    """Takes its time, so that a task of many epochs is not through before it is given up."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        time.sleep(0.005)
        return super().train_epoch(epoch)


class SeesDevices(Climb):
    """Notes its devices and threads."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        seen = os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"]
        (self.notes / str(os.getpid())).write_text(" ".join(seen))
        return super().train_epoch(epoch)


def task(trial: int, limit: float = 3) -> Task:
    params = Point(x=trial / 100).to_json()
    return Task(trial, f"a{trial}", params, epochs=0, seconds=0.0, limit=limit, timed=False)


def drained(executor: Any, running: set[int]) -> list[Event | TaskEnded]:
    """Return all events until these trials' tasks have ended."""
    events: list[Event | TaskEnded] = []
    left = set(running)
    while left:
        for delivery in executor.deliveries():
            events += delivery.events
        left -= {event.trial for event in events if isinstance(event, TaskEnded)}
        executor.recorded()
    return events
