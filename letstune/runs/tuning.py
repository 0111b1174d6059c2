"""`tune`, `resume` and `load`: put the parts together.

There is one path. `tune` makes an empty journal if there is none; from there on, it resumes.
"""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from letstune._public import public
from letstune.errors import CheckpointError, Interrupted, StoreError
from letstune.journal.journal import Journal, Pickle, create, now
from letstune.journal.lock import JournalLock
from letstune.results.results import TuningResults, _Run
from letstune.rounds.decisions import default_lag
from letstune.rounds.plan import Plan
from letstune.rounds.seeding import fresh_seed
from letstune.rounds.state import State
from letstune.runs.arguments import (
    ObserverLike,
    RoundsLike,
    SamplerLike,
    StoreLike,
    WorkersLike,
    at_least,
    choose_observers,
    choose_sampler,
    choose_store,
    describe_dataset,
    differences,
    how_many_kept,
    journal_path,
    make_folder,
    make_rounds,
    make_store,
    recorded_plugin,
)
from letstune.runs.belongings import (
    another_dataset,
    compare_dataset,
    is_new,
    keep,
    keep_dataset,
    plan_changed,
    plugged_again,
    recorded_observers,
    restore,
    restore_dataset,
    versions,
)
from letstune.runs.loop import Runner
from letstune.runs.workplaces import (
    CARRIED_OUT,
    Workplace,
    crowded,
    elsewhere,
    here,
    how_carried_out,
    how_many_elsewhere,
    how_many_workers,
    make_executor,
)
from letstune.samplers.sampler import Sampler
from letstune.space.params import RecordedParams, Space
from letstune.telling.observers import Audience, Observer
from letstune.telling.progress import Progress, say
from letstune.training import pickling
from letstune.training.stores import GONE, Store
from letstune.training.trainer import P, SimpleTrainer, Trainer, check_trainer, params_class
from letstune.workers.executor import Executor
from letstune.workers.in_process import InProcessJob
from letstune.workers.machine import own_threads

RUNS: Final = "letstune-runs"


class _Recorded(Enum):
    """What ``dataset`` is when it is not given; None is a dataset like any other."""

    RECORDED = "<recorded>"

    def __repr__(self) -> str:
        return self.value


