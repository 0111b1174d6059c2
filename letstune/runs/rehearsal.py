"""A rehearsal: whether a trainer comes out the same in pieces as straight on.

letstune sees to it that a run resumes exactly, but for one thing: a trainer must save, and load,
all that its next epoch depends on. If it forgets something, no error is raised; only a comparison
shows it.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterable, Iterator
from contextlib import closing, redirect_stderr
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from letstune._public import public
from letstune.errors import TrainerError
from letstune.results.results import TuningResults
from letstune.results.trials import Trial
from letstune.rounds.metric import metric_name
from letstune.rounds.numbers import whole_number
from letstune.runs.pieces import Looked, Resumed, Stage, in_pieces, look, with_reloads
from letstune.runs.tuning import tune
from letstune.runs.what_it_means import Learned, what_it_means
from letstune.training.generator import GeneratorTrainer
from letstune.training.stores import DirectoryStore
from letstune.training.trainer import SimpleTrainer, Trainer
from letstune.workers.job import Job


class Difference(NamedTuple):
    """Where a trial came out differently for the first time.

    ``what`` is the metric, or ``status``, if the trial ended differently; ``straight`` and
    ``resumed`` are its values, None where there is none. The status of a failed trial includes the
    message. If it is a field of the trainer that is not the same after ``load``, ``what`` is that,
    such as ``scheduler.best``, and the values are texts.
    """

    trial: int
    epoch: int
    what: str
    straight: float | str | None
    resumed: float | str | None


class Rehearsal(list[Difference]):
    """The differences, first those of metric values; none, if all is well.

    Attributes:
        remarks: what they mean, and what may be behind them, in words.
    """

    def __init__(self, differences: Iterable[Difference] = (), remarks: Iterable[str] = ()) -> None:
        super().__init__(differences)
        self.remarks = tuple(remarks)


@public("letstune")
def rehearse(
    trainer: Trainer[Any],
    *,
    dataset: object = None,
    n_trials: int = 3,
    epochs: int = 3,
    seed: int = 0,
) -> Rehearsal:
    """Return where training in pieces differs from training straight on; nothing if it never does.

    It trains the same random trials twice: once from the first epoch to the last, and once in
    pieces, as if the run were killed after each epoch. After each epoch, the better half of the
    trials goes on. Metric values are compared to the last bit.

    Then it looks at the trainer itself: after an epoch, what of it is not the same once it was
    saved and loaded? So it finds what has no effect yet, such as a forgotten scheduler. Nothing is
    kept.

    All this is done in two other processes that load the dataset: one trains straight on, and of
    the other, each piece gets a fork; or a process each, where forks are not safe: on macOS, or if
    `load_dataset` has used a GPU or begun threads.

    A `SimpleTrainer` has only one epoch, so this only shows whether it depends on nothing but its
    seeds.

    Args:
        trainer: the trainer that is going to be tuned.
        dataset: passed to its `load_dataset`. A part of the real dataset may be enough.
        n_trials: how many trials to train. One alone does not show what trials leave behind for
            others.
        epochs: how many epochs to train each of them, 2 or more.
        seed: the seed of all randomness.

    Raises:
        PlanError: an argument is not what it must be.
        TrainerError: the trainer cannot be driven, or all of the trials failed.
        PickleError: the trainer or the dataset cannot be pickled.

    >>> import letstune
    >>> class Walk(letstune.Params):
    ...     start: float = letstune.rand.uniform(0, 1)
    >>> class Forgetful(letstune.EpochTrainer[Walk]):
    ...     metric = "place"
    ...     def load_dataset(self, dataset):
    ...         pass
    ...     def create_model(self, params):
    ...         self.model, self.speed = params.start, 1.0
    ...     def train_epoch(self, epoch):
    ...         self.speed /= 2  # which the default of save does not save
    ...         self.model += self.speed
    ...         return {"place": self.model}
    >>> found = letstune.rehearse(Forgetful())
    >>> for difference in found:
    ...     print(difference.trial, difference.epoch, difference.what)
    0 1 status
    2 1 status
    >>> print(found.remarks[0])
    Not the same after a load, and perhaps the reason: speed is missing.
    """
    whole_number("epochs", epochs, 2)
    simple = isinstance(trainer, SimpleTrainer)
    options: dict[str, Any] = {"dataset": dataset, "seed": seed, "workers": 1, "progress": False}
    options |= {"max_failures": 0, "rehearse": False, "rounds": None if simple else [epochs]}
    with TemporaryDirectory(prefix="letstune-") as name:
        folder = Path(name)
        # Lines about the journal are of no use, since it is gone in the end. The trainer's own
        # lines come from the worker, and are not held back.
        with redirect_stderr(io.StringIO()):
            once = tune(trainer, n_trials, journal=folder / "a.db", **options)
        if once.errors and all(trial.status == "failed" for trial in once):
            which = "The only trial" if len(once) == 1 else f"All of the {len(once)} trials"
            raise TrainerError(
                f"{which} failed, so there is nothing to compare. Mend "
                f"the trainer; the first one failed with:\n{once.errors[0].traceback}"
            )
        store = DirectoryStore(folder / "pieces")
        job = Job.of(trainer, dataset, store, journal=folder / "a.db", seed=seed)
        job = replace(job, horizon=None if simple else epochs)
        # Not until the other process has ended: together, they might need too much memory.
        with closing(Stage(job, secrets.token_hex(4))) as stage:
            return _compare(trainer, stage, once, epochs)


def _compare(
    trainer: Trainer[Any], stage: Stage, once: TuningResults[Any], epochs: int
) -> Rehearsal:
    """Train in pieces, and look at the trainer; return what is not the same."""
    simple = isinstance(trainer, SimpleTrainer)
    again = in_pieces(stage, once, 1 if simple else epochs)
    found = list(_differences(once, again))
    looked, cured = None, False
    reloads = getattr(trainer, "reload", False) is True
    if not simple:
        looked = _look(trainer, stage, once, thorough=bool(found))
        if not reloads and (looked is None or not looked.audit.wrong):
            cured = _is_cured(stage, found, again)
    remarks = what_it_means(
        [(each.trial, each.epoch) for each in found],
        Learned(once, again, metric_name(once.metric)),
        looked,
        cured=cured,
        reloads=reloads,
    )
    if looked is not None and not reloads:
        trial = _first(once)
        found += [
            Difference(trial.trial_id, 0, each.where, *each.shown) for each in looked.audit.wrong
        ]
    return Rehearsal(found, remarks)


def _first(once: TuningResults[Any]) -> Trial[Any]:
    """Return the first trial, of those with the most epochs."""
    return min(once, key=lambda trial: (-len(trial.epochs), trial.trial_id))


def _look(
    trainer: Trainer[Any], stage: Stage, once: TuningResults[Any], *, thorough: bool
) -> Looked | None:
    trial = _first(once)
    if len(trial.epochs) < 2:
        return None
    in_a_function = isinstance(trainer, GeneratorTrainer)
    return look(stage, trial, in_a_function=in_a_function, thorough=thorough)


def _is_cured(stage: Stage, found: list[Difference], again: list[Resumed]) -> bool:
    """Tell whether the first trial that differs does not with ``reload = True``."""
    if not found or not found[0].epoch:
        return False
    pieces = next(one for one in again if one.trial.trial_id == found[0].trial)
    return repr(with_reloads(stage, pieces.trial, len(pieces.metrics))) == repr(pieces.metrics)


def _differences(straight: TuningResults[Any], resumed: list[Resumed]) -> Iterator[Difference]:
    for trial in resumed:
        number = trial.trial.trial_id
        other, found = straight.trial(number), False
        for epoch, (before, again) in enumerate(zip(other.epochs, trial.metrics, strict=False)):
            values = before.metric_values
            for name in dict.fromkeys([*values, *again]):
                was, is_ = values.get(name), again.get(name)
                if repr(was) != repr(is_):  # NaN is the same as NaN
                    found = True
                    yield Difference(number, epoch, name, was, is_)
            if found:
                break
        # A trial that did not advance has fewer epochs, as it should.
        done, over = len(trial.metrics), trial.status in ("stopped", "failed")
        as_before = (other.status, len(other.epochs)) == (trial.status, done)
        if not found and (len(other.epochs) < done or (over and not as_before)):
            status = f"failed: {trial.message}" if trial.status == "failed" else trial.status
            yield Difference(number, done, "status", other.status, status)
