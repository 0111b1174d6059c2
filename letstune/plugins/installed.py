"""The plugins that are installed: found by name, and imported only then.

The names of a distribution's entry points say what it registers, so looking for one thing imports
nothing else, and a plugin that is broken can break no run that does not name it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pluggy

from letstune._version import __version__
from letstune.errors import Interrupted, LetstuneError, PlanError, PluginError
from letstune.plugins import builtin, hookspecs
from letstune.plugins.hookspecs import API_VERSION, PROJECT
from letstune.plugins.kinds import EXAMPLES, HOOKS

if TYPE_CHECKING:
    from importlib.metadata import Distribution

ANY: Final = "*"
RESTRICTION: Final = "LETSTUNE_PLUGINS"

UNKNOWN: Final = "unknown"

Factory = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Plugged:
    """A thing that an installed distribution says it registers; it is not imported yet."""

    kind: str
    name: str
    module: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {self.source}"

    @property
    def source(self) -> str:
        """The distribution and its version."""
        return f"{self.distribution} {self.version}"

    @property
    def by(self) -> dict[str, str]:
        """The plan's fact about who supplies it."""
        return {"distribution": self.distribution, "version": self.version}

    def factory(self) -> Factory:
        """Import the plugin, and return what makes the thing.

        Raises:
            PluginError: it cannot be imported, was made for another version of letstune's hooks,
                or does not register what its entry points say.
        """
        registered = load(self)
        if self.name not in registered.get(self.kind, {}):
            raise PluginError(
                f"{self.source} says in its entry points that it has a {self.kind} {self.name!r}, "
                f"but {HOOKS[self.kind]} of {self.module} does not register it. Mend the plugin, "
                "or install another version of it."
            )
        return registered[self.kind][self.name]


def allowed() -> frozenset[str] | None:
    """Return the distributions that may be loaded; None if all may.

    The environment variable LETSTUNE_PLUGINS lists them, separated by commas.
    """
    text = os.environ.get(RESTRICTION)
    if text is None:
        return None
    return frozenset(_canonical(name) for name in text.split(",") if name.strip())


def _canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).strip().lower()


def installed() -> Iterator[Plugged]:
    """Yield all that is installed, letstune's own first, without importing any of it."""
    for name in builtin.NAMES:
        yield _builtin(name)
    folders = [entry for entry in sys.path if isinstance(entry, str)]
    yield from _others(tuple((folder, _modified(Path(folder))) for folder in folders))


