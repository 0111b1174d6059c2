"""A trial, its epochs and how it failed, as they are read from a journal."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from letstune._public import public
from letstune.errors import CheckpointError, CheckpointNotKeptError
from letstune.journal.journal import Journal
from letstune.rounds.events import EpochFinished, Stored, TrialFailed
from letstune.rounds.metric import as_returned
from letstune.rounds.plan import Plan
from letstune.rounds.seeding import Purpose, derive
from letstune.rounds.state import State, TrialState
from letstune.space.recorded_params import ParamsLike
from letstune.telling.lines import counted
from letstune.training.checkpoints import REMEDY, Checkpoint, fetched
from letstune.training.stores import Store

if TYPE_CHECKING:
    from letstune.results.retrained import Retrained
    from letstune.training.trainer import Trainer

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

    @staticmethod
    def of(failure: TrialFailed) -> TrialError:
        """Return a failure as users see it."""
        return TrialError(
            trial_id=failure.trial,
            epoch=failure.epoch,
            kind=failure.kind,
            message=failure.message,
            traceback=failure.traceback,
        )


@dataclass(kw_only=True)
class Source:
    """Where results come from: the journal, which each look opens anew, and the store.

    ``store`` returns that of a checkpoint, given its trial and epoch and what is known of it.
    ``retrain`` trains a trial again: it is handed down, since this wing trains nothing.
    """

    path: Path
    plan: Plan
    state: State
    store: Callable[[int, int, Stored], Store]
    decode: Callable[[str], Any]
    retrain: Callable[..., Retrained]

    @contextmanager
    def _opened(self) -> Iterator[Journal]:
        with closing(Journal(self.path)) as journal:
            journal.hide(self.state.ends_before)
            yield journal

    def epochs(self, trial_id: int | None = None) -> tuple[Epoch, ...]:
        """Return the epochs of a trial, or of all of them."""
        with self._opened() as journal:
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
        with self._opened() as journal:
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
                return fetched(self.store(trial_id, epoch, stored), stored, what)
            except CheckpointError as error:
                if self._deleted(trial_id, epoch) is None:
                    lost = str(error)
                    if not lost.endswith(REMEDY):
                        raise
                    cure = f"Bring it back from a backup. {self._again(trial_id, epoch)}"
                    raise CheckpointError(lost.removesuffix(REMEDY) + cure) from error
                # The run has gone on since these results were read.
                raise CheckpointNotKeptError(f"{what} {self._why_not(trial_id, epoch)}") from error

        where = "not kept" if stored is None else stored.uri
        return Checkpoint(folder, f"of epoch {epoch} of trial {trial_id}: {where}")

    def _deleted(self, trial_id: int, epoch: int) -> str | None:
        with self._opened() as journal:
            return journal.deletions().get((trial_id, epoch))

    def _why_not(self, trial_id: int, epoch: int) -> str:
        why = self._deleted(trial_id, epoch)
        if why is None:
            return "was never there: the trial has no such epoch, or its save() wrote nothing."
        again = self._again(trial_id, epoch)
        if why == "missing":
            return f"was lost, and written off by `letstune check --fix`. {again}"
        trials = counted(self.plan.keep_checkpoints, "best trial")
        larger = ", or a larger number" if why == "outranked" else ""
        return (
            f"was let go ({why}): only the best epochs of the {trials} are kept. {again} "
            f"To keep it next time, tune with keep_checkpoints='all'{larger}."
        )

    def _again(self, trial_id: int, epoch: int) -> str:
        return f"Train it again: `{to_retrain(self.path, trial_id, epoch)}`."


def to_retrain(journal: Path, trial: int, epoch: int) -> str:
    """Return the command that brings the model of an epoch back."""
    path = shlex.quote(str(journal))
    return f"letstune retrain {path} {trial} --epochs {epoch + 1} -o FOLDER"


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

    def retrain(
        self,
        epochs: int | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        from_start: bool = False,
        trainer: Trainer[Any] | None = None,
        dataset: object = None,
        workers: int | None = None,
    ) -> Retrained:
        """Train the trial again, and compare each epoch with what is recorded, to the last bit.

        Nothing is recorded. The trial's params, seeds, trainer and dataset are those of the
        journal, which are unpickled, and that runs code. Training begins with the nearest
        checkpoint before the last epoch, if there is one, else with `create_model`. What the
        trainer raises is not raised, but the result's ``failure``.

        Args:
            epochs: how many there are to be in all, those before the checkpoint included. By
                default, as many as are recorded, and the one in which the trial failed. More than
                that have the seeds that the run would have given them.
            folder: where the checkpoint of the last epoch is to be, as its files: a new folder, or
                an empty one. By default a temporary one, which lives until the program ends.
            from_start: begin with `create_model`, whatever checkpoints there are.
            trainer: one to train instead of the recorded one.
            dataset: replaces the recorded one; needed if that was not kept.
            workers: 0 to train in this process, 1 in one of its own. By default, as the run was
                trained.

        Raises:
            PlanError: an argument is not what it must be, or no epoch is recorded. Nothing was
                trained.
            TrustError: the run is neither the user's own nor trusted; see `letstune.load`.
            PickleError: the trainer or the dataset cannot be brought back.
            Exception: `load_dataset` raised it; from another process, it is a `WorkerError`.
        """
        return self._run.retrain(
            self.trial_id,
            epochs=epochs,
            folder=folder,
            from_start=from_start,
            trainer=trainer,
            dataset=dataset,
            workers=workers,
        )

    def __repr__(self) -> str:
        return (
            f"Trial(trial_id={self.trial_id}, metric_value={self.metric_value!r}, "
            f"round={self.round}, epochs={self._state.epochs}, params={self.params!r})"
        )
