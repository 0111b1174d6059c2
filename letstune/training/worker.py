"""A worker: trains one task after another with one trainer, in whatever process."""

from __future__ import annotations

import errno
import math
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from letstune.errors import CheckpointError, Interrupted, StopTraining, TrainerError
from letstune.rounds.events import (
    EpochFinished,
    Event,
    Stored,
    Task,
    TaskEnded,
    TrialFailed,
    TrialStopped,
)
from letstune.rounds.metric import metric_name, standing
from letstune.rounds.seeding import Purpose, frameworks
from letstune.space.params import Params
from letstune.training.audit import Looks, Parts, audit
from letstune.training.checkpoints import Checkpoint, Keeper
from letstune.training.parts import Anatomy
from letstune.training.stores import Store
from letstune.training.trainer import (
    HORIZON,
    LIMIT,
    TRAINING,
    SimpleTrainer,
    Trainer,
    begin,
    forget,
    metric_values,
)

_OWN: Final = ("params", "run", "seed", "self")
"""Fields of a trainer, or names in a function that trains, that letstune provides."""

Outcome = tuple[list[Event | TaskEnded], BaseException | None]
"""What is to be recorded together, and the exception behind it, if it is a failure."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What a worker needs of a run.

    Attributes:
        make_trainer: returns a new clone of the trainer.
        dataset: for its `load_dataset`, which is called when the first task comes.
        params_cls: the class of the params.
        metric: the plan's.
        seed: the run's.
        store: for checkpoints.
        horizon: how many epochs a trial has at most, for the trainer; None if nobody knows.
    """

    make_trainer: Callable[[], Trainer[Any]]
    dataset: object
    params_cls: type[Params]
    metric: str
    seed: int
    store: Store
    horizon: int | None = None