def _modified(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except OSError:  # the import path may name what is not there
        return None


@lru_cache(maxsize=1)
def _others(import_path: tuple[tuple[str, int | None], ...]) -> tuple[Plugged, ...]:
    """Return what others have registered.

    The answer is cached: a run asks several times, and finding out takes longer than reopening
    1,000 trials. What is installed meanwhile, as from a notebook, changes a folder of
    ``import_path``.
    """
    from importlib.metadata import entry_points

    sources: dict[Distribution, tuple[str, str]] = {}
    others = set()  # a distribution may be on the import path twice
    for entry in entry_points(group=PROJECT):
        if (dist := entry.dist) is not None:
            if dist not in sources:  # each look at a name parses all of its metadata
                sources[dist] = _source(dist)
            others.add(_plugged(entry.name, entry.value, sources[dist]))
    return tuple(sorted(others, key=lambda p: (p.kind, p.name, p.distribution, p.version)))


def _source(dist: Distribution) -> tuple[str, str]:
    """Return the name and version of a distribution; both are unknown if it is half removed."""
    try:
        found = dist.metadata
        name, version = (
            found[key] if key in found else UNKNOWN  # noqa: SIM401 (no get() before 3.12)
            for key in ("Name", "Version")
        )
    except (TypeError, OSError):  # versions of Python differ in how they say it
        return UNKNOWN, UNKNOWN
    return _canonical(name), version


def _builtin(entry: str) -> Plugged:
    return _plugged(entry, builtin.__name__, (PROJECT, __version__))


def _plugged(entry: str, module: str, source: tuple[str, str]) -> Plugged:
    kind, _, name = entry.partition(".")
    distribution, version = source
    return Plugged(kind=kind, name=name, module=module, distribution=distribution, version=version)


def find(kind: str, name: str, *, of: str | None = None) -> Plugged:
    """Return what is registered under a name, without importing it.

    Args:
        kind: one of `HOOKS`.
        name: for a store or an executor, the scheme of a URI.
        of: the distribution that is meant, if it is known, as from a journal.

    Raises:
        PlanError: nothing is registered under that name.
        PluginError: several distributions claim the name, and none of them is the one that is
            meant, or LETSTUNE_PLUGINS excludes the one that has it.
    """
    reserved = f"{kind}.{name}" in builtin.NAMES  # else to install a plugin may change every run
    if reserved and (of in (None, PROJECT)):
        # No look at what is installed: that takes longer than reopening 1,000 trials.
        return _builtin(f"{kind}.{name}")
    there = [plugged for plugged in installed() if plugged.kind == kind]
    claims = [plugged for plugged in there if plugged.name == name]
    claims = [plugged for plugged in claims if plugged.distribution == of] or claims
    claims = claims or [plugged for plugged in there if plugged.name == ANY]
    may = [plugged for plugged in claims if is_allowed(plugged.distribution)]
    if claims and not may:
        check_allowed(f"The {kind} {name!r}", claims[0].distribution, claims[0].version)
    if len(may) > 1:
        raise PluginError(
            f"The {kind} {name!r} is claimed by {' and by '.join(c.source for c in may)}. "
            f"Uninstall one of them, or list in {RESTRICTION} which ones may be loaded."
        )
    if not may:
        names = ", ".join(sorted({plugged.name for plugged in there} - {ANY})) or "none"
        example = f", as in `pip install {EXAMPLES[kind]}`" if kind in EXAMPLES else ""
        near = get_close_matches(name.lower(), {plugged.name for plugged in there}, 1)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        raise PlanError(
            f"There is no {kind} {name!r}; there is {names}. {meant}If a plugin has it, install "
            f"that plugin{example}; `letstune plugins` lists what is installed."
        )
    return may[0]


def is_allowed(distribution: str) -> bool:
    """Tell whether LETSTUNE_PLUGINS, if it is set, lists a distribution; letstune always may."""
    listed = allowed()
    return listed is None or distribution in listed or distribution == PROJECT


def check_allowed(what: str, distribution: str, version: str = "") -> None:
    """Refuse to load what LETSTUNE_PLUGINS excludes.

    Raises:
        PluginError: it excludes the distribution.
    """
    if not is_allowed(distribution):
        raise PluginError(
            f"{what} is from {f'{distribution} {version}'.strip()}, which {RESTRICTION}="
            f"{os.environ[RESTRICTION]!r} excludes. Add {distribution} to it."
        )


def load(plugged: Plugged) -> dict[str, dict[str, Factory]]:
    """Import a plugin, and return the factories that it registers, by kind and name.

    Raises:
        PluginError: it cannot be imported, was made for another version of letstune's hooks, has
            a hook that letstune does not know, or registers a name twice.
    """
    module = _import(plugged)
    version = getattr(module, "LETSTUNE_API", None)
    if version != API_VERSION:
        raise PluginError(
            f"{plugged.source} is made for version {version} of letstune's hooks (LETSTUNE_API in "
            f"{plugged.module}), but letstune {__version__} has version {API_VERSION}. Install "
            "releases of the two that go together."
        )
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module, plugged.distribution)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(
            f"{plugged.source}: {error}. Its hooks must be those of letstune.plugins.hookspecs, "
            "with the same arguments."
        ) from error
    found: dict[str, dict[str, Factory]] = {}
    for kind, hook in HOOKS.items():
        found[kind] = {}

        def register(name: str, factory: Factory, /, kind: str = kind) -> None:
            if name in found[kind]:
                raise PluginError(
                    f"{plugged.source} registers the {kind} {name!r} twice; a name stands for one "
                    "thing. Mend the plugin."
                )
            found[kind][name] = factory

        try:
            getattr(manager.hook, hook)(register=register)
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{plugged.source}: {hook} of {plugged.module} raised {type(error).__name__}: "
                f"{error}. Mend the plugin."
            ) from error
    return found


