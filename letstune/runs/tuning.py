"""`tune`, `resume` and `load`: put the parts together.

There is one path. `tune` makes an empty journal if there is none; from there on, it resumes.
"""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from letstune._public import public
from letstune.errors import Interrupted, JournalError
from letstune.journal.journal import Journal, create, now
from letstune.journal.lock import JournalLock
from letstune.journal.paths import journal_path
from letstune.results.results import TuningResults
from letstune.results.trials import Source
from letstune.results.verdicts import verdicts
from letstune.rounds.failures import Streaks
from letstune.rounds.plan import Plan, Rounds
from letstune.rounds.state import State
from letstune.runs.agreement import Run, meet
from letstune.runs.backend import open_store
from letstune.runs.deadline import Deadline, seconds_left
from letstune.runs.how import crowded
from letstune.runs.loop import Runner
from letstune.runs.request import RECORDED, Request, to_resume
from letstune.runs.retrain import retrain
from letstune.runs.skip import forget_stop
from letstune.samplers.sampler import Sampler
from letstune.space.params import RecordedParams, Space
from letstune.telling.lines import counted, say
from letstune.telling.observers import Audience, Observer
from letstune.telling.progress import Progress
from letstune.training.stores import Store, make_durably
from letstune.training.trainer import P, Trainer
from letstune.workers.executor import Executor
from letstune.workers.in_process import InProcessJob

RUNS: Final = "letstune-runs"

SamplerLike = str | tuple[str, Mapping[str, Any]] | Sampler
"""A sampler: its name, its name with options, or an object."""
StoreLike = str | os.PathLike[str] | tuple[str, Mapping[str, Any]] | Store
"""A store: a directory, a URI, a URI with options, or an object."""
ObserverLike = str | tuple[str, Mapping[str, Any]] | Observer
"""An observer: its name, its name with options, or an object."""
WorkersLike = int | str | tuple[str, Mapping[str, Any]] | object | None
"""Who trains: a number of processes, "auto", or a cluster by its URI, or by an object."""
RoundsLike = Rounds | Sequence[int] | Sequence[timedelta]
"""Rounds, or just their lengths, in epochs or as times."""


