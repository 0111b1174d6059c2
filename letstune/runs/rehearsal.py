"""A rehearsal: whether a trainer comes out the same in pieces as straight on.

letstune sees to it that a run resumes exactly, but for one thing: a trainer must save, and load,
all that its next epoch depends on. If it forgets something, no error is raised; only a comparison
shows it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from letstune._public import public
from letstune.errors import TrainerError
from letstune.results.results import TuningResults
from letstune.rounds.numbers import whole_number
from letstune.rounds.plan import Rounds
from letstune.runs.tuning import tune
from letstune.training.trainer import SimpleTrainer, Trainer


class Difference(NamedTuple):
    """Where a trial came out differently for the first time.

    ``what`` is the metric, or ``status``, if the trial ended differently; ``straight`` and
    ``resumed`` are its values, None where there is none. The status of a failed trial includes the
    message.
    """

    trial: int
    epoch: int
    what: str
    straight: float | str | None
    resumed: float | str | None


@public("letstune")
def rehearse(
    trainer: Trainer[Any],
    *,
    dataset: object = None,
    n_trials: int = 3,
    epochs: int = 3,
    seed: int = 0,
) -> list[Difference]:
    """Return where training in pieces differs from training straight on; nothing if it never does.

    It trains the same random trials twice: once from the first epoch to the last, and once in
    pieces, as if the run were killed after each epoch. For each epoch, a new process loads the
    dataset, and then the model of one trial after another. After each epoch, the better half of the
    trials goes on. Metric values are compared to the last bit. Nothing is kept.

    A `SimpleTrainer` has only one epoch, so this only shows whether it depends on nothing but its
    seeds.

    Args:
        trainer: the trainer that is going to be tuned.
        dataset: passed to its `load_dataset`, which is called once for each epoch, and once more. A
            part of the real dataset may be enough.
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
    >>> for difference in letstune.rehearse(Forgetful()):
    ...     print(difference.trial, difference.epoch, difference.what)  # it has no speed any more
    0 1 status
    2 1 status
    """
    whole_number("epochs", epochs, 2)
    simple = isinstance(trainer, SimpleTrainer)
    straight = None if simple else [epochs]
    pieces = [None] if simple else [Rounds([1] * n, keep=0.5) for n in range(1, epochs + 1)]
    options: dict[str, Any] = {"dataset": dataset, "seed": seed, "workers": 1, "progress": False}
    options |= {"max_failures": 0, "rehearse": False}
    with TemporaryDirectory(prefix="letstune-") as name:
        folder = Path(name)
        # Lines about the journals are of no use, since these are gone in the end. The trainer's own
        # lines come from the worker, and are not held back.
        with redirect_stderr(io.StringIO()):
            once = tune(trainer, n_trials, journal=folder / "a.db", rounds=straight, **options)
            if once.errors and all(trial.status == "failed" for trial in once):
                which = "The only trial" if len(once) == 1 else f"All of the {len(once)} trials"
                raise TrainerError(
                    f"{which} failed, so there is nothing to compare. Mend "
                    f"the trainer; the first one failed with:\n{once.errors[0].traceback}"
                )
            for rounds in pieces:
                again = tune(trainer, n_trials, journal=folder / "b.db", rounds=rounds, **options)
        return list(_differences(once, again))


def _differences(straight: TuningResults[Any], resumed: TuningResults[Any]) -> Iterator[Difference]:
    messages = {error.trial_id: f"failed: {error.message}" for error in resumed.errors}
    for trial in sorted(resumed, key=lambda trial: trial.trial_id):
        other, found = straight.trial(trial.trial_id), False
        for before, after in zip(other.epochs, trial.epochs, strict=False):
            values, again = before.metric_values, after.metric_values
            for name in dict.fromkeys([*values, *again]):
                was, is_ = values.get(name), again.get(name)
                if repr(was) != repr(is_):  # NaN is the same as NaN
                    found = True
                    yield Difference(trial.trial_id, after.epoch, name, was, is_)
            if found:
                break
        # A trial that did not advance has fewer epochs, as it should.
        done, ended = len(trial.epochs), trial.status in ("stopped", "failed")
        as_before = (other.status, len(other.epochs)) == (trial.status, done)
        if not found and (len(other.epochs) < done or (ended and not as_before)):
            status = messages.get(trial.trial_id, trial.status)
            yield Difference(trial.trial_id, done, "status", other.status, status)
