"""A request: all that is asked of a run, checked as far as it can be without its journal.

`tune` and `resume` make one, and both go the same way with it. What they do not ask for is as the
journal has it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from letstune.errors import PlanError
from letstune.journal.journal import Pickle
from letstune.rounds.numbers import whole_number
from letstune.rounds.plan import SIMPLE_ROUNDS, Plan, Rounds
from letstune.rounds.seeding import fresh_seed
from letstune.runs.backend import Backend
from letstune.runs.how import asked_how, first_lag, how_many_workers
from letstune.runs.pickles import describe_dataset, keep, keep_dataset, versions
from letstune.training.pickling import type_name
from letstune.training.trainer import SimpleTrainer, check_trainer, params_class
from letstune.workers.machine import own_threads


class Recorded(Enum):
    """What an argument is that is not given, where None would be given."""

    RECORDED = "<recorded>"

    def __repr__(self) -> str:
        return self.value


RECORDED: Final = Recorded.RECORDED


class First(NamedTuple):
    """What a new journal says of its run, what it keeps, and what is told when it is there."""

    facts: dict[str, Any]
    pickles: list[Pickle]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a run: the arguments of `tune` or `resume`.

    What is not asked for is None, or `RECORDED` where None may be asked for, or is a mistake.

    Attributes:
        journal: the path of the journal.
        named: whether the user knows that path.
        begins: whether it may begin the run, as `tune` does. Then it names the whole plan, with
            which a run that is there must have been begun; if not, it changes what it names.

    Raises:
        LetstuneError: something is not what it must be. Nothing was written.
    """

    journal: Path
    named: bool = True
    begins: bool
    trainer: Any = None
    n_trials: Any = RECORDED
    dataset: Any = RECORDED
    rounds: Any = None
    sampler: Any = None
    store: Any = RECORDED
    observers: Any = None
    workers: Any = None
    gpus: Any = None
    epoch_timeout: Any = None
    trial_timeout: Any = None
    max_deaths: Any = None
    lag: Any = None
    seed: Any = None
    keep_checkpoints: Any = RECORDED
    passthrough_errors: bool = False
    progress: bool | None = None
    accept_changes: bool = False
    retry_failed: bool | None = None

    def __post_init__(self) -> None:
        # What can be refused is refused here: each of these is worked out once, and kept.
        _ = self.how, self.values, self.backends, self.told, self.pickles, self.kept_dataset
        if self.begins:
            self.rounds_of(None)

    @cached_property
    def executor(self) -> Backend | None:
        """The executor of a plugin, if one is asked for."""
        return Backend.elsewhere(self.workers)

    @cached_property
    def how(self) -> dict[str, Any]:
        """Those fields of `How` that are asked for."""
        names = ("workers", "gpus", "epoch_timeout", "trial_timeout", "max_deaths")
        return asked_how({name: getattr(self, name) for name in names}, self.executor)

    @cached_property
    def values(self) -> dict[str, Any]:
        """Those fields of `Plan` that are asked for and are not for other parts to describe."""
        asked: dict[str, Any] = {} if self.trainer is None else facts_of_trainer(self.trainer)
        if self.n_trials is not RECORDED:
            asked["n_trials"] = whole_number("n_trials", self.n_trials, 1)
        for name in ("lag", "seed"):
            if (given := getattr(self, name)) is not None:
                asked[name] = whole_number(name, given, 0)
        if self.keep_checkpoints is not RECORDED:
            asked["keep_checkpoints"] = _how_many_kept(self.keep_checkpoints)
        if self.begins:
            asked["trainer"] = type_name(type(self.trainer))
        return asked

    @cached_property
    def backends(self) -> dict[str, Backend]:
        """The sampler and the store, if they are asked for, made."""
        asked = {}
        if self.sampler is not None:
            asked["sampler"] = Backend.of("sampler", self.sampler, self.journal).ready()
            asked["sampler"].make().check(params_class(self.trainer).space())
        if self.store is not RECORDED:
            asked["store"] = Backend.of("store", self.store, self.journal).ready()
        return asked

    @cached_property
    def told(self) -> tuple[Backend, ...] | None:
        """The observers that are asked for, made."""
        if self.observers is None:
            return None
        if isinstance(self.observers, str) or not isinstance(self.observers, Iterable):
            raise PlanError(
                f"observers={self.observers!r}: expected a list of names or Observer objects."
            )
        return tuple(Backend.of("observer", one, self.journal).ready() for one in self.observers)

    @cached_property
    def pickles(self) -> list[Pickle]:
        """What is to be kept of the trainer, and of a sampler and a store that are objects."""
        kept = [] if self.trainer is None else [keep("trainer", self.trainer)]
        return kept + [p for b in self.backends.values() if (p := b.pickle()) is not None]

    @cached_property
    def kept_dataset(self) -> tuple[Pickle | None, str]:
        """What is to be kept of the dataset, or why it cannot be."""
        if self.dataset is RECORDED:
            return None, ""
        elsewhere = self.executor is not None or bool(self.how.get("workers"))
        return keep_dataset(self.dataset, needed=self.begins and elsewhere)

    @property
    def described_dataset(self) -> dict[str, Any]:
        """The plan's fact about the dataset."""
        return describe_dataset(self.dataset, kept=self.kept_dataset[0] is not None)

    def rounds_of(self, recorded: Plan | None) -> Rounds:
        """Return the rounds that are asked for; a bare list keeps all else as recorded.

        Raises:
            PlanError: they are none, or the trainer takes none.
        """
        given = self.rounds
        simple = self.values["simple"] if self.trainer is not None else recorded and recorded.simple
        if simple and given is not None:
            raise PlanError(
                f"rounds={given!r}: a SimpleTrainer trains each trial in one go, so it takes "
                "no rounds. Leave them out, or derive the trainer from letstune.EpochTrainer."
            )
        if given is None:
            default = Rounds(SIMPLE_ROUNDS) if simple else Rounds()
            return default if recorded is None else recorded.rounds
        if isinstance(given, Rounds):
            return given
        if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
            raise PlanError(
                f"rounds={given!r}: expected numbers of epochs, such as [3, 9, 36], or timedeltas."
            )
        if recorded is None or self.begins:
            return Rounds(given)
        return Rounds(given, keep=recorded.rounds.keep, cohort=recorded.rounds.cohort)

    def first_plan(self) -> Plan:
        """Return the plan of a run that this begins.

        Raises:
            LetstuneError: the executor cannot be reached, to ask how many tasks it can train.
        """
        sampler, store = self.backends["sampler"], self.backends["store"]
        asked = {"lag": 0, "seed": fresh_seed(), **self.values, **self.how}
        plan = Plan(
            **asked,
            rounds=self.rounds_of(None),
            sampler=sampler.fact(),
            adaptive=sampler.make().adaptive,
            store=store.fact(),
            dataset=self.described_dataset,
        )
        if self.executor is None:
            plan = replace(plan, threads=own_threads(how_many_workers(plan), os.environ))
        return plan if self.lag is not None else replace(plan, lag=first_lag(plan, self.executor))

    def first(self) -> First:
        """Return what a new journal is made of.

        Raises:
            LetstuneError: see `first_plan`.
        """
        facts = self.first_plan().to_facts()
        facts |= {"versions": versions(self.trainer), "observers": named_observers(self.told or ())}
        path, (dataset, why_not) = self.journal, self.kept_dataset
        where = "" if self.named else f"letstune: {path}; resume with: {to_resume(path)}"
        return First(
            facts=facts,
            pickles=[*self.pickles, *([] if dataset is None else [dataset])],
            notes=[note for note in (where, why_not) if note],
        )


def to_resume(journal: Path) -> str:
    """Return the command that goes on with a run."""
    return f"letstune resume {shlex.quote(str(journal))}"


def facts_of_trainer(trainer: Any) -> dict[str, Any]:
    """Return those fields of `Plan` that tell of a trainer.

    Raises:
        TrainerError: it cannot be driven.
    """
    return {
        "space": params_class(trainer).space().to_json(),
        "metric": check_trainer(trainer),
        "simple": isinstance(trainer, SimpleTrainer),
    }


def named_observers(observers: Sequence[Backend]) -> list[dict[str, Any]]:
    """Return the plan's facts about those observers that have a name, so are told next time too."""
    return [backend.fact() for backend in observers if backend.options is not None]


def _how_many_kept(keep_checkpoints: object) -> int | Literal["all"]:
    """Return of how many trials to keep the best epoch."""
    if keep_checkpoints == "all":
        return "all"
    if isinstance(keep_checkpoints, str):
        raise PlanError(
            f"keep_checkpoints={keep_checkpoints!r}: expected 'all', or of how many of the best "
            "trials to keep the best epoch."
        )
    return whole_number("keep_checkpoints", keep_checkpoints, 0)