@public("letstune")
def tune(
    trainer: Trainer[P],
    n_trials: int | None = None,
    *,
    dataset: object = None,
    journal: str | os.PathLike[str] | None = None,
    rounds: RoundsLike | None = None,
    sampler: SamplerLike = "random",
    store: StoreLike | None = None,
    workers: WorkersLike = None,
    gpus: Sequence[int | str] | Literal["auto"] | None = None,
    epoch_timeout: float | timedelta | None = None,
    trial_timeout: float | timedelta | None = None,
    max_deaths: int | None = None,
    lag: int | None = None,
    seed: int | None = None,
    keep_checkpoints: int | Literal["all"] = 10,
    observers: Sequence[ObserverLike] = (),
    passthrough_errors: bool = False,
    progress: bool | None = None,
    accept_changes: bool = False,
    retry_failed: bool | None = None,
    max_failures: int | None = None,
    until: datetime | str | None = None,
    for_: float | timedelta | None = None,
) -> TuningResults[P]:
    """Tune a trainer's params, and return its trials, best first.

    If the journal exists, its run goes on where it stopped, however it stopped. The journal of a
    finished run is only read. The run must have been started with the same plan and search space;
    ``n_trials`` and ``rounds`` may have grown.

    Args:
        trainer: a `SimpleTrainer` or an `EpochTrainer`, pickleable.
        n_trials: how many params to try in all. Fewer are tried if the space has no more. It may be
            left out where ``until`` or ``for_`` says when to end.
        dataset: passed to ``trainer.load_dataset``. Kept in the journal, unless its pickle takes
            more than 64 MiB, or than the environment variable LETSTUNE_DATASET_LIMIT says.
        journal: the SQLite file that holds the run. By default a new one in ``letstune-runs/``.
        rounds: how long the investment rounds are: numbers of epochs, times, or `Rounds`. By
            default ``[3, 9, 36]``. Not for a `SimpleTrainer`.
        sampler: who proposes params: a name, such as ``"random"``, ``"grid"`` or a plugin's; a name
            with options, such as ``("tpe", {"multivariate": True})``; or a `Sampler`.
        store: where checkpoints are kept: a directory; a URI such as ``"s3://bucket/runs"``; either
            of them with options, such as ``(uri, {"cache_size": 10**9})``; or a `Store`. By
            default, a directory next to the journal.
        workers: how many processes train; 0 for this one, ``"auto"`` for one per usable core. To
            train elsewhere with a plugin, give a URI such as ``"dask://scheduler:8786"``, a URI
            with options, or an object such as a ``distributed.Client``. By default, this process
            trains; 1 isolates trials from each other, and this process from them. Workers decide
            when things happen, never what, so a run may be resumed with others.
        gpus: one worker for each of these devices, as CUDA_VISIBLE_DEVICES names them, or
            ``"auto"`` for all. If ``workers`` is given, too, they take the devices in turns.
        epoch_timeout: how many seconds an epoch may take; a trial fails if one takes longer. 0 for
            no limit.
        trial_timeout: how many seconds the epochs of a trial may take in all. If they take longer,
            the trial is stopped, and keeps what it has; without an epoch, it fails. 0 for no limit.
        max_deaths: how many worker processes must die in the same epoch of a trial for it to fail.
            By default 3.
        lag: how far a sampler that learns stays behind the results, to keep workers busy; see
            "Rounds" in the documentation. By default, it is chosen from the number of workers.
        seed: the seed of all randomness. By default a new one, which is recorded.
        keep_checkpoints: how many of the best trials keep the checkpoint of their best epoch, or
            ``"all"`` to keep the checkpoints of all epochs of all trials.
        observers: who is told what the run does: names of plugins, names with options, or
            `Observer` objects. Those that are named are told after a resume, too.
        passthrough_errors: raise what a trainer raises, after recording it, rather than going on.
            If it was raised in another process, that is a `TrainerError` with its traceback.
        progress: whether to show on stderr how the run is going. By default yes.
        accept_changes: go on with a journal even though another major version of its sampler's or
            store's plugin is installed now.
        retry_failed: open the trials again that have failed, from their last recorded epochs. By
            default, that is done if the trainer has changed since, and told.
        max_failures: stop when so many trials in a row have failed alike in a round, say so, and
            return what there is; 0 for never. By default 3 as long as no trial has got through
            that round, and 10 then.
        until: when to end: a `datetime`, or a text such as ``"07:00"``, ``"2026-11-28T07:00"``, or
            ``"slurm"`` for the end of the job. No epoch is begun that is not expected to end in
            time, judged by those before it; what is left is for `resume`.
        for_: how long to train, in seconds or as `timedelta`. The earlier end holds.

    Raises:
        PlanError: an argument is not what it must be.
        PlanChangedError: the journal was started with another plan. Nothing was changed.
        TrainerError: the trainer cannot be driven, or returned what is not metric values in the
            very first epoch of the run.
        PickleError: the trainer cannot be pickled.
        PluginError: a plugin that is named cannot be loaded.
        JournalError: the journal cannot be read or written, or another process works on it.
        Interrupted: a stop was asked for, by a signal or `letstune stop`. Everything is recorded;
            a script ends with code 75.

    >>> import letstune
    >>> from letstune import Params, SimpleTrainer, rand
    >>> class Parabola(Params):
    ...     x: float = rand.uniform(-1, 1)
    >>> class ParabolaTrainer(SimpleTrainer[Parabola]):
    ...     metric = "height"
    ...     def load_dataset(self, dataset):
    ...         self.top = dataset
    ...     def train(self, params):
    ...         return params, {"height": self.top - params.x**2}
    >>> from tempfile import TemporaryDirectory
    >>> folder = TemporaryDirectory()
    >>> journal = folder.name + "/run.db"
    >>> tuning = letstune.tune(
    ...     ParabolaTrainer(), 50, dataset=3, journal=journal, seed=1, progress=False
    ... )
    >>> len(tuning), tuning.metric, round(tuning[0].metric_value, 2)
    (50, 'height', 3.0)
    >>> tuning[0].checkpoint.load_pickle() == tuning[0].params
    True
    >>> folder.cleanup()
    """
    return _go(
        Request(
            journal=_new_path(trainer) if journal is None else journal_path(journal),
            named=journal is not None,
            begins=True,
            trainer=trainer,
            n_trials=n_trials,
            dataset=dataset,
            rounds=rounds,
            sampler=sampler,
            store=store,
            workers=workers,
            gpus=gpus,
            epoch_timeout=epoch_timeout,
            trial_timeout=trial_timeout,
            max_deaths=max_deaths,
            lag=lag,
            seed=seed,
            keep_checkpoints=keep_checkpoints,
            observers=observers,
            passthrough_errors=passthrough_errors,
            progress=progress,
            accept_changes=accept_changes,
            retry_failed=retry_failed,
            max_failures=max_failures,
            until=until,
            for_=for_,
        )
    )


