"""Where a request meets its journal: what differs is refused, and what may grow grows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from letstune.errors import PlanError, PluginError, StoreError
from letstune.journal.journal import Journal
from letstune.rounds.events import TrialRetried
from letstune.rounds.pickles import Pickle
from letstune.rounds.plan import How, Plan
from letstune.rounds.state import State
from letstune.runs.backend import Backend
from letstune.runs.differences import differences, plan_changed
from letstune.runs.how import own_executor
from letstune.runs.pickles import (
    changed_script,
    compare_dataset,
    is_new,
    is_the_same_dataset,
    restore,
    restore_dataset,
)
from letstune.runs.request import RECORDED, Request, facts_of_trainer, named_observers
from letstune.runs.signing import Judge
from letstune.samplers.sampler import Sampler
from letstune.space.tree import Space
from letstune.telling.lines import counted, say
from letstune.telling.observers import Observer
from letstune.training.stores import GONE, Store
from letstune.training.trainer import params_class


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a request and a journal have agreed on.

    Attributes:
        asked: the request.
        trainer: the one that was given, or brought back.
        dataset: likewise; None if there is nothing left to train.
        space: the trainer's.
        executor: what makes it.
        growth: the facts of the plan to record.
        pickles: what to add to the pickles that the journal keeps.
        retried: the failed trials that are opened again.
        endless: whether there are to be trials as long as there is time.
        trains: whether there is anything left to do.
        notes: what to tell the user.
    """

    asked: Request
    trainer: Any
    dataset: Any
    space: Space
    sampler: Sampler
    store: Store
    observers: Sequence[Observer]
    executor: Backend
    growth: Mapping[str, Any]
    pickles: Sequence[Pickle]
    retried: Sequence[int]
    endless: bool
    trains: bool
    notes: Sequence[str]

    def grow(self, opened: Journal, state: State, judge: Judge) -> State:
        """Record what has grown, signed anew, and return the state that the journal has then."""
        for note in self.notes:
            say(note)
        if self.trains or self.growth or self.pickles:
            owned = judge.own()
            opened.seal = owned.seal
            growth = {**self.growth, **owned.renewed(self.growth, self.pickles)}
            if owned.note:
                say(owned.note)
            if growth or self.pickles or self.retried:
                # Together: with the new trainer recorded, and a crash, nothing would tell it is
                # new. And what is not signed would lock its user out.
                opened.grow(growth, self.pickles, map(TrialRetried, self.retried))
        return opened.load()[1] if self.growth or self.retried else state


class _Part(NamedTuple):
    """What comes of one part of a request: the thing, and what to record and tell about it."""

    thing: Any
    facts: Mapping[str, Any] = {}
    pickles: Sequence[Pickle] = ()
    notes: Sequence[str] = ()


def meet(asked: Request, opened: Journal, state: State) -> Run:
    """Return what to do about a request. Nothing is written.

    Args:
        asked: the request.
        opened: the journal.
        state: its state, with the plan as it is recorded.

    Raises:
        PlanChangedError: the run was started with another plan.
        PickleError: the trainer or the dataset cannot be brought back.
        PluginError: a plugin with which the run was started is not installed.
        StoreError: the store is away.
    """
    trainer, notes = _trainer(asked, opened)
    recorded, plan = state.plan, _wanted(asked, state.plan, trainer)
    new = [pickle for pickle in asked.pickles if is_new(opened, pickle)]
    retried = _retried(asked, opened, new)
    endless = asked.timed and bool(opened.facts().get("endless"))
    trains = not state.finished or plan.grows(recorded) or bool(retried.thing) or endless
    met = _backends(asked, opened, plan, trains=trains)
    if "sampler" in asked.backends and met["sampler"].continues(was := _sampler(opened, recorded)):
        # Nor is what is asked for to be kept: a resume would go on with that.
        met["sampler"], new = was.again(opened), [p for p in new if p.name != "sampler"]
    _refuse(asked, opened, state, plan, met)
    if "store" in asked.backends:
        met["store"] = _in_its_place(met["store"], opened, recorded)
    store = met["store"].make()
    if trains:
        _require_checkpoints(opened.path, state, store)
    growth = _grown(state, plan) | (_suppliers(recorded, met) if asked.accept_changes else {})
    carried_out = _carried_out(recorded, plan, met)
    dataset = _dataset(asked, opened, recorded, trains=trains)
    observers = _observers(asked, opened)
    growth |= {**dataset.facts, **observers.facts}
    pickles = [*new, *dataset.pickles]
    if state.finished and not growth and not retried.thing:
        carried_out, pickles = {}, []  # nobody is going to need them
    changed = [*_of_a_new_trainer(opened, state, pickles), *retried.notes]
    return Run(
        asked=asked,
        trainer=trainer,
        dataset=dataset.thing,
        space=params_class(trainer).space(),
        sampler=met["sampler"].make(),
        store=store,
        observers=observers.thing,
        executor=_executor(asked, plan) if trains else Backend.own("executor", "in-process", None),
        growth=growth | carried_out,
        pickles=pickles,
        retried=retried.thing,
        endless=endless,
        trains=trains,
        notes=[*(notes if trains else ()), *dataset.notes, *observers.notes, *changed],
    )


