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
from letstune.plugins.harmless import told
from letstune.rounds.numbers import whole_number
from letstune.rounds.pickles import Pickle
from letstune.rounds.plan import SIMPLE_ROUNDS, Plan, Rounds
from letstune.rounds.seeding import fresh_seed
from letstune.runs.backend import Backend
from letstune.runs.deadline import seconds_left
from letstune.runs.how import asked_how, first_lag, how_many_workers
from letstune.runs.pickles import describe_dataset, keep, keep_dataset, versions
from letstune.runs.sharing import check_sharing, told_of_sharing
from letstune.training.direction import advice
from letstune.training.pickling import type_name
from letstune.training.trainer import SimpleTrainer, check_names, check_trainer, params_class
from letstune.workers.machine import own_threads


class Recorded(Enum):
    """The value of an argument that is not given, where None could be given."""

    RECORDED = "<recorded>"

    def __repr__(self) -> str:
        return self.value


RECORDED: Final = Recorded.RECORDED
COHORT: Final = 64
"""How many trials a run begins with, and compete, if it is to go on until the time is up."""


ATTEMPTS: Final = 3
"""How often a sampler that learns is asked for a trial, if what it proposes is there already."""


class First(NamedTuple):
    """The facts and the pickles of a new journal, and what to tell once it is there."""

    facts: dict[str, Any]
    pickles: list[Pickle]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a run: the arguments of `tune` or `resume`.

    What may be left to the journal is `RECORDED` if it is; what has a default, None.

    Attributes:
        journal: the path of the journal.
        named: whether the user knows that path.
        begins: whether it may begin the run, as `tune` does. Such a request names the whole plan,
            and a run that is there must have been begun with the same plan. Any other request
            changes only what it names.

    Raises:
        LetstuneError: something is not what it must be. Nothing was written.
    """

    journal: Path
    named: bool = True
    begins: bool
    trainer: Any = RECORDED
    n_trials: Any = RECORDED
    dataset: Any = RECORDED
    rounds: Any = RECORDED
    sampler: Any = RECORDED
    store: Any = RECORDED
    observers: Any = RECORDED
    workers: Any = None
    gpus: Any = None
    epoch_timeout: Any = None
    trial_timeout: Any = None
    max_deaths: Any = None
    lag: Any = None
    seed: Any = None
    keep_checkpoints: Any = RECORDED
    passthrough_errors: bool = False
    rehearse: bool = True
    progress: bool | None = None
    accept_changes: bool = False
    retry_failed: bool | None = None
    max_failures: Any = None
    until: Any = None
    for_: Any = None

    def __post_init__(self) -> None:
        # What can be refused is refused here: each of these is worked out once, and kept.
        check_sharing()
        _ = self.how, self.values, self.backends, self.lengths
        if self.begins:
            _ = self.told, self.pickles, self.kept_dataset, self.rounds_of(None)
        if self.max_failures is not None:
            whole_number("max_failures", self.max_failures, 0)
        seconds_left(self.until, self.for_)

    @property
    def endless(self) -> bool:
        """Whether there are to be trials as long as there is time, if this begins the run."""
        return self.begins and self.timed and self.n_trials is None

    @property
    def timed(self) -> bool:
        """Whether the session is to end at some time."""
        return self.until is not None or self.for_ is not None

    @property
    def records(self) -> bool:
        """Whether what is asked for gets into the journal, and is not there already."""
        return not (self.begins and self.journal.exists())

    def _made(self, kind: str, given: Any) -> Backend:
        backend = Backend.of(kind, given, self.journal)
        if self.records:
            backend.check_harmless()
        return backend.ready()

    @cached_property
    def executor(self) -> Backend | None:
        """The executor of a plugin, if one is asked for."""
        found = Backend.elsewhere(self.workers)
        if found is not None and self.records:
            found.check_harmless()
        return found

    @cached_property
    def how(self) -> dict[str, Any]:
        """Those fields of `How` that are asked for."""
        names = ("workers", "gpus", "epoch_timeout", "trial_timeout", "max_deaths")
        return asked_how({name: getattr(self, name) for name in names}, self.executor)

    @cached_property
    def values(self) -> dict[str, Any]:
        """The fields of `Plan` that are asked for, except those that other parts describe."""
        asked: dict[str, Any] = {} if self.trainer is RECORDED else facts_of_trainer(self.trainer)
        if self.n_trials is not RECORDED and not self.endless:
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
        if self.sampler is not RECORDED:
            asked["sampler"] = self._made("sampler", self.sampler)
            asked["sampler"].make().check(params_class(self.trainer).space())
        if self.store is not RECORDED:
            asked["store"] = self._made("store", self.store)
        return asked

    @cached_property
    def told(self) -> tuple[Backend, ...] | None:
        """The observers that are asked for, made."""
        if self.observers is RECORDED:
            return None
        if isinstance(self.observers, str) or not isinstance(self.observers, Iterable):
            raise PlanError(
                f"observers={told(self.observers)}: expected a list of names or Observer objects."
            )
        return tuple(self._made("observer", one) for one in self.observers)

    @cached_property
    def pickles(self) -> list[Pickle]:
        """The pickles to keep of the trainer, and of a sampler and a store that are objects."""
        kept = [] if self.trainer is RECORDED else [keep("trainer", self.trainer)]
        return kept + [p for b in self.backends.values() if (p := b.pickle()) is not None]

    @cached_property
    def kept_dataset(self) -> tuple[Pickle | None, str]:
        """The dataset's pickle, or why it cannot be kept."""
        if self.dataset is RECORDED:
            return None, ""
        elsewhere = self.executor is not None or bool(self.how.get("workers"))
        return keep_dataset(self.dataset, needed=self.begins and elsewhere)

    @property
    def described_dataset(self) -> dict[str, Any]:
        """The plan's fact about the dataset."""
        return describe_dataset(self.dataset, kept=self.kept_dataset[0] is not None)

    @cached_property
    def lengths(self) -> Any:
        """The rounds that are asked for: as such, or as a tuple of lengths; None if none are."""
        given = None if self.rounds is RECORDED else self.rounds
        if given is None or isinstance(given, Rounds):
            return given
        if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
            raise PlanError(
                f"rounds={given!r}: expected numbers of epochs, such as [3, 9, 36], or timedeltas."
            )
        return tuple(given)

    def rounds_of(self, recorded: Plan | None) -> Rounds:
        """Return the rounds that are asked for; a bare list keeps all else as recorded.

        Raises:
            PlanError: the argument is not rounds, or the trainer takes none.
        """
        given = self.lengths
        simple = self.values.get("simple", recorded and recorded.simple)
        if simple and given is not None:
            raise PlanError(
                f"rounds={given!r}: a SimpleTrainer trains each trial in one go, so it takes "
                "no rounds. Leave them out, or derive the trainer from letstune.EpochTrainer."
            )
        if given is None and recorded is not None:
            return recorded.rounds
        if given is None:
            return self._in_cohorts(Rounds(SIMPLE_ROUNDS) if simple else Rounds())
        if isinstance(given, Rounds):
            return self._in_cohorts(given)
        if recorded is None or self.begins:
            return self._in_cohorts(Rounds(given))
        return Rounds(given, keep=recorded.rounds.keep, cohort=recorded.rounds.cohort)

    def _in_cohorts(self, rounds: Rounds) -> Rounds:
        """Return rounds in which there can be trials without end: else, all would be one cohort."""
        if (
            not self.endless
            or rounds.cohort is not None
            or self.backends["sampler"].make().adaptive
        ):
            return rounds
        return replace(rounds, cohort=COHORT)

    def first_plan(self) -> Plan:
        """Return the plan of a run that this begins.

        Raises:
            LetstuneError: the executor cannot be reached, to ask how many tasks it can train.
        """
        sampler, store = self.backends["sampler"], self.backends["store"]
        asked = {"lag": 0, "seed": fresh_seed(), "n_trials": COHORT, **self.values, **self.how}
        plan = Plan(
            **asked,
            rounds=self.rounds_of(None),
            sampler=sampler.fact(),
            adaptive=sampler.make().adaptive,
            store=store.fact(),
            dataset=self.described_dataset,
        )
        if not plan.rounds.timed:
            plan = replace(plan, horizon=int(plan.rounds.limits[-1]))
        if plan.adaptive:
            plan = replace(plan, attempts=ATTEMPTS)
        if self.executor is None:
            plan = replace(plan, threads=own_threads(how_many_workers(plan), os.environ))
        return plan if self.lag is not None else replace(plan, lag=first_lag(plan, self.executor))

    def first(self) -> First:
        """Return what a new journal is made of.

        Raises:
            LetstuneError: see `first_plan`; or the trainer has what a run would replace.
        """
        check_names(self.trainer)
        plan = self.first_plan()
        facts = plan.to_facts()
        facts |= {"versions": versions(self.trainer), "observers": named_observers(self.told or ())}
        facts |= {"endless": True} if self.endless else {}
        path, (dataset, why_not) = self.journal, self.kept_dataset
        where = "" if self.named else f"letstune: {path}; resume with: {to_resume(path)}"
        notes = (where, told_of_sharing(path), why_not, advice(self.trainer, plan.metric))
        return First(
            facts=facts,
            pickles=[*self.pickles, *([] if dataset is None else [dataset])],
            notes=[note for note in notes if note],
        )


def to_resume(journal: Path) -> str:
    """Return the command that goes on with a run."""
    return f"letstune resume {shlex.quote(str(journal))}"


def facts_of_trainer(trainer: Any) -> dict[str, Any]:
    """Return the fields of `Plan` that describe a trainer.

    Raises:
        TrainerError: it cannot be driven.
    """
    return {
        "space": params_class(trainer).space().to_json(),
        "metric": check_trainer(trainer),
        "simple": isinstance(trainer, SimpleTrainer),
    }


def named_observers(observers: Sequence[Backend]) -> list[dict[str, Any]]:
    """Return the plan's facts about the observers that have a name: a resume tells these, too."""
    return [backend.fact() for backend in observers if backend.options is not None]


def _how_many_kept(keep_checkpoints: object) -> int | Literal["all"]:
    """Return how many trials keep the checkpoint of their best epoch."""
    if keep_checkpoints == "all":
        return "all"
    if isinstance(keep_checkpoints, str):
        raise PlanError(
            f"keep_checkpoints={keep_checkpoints!r}: expected 'all', or how many of the best "
            "trials keep the checkpoint of their best epoch."
        )
    return whole_number("keep_checkpoints", keep_checkpoints, 0)