class Worker:
    """Trains tasks, and tells what comes of them.

    Args:
        assignment: what it is to train of.
        token: names this worker; no other one, of any run, has the same.
    """

    def __init__(self, assignment: Assignment, token: str) -> None:
        self.assignment = assignment
        self._keeper = Keeper(assignment.store, token)
        self._trainer: Trainer[Any] | None = None
        self._model: Any = None
        self._fields: dict[str, Any] = {}
        self._seeded: set[str] = set()
        self._notes: list[Parts] = []

    def train(self, task: Task) -> Iterator[Outcome]:
        """Train a task, yielding what is to be recorded together, as it comes about.

        With it comes the exception behind a `TrialFailed`, or None; it is a `TrainerError` if the
        trainer returned what it must not. An epoch goes on only after what was yielded for the
        one before is recorded.

        Raises:
            LetstuneError: a checkpoint is missing or cannot be stored. That is not the trial's
                failure, and would be every other trial's as well: the run ends, to be resumed
                when it is mended.
            Exception: `load_dataset` raised it.
        """
        self.prepare()
        at, found = task.epochs, ""
        self._notes = []
        try:
            for events in self._epochs(task):
                yield events, None
                at += 1
            if task.expected is not None and at == task.epochs + 1:
                found = self._compared(task, events)
        except _RaisedError as raised:
            yield [TrialFailed(task.trial, at, "raised", *told(raised.error))], raised.error
        self._warn_of_late_imports(task.trial)
        yield [TaskEnded(task.trial, found)], None

    def _compared(self, task: Task, events: list[Event | TaskEnded]) -> str:
        """Return why an epoch did not come out as expected, as far as that can be seen."""
        finished = events[0]
        if not isinstance(finished, EpochFinished) or len(self._notes) < 2:
            return ""
        is_ = repr(finished.metrics.get(metric_name(self.assignment.metric)))
        return "" if is_ == task.expected else self._suspects(task, *self._notes[:2])

    def prepare(self) -> None:
        """Load the dataset, unless that is done.

        Raises:
            Exception: `load_dataset` raised it.
        """
        if self._trainer is None:
            self._load_dataset()

    def _load_dataset(self) -> None:
        trainer = self.assignment.make_trainer()
        trainer.__dict__[HORIZON] = self.assignment.horizon
        begin(trainer, self.assignment.seed, Purpose.LOAD_DATASET, 0, 0)
        try:
            trainer.load_dataset(self.assignment.dataset)
        except (KeyboardInterrupt, Interrupted):
            raise
        except BaseException as raised:
            # A StopIteration is none, either: on its way through a generator, it becomes another.
            plain = isinstance(raised, Exception) and not isinstance(raised, StopIteration)
            error = raised if plain else _ended_by(trainer, raised)
            error.add_note(
                f"{type(trainer).__name__}.load_dataset raised this, so no trial was trained. "
                "Nothing is lost: mend it, and resume. The journal holds the trainer's code as it "
                "was: if that was mended, run the script or `letstune tune` again, or give "
                "`letstune resume` the --trainer."
            )
            if isinstance(error, FileNotFoundError):
                error.add_note(
                    f"What is named without its folder is looked for in {Path.cwd()}. Resume in "
                    "the folder in which the run was started, or give `letstune resume` the path "
                    "with --dataset."
                )
            if error is raised:
                raise
            raise error from raised
        self._trainer = trainer
        self._fields = dict(trainer.__dict__)
        self._seeded = frameworks()
        self._model = _OneEpoch(trainer) if isinstance(trainer, SimpleTrainer) else trainer

    def _begin(self, purpose: Purpose, trial: int, epoch: int) -> Any:
        """Seed everything for the next call of the trainer, and return whom to call."""
        if self._trainer is None:
            raise RuntimeError("a task before load_dataset")
        begin(self._trainer, self.assignment.seed, purpose, trial, epoch)
        return self._model

    def _epochs(self, task: Task) -> Iterator[list[Event | TaskEnded]]:
        number, epoch, seconds = task.trial, task.epochs, task.seconds
        try:
            self._start(task)
            self._note(task)
            stored = None  # of the epoch before, unless the model has just been loaded from it
            while (seconds if task.timed else epoch) < task.limit:
                if stored is not None and self._reloads:
                    self._forget()
                    self._load(task, epoch - 1, stored)
                finished, *stopped = self._epoch(number, epoch, task.attempt)
                self._note(task)
                if epoch == task.epochs:
                    self._warn_of_late_imports(number)
                yield [finished, *stopped]
                if stopped:
                    return
                epoch += 1
                seconds += finished.seconds
                stored = finished.checkpoint
        except StopTraining as stop:
            if stop.metric_values is not None:
                raise _RaisedError(
                    TrainerError(
                        f"Trial {number}: StopTraining was raised with metric values by "
                        "create_model or load, where there is no epoch to record them for. Raise "
                        "it without them."
                    )
                ) from stop
            yield [TrialStopped(number, epoch - 1)]

    def _epoch(
        self, number: int, epoch: int, attempt: str
    ) -> tuple[EpochFinished, *tuple[TrialStopped, ...]]:
        """Train and save one epoch."""
        model = self._begin(Purpose.TRAIN, number, epoch)
        ends: tuple[TrialStopped, ...] = ()
        started = datetime.now(UTC).isoformat()
        clock = time.perf_counter()
        try:
            returned: object = _call(model.train_epoch, epoch)
        except StopTraining as stop:
            if stop.metric_values is None:
                raise
            returned, ends = stop.metric_values, (TrialStopped(number, epoch),)
        seconds = _passed(clock)
        where = f"Training trial {number}, epoch {epoch},"
        values = _call(metric_values, returned, self.assignment.metric, where)
        value = standing(self.assignment.metric, values)
        stops: list[StopTraining] = []
        name = f"t{number:05}-e{epoch:05}-{attempt}"
        stored = self._keeper.save(name, partial(_save, model, stops))
        if stops:
            ends = (TrialStopped(number, epoch),)
        finished = EpochFinished(number, epoch, value, values, started, seconds, stored)
        return (finished, *ends)

    def _warn_of_late_imports(self, number: int) -> None:
        if late := frameworks() - self._seeded:
            self._seeded |= late
            names = " and ".join(sorted(late))
            warnings.warn(
                f"{names} was first imported in the middle of trial {number}, too late to be "
                "seeded for it; after a resume, the trial may come out differently. Import it at "
                "the top of the trainer's module, or in load_dataset.",
                stacklevel=2,
            )

    def _start(self, task: Task) -> None:
        """Bring the model to where the task's next epoch begins."""
        number = task.trial
        self._forget()
        if self._trainer is not None:
            self._trainer.__dict__[LIMIT] = None if task.timed else int(task.limit)
        if task.checkpoint is None:
            params = self.assignment.params_cls.from_json(task.params)
            model = self._begin(Purpose.CREATE_MODEL, number, 0)
            _call(model.create_model, params)
        else:
            self._load(task, task.loaded, task.checkpoint)
        # Recorded epochs whose model nobody kept: the plan has grown since, or the trainer saves
        # nothing. Their seeds being the same, they come out the same.
        for epoch in range(task.loaded + 1, task.epochs):
            model = self._begin(Purpose.TRAIN, number, epoch)
            _call(model.train_epoch, epoch)
            if self._reloads:
                self._reload(task, epoch)

    @property
    def _reloads(self) -> bool:
        """Whether the trainer saves and loads before every epoch but the first.

        Not before that: it always begins with `create_model`, however often a run is interrupted,
        and there are trainers that have nothing to save yet.
        """
        return getattr(self._model, "reload", False) is True

    def _load(self, task: Task, epoch: int, stored: Stored) -> None:
        """Load the model that was saved after an epoch."""
        what = f"The checkpoint of epoch {epoch} of trial {task.trial}"
        # Fetched before load() is called, so that whatever load() raises is the trial's.
        with self._keeper.fetched(stored, what) as path:
            self._load_from(path, task, epoch)

    def _load_from(self, path: Path, task: Task, epoch: int) -> None:
        params = self.assignment.params_cls.from_json(task.params)
        model = self._begin(Purpose.LOAD, task.trial, epoch)
        _call(model.load, Checkpoint(lambda: path), params)

    def _reload(self, task: Task, epoch: int) -> None:
        """Save and load a model whose epoch is recorded, and is not going to be stored."""
        with self._keeper.passed_on(partial(_save, self._model, [])) as path:
            if path is not None:  # else, it was not loaded then, either
                self._forget()
                self._load_from(path, task, epoch)

    def _note(self, task: Task) -> None:
        if task.expected is not None:
            self._notes.append(self.noted([]))

    def noted(self, alive: list[object]) -> Parts:
        """Return what there is to note of the trainer; of a function that trains, its names, too.

        Args:
            alive: see `Anatomy`.
        """
        fields = dict(vars(self._trainer))
        frame = getattr(getattr(fields.get(TRAINING), "_yielded", None), "gi_frame", None)
        anatomy = Anatomy(alive)
        return {
            ("field", name): anatomy.of(value)
            for name, value in {**getattr(frame, "f_locals", {}), **fields}.items()
            if name not in _OWN and not name.startswith("__letstune_")
        }

    def _suspects(self, task: Task, loaded: Parts, resumed: Parts) -> str:
        """Return what is not the same after a load as straight on, once that made a difference.

        For that, the trial is trained again from its first epoch on. What fails then is not told.

        Args:
            task: the task of an epoch.
            loaded: what was noted before it.
            resumed: and after it.
        """
        alive: list[object] = []
        looks: list[Parts] = []
        try:
            self._start(task._replace(epochs=0, loaded=-1, checkpoint=None))
            looks.append(self.noted(alive))
            for epoch in range(task.epochs + 1):
                _call(self._begin(Purpose.TRAIN, task.trial, epoch).train_epoch, epoch)
                with self._keeper.passed_on(partial(_save, self._model, [])):
                    looks.append(self.noted(alive))
            fresh, *_, trained, later = looks
            if TRAINING in vars(self._trainer):  # there is nothing to see of it before an epoch
                trained, loaded = later, resumed
            found = audit(
                Looks(fresh=fresh, trained=trained, later=later, loaded=loaded, resumed=resumed)
            )
        except Exception:  # noqa: BLE001 (it is about the reason only: the run goes on without it)
            return ""
        return "; ".join(map(str, [*found.wrong, *found.suspects][:5]))

    def _forget(self) -> None:
        """Take back what fields the trainer was given since `load_dataset`.

        Else a `load` that sets less than `create_model` would go on with what another trial has
        left, which depends on who trained what before, where it should raise an AttributeError.
        """
        if self._trainer is not None:
            forget(self._trainer, self._fields)

    def close(self) -> None:
        """Tidy up."""
        self._forget()
        self._keeper.close()


