"""A backend: a sampler, store, observer or executor, as it is asked for or as a journal names it.

It is found by its name, with options, or it is an object that is kept as a pickle. Whatever it is,
it checks, makes, describes and compares itself.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from letstune.errors import PlanError, PluginError
from letstune.journal.journal import Journal
from letstune.plugins import installed
from letstune.plugins.harmless import check_harmless, check_texts, hidden, redacted, told
from letstune.plugins.hookspecs import PROJECT
from letstune.plugins.installed import Plugged
from letstune.rounds.pickles import Pickle
from letstune.runs.as_recorded import named, own_place, public_fields, relative
from letstune.runs.pickles import keep, restore
from letstune.samplers.sampler import Sampler
from letstune.telling.observers import Observer
from letstune.training.pickling import type_name
from letstune.training.places import Mark
from letstune.training.stores import Store
from letstune.training.unpickler import today
from letstune.workers.executor import Executor

CLASSES: Final[Mapping[str, type[Any]]] = {
    "sampler": Sampler,
    "store": Store,
    "observer": Observer,
    "executor": Executor,
}
"""What is made of each kind of backend."""

_EXPECTED: Final = {
    "sampler": "a name such as 'random', a name with a dict of options",
    "store": "a directory, a URI such as 's3://bucket/runs', one of these with a dict of options",
    "observer": "a name, a name with a dict of options",
}


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A sampler, store, observer or executor.

    Attributes:
        kind: one of `CLASSES`.
        name: the name that a plugin registers (for a store or an executor, the scheme of its URI),
            or the class of an object.
        options: what the user gives to its factory; None for an object.
        by: the distribution that supplies it, and its version; None if no distribution does.
        extra: what else the plan says about it: a store's uri and run, or an object's public
            fields.
        arguments: what its factory gets besides the options: a store's own URI, or an address.
        made: the object that was given, or that `ready` has made.
        later: the names of a sampler's options, or of an object's fields, that were not given, and
            that a run need not have: see `Sampler.begins_with`.
        plugged: the plugin that makes it, once it is found.
    """

    kind: str
    name: str
    options: Mapping[str, Any] | None = field(repr=False)
    by: Mapping[str, str] | None
    extra: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[Any, ...] = ()
    made: Any = field(default=None, repr=False)
    later: Collection[str] = ()
    plugged: Plugged | None = field(default=None, repr=False)

    @staticmethod
    def of(kind: str, given: Any, journal: Path) -> Backend:
        """Return the backend that is asked for: by a name, with options, by a URI, or an object.

        Args:
            kind: one of `CLASSES`, but not an executor; for that, see `Backend.elsewhere`.
            given: what the user gave.
            journal: the path of the run's journal.

        Raises:
            PlanError: no backend has that name.
            PluginError: its plugin cannot be found.
        """
        if isinstance(given, CLASSES[kind]):
            return _of_object(kind, given)
        what = f"observers=[{told(given)}]" if kind == "observer" else f"{kind}={told(given)}"
        if kind == "store":
            return _of_store(what, given, journal)
        name, options = named(what, given, _expected(kind))
        plugged = installed.find(kind, name)
        begins_with = getattr(plugged.factory(), "begins_with", {}) if kind == "sampler" else {}
        return Backend(
            kind=kind,
            name=name,
            options={**begins_with, **options},
            by=plugged.by,
            plugged=plugged,
            later=begins_with.keys() - options.keys(),
        )

    @staticmethod
    def elsewhere(workers: Any) -> Backend | None:
        """Return the executor that is asked for, if it is a plugin's; None if it is letstune's own.

        Raises:
            PlanError: no plugin has an executor for that address.
            PluginError: its plugin cannot be found.
        """
        address: Any = workers
        options: dict[str, Any] = {}
        if isinstance(workers, list | tuple):
            address, options = named(
                f"workers={told(tuple(workers))}", tuple(workers), "a URI with a dict of options"
            )
        if isinstance(address, str):
            scheme, separator, _ = address.partition("://")
            if not separator:
                return None
        elif address is None or hasattr(address, "__index__") or isinstance(address, float):
            return None
        else:
            scheme = type(address).__module__.partition(".")[0]
        plugged = installed.find("executor", scheme)
        if plugged.distribution == PROJECT:
            raise PlanError(
                f"workers={told(address)}: {scheme} has no address. Give the number of processes, "
                "or 0 to train in this process."
            )
        return Backend(
            kind="executor",
            name=plugged.name,
            options=options,
            by=plugged.by,
            arguments=(address,),
            plugged=plugged,
        )

    @staticmethod
    def own(kind: str, name: str, *arguments: Any, **options: Any) -> Backend:
        """Return one of letstune's own."""
        plugged = installed.find(kind, name, of=PROJECT)
        return Backend(
            kind=kind,
            name=name,
            options=options,
            by=plugged.by,
            arguments=arguments,
            plugged=plugged,
        )

    @staticmethod
    def recorded(kind: str, fact: Mapping[str, Any], journal: Path) -> Backend:
        """Return the backend that a journal names, without looking for it."""
        extra = {k: v for k, v in fact.items() if k not in ("name", "options", "by")}
        backend = Backend(
            kind=kind, name=fact["name"], options=fact.get("options"), by=fact["by"], extra=extra
        )
        if kind == "store" and backend.options is not None:
            return replace(backend, arguments=_arguments(fact, journal))
        return backend

    def again(self, journal: Journal) -> Backend:
        """Return a recorded backend as it is now: the one that is installed, or unpickled.

        Raises:
            PluginError: its plugin is not installed, or may not be loaded.
            PickleError: the object cannot be brought back.
        """
        if self.options is not None or self.kind == "executor":
            plugged = self._installed(journal.path)
            return replace(self, by=plugged.by, plugged=plugged)
        if self.by is not None:
            installed.check_allowed(f"The {self.kind} {self.name!r}", self.by["distribution"])
        needs = f"pip install {self.by['distribution']}" if self.by else "install what it needs."
        found = restore(journal, self.kind, needs)
        return replace(self, made=found, by=installed.supplier(type(found)))

    def _installed(self, journal: Path) -> Plugged:
        if self.by is None:  # old journals do not record it of an observer
            return installed.find(self.kind, self.name)
        by = self.by
        try:
            return installed.find(self.kind, self.name, of=by["distribution"])
        except PlanError as error:
            raise PluginError(
                f"{journal} was started with {self.kind} {self.name!r} ({by['distribution']} "
                f"{by['version']}), which is not installed. Install it and "
                f"{'it is told again' if self.kind == 'observer' else 'resume again'}:  "
                f"pip install {by['distribution']}"
            ) from error

    def fact(self) -> dict[str, Any]:
        """Return the plan's fact about it, as JSON has it."""
        if self.kind == "executor":  # its address and options are the plan's `workers`
            return {"name": self.name, "by": self.by}
        return {"name": self.name, "options": self.options, **self.extra, "by": self.by}

    def pickle(self) -> Pickle | None:
        """Return what the journal keeps of it, if it is an object.

        Raises:
            PickleError: it cannot be pickled.
        """
        return keep(self.kind, self.made) if self.options is None else None

    def make(self, *more: Any, **given: Any) -> Any:
        """Return the sampler, store, observer or executor itself.

        Args:
            more: what its factory gets after `arguments`.
            given: what its factory gets besides the user's options.

        Raises:
            PlanError: its factory does not take these options.
            PluginError: the plugin cannot be loaded, or makes something else.
        """
        if self.made is not None:
            return self.made
        if self.plugged is None or self.options is None:
            raise RuntimeError(f"{self} is only recorded: it is made of what `again` returns")
        options = self.options
        if taken := sorted(given.keys() & options.keys()):
            raise PlanError(
                f"workers={told((*self.arguments, options))}: {', '.join(taken)} cannot be given "
                "as an option. Timeouts are arguments of their own: epoch_timeout, trial_timeout."
            )
        made = installed.make(self.plugged, *self.arguments, *more, **given, **options)
        if isinstance(made, CLASSES[self.kind]):
            return made
        raise PluginError(
            f"{self.plugged} is {made!r:.200}; expected an object of a class derived from "
            f"letstune.{CLASSES[self.kind].__name__}. Mend the plugin."
        )

    def ready(self) -> Backend:
        """Return the backend with its object made, which `make` then returns each time.

        Raises:
            PlanError: see `make`.
            PluginError: see `make`.
        """
        return replace(self, made=self.make())

    def count(self) -> int:
        """Return how many tasks an executor can train now; 1 where that is not known."""
        count = None if self.plugged is None else getattr(self.plugged.factory(), "count", None)
        return int(count(*self.arguments, **(self.options or {}))) if count else 1

    def another_supplier(self, was: Backend) -> Iterator[str]:
        """Yield a line if another plugin, or another major version of it, has the same name."""
        before, after = was.by, self.by
        # letstune's own backends resume what any version of letstune has started.
        if was.name == self.name and before and after and before["distribution"] != "letstune":
            first, second = (_series(by["version"]) for by in (before, after))
            if (before["distribution"], first) != (after["distribution"], second):
                yield (
                    f"{self.kind} {was.name!r}: was from {before['distribution']} "
                    f"{before['version']}, is from {after['distribution']} {after['version']}; to "
                    "go on with it, give accept_changes=True or --accept-changes"
                )

    def continues(self, was: Backend) -> bool:
        """Tell whether the recorded one is the same, but that it is from before a later option."""
        given = self.extra["fields"] if self.options is None else self.options
        known = was.extra.get("fields", was.options or {})
        kept = {k: v for k, v in given.items() if k in known or k not in self.later}
        before = (
            replace(self, extra={"fields": kept})
            if self.options is None
            else replace(self, options=kept)
        )
        return kept != given and not any(before.differs(was))

    def differs(self, was: Backend) -> Iterator[str]:
        """Yield a line if the recorded backend differs; who supplies it does not matter."""
        before, after = (json.dumps(b._comparable(), sort_keys=True) for b in (was, self))
        if before != after:
            before, after = (json.dumps(self._told(b), sort_keys=True) for b in (was, self))
            yield f"{self.kind}: was {redacted(before)}, is {redacted(after)}"

    def _told(self, other: Backend) -> dict[str, Any]:
        """Return what an error tells of it, or of the recorded one that it is compared with."""
        fact = other._comparable()
        # A sampler reaches nothing outside, so all is told but what looks like a secret.
        if other.options is not None and self.kind != "sampler":
            factory = None if self.plugged is None else self.plugged.factory()
            fact["options"] = hidden(other.options, factory)
        return fact

    def check_harmless(self) -> None:
        """Refuse to record what may hold a secret. What is recorded already is not asked again.

        Raises:
            PlanError: something may.
            PluginError: the plugin, which says what is harmless, cannot be loaded.
        """
        if self.options is None or self.plugged is None:
            return
        argument = {"executor": "workers", "observer": "observers"}.get(self.kind, self.kind)
        # The folder of the run is ours, and what the user gave is in `extra`.
        uri = self.extra.get("uri", self.arguments[0] if self.kind == "executor" else None)
        what = f"{argument}={told(self.name if uri is None else uri)}"
        if self.kind == "sampler":
            check_texts(what, self.options)
        elif self.name != "directory":
            check_harmless(what, uri, self.options, self.plugged.factory())

    def _comparable(self) -> dict[str, Any]:
        """Return its fact without what may differ: a store's own folder, the supplier."""
        fact = {k: v for k, v in self.fact().items() if k not in ("run", "by")}
        if self.options is None:
            fact["name"] = _name_today(self.name)
            fact["fields"] = {k: _name_today(v) for k, v in self.extra["fields"].items()}
        return fact


