"""`Trial.retrain` and `letstune retrain`: a trial is trained again, and compared with the journal.

It is one task for an executor, which is trained as the run has trained it, but into a store of its
own. The journal is only read, and what is trained is in it already, so nothing is recorded.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from letstune.errors import (
    CheckpointError,
    CheckpointNotKeptError,
    PlanError,
    StoreError,
    WorkerError,
)
from letstune.journal.paths import journal_path
from letstune.results.retrained import Comparison, Retrained, RetrainedEpoch
from letstune.results.trials import TrialError
from letstune.rounds.decisions import describe_death, ended
from letstune.rounds.events import (
    EpochFinished,
    Event,
    Stored,
    Task,
    TaskEnded,
    TrialFailed,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.numbers import whole_number
from letstune.runs.backend import Backend
from letstune.runs.how import own_executor
from letstune.runs.past import Past, read_past
from letstune.telling.lines import say
from letstune.training.checkpoints import Checkpoint, fetch, fetched
from letstune.training.script import standing_in
from letstune.training.stores import DirectoryStore, Store, temporary
from letstune.training.trainer import Trainer
from letstune.workers.executor import Executor
from letstune.workers.in_process import InProcessJob


def retrain(
    path: str | os.PathLike[str],
    trial: int,
    *,
    epochs: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    from_start: bool = False,
    trainer: Trainer[Any] | None = None,
    dataset: object = None,
    workers: int | None = None,
    told: Callable[[RetrainedEpoch], object] | None = None,
    vouched: bool = False,
) -> Retrained:
    """Train a trial of a journal again; see `Trial.retrain`.

    Args:
        path: the journal.
        trial: the id of the trial.
        epochs: see `Trial.retrain`, as for all that follow but the last two.
        folder: see there.
        from_start: see there.
        trainer: see there.
        dataset: see there.
        workers: see there.
        told: called with each epoch as it is trained.
        vouched: whether the caller vouches for the journal.
    """
    target = None if folder is None else _new_folder(Path(folder))
    past = read_past(
        journal_path(path),
        trial,
        given=(trainer, dataset),
        with_store=not from_start,
        vouched=vouched,
    )
    asked = _how_many(past, epochs)
    for line in past.changes:
        say(f"letstune: {line}")
    with _workplace(target) as place:
        store = DirectoryStore(place)
        task = _first_task(past, store, asked)
        with standing_in(past.trainer, past.dataset):
            found, last, end = _train(past, task, store, workers, told)
        compared = Comparison(
            start=task.epochs,
            asked=asked,
            epochs=found,
            recorded=len(past.recorded),
            was=past.failure,
            failed=end if isinstance(end, TrialFailed) else None,
            stopped=isinstance(end, TrialStopped),
        )
        what = f"The checkpoint of epoch {len(found) + task.epochs - 1} of trial {trial}"
        return Retrained(
            trial_id=trial,
            start=task.epochs,
            epochs=tuple(found),
            difference=compared.difference,
            failure=compared.failed and TrialError.of(compared.failed),
            verdict=compared.verdict,
            changes=tuple(past.changes),
            checkpoint=_checkpoint(store, last, what, target),
        )


# What is asked


def _new_folder(folder: Path) -> Path:
    """Return a folder to make, or to fill.

    Raises:
        PlanError: something is there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PlanError(f"{folder}: something is there; expected a new folder, or an empty one.")
    return folder.absolute()


def _how_many(past: Past, epochs: int | None) -> int:
    """Return how many epochs there are to be in all; by default, as many as the trial has begun.

    Raises:
        PlanError: that is no number of epochs, or none was begun.
    """
    if epochs is not None:
        count = whole_number("epochs", epochs, 1)
        if past.plan.simple and count > 1:
            raise PlanError(f"epochs={count}: a SimpleTrainer trains in one go. Leave it out.")
        return count
    begun = len(past.recorded) + (past.failure is not None)
    if not begun:
        raise PlanError(
            f"{past.path}: trial {past.number} has no epoch to compare. To train it all the same, "
            "say how many epochs: epochs=1, --epochs 1."
        )
    return begun


# Training


@contextmanager
def _workplace(target: Path | None) -> Iterator[Path]:
    """Lend a folder to work in, on the disk where the model is to be in the end."""
    if target is None:  # what is loaded from it lives as long as that of any other checkpoint
        yield Path(tempfile.mkdtemp(dir=temporary()))
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = tempfile.TemporaryDirectory(prefix=".letstune-", dir=target.parent)
    except OSError as error:
        raise PlanError(f"{target} cannot be made: {error}. Name another folder.") from error
    with work as name:
        yield Path(name)


