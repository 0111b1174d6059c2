"""In whatever order results, deaths and ghosts arrive, nothing of the outcome changes."""

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_facts import assert_same
from small_trainers import Climb, tune
from stateful_trainer import WalkParams, WalkTrainer
from uneven_trainer import UNEVEN

from letstune.journal.journal import Journal, now
from letstune.rounds.events import (
    EpochFinished,
    Task,
    TaskEnded,
    WorkerDied,
)
from letstune.runs.check import check_run
from letstune.runs.loop import Runner
from letstune.training import pickling
from letstune.training.worker import Assignment, Worker
from letstune.workers.executor import Delivery, Executor
from letstune.workers.process_executor import ProcessExecutor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def test_what_workers_deliver_together_is_recorded_in_one_transaction(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered: list[int] = []
    appended: list[int] = []
    deliveries, append = ProcessExecutor.deliveries, Journal.append

    def count(events: Any) -> int:
        return sum(isinstance(event, EpochFinished) for event in events)

    def seen(self: ProcessExecutor) -> list[Delivery]:
        found = deliveries(self)
        delivered.append(sum(count(delivery.events) for delivery in found))
        return found

    def slow(self: Journal, events: Any) -> None:
        time.sleep(0.02)  # so that others come to the end of their epochs meanwhile
        append(self, events)
        appended.append(count(events))

    monkeypatch.setattr(ProcessExecutor, "deliveries", seen)
    monkeypatch.setattr(Journal, "append", slow)
    tune(Climb(), 4, path, rounds=[20], workers=4)
    assert [number for number in appended if number] == [number for number in delivered if number]
    assert sum(appended) == 80
    assert max(appended) > 1


class Scrambled(Executor):
    """Trains in this process, and lets what came about arrive in any order, together or apart.

    Workers die in the middle of tasks, or, if ``late``, when they are through with them.
    """

    slots = 4

    def __init__(
        self, make: Callable[[str], Worker], rng: random.Random, store: Any, late: bool
    ) -> None:
        self.make, self.rng, self.store, self.late = make, rng, store, late
        self.busy: dict[int, tuple[Task, Worker, Iterator[Any]]] = {}
        self.loading: dict[int, Task] = {}
        self.made = 0

    def start(self, task: Task) -> None:
        self.made += 1
        worker = self.make(f"made{self.made}")
        self.busy[task.trial] = (task, worker, worker.train(task))
        if task.checkpoint is not None:
            self.loading[task.trial] = task

    def deliveries(self) -> list[Delivery]:
        found = []
        there = set(self.store.list())
        for task in self.loading.values():  # nobody knows when a worker gets round to it
            assert task.checkpoint is not None
            assert task.checkpoint.uri in there
        running = sorted(self.busy)
        for trial in self.rng.sample(running, self.rng.randint(0, len(running))):
            task, worker, outcomes = self.busy[trial]
            died = WorkerDied(trial, self.at(trial), task.attempt, -9, None, "", now())
            if self.dies(trial, task):
                found.append(Delivery(trial, task.attempt, [died, TaskEnded(trial)]))
                del self.busy[trial]
                self.loading.pop(trial, None)
                worker.close()
                continue
            events, error = next(outcomes)
            self.loading.pop(trial, None)
            if isinstance(events[-1], TaskEnded):
                del self.busy[trial]
                worker.close()
            found.append(Delivery(trial, task.attempt, events, error))
            if self.rng.random() < 0.1:  # a ghost of an attempt that was given up
                found.append(Delivery(trial, "stale", events, error))
        return found

    def dies(self, trial: int, task: Task) -> bool:
        if not self.late:
            return self.rng.random() < 0.05
        return self.at(trial) >= task.limit and self.rng.random() < 0.5

    def at(self, trial: int) -> int:
        return self.state().trials[trial].epochs

    state: Callable[[], Any]

    def cancel(self, trial: int) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        for _, worker, _ in self.busy.values():
            worker.close()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """Runs in one process, none of which was interrupted."""
    folder = tmp_path_factory.mktemp("straight")
    paths = {(name, d): folder / f"{name}{d}.db" for name in UNEVEN for d in (1, 1000)}
    for (name, max_deaths), path in paths.items():
        tune(Quick(), 20, path, max_deaths=max_deaths, **UNEVEN[name])
    return paths


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), name=st.sampled_from(sorted(UNEVEN)), late=st.booleans())
def test_order_deaths_and_ghosts_change_nothing_and_no_checkpoint_in_use_is_deleted(
    seed: int,
    name: str,
    late: bool,
    straight: dict[tuple[str, int], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("scrambled") / "run.db"
    max_deaths = 1 if late else 1000
    appended: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        made: list[Scrambled] = []

        def make_executor(run: Any, plan: Any, *_: Any) -> Any:
            def make(token: str) -> Worker:
                assignment = Assignment(
                    make_trainer=lambda: pickling.clone(run.trainer),
                    dataset=run.dataset,
                    params_cls=run.trainer.params_cls,
                    metric=plan.metric,
                    seed=plan.seed,
                    store=run.store,
                )
                return Worker(assignment, token)

            made.append(Scrambled(make, random.Random(seed), run.store, late))
            return made[0]

        running, append = Runner.run, Journal.append

        def run(self: Runner) -> None:
            made[0].state = lambda: self.state
            running(self)

        def counted(self: Journal, events: Any) -> None:
            appended.append(len([e for e in events if isinstance(e, EpochFinished)]))
            append(self, events)

        patched.setattr("letstune.runs.session._make_executor", make_executor)
        patched.setattr(Runner, "run", run)
        patched.setattr(Journal, "append", counted)
        # A death after the last epoch does not count, even if a single one is one too many.
        tune(Quick(), 20, path, max_deaths=max_deaths, **UNEVEN[name])
    assert_same(path, straight[name, max_deaths])
    assert check_run(path) == []
    assert max(appended) > 1  # what arrives together is recorded together
    with closing(Journal(path)) as journal:
        replayed = journal.load()[1]
    live = made[0].state()
    assert (live.podium, live.leader[0]) == (replayed.podium, replayed.leader[0])
    assert live.deaths == replayed.deaths == {}
    ends = [[(trial.status, trial.round) for trial in state.trials] for state in (live, replayed)]
    assert ends[0] == ends[1]


class Quick(WalkTrainer):
    params_cls = WalkParams
