"""Belongings: what a run has of its user, kept in the journal and brought back.

That is the trainer, the dataset, and a sampler or store that is an object or of a plugin.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from letstune._version import __version__
from letstune.errors import PickleError, PlanChangedError, PlanError, PluginError
from letstune.journal.journal import Journal, Pickle
from letstune.plugins.installed import check_allowed, supplier
from letstune.rounds.plan import Plan
from letstune.runs.arguments import (
    another_supplier,
    choose_observers,
    describe_dataset,
    make_sampler,
    make_store,
    recorded_plugin,
)
from letstune.telling.observers import Observer
from letstune.telling.progress import say
from letstune.training import pickling


def keep(name: str, value: object) -> Pickle:
    """Return an object's pickle, with what tells whether its code or its fields have changed.

    Raises:
        PickleError: it cannot be pickled.
    """
    kept = pickling.dump(name, value)
    return replace(kept, about={**kept.about, "fingerprint": pickling.fingerprint(value)})


def keep_dataset(dataset: object, *, needed: bool = False) -> tuple[Pickle | None, str]:
    """Return the dataset's pickle, or why there is none; ``needed`` if workers cannot do without.

    Raises:
        PickleError: it is needed, and cannot be pickled.
    """
    limit = pickling.dataset_limit()
    try:
        return pickling.dump("dataset", dataset, limit), ""
    except pickling.TooBigError:
        why = f"its pickle is larger than {limit} bytes (LETSTUNE_DATASET_LIMIT)"
    except PickleError as error:
        if needed:
            raise
        why = str(error)
    return None, (
        f"letstune: the dataset is not kept in the journal: {why}. The run can be resumed all the "
        "same: letstune.resume(journal, dataset=...), or this script again."
    )


def compare_dataset(journal: Journal, given: Pickle | None) -> str:
    """Return a note if a dataset is not the one that is kept, byte for byte.

    No error: the same data may be pickled in different ways.
    """
    if given is None or journal.pickle_sha256("dataset") in (None, given.sha256):
        return ""
    return (
        "letstune: the dataset is pickled differently from the one with which the run was started; "
        "if it is not the same data, give another journal."
    )


def restore(journal: Journal, name: str, help_with: str) -> Any:
    """Bring back what is kept under a name; ``help_with`` says what to do if that fails.

    Raises:
        PickleError: it cannot be brought back.
    """
    kept = journal.pickle(name)
    if kept is None:
        raise PickleError(f"{journal.path}: there is no {name} in it; {help_with}")
    return pickling.load(kept, journal.path, help_with)


def plugged_again(
    journal: Journal, plan: Plan, kind: Literal["sampler", "store"], *, accept_changes: bool
) -> tuple[Any, dict[str, Any]]:
    """Return the run's sampler or store, and the plan's fact about the one that is there now.

    Raises:
        PluginError: its plugin is not installed, or may not be loaded.
        PlanChangedError: it is of another major version, whose options may be others.
    """
    fact = dict(getattr(plan, kind))
    if fact["options"] is None:
        by = fact["by"]
        if by is not None:
            check_allowed(f"The {kind} {fact['name']!r}", by["distribution"])
        help_with = f"pip install {by['distribution']}" if by else "install what it needs."
        found = restore(journal, kind, help_with)
        return found, fact | {"by": supplier(type(found))}
    plugged = recorded_plugin(journal.path, kind, fact)
    now_ = fact | {"by": plugged.by}
    if not accept_changes and (lines := list(another_supplier(kind, fact, now_))):
        raise plan_changed(journal.path, lines)
    if kind == "sampler":
        return make_sampler(plugged, fact["options"]), now_
    return make_store(plugged, fact, journal.path), now_


def recorded_observers(journal: Journal) -> list[Observer]:
    """Return the observers that the run names. One that is missing is no reason not to go on."""
    told: list[Observer] = []
    for name, options in journal.facts()["observers"]:
        try:
            told += choose_observers([(name, options)])[0]
        except (PlanError, PluginError) as error:
            say(f"letstune: {error} The run goes on without it.")
    return told


def another_dataset(
    journal: Journal, recorded: Plan, dataset: object
) -> tuple[dict[str, Any], list[Pickle], str]:
    """Return what of the plan changes with a dataset, what is to be kept, and a note."""
    kept, note = keep_dataset(dataset)
    described = describe_dataset(dataset, kept is not None)
    old = journal.pickle_sha256("dataset")
    if described == recorded.dataset and kept is not None and kept.sha256 == old:
        return {}, [], note
    if old is not None or described["type"] != recorded.dataset["type"]:
        note = note or (
            "letstune: the dataset is another one than before, and is recorded. If metric values "
            "cannot be compared, give another journal."
        )
    return {"dataset": described}, [kept] if kept else [], note


def restore_dataset(journal: Journal, plan: Plan) -> Any:
    """Bring the dataset back.

    Raises:
        PickleError: it was not kept, or cannot be brought back.
    """
    if not plan.dataset["kept"]:
        raise PickleError(
            f"{journal.path}: its dataset, a {plan.dataset['type']}, was not kept. Give it: "
            "letstune.resume(journal, dataset=...) or, if it is text, --dataset; or run the script "
            "again that started the run."
        )
    return restore(journal, "dataset", "give it: dataset=..., --dataset TEXT.")


def is_new(journal: Journal, kept: Pickle) -> bool:
    """Tell whether a pickle is of something else than what the journal keeps by its name."""
    if journal.pickle_sha256(kept.name) == kept.sha256:
        return False
    before, fingerprint = journal.pickle(kept.name), kept.about.get("fingerprint")
    return before is None or fingerprint is None or fingerprint != before.about.get("fingerprint")


def plan_changed(path: Path, lines: Sequence[str], *, begun: bool = True) -> PlanChangedError:
    """Return the error that lists how a plan differs from the recorded one."""
    listed = "\n".join(f"  {line}" for line in lines)
    return PlanChangedError(
        f"{path} was started with another plan, and nothing was changed:\n{listed}\n"
        + (
            "Resume it with the plan that it has, or give another journal."
            if begun
            else "No epoch is recorded in it yet: delete it to begin anew."
        )
    )


def versions(trainer: object) -> dict[str, str]:
    """Return the versions of Python, of letstune, and of what the trainer's module imports."""
    import platform

    import numpy

    found = {"letstune": __version__, "python": platform.python_version()}
    found["numpy"] = numpy.__version__
    module = sys.modules.get(type(trainer).__module__)
    for value in vars(module).values() if module else ():
        # Not getattr of a module, which may import on being asked.
        is_module = isinstance(value, ModuleType)
        name = vars(value).get("__name__") if is_module else getattr(value, "__module__", None)
        package = sys.modules.get(str(name).split(".")[0])
        version = vars(package).get("__version__") if package else None
        if package is not None and package is not module and isinstance(version, str):
            found[package.__name__] = version
    return dict(sorted(found.items()))
