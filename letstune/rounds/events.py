"""Frozen values that travel between the parts: tasks, and the events that come of them.

Events are what a journal holds, one row each, and what an executor delivers. Named tuples rather
than frozen dataclasses: there is one for each epoch, and they are made four times as fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Task(NamedTuple):
    """Train one trial until it reaches the end of its round.

    ``epochs`` epochs are recorded already, ``seconds`` long in all. Training starts from the
    checkpoint of epoch ``loaded`` (-1: from a new model), so the epochs from ``loaded + 1`` to
    ``epochs - 1``, if any, are trained again without being recorded again.

    ``expected`` is the repr of the metric that the task's one epoch should have, if that is known:
    if it has another, the worker looks for the reason.
    """

    trial: int
    attempt: str
    params: str
    epochs: int
    seconds: float
    limit: float
    timed: bool
    loaded: int = -1
    checkpoint: Stored | None = None
    expected: str | None = None


class Stored(NamedTuple):
    """Where a store keeps a checkpoint, and how to know that it is still the same."""

    uri: str
    size: int
    sha256: str


class TrialProposed(NamedTuple):
    """A trial has its params. ``sampler`` is who proposed them."""

    trial: int
    params: str
    sampler: str


class EpochFinished(NamedTuple):
    """A trial was trained for one more epoch; its model is safe in ``checkpoint``, if any.

    ``value`` is the standing, of which greater is better: that of the metric, or minus that if
    its name has a leading minus; NaN if ``metrics`` lacks it. ``metrics`` are as the trainer
    returned them. ``started`` is UTC in ISO 8601; ``seconds`` is from a monotonic clock.
    """

    trial: int
    epoch: int
    value: float
    metrics: Mapping[str, float]
    started: str
    seconds: float
    checkpoint: Stored | None = None


class TrialStopped(NamedTuple):
    """The trainer ended a trial early: it is finished after ``epoch`` (-1: before the first)."""

    trial: int
    epoch: int


class TrialFailed(NamedTuple):
    """A trial ended in an error, while working on ``epoch``.

    ``kind`` is raised, timed out or worker died.
    """

    trial: int
    epoch: int
    kind: str
    message: str
    traceback: str


class TrialRetried(NamedTuple):
    """A failed trial is opened again, from its last recorded epoch, as if it had not failed."""

    trial: int


class WorkerDied(NamedTuple):
    """The process that trained a trial died while working on ``epoch``.

    ``code`` is its exit code, or minus the number of the signal that killed it. ``memory`` is the
    most that it took, in bytes, and ``stack`` what it was doing, where that is known.
    """

    trial: int
    epoch: int
    attempt: str
    code: int
    memory: int | None
    stack: str
    at: str


class CheckpointDeleted(NamedTuple):
    """A checkpoint is no longer kept: ``why`` is superseded, outranked, failed or missing."""

    trial: int
    epoch: int
    why: str


class SpaceExhausted(NamedTuple):
    """There are only ``trials`` different params, fewer than were asked for."""

    trials: int


class TaskEnded(NamedTuple):
    """An executor is done with a task. The only event that is not journalled.

    ``found`` is why the metric is not the one that was expected, if that was found.
    """

    trial: int
    found: str = ""


Event = (
    TrialProposed
    | EpochFinished
    | TrialStopped
    | TrialFailed
    | TrialRetried
    | WorkerDied
    | CheckpointDeleted
    | SpaceExhausted
)