@public("letstune")
def tune(
    trainer: Trainer[P],
    n_trials: int,
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
) -> TuningResults[P]:
    """Tune a trainer's params, and return its trials, best first.

    With a journal that exists, the run goes on where it stopped, however it stopped; one that is
    finished is only read. It must have been started with the same plan and search space;
    ``n_trials`` and ``rounds`` may have grown.

    Args:
        trainer: a `SimpleTrainer` or an `EpochTrainer`, pickleable.
        n_trials: how many params to try in all. Fewer are tried if there are no more.
        dataset: passed to ``trainer.load_dataset``. Kept in the journal, unless its pickle takes
            more than 64 MiB, or than the environment variable LETSTUNE_DATASET_LIMIT says.
        journal: the SQLite file that holds the run. By default a new one in ``letstune-runs/``.
        rounds: how long the investment rounds are: numbers of epochs, times, or `Rounds`. By
            default ``[3, 9, 36]``. Not for a `SimpleTrainer`.
        sampler: who proposes params: ``"random"``, ``"grid"`` or that of a plugin; a name with
            options, as ``("tpe", {"multivariate": True})``; or a `Sampler`.
        store: where checkpoints are kept: a directory, or a URI such as ``"s3://bucket/runs"``,
            either of them with options, as ``(uri, {"cache_size": 10**9})``, or a `Store`. By
            default a directory next to the journal.
        workers: how many processes train, or ``"auto"`` for one a usable core; or where a plugin
            trains, as ``"dask://scheduler:8786"``, a URI with options, or an object such as a
            ``distributed.Client``. By default, this process does. It changes when, never what: a
            run may be resumed with others.
        gpus: one worker for each of these devices, as CUDA_VISIBLE_DEVICES names them, or
            ``"auto"`` for all; with ``workers``, the workers share them in turns.
        epoch_timeout: in seconds; a trial fails when an epoch takes longer. 0 for none.
        trial_timeout: in seconds; a trial fails when its epochs take longer in all. 0 for none.
        max_deaths: a trial fails when so many worker processes have died in the same epoch of
            it. By default 3.
        lag: how far a sampler that learns stays behind the results, to keep workers busy; see
            "Rounds" in the documentation. By default as the number of workers needs it.
        seed: of all randomness. By default a new one, which is recorded.
        keep_checkpoints: of how many of the best trials to keep the best epoch's checkpoint, or
            ``"all"`` for those of all epochs of all trials.
        observers: who is told of the run: names of plugins, names with options, or `Observer`
            objects. Those that are named are told after a resume, too.
        passthrough_errors: raise what a trainer raises, after recording it, rather than going on.
        progress: whether to show on stderr how the run is going. By default yes.
        accept_changes: go on with a journal even though another major version of its sampler's or
            store's plugin is installed now.

    Raises:
        PlanError: an argument is not what it must be.
        PlanChangedError: the journal was started with another plan. Nothing was changed.
        TrainerError: the trainer cannot be driven, or returned what is not metric values.
        PickleError: the trainer cannot be pickled.
        PluginError: a plugin that is named cannot be loaded.
        JournalError: the journal cannot be read or written, or another process works on it.
        Interrupted: SIGINT or SIGTERM came. Everything is recorded; a script ends with code 75.

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
    carried_out = how_carried_out(workers, gpus, epoch_timeout, trial_timeout, max_deaths)
    space = params_class(trainer).space()
    chosen, described_sampler = choose_sampler(sampler)
    chosen.check(space)
    path = _new_path(trainer) if journal is None else journal_path(journal)
    chosen_store, described_store = choose_store(store, path)
    told, described_observers = choose_observers(observers)
    kept = [keep("trainer", trainer)]
    kept_dataset, note = keep_dataset(dataset, needed="workers" in carried_out)
    plan = Plan(
        metric=check_trainer(trainer),
        n_trials=at_least(1, "n_trials", n_trials),
        rounds=make_rounds(rounds, trainer),
        simple=isinstance(trainer, SimpleTrainer),
        seed=fresh_seed() if seed is None else at_least(0, "seed", seed),
        space=space.to_json(),
        sampler=described_sampler,
        adaptive=chosen.adaptive,
        store=described_store,
        lag=0,
        keep_checkpoints=how_many_kept(keep_checkpoints),
        trainer=pickling.type_name(type(trainer)),
        dataset=describe_dataset(dataset, kept_dataset is not None),
        **carried_out,
    )
    cluster = elsewhere(workers)
    if cluster is None:
        plan = replace(plan, threads=own_threads(how_many_workers(plan), os.environ))
    if lag is not None:
        plan = replace(plan, lag=at_least(0, "lag", lag))
    elif plan.adaptive:
        count = how_many_elsewhere(cluster) if cluster else how_many_workers(plan)
        plan = replace(plan, lag=default_lag(max(1, count), plan.cohort_sizes[-1], plan.n_trials))
    if isinstance(sampler, Sampler):
        kept.append(keep("sampler", sampler))
    if isinstance(store, Store):
        kept.append(keep("store", store))
    make_folder(path)
    with JournalLock(path, now()):
        exists = path.exists()
        if not exists:
            about = {"versions": versions(trainer), "observers": described_observers}
            create(
                path, plan.to_facts() | about, [*kept, *([kept_dataset] if kept_dataset else [])]
            )
        if journal is None:
            say(f"letstune: {path}; resume with: {_command(path)}")
        with closing(Journal(path, write=True)) as opened:
            recorded, state = opened.load()
            # What was not asked for is what it was.
            plan = replace(
                plan,
                seed=recorded.seed if seed is None else plan.seed,
                lag=recorded.lag if lag is None else plan.lag,
                rounds=recorded.rounds if rounds is None else plan.rounds,
                threads=recorded.threads,
                **({name: getattr(recorded, name) for name in CARRIED_OUT} | carried_out),
            )
            kept_in = chosen_store if isinstance(store, Store) else open_store(path, recorded)
            if exists:
                note = compare_dataset(opened, kept_dataset)
            return _run(
                opened,
                _agree(opened, state, plan, {}, kept, kept_in, accept_changes=accept_changes),
                trainer,
                dataset,
                sampler=chosen,
                store=kept_in,
                observers=told,
                workers=workers,
                note=note,
                passthrough_errors=passthrough_errors,
                progress=progress,
            )


@public("letstune")
def resume(
    journal: str | os.PathLike[str],
    *,
    n_trials: int | None = None,
    rounds: RoundsLike | None = None,
    trainer: Trainer[P] | None = None,
    dataset: object = _Recorded.RECORDED,
    workers: WorkersLike = None,
    gpus: Sequence[int | str] | Literal["auto"] | None = None,
    epoch_timeout: float | timedelta | None = None,
    trial_timeout: float | timedelta | None = None,
    max_deaths: int | None = None,
    observers: Sequence[ObserverLike] | None = None,
    passthrough_errors: bool = False,
    progress: bool | None = None,
    accept_changes: bool = False,
) -> TuningResults[P]:
    """Go on with a run where it stopped, and return its trials, best first.

    The journal is enough: it holds the trainer and the dataset.

    Args:
        journal: the file.
        n_trials: more trials in all than were planned. By default as many.
        rounds: longer rounds, or more of them, than were planned. By default the same.
        trainer: instead of the one in the journal, if that cannot be brought back.
        dataset: instead of the one in the journal, from now on; needed if that was not kept.
        workers: see `tune`; by default as many as were asked for before. The same holds for
            ``gpus``, ``epoch_timeout``, ``trial_timeout`` and ``max_deaths``.
        gpus: see `tune`.
        epoch_timeout: see `tune`.
        trial_timeout: see `tune`.
        max_deaths: see `tune`.
        observers: instead of those that the run was started with; see `tune`.
        passthrough_errors: see `tune`.
        progress: see `tune`.
        accept_changes: see `tune`.

    Raises:
        PlanChangedError: what is asked for is less than was planned, the trainer's search space
            or metric are not those of the run, or another major version of a plugin is installed.
            Nothing was changed.
        PickleError: the trainer or the dataset cannot be brought back.
        PluginError: a plugin with which the run was started is not installed, or cannot be loaded.
        JournalError: see `tune`.
        Interrupted: see `tune`.
    """
    carried_out = how_carried_out(workers, gpus, epoch_timeout, trial_timeout, max_deaths)
    path = journal_path(journal)
    Journal(path).close()  # for its errors, before a lock file is made
    with JournalLock(path, now()), closing(Journal(path, write=True)) as opened:
        recorded, state = opened.load()
        if trainer is None:
            kept = []
            trainer = restore(opened, "trainer", "name the trainer: --trainer MODULE:NAME.")
        else:
            params_class(trainer)  # for its errors
            kept = [keep("trainer", trainer)]
        again = partial(plugged_again, opened, recorded, accept_changes=accept_changes)
        sampler, described_sampler = again("sampler")
        store, described_store = again("store")
        plan = replace(
            recorded,
            sampler=described_sampler,
            store=described_store,
            space=params_class(trainer).space().to_json(),
            metric=check_trainer(trainer),
            simple=isinstance(trainer, SimpleTrainer),
            n_trials=at_least(1, "n_trials", recorded.n_trials if n_trials is None else n_trials),
            rounds=recorded.rounds if rounds is None else make_rounds(rounds, None, recorded),
        )
        grown = plan != recorded
        plan = replace(plan, **carried_out)
        facts: dict[str, Any] = {}
        note = ""
        if observers is None:
            told = recorded_observers(opened)
        else:
            told, described = choose_observers(observers)
            if described != opened.facts()["observers"]:
                facts["observers"] = described
        if state.finished and not grown:
            dataset = None  # nobody is going to load it
        elif dataset is _Recorded.RECORDED:
            dataset = restore_dataset(opened, recorded)
        else:
            changed, pickles, note = another_dataset(opened, recorded, dataset)
            facts |= changed
            kept += pickles
        return _run(
            opened,
            _agree(opened, state, plan, facts, kept, store, accept_changes=accept_changes),
            trainer,
            dataset,
            sampler=sampler,
            store=store,
            observers=told,
            workers=workers,
            note=note,
            passthrough_errors=passthrough_errors,
            progress=progress,
        )


@public("letstune")
def load(journal: str | os.PathLike[str]) -> TuningResults[RecordedParams]:
    """Return the trials of a run, best first, without touching it; it may be running.

    Nothing is unpickled: params are read-only values with attribute access and ``to_dict()``.

    Args:
        journal: the file.

    Raises:
        JournalError: there is none, or it cannot be read.
    """
    path = journal_path(journal)
    with closing(Journal(path)) as source:
        plan, state = source.load()
    return _results(path, plan, state, Space.from_json(plan.space), None)


def open_store(path: Path, plan: Plan) -> Store:
    """Return the store of a run, if that can be had without unpickling anything.

    Raises:
        CheckpointError: it cannot.
        PluginError: its plugin is not installed, or cannot be loaded.
    """
    if plan.store["options"] is None:
        raise CheckpointError(
            f"{path}: its checkpoints are in a store of its own, {plan.store['name']}, which only "
            "letstune.resume brings back, since that runs code of the journal."
        )
    return make_store(recorded_plugin(path, "store", plan.store), plan.store, path)


def _run(
    journal: Journal,
    state: State,
    trainer: Trainer[Any],
    dataset: object,
    *,
    sampler: Sampler,
    store: Store,
    observers: Sequence[Observer],
    workers: object,
    note: str,
    passthrough_errors: bool,
    progress: bool | None,
) -> TuningResults[Any]:
    """Go on with the journal's plan. The caller holds the lock."""
    path, plan = journal.path, state.plan
    params_cls = params_class(trainer)
    token = secrets.token_hex(4)
    # A finished run has nobody to train, wherever that was, and whether that is still there.
    used, at = replace(plan, workers=None, executor=None, gpus=None), None
    if not state.finished:
        used, at = plan, elsewhere(plan.workers if workers is None else workers)
    executor = _make_executor(trainer, dataset, store, used, path, token, at)
    shown = Progress(state, show=progress is not False)
    if note:
        say(note)  # without progress, too: what cannot be resumed as usual must not be a surprise
    if line := "" if at or state.finished else crowded(plan):
        shown.tell(line)
    runner = Runner(
        state=state,
        journal=journal,
        space=params_cls.space(),
        sampler=sampler,
        store=store,
        executor=executor,
        audience=Audience(shown, observers, state),
        token=token,
        passthrough_errors=passthrough_errors,
    )
    try:
        runner.run()
    except (Interrupted, KeyboardInterrupt) as stop:
        shown.close()
        but = "" if isinstance(stop, Interrupted) else " but what was in flight"
        say(f"letstune: interrupted; all is recorded{but}. Resume with:  {_command(path)}")
        raise
    finally:
        shown.close()
    failed = [n for n, trial in enumerate(runner.state.trials) if trial.status == "failed"]
    hopeless = len(failed) == len(runner.state.trials)
    if failed and (hopeless or progress is not False):
        line = (
            f"letstune: {'all ' if hopeless else ''}{len(failed)} trials failed; "
            f"`letstune show {shlex.quote(str(path))} {failed[0]}` tells how."
        )
        advice = " They are not tried again: mend the trainer, and give a new journal."
        say(line + advice if hopeless else line)
    return _results(path, plan, runner.state, params_cls.space(), store)


