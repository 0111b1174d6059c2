"""What a person must know before the results are believed: pure functions of a run's state."""

from __future__ import annotations

from letstune.rounds.metric import metric_name
from letstune.rounds.state import NO_VALUE, State
from letstune.telling.lines import counted


def verdicts(state: State) -> list[str]:
    """Return sentences, worst first; none of a run of which there is nothing to say."""
    found = _without_a_value(state)
    return [found] if found else _undecided(state)


def in_vain(state: State) -> bool:
    """Tell whether what the run came to cannot be relied on: a command ends with exit code 1."""
    failed = bool(state.trials) and all(trial.status == "failed" for trial in state.trials)
    return failed or bool(_without_a_value(state) or _undecided(state))


def _without_a_value(state: State) -> str:
    """Return what there is to say of a finished run without a finite value; else nothing."""
    left = [trial for trial in state.trials if trial.status != "failed"]
    if not (state.finished and left) or state.leader[0] != NO_VALUE:
        return ""
    but = len(state.trials) - len(left)
    failed = f", and {counted(but, 'trial')} failed" if but else ""
    return (
        f"There is no winner: none of {counted(state.total_epochs, 'epoch')} has a finite value of "
        f"{metric_name(state.plan.metric)}{failed}. `letstune export --epochs` shows what the "
        "trainer returned."
    )


def _undecided(state: State) -> list[str]:
    """Return what there is to say of rounds that had to decide between trials without a value."""
    found: dict[int, list[int]] = {}
    for cohort in state.cohorts:
        for k, (size, places) in enumerate(zip(cohort.quotas, cohort.quotas[1:], strict=False)):
            # The best of those that did not fail comes first, and those without a value are last.
            top = cohort.top[k]
            if places < size and cohort.complete(k) and top and top[0][0]:
                found.setdefault(k, []).append(cohort.done[k])
    name = metric_name(state.plan.metric)
    return [
        f"Round {k + 1} had nothing to decide by{_of_cohorts(sizes)}: none of its "
        f"{counted(sum(sizes), 'trial')} had a finite value of {name} by its end, so those with "
        f"the lowest ids went on. Return {name} before a round ends, or make the round longer."
        for k, sizes in found.items()
    ]


def _of_cohorts(sizes: list[int]) -> str:
    return f" in {len(sizes)} cohorts" if len(sizes) > 1 else ""
