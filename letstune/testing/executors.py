"""The laws for an executor."""

from __future__ import annotations

import multiprocessing
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from letstune.errors import CheckpointError
from letstune.rounds.blame import preempted
from letstune.rounds.events import (
    EpochFinished,
    TaskEnded,
    TrialFailed,
    TrialStopped,
    WorkerDied,
)
from letstune.samplers.sampler import RandomSampler
from letstune.testing.preemptions import Parent, Preemption, by_signals, events_in_spite_of
from letstune.testing.runs import Corners, Experiment, Job, MakeExecutor, facts
from letstune.testing.tasks import (
    MANY,
    Counted,
    FullStore,
    Raises,
    Slow,
    Steady,
    Stops,
    Watched,
    drained,
    job_of,
    task_of,
    trial_of,
)
from letstune.training.stores import DirectoryStore, Store
from letstune.workers.executor import Executor
from letstune.workers.in_process import InProcessExecutor


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

    @pytest.fixture
    def preemptions(self) -> Sequence[Preemption]:
        """Return what preempts, in this order; add a cluster's own ways, several times each.

        By default signals, each twice: to a worker that leaves them to the run, and to one that
        dies of them.
        """
        return by_signals()

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
                    assert trial_of(event) == delivery.trial == watched.started[attempt]
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
        executor = Watched(make_executor(job_of(Steady, job_store)))
        try:
            assert executor.slots >= 1
            tasks = [task_of(trial) for trial in range(executor.slots)]
            assert set(map(trial_of, drained(executor, tasks))) == set(range(len(tasks)))
        finally:
            executor.close()

    def test_an_epoch_begins_when_the_one_before_is_recorded(
        self, make_executor: MakeExecutor, job_store: Store, scratch: Path
    ) -> None:
        """Before `recorded` is called, no further epoch of a task is trained."""
        witness = scratch / "epochs"
        job = replace(job_of(Counted, job_store), dataset=str(witness))
        executor = Watched(make_executor(job))
        try:
            executor.start(task_of(0))
            for epochs in (1, 2, 3):
                while len(executor.seen["a0"]) < epochs:
                    executor.deliveries()
                executor.deliveries()  # nothing, for about a second, or the next one
                assert len(executor.seen["a0"]) == epochs
                assert witness.read_text() == epochs * "."
                executor.recorded()
            assert drained(executor, []) == [TaskEnded(0)]
        finally:
            executor.close()

    def test_stop_ends_after_the_epochs_in_flight(
        self, make_executor: MakeExecutor, job_store: Store
    ) -> None:
        """After `stop`, epochs in flight are delivered, no further epoch begins, and tasks end."""
        executor = Watched(make_executor(job_of(Slow, job_store)))
        try:
            tasks = [task_of(trial, limit=MANY) for trial in range(executor.slots)]
            for task in tasks:
                executor.start(task)
            begun = [event for d in executor.deliveries() for event in d.events]
            executor.stop()
            executor.recorded()
            events = drained(executor, [])
            trained = [e for e in [*begun, *events] if isinstance(e, EpochFinished)]
            ended = [e.trial for e in [*begun, *events] if isinstance(e, TaskEnded)]
            assert sorted(ended) == [task.trial for task in tasks]
            assert len(trained) < MANY
            assert not [e for e in events if isinstance(e, TrialFailed | TrialStopped)]
        finally:
            executor.close()

    def test_close_leaves_nothing_behind(
        self, make_executor: MakeExecutor, job_store: Store
    ) -> None:
        """After `close`, even in the middle of a task, no process and no thread of it is left."""
        before = _alive()
        executor = make_executor(job_of(Slow, job_store))
        executor.start(task_of(0, limit=MANY))
        executor.deliveries()
        executor.close()
        assert _alive() <= before

    def test_an_exception_of_a_trainer_is_a_failed_trial(
        self, make_executor: MakeExecutor, job_store: Store
    ) -> None:
        """What a trainer raises arrives as TrialFailed, with its traceback, and ends the task."""
        executor = Watched(make_executor(job_of(Raises, job_store)))
        try:
            first, failed, ended = drained(executor, [task_of(7)])
            assert isinstance(first, EpochFinished)
            assert isinstance(failed, TrialFailed)
            assert failed[:4] == (7, 1, "raised", "ValueError: no way on: größer")
            assert "train_epoch" in failed.traceback
            assert ended == TaskEnded(7)
            # And the worker goes on with the next task.
            assert drained(executor, [task_of(8)])[-1] == TaskEnded(8)
        finally:
            executor.close()

    def test_an_early_stop_is_a_stopped_trial(
        self, make_executor: MakeExecutor, job_store: Store
    ) -> None:
        """StopTraining arrives as TrialStopped, together with the epoch that it ended."""
        executor = Watched(make_executor(job_of(Stops, job_store)))
        try:
            events = drained(executor, [task_of(7)])
            assert [type(event) for event in events] == [
                EpochFinished,
                EpochFinished,
                TrialStopped,
                TaskEnded,
            ]
            assert [len(d.events) for d in executor.seen["a7"]][:2] == [1, 2]
        finally:
            executor.close()

    @pytest.mark.slow
    def test_a_preemption_costs_an_epoch_and_blames_nobody(
        self,
        make_executor: MakeExecutor,
        job_store: Store,
        scratch: Path,
        preemptions: Sequence[Preemption],
    ) -> None:
        """However often what trains is preempted in an epoch, its trial neither fails nor differs.

        No TrialFailed is delivered, and no WorkerDied but of a signal that asks for a stop. The
        task ends, and can be started again.
        """
        trained = []
        for name, met in (("met", preemptions), ("unmet", ())):
            job = replace(job_of(Parent, job_store), dataset=str(scratch / name))
            events = events_in_spite_of(met, make_executor(job), scratch / name)
            assert not [event for event in events if isinstance(event, TrialFailed)]
            died = [event for event in events if isinstance(event, WorkerDied)]
            assert [death for death in died if not preempted(death)] == []
            trained.append([e[:4] for e in events if isinstance(e, EpochFinished)])
        assert trained[0] == trained[1]
        assert [epoch for _, epoch, *_ in trained[0]] == [0, 1, 2]

    def test_what_must_end_the_run_is_raised(
        self, make_executor: MakeExecutor, scratch: Path
    ) -> None:
        """A store that cannot take a checkpoint ends the run: `deliveries` raises that error.

        Or the executor tries the store as it is made, and so cannot even be made.
        """
        with pytest.raises(CheckpointError, match="no space left"):
            _trained(make_executor, job_of(Steady, FullStore(scratch / "full")))


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


def _trained(make_executor: MakeExecutor, job: Job) -> None:
    executor = Watched(make_executor(job))
    try:
        drained(executor, [task_of(0)])
    finally:
        executor.close()


def _alive() -> set[object]:
    """Return the threads of this process and the processes below it, as far as can be known."""
    found: set[object] = {*threading.enumerate(), *multiprocessing.active_children()}
    for children in Path("/proc/self/task").glob("*/children"):  # Linux only
        found |= set(children.read_text().split())
    return found
