"""The script that a trainer is from, where it is not the one that runs: a module stands in for it.

A trainer of a script is brought back from a pickle that holds its code. What the trainer then
pickles itself, or hands to child processes, names the script's classes and functions by their
module, ``__main__``, which is another program here: so a module with the very objects of the
trainer takes its place, in this process and in those that it starts.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

from letstune.training.unpickler import load

VARIABLE: Final = "LETSTUNE_SCRIPT"
"""The environment variable that tells child processes which file has the trainer's pickle."""

_MAIN: Final = "__main__"


def is_script(module: str) -> bool:
    """Tell whether a module is a script, or a file that the command line was given."""
    return module == _MAIN or module.startswith("_letstune_")


def names_of(trainer: object) -> dict[str, dict[str, Any]]:
    """Return what the scripts of a trainer's classes hold, as far as the trainer needs it.

    Args:
        trainer: one that was brought back from a pickle with its code. The functions of a script
            share their globals, which are all that any of them names.

    Returns:
        The names and values, by the scripts' modules.
    """
    found: dict[str, dict[str, Any]] = {}
    for cls in type(trainer).__mro__:
        if not is_script(cls.__module__):
            continue
        names = found.setdefault(cls.__module__, {})
        for member in vars(cls).values():
            function = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if isinstance(function, FunctionType):
                names |= function.__globals__
        if "." not in cls.__qualname__:
            names[cls.__name__] = cls
    for names in found.values():
        for name in [name for name in names if name.startswith("__") and name.endswith("__")]:
            del names[name]  # of a module, such as __name__, __builtins__ and __spec__
        for value in list(names.values()):  # what is named by another name as well
            if isinstance(value, type | FunctionType) and is_script(value.__module__):
                names.setdefault(value.__name__, value)
    return found


def is_here(thing: type | FunctionType) -> bool:
    """Tell whether a class or function is found where it says that it is."""
    found: Any = sys.modules.get(thing.__module__)
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is thing


@contextmanager
def standing_in(trainer: object, pickled: bytes) -> Iterator[None]:
    """Let modules stand in for a trainer's scripts, unless they are here themselves.

    Args:
        trainer: the trainer.
        pickled: its pickle, for the processes that it starts.
    """
    if is_here(type(trainer)) or not (scripts := names_of(trainer)):
        yield
        return
    before = {name: sys.modules.get(name) for name in (_MAIN, *scripts)}
    for name in before:
        stand_in = sys.modules[name] = ModuleType(name, __doc__)
        stand_in.__dict__.update(scripts.get(name, {}))
    # What multiprocessing runs in a child, in the place of its parent's own script.
    sys.modules[_MAIN].__spec__ = ModuleSpec("letstune.training.child_script", None)
    with tempfile.NamedTemporaryFile(prefix="letstune-", suffix=".pickle") as file:
        file.write(pickled)
        file.flush()
        outer, os.environ[VARIABLE] = os.environ.get(VARIABLE), file.name
        try:
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
        scripts = names_of(load(file))
    main = scripts.pop(_MAIN, {})
    for name, names in scripts.items():
        stand_in = sys.modules[name] = ModuleType(name, __doc__)
        stand_in.__dict__.update(names)
    return main