@public("letstune")
def resume(
    journal: str | os.PathLike[str],
    *,
    n_trials: int | None = None,
    rounds: RoundsLike | None = None,
    trainer: Trainer[P] | None = None,
    dataset: object = RECORDED,
    workers: WorkersLike = None,
    gpus: Sequence[int | str] | Literal["auto"] | None = None,
    epoch_timeout: float | timedelta | None = None,
    trial_timeout: float | timedelta | None = None,
    max_deaths: int | None = None,
    observers: Sequence[ObserverLike] | None = None,
    passthrough_errors: bool = False,
    progress: bool | None = None,
    accept_changes: bool = False,
    retry_failed: bool | None = None,
    max_failures: int | None = None,
    until: datetime | str | None = None,
    for_: float | timedelta | None = None,
) -> TuningResults[P]:
    """Go on with a run where it stopped, and return its trials, best first.

    The journal is enough: it holds the trainer and the dataset.

    Args:
        journal: the file.
        n_trials: how many params to try in all, if more than planned. By default, as many as
            planned.
        rounds: longer rounds than planned, or more of them. By default, those that were planned.
        trainer: replaces the one in the journal, if that cannot be brought back.
        dataset: replaces the one in the journal from now on; needed if that was not kept.
        workers: see `tune`; by default as many as were asked for before. The same holds for
            ``gpus``, ``epoch_timeout``, ``trial_timeout`` and ``max_deaths``.
        gpus: see `tune`.
        epoch_timeout: see `tune`.
        trial_timeout: see `tune`.
        max_deaths: see `tune`.
        observers: replace those that the run was started with; see `tune`.
        passthrough_errors: see `tune`.
        progress: see `tune`.
        accept_changes: see `tune`.
        retry_failed: see `tune`.
        max_failures: see `tune`.
        until: see `tune`. A run that was begun without ``n_trials`` goes on to further trials.
        for_: see `tune`.

    Raises:
        PlanChangedError: what is asked for is less than was planned, the trainer's search space
            or metric are not those of the run, or another major version of a plugin is installed.
            Nothing was changed.
        PickleError: the trainer or the dataset cannot be brought back.
        PluginError: a plugin with which the run was started is not installed, or cannot be loaded.
        JournalError: see `tune`.
        Interrupted: see `tune`.
    """
    path = journal_path(journal)
    Journal(path).close()  # one that is missing is told of before anything is made for it
    return _go(
        Request(
            journal=path,
            begins=False,
            trainer=RECORDED if trainer is None else trainer,
            n_trials=RECORDED if n_trials is None else n_trials,
            dataset=dataset,
            rounds=rounds,
            workers=workers,
            gpus=gpus,
            epoch_timeout=epoch_timeout,
            trial_timeout=trial_timeout,
            max_deaths=max_deaths,
            observers=RECORDED if observers is None else observers,
            passthrough_errors=passthrough_errors,
            progress=progress,
            accept_changes=accept_changes,
            retry_failed=retry_failed,
            max_failures=max_failures,
            until=until,
            for_=for_,
        )
    )


@public("letstune")
def load(journal: str | os.PathLike[str]) -> TuningResults[RecordedParams]:
    """Return the trials of a run, best first, without touching it; it may be running.

    Nothing is unpickled: params are read-only values with attribute access and ``to_dict()``.

    Args:
        journal: the file.

    Raises:
        JournalError: there is no journal, or it cannot be read.
    """
    path = journal_path(journal)
    with closing(Journal(path)) as source:
        plan, state = source.load()
        note = source.note()
    if note:
        say(note)
    return _results(path, state, Space.from_json(plan.space), None)


def _go(asked: Request) -> TuningResults[Any]:
    """Make a journal if there is none, agree with it, and train until its plan is done."""
    path = asked.journal
    first = asked.first() if asked.begins and not path.exists() else None
    if asked.begins:
        _make_folder(path)
    with JournalLock(path, now()):
        forget_stop(path)
        if first is not None and not path.exists():
            create(path, first.facts, first.pickles)
            for note in first.notes:
                say(note)
        with closing(Journal(path, write=True)) as opened:
            _, state = opened.load()
            run = meet(asked, opened, state)
            return _train(opened, run.grow(opened, state), run)


