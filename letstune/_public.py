"""Public names: how a class is known by one, and how a package hands them on without loading them.

What is pickled into a journal is found again by its module's path. So the paths of public classes
are part of the journal's format, and those of the rooms in which they are defined must not be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

T = TypeVar("T")


def public(path: str) -> Callable[[T], T]:
    """Return a decorator that names a class or function as of a public module, as users import it.

    Args:
        path: of the module that hands it on, such as ``letstune.rand``.
    """

    def name(thing: T) -> T:
        thing.__module__ = path
        return thing

    return name


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