class _RaisedError(Exception):
    """A trainer's method raised ``error``. What letstune itself raises is not wrapped in it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def _ended_by(trainer: Trainer[Any], raised: BaseException) -> TrainerError:
    """Return an error in place of an exception that would end more than the run, or nothing."""
    said = "".join(traceback.format_exception_only(raised)).strip()
    return TrainerError(f"{type(trainer).__name__}.load_dataset raised {said}")


def _passed(since: Any) -> float:
    """Return how many seconds have passed; a trainer may have put another clock there."""
    try:
        seconds = float(time.perf_counter() - since)
    except Exception:  # noqa: BLE001 (of whatever has been put there)
        seconds = math.nan
    if 0.0 <= seconds < math.inf:
        return seconds
    raise _RaisedError(
        RuntimeError(
            f"The clock, time.perf_counter, told that the epoch took {seconds} seconds: something "
            "has put another one in its place, or set it. Put it back before the epoch ends."
        )
    )


_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FAILING: Final = (errno.EIO, errno.EROFS)


def _call(method: Callable[..., Any], *args: object) -> Any:
    """Call a method of the trainer, and tell what it raises from what letstune raises.

    Whatever it raises is the trial's failure, an exit or a cancellation as well; but for Ctrl-C. A
    full disk is nobody's failure: each trial after this one would fail as well. Nor is one that
    fails as a model is saved or loaded; an epoch may have read from anywhere.
    """
    try:
        return method(*args)
    except (StopTraining, Interrupted, KeyboardInterrupt):
        raise  # Interrupted: of a run within the trainer; it is meant for this one as well
    except BaseException as error:
        number = error.errno if isinstance(error, OSError) else None
        if number in _FULL:
            raise CheckpointError(
                f"The disk is full: {error}. Free some space and resume; all that was recorded is "
                "safe."
            ) from error
        if number in _FAILING and isinstance(args[0], Checkpoint):
            raise CheckpointError(
                f"The disk fails, or is read-only: {error}. Mend that and resume; what was "
                "recorded is safe if it can be read again."
            ) from error
        raise _RaisedError(error) from error


def _save(model: Any, stops: list[StopTraining], checkpoint: Checkpoint) -> None:
    """Have a model saved; to stop there is to stop after this epoch, which is trained."""
    try:
        _call(model.save, checkpoint)
    except StopTraining as stop:
        stops.append(stop)


_LONGEST: Final = 1_000_000


def told(error: BaseException) -> tuple[str, str]:
    """Return an exception's message, with its notes, and its traceback."""
    try:
        message = "".join(traceback.format_exception_only(error)).strip()
        return _utf8(message), _utf8("".join(traceback.format_exception(error)))
    except Exception as another:  # noqa: BLE001 (of whatever the exception's class does)
        message = f"{type(error).__name__}, which cannot be told: {type(another).__name__}"
        return message, message


def _utf8(text: str) -> str:
    """Return a text that SQLite can hold: an error may quote a file name that is not UTF-8.

    And one that can be shown: of one that is longer than anybody reads, the middle is left out.
    """
    if (more := len(text) - _LONGEST) > 0:
        half = _LONGEST // 2
        text = f"{text[:half]}\n... {more} characters are left out ...\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode()


class _OneEpoch:
    """A `SimpleTrainer` as a trainer of one epoch: the only place that tells them apart."""

    def __init__(self, trainer: SimpleTrainer[Any]) -> None:
        self._trainer = trainer

    def create_model(self, params: Params) -> None:
        self._params = params
        self._fitted: tuple[Any, ...] = ()

    def train_epoch(self, epoch: int) -> object:
        returned: object = self._trainer.train(self._params)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TrainerError(
                f"{type(self._trainer).__name__}.train returned {returned!r:.200}; expected a "
                "tuple of the fitted model and its metric values."
            )
        fitted, values = returned
        self._fitted = (fitted,)
        return values

    def save(self, checkpoint: Checkpoint) -> None:
        for fitted in self._fitted:  # none, if it raised StopTraining rather than return one
            self._trainer.save(checkpoint, fitted)