def _train(opened: Journal, state: State, run: Run) -> TuningResults[Any]:
    """Go on with the journal's plan. The caller holds the lock."""
    plan, token = state.plan, secrets.token_hex(4)
    executor = _make_executor(run, plan, opened.path, token)
    shown = Progress(state, show=run.asked.progress is not False)
    if run.executor.name == "processes" and (line := crowded(plan)):
        shown.tell(line)
    runner = Runner(
        state=state,
        journal=opened,
        space=run.space,
        sampler=run.sampler,
        store=run.store,
        executor=executor,
        audience=Audience(shown, run.observers, state),
        token=token,
        passthrough_errors=run.asked.passthrough_errors,
        streaks=Streaks(run.asked.max_failures),
        deadline=Deadline(seconds_left(run.asked.until, run.asked.for_)),
        endless=run.endless,
    )
    try:
        runner.run()
    except (Interrupted, KeyboardInterrupt) as stop:
        shown.close()
        but = "" if isinstance(stop, Interrupted) else " but what was in flight"
        why = "the time is up" if runner.out_of_time else "interrupted"
        say(f"letstune: {why}; all is recorded{but}. Resume with:  {to_resume(opened.path)}")
        raise
    finally:
        shown.close()
    if runner.stopped:
        say(f"letstune: {runner.stopped}")
    else:
        _tell_failures(opened.path, runner.state, run.asked)
    for verdict in verdicts(runner.state):
        say(f"letstune: {verdict}")
    results = _results(opened.path, runner.state, run.space, run.store)
    results.stopped = runner.stopped
    return results


def _make_executor(run: Run, plan: Plan, path: Path, token: str) -> Executor:
    trainer, dataset, store = run.trainer, run.dataset, run.store
    job: object = InProcessJob(trainer=trainer, dataset=dataset, store=store, seed=plan.seed)
    if run.executor.name != "in-process":
        from letstune.workers.job import Job  # imported late: a run in this process does without it

        job = Job.of(trainer, dataset, store, journal=path, seed=plan.seed)
    executor: Executor = run.executor.make(
        job, token=token, epoch_timeout=plan.epoch_timeout, trial_timeout=plan.trial_timeout
    )
    return executor


def _tell_failures(path: Path, state: State, asked: Request) -> None:
    """Tell how many trials failed, where to read more, and how they are tried again."""
    failed = [number for number, trial in enumerate(state.trials) if trial.status == "failed"]
    if not failed or (asked.progress is False and len(failed) < len(state.trials)):
        return
    journal, count = shlex.quote(str(path)), len(state.trials)
    trials = f"{len(failed)} of {counted(count, 'trial')}"
    if len(failed) == count:
        trials = "the only trial" if count == 1 else f"all {count} trials"
    cure = (
        "run it again"
        if asked.begins
        else "run its script, or resume with --trainer FILE:CLASS, since the journal holds the "
        "code as it was"
    )
    say(
        f"letstune: {trials} failed; `letstune show {journal} {failed[0]}` tells how. They are "
        f"tried again once the trainer is mended: {cure}. `letstune retry {journal}` does so with "
        "the code as it is."
    )


def _results(path: Path, state: State, space: Space, store: Store | None) -> TuningResults[Any]:
    plan = state.plan
    get_store = partial(open_store, path, plan) if store is None else partial(_same, store)
    run = Source(
        path=path,
        plan=plan,
        state=state,
        store=get_store,
        decode=space.decode,
        retrain=partial(retrain, path),
    )
    return TuningResults(run)


def _same(store: Store) -> Store:
    return store  # not a lambda, so that results can be pickled


def _make_folder(path: Path) -> None:
    """Make the folder of a journal, if it is not there.

    Raises:
        JournalError: it cannot be made.
    """
    try:
        make_durably(path.parent)
    except OSError as error:
        raise JournalError(
            f"{path}: its folder cannot be made: {error}. Give a path in a folder that is there."
        ) from error


def _new_path(trainer: object) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path.cwd() / RUNS / f"{type(trainer).__name__}-{stamp}-{secrets.token_hex(2)}.db"