def _first_task(past: Past, store: DirectoryStore, asked: int) -> Task:
    """Return what there is to train: all epochs since the nearest checkpoint that is intact."""
    loaded, checkpoint = _nearest(past, store, asked)
    return Task(
        trial=past.number,
        attempt=secrets.token_hex(4),
        params=past.trial.params,
        epochs=loaded + 1,
        seconds=0.0,
        limit=asked,
        timed=False,  # in timed rounds, too: the seeds know of epochs only
        loaded=loaded,
        checkpoint=checkpoint,
    )


def _nearest(past: Past, store: DirectoryStore, asked: int) -> tuple[int, Stored | None]:
    """Return the epoch and a copy of the checkpoint to begin with; -1 and None for the seeds.

    It is not that of the last epoch that is asked for: then, there would be nothing to compare.
    """
    for epoch in sorted(past.trial.kept, reverse=True):
        if past.store is None or epoch > asked - 2:
            continue
        name, stored = f"from-{epoch}", past.trial.kept[epoch]
        what = f"{past.path}: the checkpoint of epoch {epoch} of trial {past.number}"
        try:
            folder = fetch(past.store, stored, store.stage(name), what)
        except CheckpointError as error:
            away = isinstance(error, StoreError)
            say(f"letstune: training from {'the start' if away else 'further back'}. {error}")
            if away:
                break
        else:
            return epoch, stored._replace(uri=store.put(name, folder))
    return -1, None


def _train(
    past: Past,
    task: Task,
    store: DirectoryStore,
    workers: int | None,
    told: Callable[[RetrainedEpoch], object] | None,
) -> tuple[list[RetrainedEpoch], Stored | None, Event | None]:
    """Return the epochs, the checkpoint of the last one, and what ended the trial, if it ended."""
    found: list[RetrainedEpoch] = []
    last: Stored | None = None
    with closing(_events(_executor(past, store, workers), task)) as events:
        for event in events:
            if not isinstance(event, EpochFinished):
                return found, last, event
            if last is not None:
                store.delete(last.uri)
            last = event.checkpoint
            known = event.epoch < len(past.recorded)
            recorded = past.recorded[event.epoch].metrics if known else None
            found.append(RetrainedEpoch(event.epoch, recorded, event.metrics))
            if told is not None:
                told(found[-1])
    if task.epochs + len(found) < task.limit:
        raise WorkerError(
            f"The process that trained trial {task.trial} again was ended from outside in epoch "
            f"{task.epochs + len(found)}. Nothing is lost; try again."
        )
    return found, last, None


def _events(executor: Executor, task: Task) -> Generator[Event, None, None]:
    """Yield what comes of a task: its epochs, and how it ended, if it did before its limit."""
    try:
        executor.start(task)
        while True:
            for delivery in executor.deliveries():
                for event in delivery.events:
                    if isinstance(event, TaskEnded):
                        return
                    yield _as_failure(event) if isinstance(event, WorkerDied) else event
            executor.recorded()
    finally:
        executor.close()


def _as_failure(death: WorkerDied) -> TrialFailed:
    message = f"The worker died in this epoch: {ended(death.code)}."
    return TrialFailed(death.trial, death.epoch, "worker died", message, describe_death(death))


def _executor(past: Past, store: Store, workers: int | None) -> Executor:
    """Return who trains: this process, or another one, with the threads that the run has."""
    plan = past.plan
    apart = bool(plan.workers or plan.gpus) if workers is None else bool(workers)
    token = secrets.token_hex(4)
    job: object = InProcessJob(
        trainer=past.trainer,
        dataset=past.dataset,
        store=store,
        seed=plan.seed,
        horizon=plan.horizon,
    )
    backend = Backend.own("executor", "in-process", None)
    if apart:
        from letstune.workers.job import Job  # imported late, as in `letstune.runs.tuning`

        made = Job.of(past.trainer, past.dataset, store, journal=past.path, seed=plan.seed)
        job = replace(made, horizon=plan.horizon)
        backend = own_executor(replace(plan, workers=1, gpus=None))
        with suppress(PlanError):  # all devices were asked for, and this machine has none
            backend = own_executor(replace(plan, workers=1))
    executor: Executor = backend.make(job, token=token)
    return executor


def _checkpoint(
    store: DirectoryStore, last: Stored | None, what: str, target: Path | None
) -> Checkpoint:
    """Return the last checkpoint, which is in the folder that was asked for, if one was."""
    if last is None:

        def missing() -> Path:
            raise CheckpointNotKeptError(
                f"{what} was never there: no epoch was trained, or save() wrote nothing."
            )

        return Checkpoint(missing, "that was never there")
    if target is None:
        return Checkpoint(lambda: fetched(store, last, what), "of a trial that was trained again")
    whole = fetch(store, last, store.stage("model"), what)
    with suppress(FileNotFoundError):
        target.rmdir()  # it is empty
    whole.rename(target)
    return Checkpoint(lambda: target, f"in {target}")
