"""Small real runs: trainers, executors that deliver in any order or crash, and what comes of it."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np

from letstune import EpochTrainer, Params, StopTraining, rand
from letstune.journal.comparable import facts as facts
from letstune.journal.journal import Journal, create
from letstune.rounds.events import Task, TaskEnded
from letstune.rounds.plan import Plan, Rounds
from letstune.runs.loop import Runner
from letstune.samplers.sampler import Sampler
from letstune.telling.observers import Audience
from letstune.training.checkpoints import Checkpoint
from letstune.training.pickling import clone, type_name
from letstune.training.stores import DirectoryStore, Store
from letstune.training.worker import Assignment, Outcome, Worker
from letstune.workers import job as jobs
from letstune.workers.executor import Delivery, Executor

# Of several cohorts, so that a sampler proposes again and again in the course of a run.
ROUNDS: Final = Rounds([1, 2, 3], keep=0.5, cohort=[4, 3, 2])


class Straight(Params):
    """A branch of `Landscape`."""

    slope: float = rand.normal(0, 1)


class Curved(Params):
    """The other branch of `Landscape`."""

    curve: float = rand.uniform(1e-3, 10, log=True)
    order: int = rand.ints(1, 512, log=True)


class Landscape(Params):
    """A search space that has it all."""

    x: float = rand.uniform(-1, 1)
    step: float = rand.uniform(0, 1, step=0.125)
    form: Straight | Curved
    mode: str = rand.oneof(["a", "b", "c"], weights=[1, 2, 0])
    flag: bool
    only: int = 3


class Corners(Params):
    """A finite search space, for a sampler that needs one."""

    x: int = rand.ints(0, 9)
    form: str = rand.oneof(["round", "square"])
    flag: bool


class Climb(EpochTrainer[Any]):
    """Climbs by random steps from where its params say. Some trials fail, stop, or see NaN.

    Args:
        params_cls: the class of the params.
    """

    metric = "height"

    def __init__(self, params_cls: type[Params]) -> None:
        self.params_cls = params_cls

    def load_dataset(self, dataset: Any) -> None:
        """Take a dataset: a file that gets a line for each epoch begun, or None."""
        self.witness = dataset

    def create_model(self, params: Params) -> None:
        """Begin at a height that is a hash of the params."""
        digest = hashlib.sha256(params.to_json().encode()).digest()
        self.model = {"height": digest[0] / 256, "kind": digest[1] % 16, "epochs": 0}

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Take a step."""
        if self.witness is not None:
            with Path(self.witness).open("a") as file:
                file.write(f"{epoch}\n")
        kind = self.model["kind"]
        if kind == 0 and epoch == 1:
            raise ValueError(f"no way on from {self.model['height']!r}")
        if kind == 1 and epoch == 2:
            raise StopTraining
        if self.model["epochs"] != epoch:
            raise RuntimeError(f"epoch {epoch} comes after {self.model['epochs']} others")
        self.model["height"] += float(self.rng.normal()) + float(np.random.normal())
        self.model["epochs"] += 1
        nan = kind == 2 and epoch % 2 == 0
        return {"height": float("nan") if nan else self.model["height"], "epoch": float(epoch)}

    def save(self, checkpoint: Checkpoint) -> None:
        """Save in two files, one of them empty."""
        (checkpoint.path / "model.json").write_text(json.dumps(self.model))
        (checkpoint.path / "done").touch()

    def load(self, checkpoint: Checkpoint, params: Params) -> None:
        """Load what `save` saved."""
        self.model = json.loads((checkpoint.path / "model.json").read_text())


@dataclass(frozen=True, kw_only=True)
class Job:
    """What an executor needs to train the tasks of a run.

    Attributes:
        trainer: the trainer; every worker makes a clone.
        dataset: what its `load_dataset` gets.
        params_cls: the class of the params.
        metric: the name of the metric.
        seed: the run's.
        store: for checkpoints.
    """

    trainer: Any
    dataset: object
    params_cls: type[Params]
    metric: str
    seed: int
    store: Store

    def worker(self) -> Worker:
        """Return a worker for this job, with a token of its own."""
        trainer = self.trainer
        assignment = Assignment(
            make_trainer=lambda: clone(trainer),
            dataset=self.dataset,
            params_cls=self.params_cls,
            metric=self.metric,
            seed=self.seed,
            store=self.store,
        )
        return Worker(assignment, secrets.token_hex(4))

    def packed(self) -> jobs.Job:
        """Return what the factory of an executor that trains in other processes gets."""
        journal = Path("run.db")  # named in errors
        return jobs.Job.of(self.trainer, self.dataset, self.store, journal=journal, seed=self.seed)