def _name_today(value: Any) -> Any:
    """Return what is recorded of an object with the name that its class has now, if it has one."""
    if not isinstance(value, str) or ":" not in value:
        return value
    path, _, digest = value.partition(" ")
    return " ".join([":".join(today(*path.split(":", 1))), *([digest] if digest else [])])


def mark_of(store: Mapping[str, Any], *, vouched: bool) -> Mark:
    """Return the mark of the run's own folder in a store that is a directory.

    Args:
        store: the plan's fact about it.
        vouched: see `Mark`.

    Raises:
        StoreError: the fact names no run.
    """
    # Nobody else has a folder of such a name, or the one that is named after the journal.
    old = store["uri"] is None or re.fullmatch("[0-9a-f]{16}", store["run"]) is not None
    return Mark(run=store["run"], old=old, vouched=vouched)


def _arguments(store: Mapping[str, Any], journal: Path) -> tuple[Any, ...]:
    """Return what the factory of a store that has a name gets besides the options."""
    place = own_place(store, journal)
    return (place, mark_of(store, vouched=True)) if store["name"] == "directory" else (place,)


def _expected(kind: str) -> str:
    cls = CLASSES[kind].__name__
    return f"{_EXPECTED[kind]}, or an object of a class derived from letstune.{cls}"


