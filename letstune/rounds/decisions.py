"""What to do next: the whole algorithm, as functions of the plan and the state.

No clock, no file, no randomness. Whoever asks twice gets the same answer.
"""

from __future__ import annotations

import math
import signal
from bisect import bisect_left
from collections.abc import Collection, Iterator
from itertools import chain, filterfalse, islice
from typing import NamedTuple

from letstune.rounds.cohorts import rank_key
from letstune.rounds.events import CheckpointDeleted, Task, TrialFailed, WorkerDied
from letstune.rounds.plan import Plan
from letstune.rounds.state import State


class Proposal(NamedTuple):
    """Trials that are to be proposed together: ``size`` from ``first`` on, from ``cohort`` on.

    For a sampler that learns, they are of that cohort only.
    """

    cohort: int
    first: int
    size: int


def next_tasks(plan: Plan, state: State, running: Collection[int], slots: int) -> list[Task]:
    """Return the next tasks for ``slots`` idle workers, fewer if there are none to start now.

    Whose way is the longest comes first: trials of earlier rounds, since all that follows waits
    for them, and of one round the slowest. A new cohort is proposed only when nothing else is
    left to start, so cohorts are still finished one after another. Rejected: later rounds first,
    with which a slow trial is found late, and trained alone at the end (8 workers are busy for
    0.92 instead of 0.99 of the time in ``tests/benchmarks/workers.py``). Tasks are returned
    without an attempt; whoever starts them names it.

    Args:
        plan: what the run is to do.
        state: what it has come to.
        running: the trials in training.
        slots: how many tasks are wanted.
    """
    # What grows with the workers here is 40 ns for each, once for all results of a moment.
    idle = filterfalse(running.__contains__, chain.from_iterable(state.ready))
    return [_task(plan, state, number) for number in islice(idle, max(0, slots))]


def _task(plan: Plan, state: State, number: int) -> Task:
    trial = state.trials[number]
    loaded = max(trial.kept, default=-1)
    return Task(
        trial=number,
        attempt="",
        params=trial.params,
        epochs=trial.epochs,
        seconds=trial.seconds,
        limit=state.limits[trial.round],
        timed=plan.rounds.timed,
        loaded=loaded,
        checkpoint=trial.kept.get(loaded),
    )


def next_proposal(plan: Plan, state: State, wanted: int = 1) -> Proposal | None:
    """Return the trials that may be proposed now, or None.

    A cohort is proposed as a whole. A sampler that ignores history may propose all of them at
    once; for one that learns, cohort c waits until round k of the cohorts up to
    ``c - 1 - lag * (k + 1)`` is over, for every k: the lag rule.

    Args:
        plan: what the run is to do.
        state: what it has come to.
        wanted: how many trials there is use for. A sampler that ignores history proposes as many
            cohorts as that takes, so that they are recorded in one transaction: with a sync for
            each cohort of 16, a thousand workers would mostly wait for those.
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
    size, later = plan.cohort_size(cohort), cohort + 1
    while not plan.adaptive and size < min(wanted, state.n_trials - first):
        size, later = size + plan.cohort_size(later), later + 1
    return Proposal(cohort, first, min(size, state.n_trials - first))


def default_lag(workers: int, cohort: int = 16, trials: int | None = None) -> int:
    """Return the lag that keeps so many workers busy, and a sampler that learns well informed.

    A rule of thumb for what ``python tests/benchmarks/workers.py --only lag`` finds: in rounds of
    3, 9 and 36 epochs and cohorts of 16, with trials of very different speed, it is the smallest
    lag with which up to 8 workers are busy for 0.9 of the time, and about the smallest with which
    more of them are for 0.9 of what they are with a sampler that ignores history. Smaller cohorts
    need more lag, but leave the sampler fewer trials behind; there, 8 workers are busy for 0.85
    to 0.9 of the time, and with trials of one round for less.

    Args:
        workers: how many there are.
        cohort: how many trials the cohorts have.
        trials: how many there are in all. A sampler that sees next to nothing learns nothing, so
            the lag is at most an eighth of the cohorts, or what gives each worker one trial.

    >>> [default_lag(workers) for workers in (1, 2, 3, 4, 6, 8, 16, 32, 64)]
    [0, 1, 1, 2, 5, 8, 12, 24, 48]
    >>> default_lag(8, cohort=1)
    32
    >>> default_lag(8, cohort=1, trials=64)
    8
    """
    if workers == 1:
        return 0  # nobody is to be kept busy in the meantime
    most = math.inf if trials is None else max((workers - 1) // cohort, trials // (8 * cohort), 1)
    lag = math.floor(min(workers**2 / 2, max(32, 3 * workers)) / math.sqrt(cohort) + 0.5)
    return int(min(lag, most))


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


def doomed(plan: Plan, state: State) -> list[TrialFailed]:
    """Return the failures of the trials that have killed their workers too often.

    That is: ``plan.max_deaths`` of them since the trial's last recorded epoch.
    """
    failures = []
    for number, deaths in state.deaths.items():
        if len(deaths) >= plan.max_deaths:
            last = deaths[-1]
            count = f"{len(deaths)} times" if len(deaths) > 1 else "once"
            message = f"The worker died {count} in this epoch: {ended(last.code)}."
            told = "\n\n".join(map(describe_death, deaths))
            failures.append(
                TrialFailed(number, last.epoch, "worker died", message, f"{message}\n\n{told}")
            )
    return failures


def describe_death(death: WorkerDied) -> str:
    """Return what is known of a worker's death, for people."""
    peak = "unknown" if death.memory is None else f"{death.memory / 2**20:.0f} MiB"
    stack = death.stack or (
        "No stack: nothing can run in a process that is killed so. If the system was out of "
        "memory, its log says so."
    )
    return f"At {death.at}: {ended(death.code)}, peak memory {peak}.\n{stack}"


def ended(code: int) -> str:
    """Return how a process ended, for people.

    >>> ended(-11), ended(3)
    ('signal 11 (SIGSEGV)', 'exit code 3')
    """
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


def useless(plan: Plan, state: State) -> list[CheckpointDeleted]:
    """Return the deletions of the checkpoints that are proved to be of no more use.

    Kept are the last and the best epoch of every trial that can still advance, the last one of
    those that failed, since they may be retried, and the best epoch of the best settled trials.
    The answer for a checkpoint, once it is given, never changes, in whatever order results arrive.
    """
    if plan.keep_checkpoints == "all":
        return []
    deletions = []
    for number in state.changed:
        trial = state.trials[number]
        for epoch in sorted(trial.kept):
            best, last = epoch == trial.best_epoch, epoch == trial.epochs - 1
            if trial.settled and trial.status == "failed":
                if not last:  # from which it goes on if it is retried
                    deletions.append(CheckpointDeleted(number, epoch, "failed"))
            elif not (best or last) or (trial.settled and not best):
                deletions.append(CheckpointDeleted(number, epoch, "superseded"))
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
