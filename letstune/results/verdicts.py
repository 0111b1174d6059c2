"""What a person must know before the results are believed: pure functions of a run's state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from letstune.rounds.cohorts import Cohort
from letstune.rounds.metric import as_returned, metric_name
from letstune.rounds.state import NO_VALUE, State, TrialState
from letstune.telling.lines import counted

_MANY: Final = 3
"""So many trials that failed in a round, and none that did not, are worth telling at once."""

_LONG: Final = 300  # characters of a message


def verdicts(state: State, journal: str) -> list[str]:
    """Return sentences, worst first; none of a run of which there is nothing to say.

    Args:
        state: the run.
        journal: its journal's path, as a shell takes it.
    """
    return [
        *grave(state, journal).values(),
        *_fell(state, journal),
        *([] if _stuck(state) else _some_failed(state, journal)),
    ]


def grave(state: State, journal: str) -> dict[str, str]:
    """Return those of the verdicts that somebody should hear at once, while the run goes on.

    They are by what they are of, which stays the same while their numbers change.
    """
    found = {f"stuck {k}": _all_failed(state, journal, k) for k in _stuck(state)}
    if lost := _without_a_value(state):
        return found | {"no value": lost}
    return found | {f"undecided {k}": verdict for k, verdict in _undecided(state).items()}


def what_is_grave(state: State, since: Sequence[int]) -> set[str]:
    """Return what there are `grave` verdicts of; of decisions, only of those made since.

    Where nothing is grave, that takes a moment, though there may be thousands of trials and
    cohorts: it is asked whenever a cohort is through with a round.

    Args:
        state: the run.
        since: the frontier that the run had then.
    """
    found = {f"stuck {k}" for k in _stuck(state)}
    if _without_a_value(state):
        return found | {"no value"}
    for k, (begun, end) in enumerate(zip(since, state.frontier, strict=True)):
        if any(_had_nothing(cohort, k) for cohort in state.cohorts[begun:end]):
            found.add(f"undecided {k}")
    return found


def in_vain(state: State) -> bool:
    """Tell whether what the run came to cannot be relied on: a command ends with exit code 1."""
    failed = any(trial.status == "failed" for trial in state.trials)
    # Whoever is in the last round counts, though it may have failed there: it has been chosen.
    nobody = not any(_in_last_round(state, trial) for trial in state.trials)
    return (failed and nobody) or bool(_without_a_value(state) or _undecided(state))


def _in_last_round(state: State, trial: TrialState) -> bool:
    """Tell whether a trial has got into the last round; if there is only one, through it."""
    last = len(state.limits) - 1
    return trial.round == last and (last > 0 or trial.status != "failed")


def _stuck(state: State) -> list[int]:
    """Return the round that no trial got through, since all in it failed, if there is one."""
    last = len(state.limits) - 1
    # It cannot be another one than the furthest; and of most runs, that shows at once.
    if any(trial.round == last and trial.status != "failed" for trial in state.trials):
        return []
    k = max((trial.round for trial in state.trials), default=0)
    there = [trial.status == "failed" for trial in state.trials if trial.round == k]
    early = not state.finished and len(there) < _MANY  # too early to tell
    return [] if early or not there or not all(there) else [k]


def _all_failed(state: State, journal: str, k: int) -> str:
    """Return what there is to say of a round that all trials in it have failed in."""
    count = sum(trial.round == k for trial in state.trials)
    which = (
        f"{'The only trial' if count == 1 else f'All {count} trials'} failed"
        if count == len(state.trials)
        else f"No trial got through round {k + 1}: {_all(count)} in it failed"
    )
    return f"{which}{_how(state, journal, count)}"


def _all(count: int) -> str:
    return "the only one" if count == 1 else f"all {count}"


def _some_failed(state: State, journal: str) -> list[str]:
    """Return what there is to say of trials that failed where others did not."""
    failed = sum(len(alike.trials) for alike in state.failures.alike)
    if not failed:
        return []
    which = f"{failed} of {counted(len(state.trials), 'trial')} failed"
    return [f"{which}{_how(state, journal, failed)}"]


def _how(state: State, journal: str, count: int) -> str:
    """Return how trials failed, as the end of a sentence, and what to do about it."""
    most, *others = state.failures.alike
    first, size = most.trials[0], len(most.trials)
    alike = "" if count == 1 else " alike" if size >= count else f", {size} of them alike"
    where = f" (in {most.where})" if most.where else ""
    only = f" --alike {first}" if others else ""
    message = most.message if len(most.message) <= _LONG else most.message[:_LONG] + "..."
    return (
        f"{alike}: {message.rstrip('.')}{where}. `letstune show {journal} {first}` has the "
        f"traceback. When it is mended, run the script again, or `letstune resume {journal} "
        f"--trainer FILE:CLASS`; with the code as it is, `letstune retry {journal}{only}`."
    )


def _fell(state: State, journal: str) -> list[str]:
    """Return what there is to say if a failed trial was better than all that did not fail."""
    best, winner = state.leader
    failed = [
        (trial.best, number)
        for number, trial in enumerate(state.trials)
        if trial.status == "failed" and trial.best > best
    ]
    if not failed or best == NO_VALUE:
        return []
    reached, number = max(failed, key=lambda one: (one[0], -one[1]))
    was, is_ = (f"{as_returned(state.plan.metric, value):.6g}" for value in (reached, best))
    return [
        f"The best so far fell from {was} to {is_}: trial {number} had reached that in epoch "
        f"{state.trials[number].best_epoch} and failed later, so trial {winner} is the best of the "
        f"others. `letstune retry {journal} {number}` tries it again."
    ]


def _without_a_value(state: State) -> str:
    """Return what there is to say of a finished run without a finite value; else nothing."""
    if not state.finished or state.leader[0] != NO_VALUE:
        return ""
    left = [trial for trial in state.trials if trial.status != "failed"]
    if not left:
        return ""
    but = len(state.trials) - len(left)
    failed = f", and {counted(but, 'trial')} failed" if but else ""
    return (
        f"There is no winner: none of {counted(state.total_epochs, 'epoch')} has a finite value of "
        f"{metric_name(state.plan.metric)}{failed}. `letstune export --epochs` shows what the "
        "trainer returned."
    )


def _undecided(state: State) -> dict[int, str]:
    """Return what there is to say of rounds that had to decide between trials without a value."""
    found: dict[int, list[int]] = {}
    for cohort in state.cohorts:
        for k in range(len(cohort.quotas)):
            if _had_nothing(cohort, k):
                found.setdefault(k, []).append(cohort.done[k])
    name = metric_name(state.plan.metric)
    return {
        k: f"Round {k + 1} had nothing to decide by{_of_cohorts(sizes)}: none of its "
        f"{counted(sum(sizes), 'trial')} had a finite value of {name} by its end, so those with "
        f"the lowest ids went on. Return {name} before a round ends, or make the round longer."
        for k, sizes in found.items()
    }


def _had_nothing(cohort: Cohort, k: int) -> bool:
    """Tell whether a cohort had nothing to decide by in a round that it is through with."""
    if k + 1 == len(cohort.quotas) or cohort.quotas[k + 1] >= cohort.quotas[k]:
        return False  # there is nothing to decide
    # The best of those that did not fail comes first, and those without a value are last.
    top = cohort.top[k]
    return cohort.complete(k) and bool(top) and top[0][0]


def _of_cohorts(sizes: list[int]) -> str:
    return f" in {len(sizes)} cohorts" if len(sizes) > 1 else ""
