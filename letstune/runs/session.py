"""A session: one process works on a run, from its request to its results.

There is one path. A request that begins a run makes an empty journal if there is none; from there
on, every request resumes.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from letstune.errors import Interrupted, JournalError
from letstune.journal.create import create, sweep
from letstune.journal.journal import Journal, now
from letstune.journal.lock import JournalLock
from letstune.results.results import TuningResults
from letstune.results.trials import Source
from letstune.results.verdicts import in_vain, verdicts
from letstune.rounds.events import Stored
from letstune.rounds.plan import Plan
from letstune.rounds.state import State
from letstune.rounds.streaks import Streaks
from letstune.runs.agreement import Run, meet
from letstune.runs.deadline import Deadline, seconds_left
from letstune.runs.how import crowded
from letstune.runs.logs import TrialLogs, log_limit
from letstune.runs.loop import Runner
from letstune.runs.request import Request, to_resume
from letstune.runs.retrain import retrain
from letstune.runs.signals import at_a_prompt
from letstune.runs.signing import signed_facts
from letstune.runs.skip import forget_stop
from letstune.runs.trust import load_trusted, refuse_untouched, store_of_checkpoint
from letstune.space.params import Space
from letstune.telling.echo import Echo
from letstune.telling.lines import say
from letstune.telling.observers import Audience
from letstune.telling.progress import Progress
from letstune.training.script import standing_in
from letstune.training.stores import Store, make_durably
from letstune.workers.executor import Executor
from letstune.workers.in_process import InProcessJob


def go(asked: Request) -> TuningResults[Any]:
    """Make a journal if there is none, agree with it, and train until its plan is done."""
    path = asked.journal
    first = asked.first() if asked.begins and not path.exists() else None
    signed, note = ({}, "") if first is None else signed_facts(first.facts, first.pickles)
    if first is None:
        refuse_untouched(path)
    if asked.begins:
        _make_folder(path)
    with JournalLock(path, now()):
        forget_stop(path)
        sweep(path)
        if first is not None and not path.exists():
            create(path, first.facts | signed, first.pickles)
            for line in filter(None, [*first.notes, note]):
                say(line)
        with closing(Journal(path, write=True)) as opened:
            _, state, judge = load_trusted(opened)
            run = meet(asked, opened, state)
            return _train(opened, run.grow(opened, state, judge), run)


def _train(opened: Journal, state: State, run: Run) -> TuningResults[Any]:
    """Go on with the journal's plan. The caller holds the lock."""
    shown = Progress(state, show=run.asked.progress is not False)
    if run.executor.name == "processes" and (line := crowded(state.plan)):
        shown.tell(line)
    runner = _make_runner(opened, state, run, shown)
    try:
        with standing_in(run.trainer, run.dataset):
            runner.run()
    except (Interrupted, KeyboardInterrupt) as stop:
        shown.close()
        but = "" if isinstance(stop, Interrupted) else " but what was in flight"
        why = "the time is up" if runner.deadline.passed else "interrupted"
        runner.stopped = f"{why}; all is recorded{but}. Resume with:  {to_resume(opened.path)}"
        if not (isinstance(stop, Interrupted) and at_a_prompt()):
            say(f"letstune: {runner.stopped}")
            raise
    finally:
        shown.close()
    if runner.stopped:
        say(f"letstune: {runner.stopped}")
    elif run.asked.progress is not False or in_vain(runner.state):
        for verdict in verdicts(runner.state, shlex.quote(str(opened.path))):
            say(f"letstune: {verdict}")
    tuning = results(opened.path, runner.state, run.space, run.store)
    tuning.stopped = runner.stopped
    return tuning


def _make_runner(opened: Journal, state: State, run: Run, shown: Progress) -> Runner:
    token = secrets.token_hex(4)
    return Runner(
        state=state,
        journal=opened,
        space=run.space,
        sampler=run.sampler,
        store=run.store,
        executor=_make_executor(run, state.plan, opened.path, token, shown),
        audience=Audience(shown, run.observers, state),
        token=token,
        passthrough_errors=run.asked.passthrough_errors,
        streaks=Streaks(run.asked.max_failures),
        deadline=Deadline(seconds_left(run.asked.until, run.asked.for_)),
        rehearse=run.asked.rehearse,
        endless=run.endless,
    )


def _make_executor(run: Run, plan: Plan, path: Path, token: str, shown: Progress) -> Executor:
    trainer, dataset, store = run.trainer, run.dataset, run.store
    job: object = InProcessJob(
        trainer=trainer, dataset=dataset, store=store, seed=plan.seed, horizon=plan.horizon
    )
    if run.executor.name != "in-process":
        from letstune.workers.job import Job  # imported late: a run in this process does without it

        made = Job.of(trainer, dataset, store, journal=path, seed=plan.seed)
        job = replace(made, horizon=plan.horizon)
    given: dict[str, Any] = {
        **{"token": token, "epoch_timeout": plan.epoch_timeout},
        "trial_timeout": plan.trial_timeout,
    }
    if run.executor.name == "processes":
        given["printed"] = _keep(path, Echo(shown.tell if shown.shows else say))
    executor: Executor = run.executor.make(job, **given)
    return executor


def _keep(path: Path, echo: Echo) -> Callable[[int, bytes], None]:
    """Return what takes what trials print: for their logs, and for who looks on."""
    logs = TrialLogs(path, log_limit())

    def printed(trial: int, data: bytes) -> None:
        logs.append(trial, data)
        echo.show(trial, data)

    return printed


def results(
    path: Path, state: State, space: Space, store: Store | None, *, vouched: bool = False
) -> TuningResults[Any]:
    """Return the results of a run.

    If its store is not given, it is made as the journal names it when it is needed, if that is
    trusted; ``vouched`` says whether the caller vouches for it.
    """
    get_store: Callable[[int, int, Stored], Store]
    get_store = partial(store_of_checkpoint, path, vouched=vouched)
    if store is not None:
        get_store = partial(_same, store)
    run = Source(
        path=path,
        plan=state.plan,
        state=state,
        store=get_store,
        decode=space.decode,
        retrain=partial(retrain, path, vouched=vouched),
    )
    return TuningResults(run)


def _same(store: Store, *_: object) -> Store:
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
