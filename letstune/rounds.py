"""What to do next: the whole algorithm, as functions of the plan and the state.

No clock, no file, no randomness. Whoever asks twice gets the same answer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator
from typing import NamedTuple

from letstune.records import CheckpointDeleted, Plan, Task, rank_key
from letstune.state import State


class Proposal(NamedTuple):
    """Trials that are to be proposed together: ``size`` from ``first`` on, of one cohort."""

    cohort: int
    first: int
    size: int


def next_tasks(plan: Plan, state: State, running: Collection[int], slots: int) -> list[Task]:
    """Return the next tasks for ``slots`` idle workers, fewer if there are none to start now.

    Trials of later rounds come first: their way is the longest, and everything waits for it in
    the end. Tasks are returned without an attempt; whoever starts them names it.

    Args:
        plan: what the run is to do.
        state: what it has come to.
        running: the trials in training.
        slots: how many tasks are wanted.
    """
    tasks: list[Task] = []
    for k in reversed(range(len(state.ready))):
        for number in state.ready[k]:
            if len(tasks) >= slots:
                return tasks
            if number not in running:
                tasks.append(_task(plan, state, number, state.limits[k]))
    return tasks


def _task(plan: Plan, state: State, number: int, limit: float) -> Task:
    trial = state.trials[number]
    loaded = max(trial.kept, default=-1)
    return Task(
        trial=number,
        attempt="",
        params=trial.params,
        epochs=trial.epochs,
        seconds=trial.seconds,
        limit=limit,
        timed=plan.rounds.timed,
        loaded=loaded,
        checkpoint=trial.kept.get(loaded),
    )


def next_proposal(plan: Plan, state: State) -> Proposal | None:
    """Return the trials that may be proposed now, or None.

    A cohort is proposed as a whole. A sampler that ignores history may propose all of them at
    once; for one that learns, cohort c waits until round k of the cohorts up to
    ``c - 1 - lag * (k + 1)`` is over, for every k: the lag rule.
    """
    first = len(state.trials)
    if first >= state.n_trials:
        return None
    if state.cohorts and not state.cohorts[-1].full:  # the plan has grown since
        last = state.cohorts[-1]
        return Proposal(len(state.cohorts) - 1, first, last.quotas[0] - last.entered[0])
    cohort = len(state.cohorts)
    if plan.adaptive:
        for k, complete in enumerate(state.frontier):
            if complete < cohort - plan.lag * (k + 1):
                return None
    return Proposal(cohort, first, min(plan.cohort_size(cohort), state.n_trials - first))


class Sight(NamedTuple):
    """What a proposal may know of a trial: its first ``epochs`` epochs; 0 of a pending one.

    ``status`` is pending, trained, stopped or failed.
    """

    trial: int
    epochs: int
    status: str


def visible(plan: Plan, state: State, cohort: int) -> Iterator[Sight]:
    """Yield what the lag rule shows to the proposals of ``cohort``, in order of trials.

    Nothing of it depends on timing: of a round that a proposal may see, all results are in; of
    any other, none is shown, whether it is in or not.
    """
    if not plan.adaptive:
        return
    for number, trial in enumerate(state.trials):
        behind = cohort - 1 - trial.cohort
        if behind < 0:
            yield Sight(number, 0, "pending")
            continue
        last = len(state.limits) - 1
        shown = last if plan.lag == 0 else min(last, behind // plan.lag - 1)
        # Not what it did beyond the rounds that it took part in, before the plan grew.
        k = min(shown, trial.round)
        if k < 0:
            yield Sight(number, 0, "pending")
        elif k < len(trial.marks):
            yield Sight(number, trial.marks[k][0], "trained")
        else:
            yield Sight(number, trial.epochs, trial.status)


def useless(plan: Plan, state: State) -> list[CheckpointDeleted]:
    """Return the deletions of the checkpoints that are proved to be of no more use.

    Kept are the last and the best epoch of every trial that can still advance, and the best epoch
    of the best settled trials. The answer for a checkpoint, once it is given, never changes, in
    whatever order results arrive.
    """
    if plan.keep_checkpoints == "all":
        return []
    deletions = []
    for number in state.changed:
        trial = state.trials[number]
        for epoch in sorted(trial.kept):
            best, last = epoch == trial.best_epoch, epoch == trial.epochs - 1
            if not (best or last) or (trial.settled and not best and trial.status != "failed"):
                deletions.append(CheckpointDeleted(number, epoch, "superseded"))
            elif trial.settled and trial.status == "failed":
                deletions.append(CheckpointDeleted(number, epoch, "failed"))
            elif trial.settled and not on_podium(state, number):
                deletions.append(CheckpointDeleted(number, epoch, "outranked"))
    return deletions


def on_podium(state: State, number: int) -> bool:
    """Tell whether a settled trial is among the best, whose best epochs are kept."""
    key = rank_key(state.trials[number].best, number)
    place = bisect_left(state.podium, key)
    return place < len(state.podium) and state.podium[place] == key


def planned_epochs(plan: Plan, state: State) -> float:
    """Return how much training the plan takes in all, in epochs (or seconds, for timed rounds)."""
    lengths = [b - a for a, b in zip((0, *state.limits), state.limits, strict=False)]

    def planned(size: int) -> float:
        return sum(q * n for q, n in zip(plan.rounds.quotas(size), lengths, strict=True))

    total, left = 0.0, state.n_trials
    *sizes, repeated = plan.cohort_sizes
    for size in sizes:
        total += planned(min(size, left))
        left -= min(size, left)
    return total + planned(repeated) * (left // repeated) + planned(left % repeated)
