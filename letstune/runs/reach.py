"""What a journal would run, and whom it would reach, in words: for who is asked to trust it.

All of it is what the journal says, so it may be anything, and may hold what others take for secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from letstune._visible import visible
from letstune.journal.signatures import PickleRow
from letstune.plugins.hookspecs import PROJECT
from letstune.runs.as_recorded import own_place

LONG: Final = 200
"""So many characters of what a journal says are shown."""


MANY: Final = 20
"""So many things of each kind are shown; a run has a few, unless it is made to hide some."""


class Reach(NamedTuple):
    """What a journal would run, whom it would reach, and the folders it would import from."""

    runs: list[str]
    reaches: list[str]
    folders: list[str]

    def first(self, number: int) -> Reach:
        """Return the first ones of each, and how many more there are."""
        return Reach(*(_first(things, number) for things in self))


def reach_of(journal: Path, plan: Mapping[str, Any], pickles: Iterable[PickleRow]) -> Reach:
    """Return what would be run and reached.

    Args:
        journal: its path.
        plan: the facts of its plan, which may be anything.
        pickles: all that it has; of each name, the latest is shown.
    """
    latest = {row.name: row for row in pickles}
    about = {name: _about(row) for name, row in latest.items()}
    runs = [
        f"the pickled {shown(name)} ({shown(str(about[name].get('type')))}, SHA-256 "
        f"{shown(row.sha256[:12])}...)"
        for name, row in latest.items()
    ]
    named = {folder for one in about.values() for folder in _list(one.get("folders"))}
    return Reach(
        runs=[*runs, *_plugins("sampler", plan.get("sampler"))],
        reaches=[
            *_stores(journal, plan.get("store")),
            *_workers(plan.get("workers"), plan.get("executor")),
            *(line for one in _list(plan.get("observers")) for line in _plugins("observer", one)),
        ],
        folders=sorted(shown(str(folder)) for folder in named),
    )


def _first(things: list[str], number: int) -> list[str]:
    more = len(things) - number
    return [*things[:number], f"{more} more"] if more > 0 else things


def _about(row: PickleRow) -> Mapping[str, Any]:
    try:
        about = json.loads(row.about)
    except ValueError:
        about = None
    return about if isinstance(about, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _plugins(kind: str, fact: object) -> Iterator[str]:
    """Yield what a fact says of something of a plugin's; nothing if it is of letstune's own."""
    if isinstance(fact, list):  # as old journals have observers
        fact = {"name": fact[0], "options": fact[1]} if len(fact) == 2 else None
    if not isinstance(fact, Mapping):
        if fact is not None:
            yield f"the {kind} {shown(json.dumps(fact))}"
    elif not _is_own(fact) and fact.get("options") is not None:
        yield f"the {kind} {shown(str(fact.get('name')))}{supplied(fact)}"


def _is_own(fact: Mapping[str, Any]) -> bool:
    by = fact.get("by")
    return isinstance(by, Mapping) and by.get("distribution") == PROJECT


def supplied(fact: Mapping[str, Any]) -> str:
    """Return who supplies something, and with which options."""
    by, options = fact.get("by"), fact.get("options")
    who = f" of {by.get('distribution')} {by.get('version')}" if isinstance(by, Mapping) else ""
    return shown(who) + (f" with the options {given}" if (given := _given(options)) else "")


def _given(options: object) -> str:
    """Return options: of values, only addresses are shown, since any other may be a secret."""
    if not isinstance(options, Mapping):
        return ""
    return shown(
        ", ".join(
            f"{name}={value!r}" if isinstance(value, str) and "://" in value else str(name)
            for name, value in options.items()
        )
    )


def _stores(journal: Path, fact: object) -> Iterator[str]:
    if not isinstance(fact, Mapping):
        yield f"a store {shown(json.dumps(fact))}"
    elif fact.get("options") is None:
        yield f"a store that is kept as a pickle, {shown(str(fact.get('name')))}"
    else:
        try:
            where = own_place(fact, journal)
        except (AttributeError, KeyError, TypeError, ValueError):
            where = json.dumps(fact.get("uri"))
        plugin = "" if _is_own(fact) else f", by{supplied(fact)[3:]}"
        led = ", to which a link leads" if _is_own(fact) and Path(where).is_symlink() else ""
        yield f"checkpoints in {shown(where)}{led}{plugin}"


def _workers(workers: object, executor: object) -> Iterator[str]:
    """Yield where the run is trained, if that is not on this machine."""
    address, options = (
        workers if isinstance(workers, list | tuple) and len(workers) == 2 else (workers, {})
    )
    if executor is not None or (isinstance(address, str) and "://" in address):
        by = supplied({"by": executor.get("by")}) if isinstance(executor, Mapping) else ""
        given = f" with the options {told}" if (told := _given(options)) else ""
        yield f"workers at {shown(str(address))}{by}{given}"


def shown(text: str) -> str:
    """Return a text of a journal as it may be shown: short, and without what may be secret."""
    text = re.sub(r"//[^/@\s]*@", "//...@", visible(text, keep=""))  # lines are letstune's own
    text = re.sub(r"\?[^\s'\"]*", "?...", text)
    return f"{text[:LONG]}..." if len(text) > LONG else text