MakeExecutor = Callable[[Job], Executor]


class CrashError(Exception):
    """What a `ShuffledExecutor` raises instead of going on: the run is over, as in a crash."""


class ShuffledExecutor(Executor):
    """Several workers in this process. One at a time gets on, chosen by a seed.

    Args:
        job: what to train.
        slots: how many workers there are.
        seed: decides the order in which they get on.
        crash_after: how many deliveries there are before it raises `CrashError`; None for no crash.
    """

    def __init__(self, job: Job, slots: int, seed: int, crash_after: int | None = None) -> None:
        self.slots = slots
        self._idle = [job.worker() for _ in range(slots)]
        self._workers = list(self._idle)
        self._running: dict[int, tuple[Task, Worker, Iterator[Outcome]]] = {}
        self._waiting: set[int] = set()  # for what they have delivered to be recorded
        self._random = Random(seed)
        self._left = crash_after
        self._stopped = False

    def start(self, task: Task) -> None:
        """Give the task to a worker that is idle."""
        worker = self._idle.pop(self._random.randrange(len(self._idle)))
        self._running[task.trial] = (task, worker, worker.train(task))

    def deliveries(self) -> list[Delivery]:
        """Let some of the workers get on, in any order."""
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise CrashError
        ready = sorted(self._running.keys() - self._waiting)
        number = self._random.randint(1, len(ready)) if ready else 0
        return [self._next(trial) for trial in self._random.sample(ready, number)]

    def recorded(self) -> None:
        """Let all get on; see `Executor.recorded`."""
        self._waiting.clear()

    def _next(self, trial: int) -> Delivery:
        task, worker, outcomes = self._running[trial]
        ended: Outcome = ([TaskEnded(trial)], None)
        events, error = ended if self._stopped else next(outcomes)
        if isinstance(events[-1], TaskEnded):
            del self._running[trial]
            self._idle.append(worker)
        else:
            self._waiting.add(trial)
        return Delivery(trial, task.attempt, events, error)

    def cancel(self, trial: int) -> None:
        """Give a task up."""
        _, worker, _ = self._running.pop(trial)
        self._waiting.discard(trial)
        self._idle.append(worker)

    def stop(self) -> None:
        """Train no further epoch."""
        self._stopped = True

    def close(self) -> None:
        """Forget the tasks."""
        self._running.clear()
        for worker in self._workers:
            worker.close()


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run that can be made as often, and in as many pieces, as one wants.

    Attributes:
        params_cls: the search space.
        n_trials: how many trials there are.
        rounds: their rounds.
        lag: the lag of the lag rule.
        seed: the run's.
    """

    params_cls: type[Params]
    n_trials: int = 16
    rounds: Rounds = ROUNDS
    lag: int = 0
    seed: int = 1

    def job(self, store: Store, witness: Path | None = None) -> Job:
        """Return what an executor is to train."""
        return Job(
            trainer=Climb(self.params_cls),
            dataset=None if witness is None else str(witness),
            params_cls=self.params_cls,
            metric=Climb.metric,
            seed=self.seed,
            store=store,
        )

    def play(
        self,
        path: Path,
        sampler: Sampler,
        make_executor: MakeExecutor,
        store: Store | None = None,
        witness: Path | None = None,
    ) -> None:
        """Run on from wherever a journal stands to the end, or until the executor raises.

        Args:
            path: the journal, made if it is not there.
            sampler: who proposes.
            make_executor: makes the executor for a job.
            store: of the checkpoints; by default a directory beside the journal.
            witness: gets a line for each epoch begun.
        """
        if not path.exists():
            create(path, self._plan(sampler).to_facts() | {"versions": {}}, [])
        store = store or DirectoryStore(path.with_suffix(".checkpoints"))
        with closing(Journal(path, write=True)) as journal:
            _, state = journal.load()
            Runner(
                state=state,
                journal=journal,
                space=self.params_cls.space(),
                sampler=sampler,
                store=store,
                executor=make_executor(self.job(store, witness)),
                audience=Audience(None, (), state),
                token=secrets.token_hex(4),
            ).run()

    def _plan(self, sampler: Sampler) -> Plan:
        return Plan(
            metric=Climb.metric,
            n_trials=self.n_trials,
            rounds=self.rounds,
            simple=False,
            seed=self.seed,
            space=self.params_cls.space().to_json(),
            sampler={"name": type_name(type(sampler)), "options": None},
            adaptive=sampler.adaptive,
            store={"name": "test", "options": None},
            lag=self.lag,
            keep_checkpoints=3,
            trainer=type_name(Climb),
        )
