"""Public names: how a class is known by one, and how a package hands them on without loading them.

What is pickled into a journal is found again by its module's path. So the paths of public classes
are part of the journal's format, and those of the rooms in which they are defined must not be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


def public(path: str) -> Callable[[T], T]:
    """Return a decorator that names a class or function as of a public module, as users import it.

    Args:
        path: of the module that hands it on, such as ``letstune.rand``.
    """

    def name(thing: T) -> T:
        if isinstance(thing, type):
            _resolve(vars(thing).get("__annotations__", {}), vars(sys.modules[thing.__module__]))
        thing.__module__ = path
        return thing

    return name


def _resolve(annotations: dict[str, Any], names: dict[str, Any]) -> None:
    """Evaluate annotations that are text where their names are still known.

    `typing.get_type_hints`, of a class that a user derives as well, would look for these names in
    the public module.
    """
    for field, annotation in annotations.items():
        if isinstance(annotation, str):
            with suppress(NameError):  # of what is imported for type checkers only
                annotations[field] = eval(annotation, names)


def later(names: dict[str, Any], rooms: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's ``__getattr__``, which imports what it hands on when it is first used.

    Args:
        names: the ``globals()`` of the package.
        rooms: the module of each name.
    """

    def find(name: str) -> Any:
        if name not in rooms:
            raise AttributeError(f"module {names['__name__']!r} has no attribute {name!r}")
        names[name] = found = getattr(import_module(rooms[name]), name)
        return found

    return find
