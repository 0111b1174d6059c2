"""Runs whose training takes no time: what the process that owns a run can carry.

The runner, the journal and the state are the product's own, on a real disk. Only the workers are
made up: as those of letstune, each waits until its epoch is recorded; then it has finished another
one at once.
"""

from __future__ import annotations

import os
import resource
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from letstune import Params, Rounds, rand
from letstune.journal import journal
from letstune.rounds.events import EpochFinished, Event, Task, TaskEnded
from letstune.rounds.plan import Plan
from letstune.rounds.state import State
from letstune.runs.loop import Runner
from letstune.samplers.sampler import RandomSampler
from letstune.telling.observers import Audience
from letstune.training.stores import DirectoryStore
from letstune.workers.executor import Delivery, Executor


class OneParam(Params):
    """A space in which no two draws are the same."""

    x: float = rand.uniform(0, 1)


class Prompt(Executor):
    """As many workers as there are slots; each is done with what it does next in no time."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._waiting: dict[int, tuple[Task, int]] = {}  # for their epochs to be recorded
        self._ready: dict[int, tuple[Task, int]] = {}
        self._values = np.random.default_rng(0).normal(size=1 << 16).tolist()

    def start(self, task: Task) -> None:
        self._ready[task.trial] = (task, task.epochs)

    def deliveries(self) -> list[Delivery]:
        delivered = []
        ready, self._ready = self._ready, {}
        for trial, (task, epoch) in ready.items():
            event: Event | TaskEnded = TaskEnded(trial)
            if epoch < task.limit:
                value = self._values[hash((trial, epoch)) & 0xFFFF]
                event = EpochFinished(trial, epoch, value, {"m": value}, STAMP, 1e-3)
                self._waiting[trial] = (task, epoch + 1)
            delivered.append(Delivery(trial, task.attempt, [event]))
        return delivered

    def recorded(self) -> None:
        self._ready |= self._waiting
        self._waiting.clear()

    def cancel(self, trial: int) -> None:
        self._waiting.pop(trial, None)
        self._ready.pop(trial, None)

    def stop(self) -> None:
        raise NotImplementedError("nobody interrupts a benchmark gently")

    def close(self) -> None:
        self._waiting.clear()
        self._ready.clear()


STAMP = "2026-01-01T00:00:00.000000+00:00"


class Meter:
    """A display that notes wall time, CPU time and memory every ``step`` epochs."""

    def __init__(self, step: int) -> None:
        self.marks = [self.now(0)]
        self._step = step

    @staticmethod
    def now(epochs: int) -> dict[str, float]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return {
            "epochs": epochs,
            "wall": time.perf_counter(),
            "cpu": used.ru_utime + used.ru_stime,
            "MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        }

    def recorded(self, events: Sequence[Event], state: State) -> None:
        if state.total_epochs >= self.marks[-1]["epochs"] + self._step:
            self.marks.append(self.now(state.total_epochs))

    def tell(self, line: str) -> None:
        raise RuntimeError(line)

    def doing(self, line: str) -> None: ...


def measure(folder: Path, workers: int, epochs: int, lengths: Sequence[int]) -> dict[str, float]:
    """Run about so many epochs, cohort after cohort, so that the work is the same all the time.

    Returns how many epochs a second were recorded, proposals and all, and what they cost in the
    first and in the last tenth.
    """
    rounds = Rounds(lengths, cohort=16)
    trained = sum(q * n for q, n in zip(rounds.quotas(16), lengths, strict=True))
    n_trials = max(1, epochs // trained) * 16
    plan = Plan(
        metric="m",
        n_trials=n_trials,
        rounds=rounds,
        simple=False,
        seed=0,
        space=OneParam.space().to_json(),
        sampler={"name": "random", "options": {}},
        adaptive=False,
        store={"name": "directory", "options": {}},
        lag=0,
        keep_checkpoints=1,
        trainer="simulated",
    )
    path = folder / "run.db"
    journal.create(path, plan.to_facts(), [])
    opened = journal.Journal(path, write=True)
    meter = Meter(max(1, n_trials * trained // 16 // 20))
    state = State(plan)
    runner = Runner(
        state=state,
        journal=opened,
        space=OneParam.space(),
        sampler=RandomSampler(),
        store=DirectoryStore(folder / "checkpoints"),
        executor=Prompt(workers),
        audience=Audience(meter, (), state),
        token="simulated",
    )
    began = meter.now(0)
    runner.run()
    ended = meter.now(runner.state.total_epochs)
    opened.close()
    db = sqlite3.connect(path)
    ((recorded,),) = db.execute("SELECT count(*) FROM epochs")
    db.close()
    if recorded != ended["epochs"]:
        raise RuntimeError(f"{recorded} epochs are recorded, of {ended['epochs']}")
    if len(meter.marks) < 10:
        raise RuntimeError(f"there are {len(meter.marks)} marks only")
    seconds = ended["wall"] - began["wall"]
    return {"per s": recorded / seconds, "trials": n_trials, "epochs": recorded} | flatness(
        meter.marks
    )


def flatness(marks: list[dict[str, float]]) -> dict[str, float]:
    """Return CPU time an epoch, in µs, and memory, in MB, in the first and the last tenth."""

    def cost(first: int, last: int) -> float:
        a, b = marks[first], marks[last]
        return (b["cpu"] - a["cpu"]) / (b["epochs"] - a["epochs"]) * 1e6

    tenth = max(1, (len(marks) - 1) // 10)
    return {
        "first": cost(0, tenth),
        "last": cost(-1 - tenth, -1),
        "MB first": marks[tenth]["MB"],
        "MB last": marks[-1]["MB"],
    }


def bare(folder: Path, batch: int, epochs: int) -> dict[str, float]:
    """Do what no program can do without: rows in SQLite, so many to a transaction."""
    db = sqlite3.connect(folder / "bare.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(
        "CREATE TABLE epochs (seq INTEGER PRIMARY KEY, trial INTEGER, epoch INTEGER, value REAL, "
        "metrics TEXT, started TEXT, seconds REAL, session INTEGER) STRICT"
    )
    began = time.perf_counter()
    for first in range(0, epochs, batch):
        db.execute("BEGIN IMMEDIATE")
        for i in range(first, first + batch):
            row = (i, i // 3, i % 3, 0.5, '{"m": 0.5}', STAMP, 1e-3, 1)
            db.execute("INSERT INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        db.execute("COMMIT")
    seconds = time.perf_counter() - began
    db.close()
    return {"per s": epochs / seconds, "transactions per s": epochs / batch / seconds}