def _require_checkpoints(path: Path, state: State, store: Store) -> None:
    """Refuse to train into a store that is away: it would be made anew, and seem to have lost all.

    Raises:
        StoreError: the store has nothing, though there are checkpoints in it.
    """
    kept = sum(len(trial.kept) for trial in state.trials)
    if kept and next(iter(store.list()), None) is None:
        where = getattr(store, "root", type(store).__name__)
        raise StoreError(f"{path}: none of the run's {kept} checkpoints is in {where}, {GONE}")


def _make_executor(
    trainer: Trainer[Any],
    dataset: object,
    store: Store,
    plan: Plan,
    path: Path,
    token: str,
    at: Workplace | None,
) -> Executor:
    at = at or here(plan)
    job: object = InProcessJob(trainer=trainer, dataset=dataset, store=store, seed=plan.seed)
    if at.plugged.name != "in-process":
        from letstune.workers.job import (
            Job,  # when it is needed: a run in this process does without
        )

        job = Job.of(trainer, dataset, store, journal=path, seed=plan.seed)
    return make_executor(
        at, job, token=token, epoch_timeout=plan.epoch_timeout, trial_timeout=plan.trial_timeout
    )


def _results(
    path: Path, plan: Plan, state: State, space: Space, store: Store | None
) -> TuningResults[Any]:
    get_store = partial(open_store, path, plan) if store is None else partial(_same, store)
    run = _Run(path=path, plan=plan, state=state, store=get_store, decode=space.decode)
    return TuningResults(run)


