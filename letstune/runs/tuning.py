"""`tune`, `resume` and `load`: what users call, with all that they may ask for.

`tune` is `resume` of an empty journal: both make a request, and the session does the rest.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

from letstune._public import public
from letstune.journal.journal import Journal, check_journal
from letstune.journal.paths import journal_path
from letstune.results.results import TuningResults
from letstune.rounds.plan import Rounds
from letstune.runs.request import RECORDED, Request
from letstune.runs.session import go, results
from letstune.samplers.sampler import Sampler
from letstune.space.params import RecordedParams, Space
from letstune.telling.lines import say
from letstune.telling.observers import Observer
from letstune.training.stores import Store
from letstune.training.trainer import P, Trainer

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
    rehearse: bool = True,
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
        rehearse: train the last epoch of the first trial's first round once more, from the
            checkpoint before it, before any trial goes on to a second round. If that fails, the run
            is stopped; if it comes out differently, that is told. Nothing of it is recorded.
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
        TrustError: a journal that is there is neither the user's own nor trusted. Nothing of it was
            run. Or the user's key is open to others.
        Interrupted: a stop was asked for, by a signal or `letstune stop`. Everything is recorded;
            a script ends with code 75. In a notebook, or at a prompt, it is not raised: the results
            so far are returned, and their ``stopped`` says so.

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
    return go(
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
            rehearse=rehearse,
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
    rehearse: bool = True,
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
        rehearse: see `tune`.
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
        TrustError: see `tune`.
        Interrupted: see `tune`.
    """
    path = journal_path(journal)
    check_journal(path)  # one that is missing is told of before anything is made for it
    return go(
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
            rehearse=rehearse,
            retry_failed=retry_failed,
            max_failures=max_failures,
            until=until,
            for_=for_,
        )
    )


@public("letstune")
def load(journal: str | os.PathLike[str], *, trust: bool = False) -> TuningResults[RecordedParams]:
    """Return the trials of a run, best first, without touching it; it may be running.

    Nothing is unpickled: params are read-only values with attribute access and ``to_dict()``.

    Args:
        journal: the file.
        trust: whether to vouch for the journal: its checkpoints may be used, wherever it says that
            they are, and its trials be trained again. By default, that raises a `TrustError`,
            unless the run is the user's own, or `letstune trust` was said to it.

    Raises:
        JournalError: there is no journal, or it cannot be read.
    """
    path = journal_path(journal)
    with closing(Journal(path)) as source:
        plan, state = source.load_legal()
        note = source.note()
    if note:
        say(note)
    return results(path, state, Space.from_json(plan.space), None, vouched=trust)


def _new_path(trainer: object) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path.cwd() / RUNS / f"{type(trainer).__name__}-{stamp}-{secrets.token_hex(2)}.db"
