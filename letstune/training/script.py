"""The script that a trainer is from, where it is not the one that runs: a module stands in for it.

A trainer of a script is brought back from a pickle that holds its code, and a dataset likewise.
What the trainer then pickles itself, or hands to child processes, names the script's classes and
functions by their module, ``__main__``, which is another program here: so a module with the very
objects of the trainer takes its place, in this process and in those that it starts.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

from letstune.training.definitions import MAIN, is_here, is_script
from letstune.training.unpickler import load

VARIABLE: Final = "LETSTUNE_SCRIPT"
"""The environment variable that tells child processes which file has what stands in."""

_LOOKED_AT: Final = 2**20
"""How much of a pickle is looked through, in bytes."""


def things_of(value: object) -> list[type | FunctionType]:
    """Return the classes and functions of scripts that are in the pickle of a trainer or dataset.

    Not in all of it, if that is large: a dataset's classes come before what they hold.
    """
    from letstune.training.pickler import Noting  # imported late, as cloudpickle is

    noting = Noting(_LOOKED_AT)
    with suppress(Exception):  # some of it may not be pickled once more, or there is too much
        noting.dump(value)
    return noting.things


def _away(trainer: object, dataset: object) -> list[type | FunctionType]:
    """Return what of scripts there is in a trainer and a dataset, if it is not here."""
    things, cls = things_of(trainer), type(trainer)
    # Then its script is here, although in a notebook, functions that it was given may have been
    # defined anew.
    if cls in things and _has_a_name(cls) and is_here(cls):
        return []
    # The trainer's last, since of what both have brought, its own is to be found.
    things = [*things_of(dataset), *things]
    return [] if all(map(is_here, filter(_has_a_name, things))) else things


def names_of(things: Iterable[type | FunctionType]) -> dict[str, dict[str, Any]]:
    """Return what scripts hold, as far as a trainer needs it.

    Args:
        things: the scripts' classes and functions, brought back from a pickle with their code. The
            functions of a script share their globals, which are all that any of them names.

    Returns:
        The names and values, by the scripts' modules.
    """
    found: dict[str, dict[str, Any]] = {}
    for thing in things:
        if isinstance(thing, FunctionType):
            # Not always its module: what a library's decorator returns says that it is the user's.
            module = thing.__globals__.get("__name__")
            if is_script(module):
                found.setdefault(str(module), {}).update(thing.__globals__)
    for names in found.values():
        for name in [name for name in names if name.startswith("__") and name.endswith("__")]:
            del names[name]  # of a module, such as __name__, __builtins__ and __spec__
    for thing in filter(_has_a_name, things):  # not all of them are named in a function
        found.setdefault(thing.__module__, {}).setdefault(thing.__qualname__, thing)
    return found


def _has_a_name(thing: type | FunctionType) -> bool:
    """Tell whether a class or function has a name in its script: no lambda, and none in another."""
    return thing.__qualname__.isidentifier()


@contextmanager
def standing_in(trainer: object, dataset: object = None) -> Iterator[None]:
    """Let modules stand in for the scripts of a trainer and a dataset, unless these are here."""
    if not (things := _away(trainer, dataset)):
        yield
        return
    from letstune.training.pickler import Pickler

    scripts = names_of(things)
    with tempfile.NamedTemporaryFile(prefix="letstune-", suffix=".pickle") as file:
        try:
            Pickler(file).dump(things)
        except Exception:  # noqa: BLE001 (of what cannot be pickled once more)
            file.truncate(0)  # child processes do without
        file.flush()
        before = {name: sys.modules.get(name) for name in (MAIN, *scripts)}
        outer, os.environ[VARIABLE] = os.environ.get(VARIABLE), file.name
        try:
            for name in before:
                stand_in = sys.modules[name] = ModuleType(name, __doc__)
                stand_in.__dict__.update(scripts.get(name, {}))
            # What multiprocessing runs in a child, in the place of its parent's own script.
            sys.modules[MAIN].__spec__ = ModuleSpec("letstune.training.child_script", None)
            yield
        finally:
            for name, module in before.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module
            del os.environ[VARIABLE]
            if outer is not None:
                os.environ[VARIABLE] = outer


def in_a_child() -> dict[str, Any]:
    """Return what the parent's stand-in for ``__main__`` holds; let others stand in as well."""
    with Path(os.environ[VARIABLE]).open("rb") as file:
        scripts = names_of(load(file) if file.peek(1) else [])
    main = scripts.pop(MAIN, {})
    for name, names in scripts.items():
        stand_in = sys.modules[name] = ModuleType(name, __doc__)
        stand_in.__dict__.update(names)
    return main
