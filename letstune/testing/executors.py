"""The laws for an executor."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest

from letstune.errors import CheckpointError, StopTraining
from letstune.rounds.events import (
    EpochFinished,
    Event,
    SpaceExhausted,
    Task,
    TaskEnded,
    TrialFailed,
    TrialStopped,
)
from letstune.samplers.sampler import RandomSampler
from letstune.testing.runs import (
    Climb,
    Corners,
    Experiment,
    Job,
    MakeExecutor,
    facts,
)
from letstune.training.stores import DirectoryStore, Store
from letstune.workers.executor import Delivery, Executor
from letstune.workers.in_process import InProcessExecutor

Events = list[Event | TaskEnded]

_PATIENCE = 10_000  # deliveries, none of which ends a task
_MANY = 400  # epochs
_TASKS = 500  # that a run of these laws never needs


class Raises(Climb):
    """Fails in its second epoch."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Raise, or climb."""
        if epoch == 1:
            raise ValueError("no way on: größer")
        return {"height": 1.0}


class Stops(Climb):
    """Stops in its second epoch."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Stop, or climb."""
        if epoch == 1:
            raise StopTraining({"height": 2.0})
        return {"height": 1.0}


class Steady(Climb):
    """Neither fails nor stops."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Climb."""
        return {"height": float(epoch)}


class Slow(Steady):
    """Takes its time, so that a task of many epochs does not come to its end meanwhile."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Climb slowly."""
        time.sleep(0.005)
        return super().train_epoch(epoch)


class Counted(Steady):
    """Leaves a dot in a file, the dataset, for each epoch that begins."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Leave a dot, and climb."""
        with Path(self.witness).open("a") as file:
            file.write(".")
        return super().train_epoch(epoch)


class FullStore(DirectoryStore):
    """Cannot take anything."""

    def put(self, name: str, folder: Path) -> str:
        """Refuse."""
        raise OSError("no space left")


class Watched(Executor):
    """Another executor, whose deliveries are watched, and may be handed on in another order.

    Args:
        executor: the other one.
        seed: decides the order in which deliveries of different trials are handed on; None keeps
            the order.
    """

    def __init__(self, executor: Executor, seed: int | None = None) -> None:
        self._executor = executor
        self._random = None if seed is None else Random(seed)
        self._held: list[Delivery] = []
        self._silent = 0
        self.started: dict[str, int] = {}
        self.most = 0
        self.running: set[str] = set()
        self.seen: dict[str, list[Delivery]] = defaultdict(list)

    @property
    def slots(self) -> int:  # type: ignore[override]
        """What the other one says, which may change."""
        return self._executor.slots

    def start(self, task: Task) -> None:
        """Hand a task on.

        Raises:
            RuntimeError: tasks end without the epochs that they should train, and are started for
                ever.
        """
        if len(self.started) >= _TASKS:
            raise RuntimeError(f"{_TASKS} tasks were started, and the run has not come to its end")
        self.started[task.attempt] = task.trial
        self.running.add(task.attempt)
        self.most = max(self.most, len(self.running))
        self._executor.start(task)

    def deliveries(self) -> list[Delivery]:
        """Return what is delivered, or some of what is held back.

        Raises:
            RuntimeError: nothing has come of the tasks for too long.
        """
        if self._random is None:
            self._take(self._executor.deliveries())
            handed, self._held = self._held, []
            return handed
        # The runner waits as long as it likes: in-between, more may have been delivered.
        if self.running and (not self._held or self._random.random() < 0.5):
            self._take(self._executor.deliveries())
        if not self._held:
            return []
        chosen = self._random.choice(self._held).attempt
        first = next(i for i, held in enumerate(self._held) if held.attempt == chosen)
        return [self._held.pop(first)]

    def _take(self, deliveries: list[Delivery]) -> None:
        for delivery in deliveries:
            self.seen[delivery.attempt].append(delivery)
            ended = any(isinstance(event, TaskEnded) for event in delivery.events)
            if ended and delivery.attempt in self.running:
                self.running.remove(delivery.attempt)
                self._silent = 0
        self._silent += 1
        if self._silent > _PATIENCE:
            raise RuntimeError(f"no task has ended in {_PATIENCE} deliveries: {self.running}")
        self._held += deliveries

    def recorded(self) -> None:
        """Hand the word on."""
        self._executor.recorded()

    def cancel(self, trial: int) -> None:
        """Hand on that a task is given up."""
        self._executor.cancel(trial)
        self.running -= {attempt for attempt, number in self.started.items() if number == trial}

    def stop(self) -> None:
        """Hand the request on."""
        self._executor.stop()

    def close(self) -> None:
        """Hand the request on."""
        self._executor.close()


