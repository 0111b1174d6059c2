"""A trial, its epochs and how it failed, as they are read from a journal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from letstune._public import public
from letstune.errors import (
    CheckpointError,
    CheckpointNotKeptError,
)
from letstune.journal.journal import Journal
from letstune.rounds.events import EpochFinished, TrialFailed
from letstune.rounds.metric import as_returned
from letstune.rounds.plan import Plan
from letstune.rounds.seeding import Purpose, derive
from letstune.rounds.state import State, TrialState
from letstune.space.recorded_params import ParamsLike
from letstune.telling.lines import counted
from letstune.training.checkpoints import Checkpoint, fetched
from letstune.training.stores import Store

if TYPE_CHECKING:
    pass


P = TypeVar("P", bound=ParamsLike)


@public("letstune")
@dataclass(frozen=True, kw_only=True)
class TrialError:
    """How a trial failed.

    Attributes:
        trial_id: the trial.
        epoch: the epoch that it was working on.
        kind: ``raised``: the trainer raised an exception; ``timed out``; or ``worker died``.
        message: the last line of the traceback, or what happened.
        traceback: the whole traceback; of a process that hung or died, the stacks of its threads,
            as far as they are known.
    """

    trial_id: int
    epoch: int
    kind: str
    message: str
    traceback: str


@dataclass(kw_only=True)
class Source:
    """Where results come from: the journal, which each look opens anew, and the store."""

    path: Path
    plan: Plan
    state: State
    store: Callable[[], Store]
    decode: Callable[[str], Any]

    def epochs(self, trial_id: int | None = None) -> tuple[Epoch, ...]:
        """Return the epochs of a trial, or of all of them."""
        with closing(Journal(self.path)) as journal:
            return tuple(map(self._epoch, journal.epochs(trial_id)))

    def _epoch(self, recorded: EpochFinished) -> Epoch:
        return Epoch(
            trial_id=recorded.trial,
            epoch=recorded.epoch,
            metric_value=as_returned(self.plan.metric, recorded.value),
            metric_values=recorded.metrics,
            started_at=datetime.fromisoformat(recorded.started),
            duration=recorded.seconds,
            _run=self,
        )

    def failures(self) -> list[TrialFailed]:
        """Return how trials failed."""
        with closing(Journal(self.path)) as journal:
            return journal.failures()

    def checkpoint(self, trial_id: int, epoch: int) -> Checkpoint:
        """Return the checkpoint of an epoch, which is fetched when it is looked at."""
        what = f"{self.path}: the checkpoint of epoch {epoch} of trial {trial_id}"
        if epoch < 0:
            what = f"{self.path}: the checkpoint of trial {trial_id}"
        stored = self.state.trials[trial_id].kept.get(epoch)

        def folder() -> Path:
            if stored is None:
                raise CheckpointNotKeptError(f"{what} {self._why_not(trial_id, epoch)}")
            try:
                return fetched(self.store(), stored, what)
            except CheckpointError as error:
                if self._deleted(trial_id, epoch) is None:
                    raise
                # The run has gone on since these results were read.
                raise CheckpointNotKeptError(f"{what} {self._why_not(trial_id, epoch)}") from error

        where = "not kept" if stored is None else stored.uri
        return Checkpoint(folder, f"of epoch {epoch} of trial {trial_id}: {where}")

    def _deleted(self, trial_id: int, epoch: int) -> str | None:
        with closing(Journal(self.path)) as journal:
            return journal.deletions().get((trial_id, epoch))

    def _why_not(self, trial_id: int, epoch: int) -> str:
        why = self._deleted(trial_id, epoch)
        if why is None:
            return "was never there: the trial has no such epoch, or its save() wrote nothing."
        if why == "missing":
            return "was lost, and written off by `letstune check --fix`."
        trials = counted(self.plan.keep_checkpoints, "best trial")
        larger = ", or a larger number" if why == "outranked" else ""
        return (
            f"was let go ({why}): only the best epochs of the {trials} are kept. "
            f"To keep it next time, tune with keep_checkpoints='all'{larger}."
        )


@public("letstune")
@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A recorded epoch.

    Attributes:
        trial_id: its trial.
        epoch: its number, from 0 on.
        metric_value: the value of the optimized metric, as the trainer returned it; may be
            infinite, or NaN, which it also is if the trainer did not return it.
        metric_values: all metric values.
        started_at: when it began, UTC.
        duration: how long `train_epoch` or `train` took, in seconds.
    """

    trial_id: int
    epoch: int
    metric_value: float
    metric_values: Mapping[str, float] = field(hash=False)
    started_at: datetime
    duration: float
    _run: Source = field(compare=False)

    @property
    def checkpoint(self) -> Checkpoint:
        """The model as it was after this epoch; if it was let go, its use raises an error."""
        return self._run.checkpoint(self.trial_id, self.epoch)

    def __repr__(self) -> str:
        return f"Epoch(epoch={self.epoch}, metric_value={self.metric_value!r})"


@public("letstune")
class Trial(Generic[P]):
    """A trial: params and what came of them.

    Attributes:
        trial_id: its number, from 0 on.
        params: its params.
        round: the last round that it entered, from 0 on.
        duration: how long its epochs took, in seconds.
        status: proposed, trained, stopped (by the trainer) or failed.
    """

    def __init__(self, run: Source, trial_id: int, state: TrialState) -> None:
        self._run = run
        self._state = state
        self.trial_id = trial_id
        self.round = state.round
        self.duration = state.seconds
        self.status = state.status

    @cached_property
    def params(self) -> P:
        """Its params, of the `Params` class that was tuned; from `load`, a `RecordedParams`."""
        params: P = self._run.decode(self._state.params)
        return params

    @cached_property
    def epochs(self) -> tuple[Epoch, ...]:
        """All of its recorded epochs."""
        return self._run.epochs(self.trial_id)[: self._state.epochs]

    @property
    def seed(self) -> int:
        """What `trainer.seed` was as the trial began to train: in its first epoch, or in `train`.

        With it and the params, a trainer that draws all its random numbers from `seed` trains the
        same model again.
        """
        return derive(self._run.plan.seed, Purpose.TRAIN, self.trial_id, 0)

    @property
    def best_epoch(self) -> Epoch | None:
        """The first epoch with the best metric value; None before the first epoch."""
        return self.epochs[self._state.best_epoch] if self._state.epochs else None

    @property
    def last_epoch(self) -> Epoch | None:
        """The last epoch; None before the first epoch."""
        return self.epochs[-1] if self._state.epochs else None

    @property
    def metric_value(self) -> float:
        """The best metric value, as the trainer returned it; NaN before the first epoch."""
        if math.isfinite(self._state.best):
            return as_returned(self._run.plan.metric, self._state.best)
        return math.nan if self.best_epoch is None else self.best_epoch.metric_value

    @property
    def metric_values(self) -> Mapping[str, float]:
        """All metric values of the best epoch; empty before the first epoch."""
        return {} if self.best_epoch is None else self.best_epoch.metric_values

    @property
    def checkpoint(self) -> Checkpoint:
        """The model as it was after the best epoch; if it was let go, its use raises an error."""
        return self._run.checkpoint(self.trial_id, self._state.best_epoch)

    def __repr__(self) -> str:
        return (
            f"Trial(trial_id={self.trial_id}, metric_value={self.metric_value!r}, "
            f"round={self.round}, epochs={self._state.epochs}, params={self.params!r})"
        )
