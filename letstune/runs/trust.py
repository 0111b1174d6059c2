"""Trust: whether what a journal names may be contacted, and what it holds be run.

What a journal names is data. Reading commands and `check` touch its folder, and the store of a
journal that is trusted. This is the one place that decides.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any, Final

from letstune.errors import JournalError, StoreError, TrustError
from letstune.journal.journal import Journal
from letstune.plugins.hookspecs import PROJECT
from letstune.runs.as_recorded import own_place
from letstune.runs.backend import Backend, mark_of
from letstune.training.stores import DirectoryStore, Store

_LONG: Final = 200  # characters of what a journal says that are shown


def trusted(journal: Path, *, vouched: bool) -> bool:
    """Tell whether the places that a journal names may be contacted, and its pickles run.

    For now, only who asks can vouch for it. A signature is to be looked for here, and only here.

    Args:
        journal: its path.
        vouched: whether the caller does: `--trust`, ``trust=True``.
    """
    return vouched


def require_trusted_store(journal: Path, fact: object, *, vouched: bool) -> None:
    """Refuse to go to the store that a journal names, unless it is the run's own or is trusted.

    Args:
        journal: its path.
        fact: what its plan says of the store.
        vouched: see `trusted`.

    Raises:
        TrustError: it is somewhere else, or is kept as a pickle. Nothing was contacted or run.
        JournalError: the fact is not one of a store.
    """
    store = _checked(journal, fact)
    if trusted(journal, vouched=vouched) or _is_own(journal, store):
        return
    path = str(journal)
    raise TrustError(
        f"{path}: its checkpoints are {_described(journal, store)}. If you trust whoever wrote the "
        f"journal, say so: `letstune check {shlex.quote(path)} --trust`; in Python, "
        f"letstune.load({path!r}, trust=True)."
    )


def open_store(journal: Path, fact: object, *, vouched: bool = False) -> Store:
    """Return the store of a run's checkpoints.

    Args:
        journal: its path.
        fact: what its plan says of the store.
        vouched: see `trusted`.

    Raises:
        TrustError: see `require_trusted_store`.
        PluginError: its plugin is not installed, or cannot be loaded.
        PickleError: it is kept as a pickle, and cannot be brought back.
    """
    require_trusted_store(journal, fact, vouched=vouched)
    recorded = _checked(journal, fact)
    if not trusted(journal, vouched=vouched):
        # Made here, whatever else the journal says of it.
        mark = mark_of(recorded, vouched=False)
        return DirectoryStore(Path(own_place(recorded, journal)), mark=mark)
    with closing(Journal(journal)) as opened:
        store: Store = Backend.recorded("store", recorded, journal).again(opened).make()
    return store


def _checked(journal: Path, fact: object) -> Mapping[str, Any]:
    """Return the fact about a store.

    Raises:
        JournalError: it is not one.
    """
    if isinstance(fact, Mapping) and isinstance(fact.get("name"), str) and "by" in fact:
        by, options, uri = fact["by"], fact.get("options"), fact.get("uri")
        supplied = isinstance(by, Mapping) and all(
            isinstance(by.get(name), str) for name in ("distribution", "version")
        )
        if options is None:
            legal = by is None or supplied
        else:
            there = isinstance(uri, str) or (uri is None and fact["name"] == "directory")
            named = isinstance(options, Mapping) and isinstance(fact.get("run"), str)
            legal = supplied and there and named
        if legal:
            return fact
    raise JournalError(
        f"{journal}: its plan says of the store {json.dumps(fact)[:_LONG]}, which letstune does "
        "not write. Restore the journal from a backup."
    )


def _is_own(journal: Path, store: Mapping[str, Any]) -> bool:
    """Tell whether a store is a folder of the run's own: beside the journal, or below that."""
    if not _is_directory(store) or store["options"]:
        return False
    uri = PurePath(store["uri"] or "")
    if uri.is_absolute() or ".." in uri.parts or not re.fullmatch(r"\w+", store["run"], re.ASCII):
        return False
    place = Path(own_place(store, journal))
    try:
        if place.resolve().is_relative_to(journal.parent.resolve()):
            return True
        # Somewhere else by a link. That it is the run's, it must say itself.
        return mark_of(store, vouched=False).is_on(place)
    except (OSError, ValueError, RuntimeError, StoreError):  # no path at all, or a ring of links
        return False


def _is_directory(store: Mapping[str, Any]) -> bool:
    kept = store["options"] is None
    return not kept and (store["name"], store["by"]["distribution"]) == ("directory", PROJECT)


def _described(journal: Path, store: Mapping[str, Any]) -> str:
    """Return where checkpoints are, and what would be contacted or run to look at them."""
    if store["options"] is None:
        return (
            f"in a store that is kept as a pickle, {_shown(store['name'])}: to look at them runs "
            "code of the journal"
        )
    by = store["by"]
    if _is_directory(store):
        place = Path(own_place(store, journal))
        led = ", to which a link leads" if place.is_symlink() else ""
        return f"not in the journal's folder, but in {_shown(str(place))}{led}"
    given = ", ".join(  # of values, only addresses are shown: any other one may be a secret
        f"{name}={value!r}" if isinstance(value, str) and "://" in value else name
        for name, value in store["options"].items()
    )
    return (
        f"in {_shown(own_place(store, journal))}, and to look at them runs {by['distribution']} "
        f"{by['version']}" + (f" with the options {_shown(given)}" if given else "")
    )


def _shown(text: str) -> str:
    """Return a text of the journal as it may be shown: short, and without what may be secret."""
    text = re.sub(r"//[^/@\s]*@", "//...@", text)
    text = re.sub(r"\?[^\s'\"]*", "?...", text)
    return f"{text[:_LONG]}..." if len(text) > _LONG else text