class ExecutorSuite:
    """The laws for an executor. Subclass it, and override the fixture `make_executor`."""

    @pytest.fixture
    def scratch(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return a folder of this law's own, apart from the plugin's ``tmp_path``."""
        return tmp_path_factory.mktemp("scratch")

    @pytest.fixture
    def make_executor(self) -> MakeExecutor:
        """Return a function that makes an executor for a `letstune.testing.Job`. Override this."""
        raise NotImplementedError("override the fixture 'make_executor'")

    @pytest.fixture
    def job_store(self, scratch: Path) -> Store:
        """Return the store of the jobs, which all workers must reach: a directory."""
        return DirectoryStore(scratch / "checkpoints")

    def test_the_journal_is_that_of_a_run_in_process(
        self, make_executor: MakeExecutor, scratch: Path
    ) -> None:
        """A run with it ends with the same journal as a run without it."""
        assert _ran(make_executor, scratch / "run.db") == _in_process(scratch)

    def test_the_order_of_deliveries_does_not_matter(
        self, make_executor: MakeExecutor, scratch: Path
    ) -> None:
        """A run whose deliveries of different trials are mixed up ends with the same journal."""
        wanted = _in_process(scratch)
        for seed in (1, 2):
            mixed = partial(_watched, make_executor, seed)
            assert _ran(mixed, scratch / f"{seed}.db") == wanted

    def test_events_of_a_trial_come_in_order(
        self, make_executor: MakeExecutor, scratch: Path
    ) -> None:
        """The epochs of a trial come one by one, and each after what it builds on."""
        watched = _watch(make_executor, scratch)
        epochs: dict[int, list[int]] = defaultdict(list)
        for attempt, deliveries in watched.seen.items():
            for delivery in deliveries:
                for event in delivery.events:
                    assert _trial(event) == delivery.trial == watched.started[attempt]
                    if isinstance(event, EpochFinished):
                        epochs[event.trial].append(event.epoch)
        assert sum(map(len, epochs.values())) > 16
        assert all(found == list(range(len(found))) for found in epochs.values())

    def test_a_task_ends_with_task_ended(self, make_executor: MakeExecutor, scratch: Path) -> None:
        """The last delivery of every task ends with a TaskEnded, and there is no other one."""
        watched = _watch(make_executor, scratch)
        assert set(watched.seen) == set(watched.started)
        for deliveries in watched.seen.values():
            events = [event for delivery in deliveries for event in delivery.events]
            assert [i for i, e in enumerate(events) if isinstance(e, TaskEnded)] == [
                len(events) - 1
            ]

    def test_deliveries_carry_the_attempt_of_their_task(
        self, make_executor: MakeExecutor, scratch: Path
    ) -> None:
        """Deliveries carry trial and attempt of a task that was started, so no stale one counts."""
        watched = _watch(make_executor, scratch)
        found = {(d.attempt, d.trial) for some in watched.seen.values() for d in some}
        assert found == set(watched.started.items())

    def test_as_many_tasks_are_trained_as_there_are_slots(
        self, make_executor: MakeExecutor, job_store: Store
    ) -> None:
        """It has at least one slot, and takes as many tasks at a time as it has slots."""
        executor = Watched(make_executor(_job(Steady, job_store)))
        try:
            assert executor.slots >= 1
            tasks = [_task(trial) for trial in range(executor.slots)]
            assert set(map(_trial, _drained(executor, tasks))) == set(range(len(tasks)))
        finally:
            executor.close()

    def test_an_epoch_begins_when_the_one_before_is_recorded(
        self, make_executor: MakeExecutor, job_store: Store, scratch: Path
    ) -> None:
        """Before `recorded` is called, no further epoch of a task is trained."""
        witness = scratch / "epochs"
        job = replace(_job(Counted, job_store), dataset=str(witness))
        executor = Watched(make_executor(job))
        try:
            executor.start(_task(0))
            for epochs in (1, 2, 3):
                while len(executor.seen["a0"]) < epochs:
                    executor.deliveries()
                executor.deliveries()  # nothing, for about a second, or the next one
                assert len(executor.seen["a0"]) == epochs
                assert witness.read_text() == epochs * "."
                executor.recorded()
            assert _drained(executor, []) == [TaskEnded(0)]
        finally:
            executor.close()

    def test_stop_ends_after_the_epochs_in_flight(
        self, make_executor: MakeExecutor, job_store: Store
    ) -> None:
        """After `stop`, epochs in flight are delivered, no further epoch begins, and tasks end."""
        executor = Watched(make_executor(_job(Slow, job_store)))
        try:
            tasks = [_task(trial, limit=_MANY) for trial in range(executor.slots)]
            for task in tasks:
                executor.start(task)
            begun = [event for d in executor.deliveries() for event in d.events]
            executor.stop()
            executor.recorded()
            events = _drained(executor, [])
            trained = [e for e in [*begun, *events] if isinstance(e, EpochFinished)]
            ended = [e.trial for e in [*begun, *events] if isinstance(e, TaskEnded)]
            assert sorted(ended) == [task.trial for task in tasks]
            assert len(trained) < _MANY
            assert not [e for e in events if isinstance(e, TrialFailed | TrialStopped)]
        finally:
            executor.close()

    def test_close_leaves_nothing_behind(
        self, make_executor: MakeExecutor, job_store: Store
    ) -> None:
        """After `close`, even in the middle of a task, no process and no thread of it is left."""
        before = _alive()
        executor = make_executor(_job(Slow, job_store))
        executor.start(_task(0, limit=_MANY))
        executor.deliveries()
        executor.close()
        assert _alive() <= before

    def test_an_exception_of_a_trainer_is_a_failed_trial(
        self, make_executor: MakeExecutor, job_store: Store
    ) -> None:
        """What a trainer raises arrives as TrialFailed, with its traceback, and ends the task."""
        executor = Watched(make_executor(_job(Raises, job_store)))
        try:
            first, failed, ended = _drained(executor, [_task(7)])
            assert isinstance(first, EpochFinished)
            assert isinstance(failed, TrialFailed)
            assert failed[:4] == (7, 1, "raised", "ValueError: no way on: größer")
            assert "train_epoch" in failed.traceback
            assert ended == TaskEnded(7)
            # And the worker goes on with the next task.
            assert _drained(executor, [_task(8)])[-1] == TaskEnded(8)
        finally:
            executor.close()

    def test_an_early_stop_is_a_stopped_trial(
        self, make_executor: MakeExecutor, job_store: Store
    ) -> None:
        """StopTraining arrives as TrialStopped, together with the epoch that it ended."""
        executor = Watched(make_executor(_job(Stops, job_store)))
        try:
            events = _drained(executor, [_task(7)])
            assert [type(event) for event in events] == [
                EpochFinished,
                EpochFinished,
                TrialStopped,
                TaskEnded,
            ]
            assert [len(d.events) for d in executor.seen["a7"]][:2] == [1, 2]
        finally:
            executor.close()

    def test_what_must_end_the_run_is_raised(
        self, make_executor: MakeExecutor, scratch: Path
    ) -> None:
        """A store that cannot take a checkpoint ends the run: `deliveries` raises that error.

        Or the executor tries the store as it is made, and so cannot even be made.
        """
        with pytest.raises(CheckpointError, match="no space left"):
            _trained(make_executor, _job(Steady, FullStore(scratch / "full")))


def _watched(make_executor: MakeExecutor, seed: int | None, job: Job) -> Watched:
    return Watched(make_executor(job), seed)


def _ran(make_executor: MakeExecutor, path: Path) -> dict[str, list[str]]:
    """Return the facts of a run, which comes to an end even if its tasks do not."""

    def make(job: Job) -> Executor:
        executor = make_executor(job)
        return executor if isinstance(executor, Watched) else Watched(executor)

    Experiment(params_cls=Corners).play(path, RandomSampler(), make)
    return facts(path)


def _in_process(folder: Path) -> dict[str, list[str]]:
    return _ran(lambda job: InProcessExecutor(job.worker()), folder / "in-process.db")


def _watch(make_executor: MakeExecutor, folder: Path) -> Watched:
    """Run, and return what was seen of it."""
    made: list[Watched] = []

    def make(job: Job) -> Watched:
        made.append(Watched(make_executor(job)))
        return made[-1]

    _ran(make, folder / "watched.db")
    return made[0]


def _job(trainer: type[Climb], store: Store) -> Job:
    return Job(
        trainer=trainer(Corners),
        dataset=None,
        params_cls=Corners,
        metric=Climb.metric,
        seed=1,
        store=store,
    )


def _task(trial: int, limit: float = 3) -> Task:
    params = Corners.space().point(trial).to_json()
    return Task(trial, f"a{trial}", params, epochs=0, seconds=0.0, limit=limit, timed=False)


def _trained(make_executor: MakeExecutor, job: Job) -> None:
    executor = Watched(make_executor(job))
    try:
        _drained(executor, [_task(0)])
    finally:
        executor.close()


def _drained(executor: Watched, tasks: list[Task]) -> Events:
    """Start tasks, and return all events up to the end of the last task."""
    for task in tasks:
        executor.start(task)
    events: Events = []
    while executor.running:
        events += [event for delivery in executor.deliveries() for event in delivery.events]
        executor.recorded()
    return events


def _trial(event: Event | TaskEnded) -> int:
    return -1 if isinstance(event, SpaceExhausted) else event.trial


def _alive() -> set[object]:
    """Return the threads of this process and the processes below it, as far as can be known."""
    found: set[object] = {*threading.enumerate(), *multiprocessing.active_children()}
    for children in Path("/proc/self/task").glob("*/children"):  # Linux only
        found |= set(children.read_text().split())
    return found