def _refuse(
    asked: Request, opened: Journal, state: State, plan: Plan, met: Mapping[str, Backend]
) -> None:
    """Refuse another plan than the recorded one, and what must not be recorded.

    Raises:
        PlanChangedError: the run was started with another plan.
        PlanError: the executor that is asked for has an option that may hold a secret.
    """
    if lines := list(differences(asked, state.plan, plan, met)):
        raise plan_changed(opened.path, lines, begun=state.total_epochs > 0)
    # As JSON, in which a tuple is a list.
    if asked.executor is not None and json.dumps(plan.workers) != json.dumps(state.plan.workers):
        asked.executor.check_harmless()


def _trainer(asked: Request, opened: Journal) -> tuple[Any, list[str]]:
    """Return the trainer, and what to tell of one that is brought back.

    Raises:
        PickleError: it cannot be brought back.
    """
    if asked.trainer is not RECORDED:
        return asked.trainer, []
    trainer = restore(opened, "trainer", "name the trainer: --trainer MODULE:NAME.")
    cure = "To use it as it is now, run it again, or give --trainer FILE:CLASS."
    return trainer, [f"letstune: {what}. {cure}" for what in changed_script(opened, trainer)]


def _wanted(asked: Request, recorded: Plan, trainer: Any) -> Plan:
    """Return the recorded plan with all that is asked for."""
    wanted = {"rounds": asked.rounds_of(recorded), **asked.values, **asked.how}
    if asked.begins:
        wanted["dataset"] = asked.described_dataset
    if asked.trainer is RECORDED:  # its module may have changed
        wanted |= facts_of_trainer(trainer)
    return replace(recorded, **wanted)


def _backends(asked: Request, opened: Journal, plan: Plan, *, trains: bool) -> dict[str, Backend]:
    """Return the sampler, the store and the executor: as asked for, or as recorded."""
    met = dict(asked.backends)
    for kind in ("sampler", "store", "executor"):
        fact = getattr(plan, kind)
        if kind not in met and fact is not None and (trains or kind != "executor"):
            met[kind] = Backend.recorded(kind, fact, opened.path).again(opened)
    return met


def _sampler(opened: Journal, recorded: Plan) -> Backend:
    """Return the sampler as it is recorded."""
    return Backend.recorded("sampler", recorded.sampler, opened.path)


def _in_its_place(store: Backend, opened: Journal, recorded: Plan) -> Backend:
    """Return a store that is asked for by name as the run's own folder in it."""
    if store.options is None:
        return store
    return Backend.recorded("store", recorded.store, opened.path).again(opened)


def _executor(asked: Request, plan: Plan) -> Backend:
    return asked.executor or Backend.elsewhere(plan.workers) or own_executor(plan)


def _require_checkpoints(path: Path, state: State, store: Store) -> None:
    """Refuse to train into a store that is away: it would be made anew, and seem to have lost all.

    Raises:
        StoreError: the store is empty, though it should have checkpoints.
    """
    kept = sum(len(trial.kept) for trial in state.trials)
    if kept and next(iter(store.list()), None) is None:
        where = getattr(store, "root", type(store).__name__)
        checkpoints = counted(kept, "checkpoint")
        raise StoreError(f"{path}: none of the run's {checkpoints} is in {where}, {GONE}")


# What may grow, or change


