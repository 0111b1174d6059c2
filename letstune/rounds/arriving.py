"""What an executor may deliver of a task: the events that follow from what is recorded.

Judged before it is recorded: a journal holds nothing that cannot have happened, whoever trains.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from letstune.rounds.events import (
    EpochFinished,
    Stored,
    Task,
    TaskEnded,
    TrialFailed,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.metric import metric_name, standing
from letstune.rounds.state import TrialState


def refused(metric: str, task: Task, trial: TrialState, events: Iterable[Any]) -> str:
    """Return what is wrong with events of a task, in words; "" if nothing is.

    Args:
        metric: that of the plan.
        task: whose events they are.
        trial: the task's trial, as it is recorded.
        events: all that has arrived of the task since, in the order of arrival. Whatever an
            executor may take for an event.
    """
    epochs, seconds = trial.epochs, trial.seconds
    over = trial.status not in ("proposed", "trained")
    gone = False
    for event in events:
        kind = type(event)
        if gone:
            return f"{_name(event)} after its TaskEnded"
        if kind not in _EXPECTED:
            return f"{event!r:.200}, which is none of {', '.join(k.__name__ for k in _EXPECTED)}"
        if event.trial != task.trial:
            return f"{_name(event)} of trial {event.trial!r}"
        if kind is TaskEnded:
            gone = True
        elif kind is WorkerDied:
            if what := _odd(event):
                return what
        elif over:
            return f"{_name(event)}, though the trial has ended"
        elif kind is EpochFinished:
            if event.epoch != epochs or type(event.epoch) is not int:
                return f"epoch {event.epoch!r}, where epoch {epochs} comes next"
            if (seconds if task.timed else epochs) >= task.limit:
                return f"epoch {epochs}, though the task was to end before it"
            if what := _odd_epoch(metric, event):
                return f"an epoch {epochs} {what}"
            epochs, seconds = epochs + 1, seconds + event.seconds
        else:
            if kind is TrialStopped and event.epoch != epochs - 1:
                return f"a TrialStopped after epoch {event.epoch!r}; the last was {epochs - 1}"
            if what := _odd(event):
                return what
            over = True
    return ""


_EXPECTED = (EpochFinished, TrialStopped, TrialFailed, WorkerDied, TaskEnded)

_TYPES: Mapping[type, Mapping[str, type | tuple[type, ...]]] = {
    TrialStopped: {"epoch": int},
    TrialFailed: {"epoch": int, "kind": str, "message": str, "traceback": str},
    WorkerDied: {
        **{"epoch": int, "attempt": str, "code": int, "stack": str, "at": str},
        "memory": (int, type(None)),
    },
    Stored: {"uri": str, "size": int, "sha256": str},
}


def _name(event: object) -> str:
    name = type(event).__name__
    return f"{'an' if name.startswith('E') else 'a'} {name}"


def _odd(thing: Any) -> str:
    """Return which field is of a type that it cannot have; "" if none is."""
    for field, types in _TYPES[type(thing)].items():
        value = getattr(thing, field)
        if not isinstance(value, types) or isinstance(value, bool):
            return f"{_name(thing)} whose {field} is {value!r:.100}"
    return ""


def _odd_epoch(metric: str, event: EpochFinished) -> str:
    """Return what is wrong with an epoch apart from its number; "" if nothing is."""
    value, metrics = event.value, event.metrics
    if not isinstance(metrics, Mapping):
        return f"whose metrics are {metrics!r:.100}"
    for name, number in metrics.items():
        if type(name) is not str or type(number) is not float:
            return f"whose metrics have {name!r:.100}: {number!r:.100}; expected a float"
    if type(value) is not float:
        return f"whose value is {value!r:.100}; expected a float"
    if value != (right := standing(metric, metrics)) and not (value != value and right != right):
        shown = f"{metric_name(metric)!r} {metrics.get(metric_name(metric), 'lacking')}"
        return f"whose value is {value}, with {shown} among its metrics"
    if type(event.seconds) is not float or not 0 <= event.seconds < math.inf:
        return f"that took {event.seconds!r:.100} seconds"
    if type(event.started) is not str:
        return f"that started at {event.started!r:.100}"
    stored = event.checkpoint
    if stored is None:
        return ""
    if type(stored) is not Stored:
        return f"whose checkpoint is {stored!r:.100}; expected a Stored or None"
    return f"with {odd}" if (odd := _odd(stored)) else ""