def _import(plugged: Plugged) -> ModuleType:
    if not all(name.isidentifier() for name in plugged.module.split(".")):
        raise PluginError(
            f"{plugged.source} has the entry point {plugged.kind}.{plugged.name} = "
            f"{plugged.module!r}; expected the name of a module. Mend the plugin."
        )
    try:
        return import_module(plugged.module)
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{plugged.source} cannot be imported: {type(error).__name__}: {error}. Mend its "
            f"installation: pip install --force-reinstall {plugged.distribution}."
        ) from error


def make(plugged: Plugged, /, *args: Any, **options: Any) -> Any:
    """Return what a factory makes of options.

    Raises:
        PlanError: it does not take these options.
        PluginError: it raises something other than a `LetstuneError`; or see `Plugged.factory`.
    """
    factory = plugged.factory()
    try:
        return factory(*args, **options)
    except (LetstuneError, Interrupted):
        raise
    except (Exception, SystemExit) as error:
        # Only now, since asking for a signature may take longer than all else that a resume does.
        if isinstance(error, TypeError) and (why := _misfit(factory, args, options)):
            raise PlanError(f"{plugged} with {_named(options)}: {why}.") from error
        raise PluginError(
            f"{plugged} with {_named(options)} raised {type(error).__name__}: {error}. Mend the "
            "options, or the plugin."
        ) from error


def _named(options: Mapping[str, Any]) -> str:
    """Return the names of options: what they hold is not repeated."""
    return f"the options {', '.join(options)}" if options else "no options"


def _misfit(factory: Factory, args: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    """Return why a factory does not take arguments; nothing if it does, or if that is not known."""
    try:
        signature(factory).bind(*args, **options)
    except TypeError as error:
        return str(error)
    except ValueError:
        pass  # the arguments of a factory in C cannot be known: its own error tells
    return ""


def problem(plugged: Plugged) -> str | None:
    """Return why a thing cannot be used, or None; this imports its plugin."""
    if plugged.kind not in HOOKS or not plugged.name:
        entry = f"{plugged.kind}.{plugged.name}".rstrip(".")
        return (
            f"{plugged.source} has an entry point {entry!r}; expected KIND.NAME, the kind being "
            f"one of {', '.join(HOOKS)}. Mend the plugin."
        )
    if plugged.distribution == UNKNOWN:
        return (
            f"The metadata of the distribution that has {plugged.module} has no name: it is "
            "half installed, or half removed. Install it again, or remove what is left of it."
        )
    if not is_allowed(plugged.distribution):
        return f"{RESTRICTION}={os.environ[RESTRICTION]!r} excludes it."
    if f"{plugged.kind}.{plugged.name}" in builtin.NAMES and plugged.distribution != PROJECT:
        return (
            f"{plugged.source} claims the {plugged.kind} {plugged.name!r}, which is letstune's "
            "own, and stays that. Its author must give it another name."
        )
    try:
        if find(plugged.kind, plugged.name) == plugged:
            plugged.factory()
    except (PluginError, PlanError) as error:
        return str(error)
    return None


def supplier(cls: type) -> dict[str, str] | None:
    """Return the plan's fact about the plugin that a class comes from; None if there is none."""
    package = cls.__module__.partition(".")[0]
    if package == PROJECT:
        return {"distribution": PROJECT, "version": __version__}
    for plugged in installed():
        if plugged.module.partition(".")[0] == package:
            return plugged.by
    return None