def _grown(state: State, plan: Plan) -> dict[str, Any]:
    """Return the facts of more trials, and of longer rounds."""
    recorded = state.plan
    facts: dict[str, Any] = {}
    if plan.n_trials != recorded.n_trials:
        facts["n_trials"] = plan.n_trials
        if state.exhausted:
            facts["exhausted"] = None  # look again: of some spaces it is only likely
    if plan.rounds != recorded.rounds:
        facts["rounds"] = plan.rounds.to_dict()
    return facts


def _suppliers(recorded: Plan, met: Mapping[str, Backend]) -> dict[str, Any]:
    """Return the facts of a sampler and a store whose new suppliers were accepted."""
    facts = {kind: getattr(recorded, kind) for kind in ("sampler", "store")}
    return {
        kind: {**fact, "by": met[kind].by}
        for kind, fact in facts.items()
        if fact["by"] != met[kind].by
    }


def _carried_out(recorded: Plan, plan: Plan, met: Mapping[str, Backend]) -> dict[str, Any]:
    """Return the facts of how the run is carried out from now on."""
    if "executor" in met:
        plan = replace(plan, executor=met["executor"].fact())
    return {
        each.name: getattr(plan, each.name)
        for each in fields(How)
        if getattr(plan, each.name) != getattr(recorded, each.name)
    }


def _dataset(asked: Request, opened: Journal, recorded: Plan, *, trains: bool) -> _Part:
    """Return the dataset that is given, or the one that is kept; None if nobody will load it."""
    if asked.begins:
        return _Part(asked.dataset, notes=compare_dataset(opened, asked.kept_dataset[0]))
    if not trains:
        return _Part(None)
    if asked.dataset is RECORDED:
        thing, told = restore_dataset(opened, recorded)
        return _Part(thing, notes=told)
    kept, why_not = asked.kept_dataset
    described = asked.described_dataset
    if described == recorded.dataset and is_the_same_dataset(opened, kept):
        return _Part(asked.dataset)
    notes = [why_not] if why_not else []
    old = opened.pickle_sha256("dataset")
    if not notes and (old is not None or described["type"] != recorded.dataset["type"]):
        notes = [
            "letstune: the dataset is not the same as before; the new one is recorded. If metric "
            "values cannot be compared, give another journal."
        ]
    return _Part(asked.dataset, {"dataset": described}, [kept] if kept else [], notes)


def _observers(asked: Request, opened: Journal) -> _Part:
    """Return the observers that are given, or those that the run names."""
    facts = [_observer_fact(fact) for fact in opened.facts()["observers"]]
    if asked.told is not None:
        named, made = named_observers(asked.told), [backend.make() for backend in asked.told]
        changed = not asked.begins and [(f["name"], f["options"]) for f in named] != [
            (fact["name"], fact["options"]) for fact in facts
        ]
        return _Part(made, {"observers": named} if changed else {})
    made, notes = [], []
    for fact in facts:
        try:
            made.append(Backend.recorded("observer", fact, opened.path).again(opened).make())
        except (PlanError, PluginError) as error:  # no reason not to go on
            notes.append(f"letstune: the run goes on without an observer. {error}")
    return _Part(made, notes=notes)


def _observer_fact(fact: Any) -> Mapping[str, Any]:
    """Return the fact about an observer; old journals have only its name and options."""
    if isinstance(fact, Mapping):
        return fact
    name, options = fact
    return {"name": name, "options": options, "by": None}


def _retried(asked: Request, opened: Journal, new: Sequence[Pickle]) -> _Part:
    """Return the failed trials that are tried again: if that is asked for, or by a new trainer."""
    failed = sorted(failure.trial for failure in opened.failures())
    if not failed or asked.retry_failed is False:
        return _Part([])
    mended = any(pickle.name == "trainer" for pickle in new)
    if not asked.retry_failed and not mended:
        return _Part([])
    why = "" if asked.retry_failed else ", since the trainer or its script has changed"
    trials = counted(len(failed), "failed trial")
    return _Part(failed, notes=[f"letstune: {trials} of {opened.path} will be tried again{why}."])


def _of_a_new_trainer(opened: Journal, state: State, pickles: Sequence[Pickle]) -> list[str]:
    """Return what to tell if a run that has recorded epochs goes on with another trainer."""
    if not state.total_epochs or all(pickle.name != "trainer" for pickle in pickles):
        return []
    return [
        f"letstune: the trainer, or the script that it is in, has changed since {opened.path} "
        f"recorded {counted(state.total_epochs, 'epoch')}; all other epochs are trained "
        "with it as it is now. If their metric values cannot be compared, give another journal."
    ]