def _of_object(kind: str, made: object) -> Backend:
    """Return the backend of an object, described by its class and its public fields."""
    return Backend(
        kind=kind,
        name=type_name(type(made)),
        options=None,
        by=installed.supplier(type(made)),
        extra={"fields": public_fields(made)},
        made=made,
        later=frozenset(made.begins_with) if isinstance(made, Sampler) else (),
    )


def _of_store(what: str, given: Any, journal: Path) -> Backend:
    """Return the backend of a store that is a directory or a URI.

    Each run has a folder of its own in it, so that sweeping one cannot touch another. A directory
    below the journal's folder is described relative to it, so that both can move.
    """
    uri: Any = given
    options: dict[str, Any] = {}
    if given is not None and not isinstance(given, os.PathLike):
        uri, options = named(what, given, _expected("store"))
    scheme, separator, _ = uri.partition("://") if isinstance(uri, str) else ("", "", "")
    if not separator:
        scheme, uri = "directory", None if uri is None else relative(Path.cwd() / uri, journal)
    plugged = installed.find("store", scheme)
    extra = {"uri": uri, "run": secrets.token_hex(8)}
    return Backend(
        kind="store",
        name=scheme,
        options=options,
        by=plugged.by,
        extra=extra,
        arguments=_arguments({"name": scheme, **extra}, journal),
        plugged=plugged,
    )


def _series(version: str) -> list[str]:
    """Return what of a version changes when its results may: 2 of 2.1, but 0.3 of 0.3.1."""
    parts = version.split(".")
    return parts[: 2 if parts[0] == "0" else 1]