def _same(store: Store) -> Store:
    return store  # not a lambda, so that results can be pickled


def _agree(
    journal: Journal,
    state: State,
    plan: Plan,
    facts: Mapping[str, Any],
    pickles: Sequence[Pickle],
    store: Store,
    *,
    accept_changes: bool,
) -> State:
    """Make sure that a journal is of this plan, or let it grow into it; return its state.

    Args:
        journal: open for writing.
        state: its state.
        plan: what is wanted.
        facts: what else of the plan is to change.
        pickles: what is to be kept; the trainer only if it has changed since, and is needed.
        store: where the checkpoints are.
        accept_changes: whether the sampler and the store may be of other versions.

    Raises:
        PlanChangedError: the plans differ; nothing was changed.
        PluginError: the executor that is needed is not installed; nothing was changed.
        StoreError: the store is away; nothing was changed.
    """
    recorded = state.plan
    grown = (plan.n_trials, plan.rounds) != (recorded.n_trials, recorded.rounds)
    if plan.executor is not None and (grown or not state.finished):
        there = recorded_plugin(journal.path, "executor", plan.executor)
        plan = replace(plan, executor={**plan.executor, "by": there.by})
    if different := differences(recorded, plan, accept_changes=accept_changes):
        raise plan_changed(journal.path, different, begun=state.total_epochs > 0)
    if grown or not state.finished:
        _require_checkpoints(journal.path, state, store)
    facts = dict(facts)
    if plan.n_trials != recorded.n_trials:
        facts["n_trials"] = plan.n_trials
        if state.exhausted:
            facts["exhausted"] = None  # look again: of some spaces it is only likely
    if plan.rounds != recorded.rounds:
        facts["rounds"] = plan.rounds.to_dict()
    if accept_changes:
        for kind in ("sampler", "store"):
            was, is_ = getattr(recorded, kind), getattr(plan, kind)
            if was["by"] != is_["by"]:
                facts[kind] = {**was, "by": is_["by"]}
    if facts or not state.finished:
        for name in CARRIED_OUT:
            if getattr(plan, name) != getattr(recorded, name):
                facts[name] = getattr(plan, name)
    new = [] if state.finished and not facts else [p for p in pickles if is_new(journal, p)]
    if state.total_epochs and any(pickle.name == "trainer" for pickle in new):
        say(
            f"letstune: the trainer, or the script that it is in, has changed since "
            f"{state.total_epochs} epochs of {journal.path} were trained; all others are trained "
            "with it as it is now. If their metric values cannot be compared, give another journal."
        )
    if facts or new:
        journal.grow(facts, new)
    return journal.load()[1] if facts else state


def _new_path(trainer: object) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path.cwd() / RUNS / f"{type(trainer).__name__}-{stamp}-{secrets.token_hex(2)}.db"


def _command(path: Path) -> str:
    return f"letstune resume {shlex.quote(str(path))}"
