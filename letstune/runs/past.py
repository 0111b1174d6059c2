"""The past of a trial: what its journal has of it, read to train it again."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letstune.errors import LetstuneError, SpaceError, TrialNotFoundError
from letstune.journal.journal import Journal
from letstune.rounds.events import EpochFinished, TrialFailed
from letstune.rounds.plan import Plan
from letstune.rounds.state import TrialState
from letstune.runs.backend import Backend
from letstune.runs.pickles import changed_script, changed_versions, restore, restore_dataset
from letstune.runs.trust import load_trusted
from letstune.telling.lines import say
from letstune.training.stores import Store
from letstune.training.trainer import Trainer, params_class


@dataclass(frozen=True, kw_only=True)
class Past:
    """What a journal has of a trial, and what is needed to train it again.

    Attributes:
        number: the id of the trial.
        recorded: its epochs; ``failure``, how it failed after them, if it did.
        store: the run's; None if no checkpoint is of use.
        changes: what is known not to be as it was when the trial was trained, in words.
    """

    path: Path
    number: int
    plan: Plan
    trial: TrialState
    recorded: list[EpochFinished]
    failure: TrialFailed | None
    trainer: Trainer[Any]
    dataset: Any
    store: Store | None
    changes: list[str]


def read_past(
    path: Path, number: int, *, given: tuple[Any, Any], with_store: bool, vouched: bool
) -> Past:
    """Return what a journal has of a trial.

    Args:
        path: the journal, which is only read.
        number: the id of the trial.
        given: the trainer and the dataset, if not the recorded ones.
        with_store: whether to look for checkpoints.
        vouched: whether the caller vouches for the journal.

    Raises:
        TrustError: nobody does, and it is neither the user's own nor trusted.
        TrialNotFoundError: there is no such trial.
        PickleError: the trainer or the dataset cannot be brought back.
        SpaceError: the trainer has another search space, to which the params do not belong.
    """
    trainer, dataset = given
    with closing(Journal(path)) as journal:
        plan, state, _ = load_trusted(journal, vouched=vouched)
        if not 0 <= number < len(state.trials):
            there = f"the last one is {len(state.trials) - 1}" if state.trials else "there is none"
            raise TrialNotFoundError(f"{path} has no trial {number}; {there}.")
        trial, changes = state.trials[number], changed_versions(journal.facts().get("versions", {}))
        if trainer is None:
            trainer = restore(journal, "trainer", "name the trainer: --trainer MODULE:NAME.")
            changes += changed_script(journal, trainer)
        _require_space(path, number, trainer, trial.params)
        if dataset is None:
            dataset, _ = restore_dataset(journal, plan)
        return Past(
            path=path,
            number=number,
            plan=plan,
            trial=trial,
            recorded=list(journal.epochs(number))[: trial.epochs],
            failure=next((f for f in journal.failures() if f.trial == number), None),
            trainer=trainer,
            dataset=dataset,
            store=_store(journal, plan) if with_store and trial.kept else None,
            changes=changes,
        )


def _require_space(path: Path, number: int, trainer: Trainer[Any], params: str) -> None:
    try:
        params_class(trainer).from_json(params)
    except SpaceError as error:
        raise SpaceError(
            f"The params of trial {number} of {path} are not of the search space of "
            f"{type(trainer).__name__}: {error} Give the trainer with which it was trained."
        ) from error


def _store(journal: Journal, plan: Plan) -> Store | None:
    """Return the run's store. Without it, a trial can be trained from its seeds."""
    try:
        store: Store = Backend.recorded("store", plan.store, journal.path).again(journal).make()
    except LetstuneError as error:
        say(f"letstune: training from the start, since there is no store. {error}")
        return None
    return store
