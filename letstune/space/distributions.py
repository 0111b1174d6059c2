"""Distributions of one value, as classes: what the functions of `rand` return.

Users declare them through those functions; samplers look at the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from letstune.errors import SpaceError
from letstune.space.choices import Bools, Constant, OneOf, Undeclared
from letstune.space.distribution import Distribution, Node
from letstune.space.numbers import Ints, Normal, Uniform

__all__ = [
    "Bools",
    "Constant",
    "Distribution",
    "Ints",
    "Node",
    "Normal",
    "OneOf",
    "Undeclared",
    "Uniform",
    "from_dict",
]

# All that letstune has: whoever derives a class of their own has imported this module before.
_KINDS: Final = {kind.kind: kind for kind in Distribution.__subclasses__()}


def from_dict(data: Mapping[str, Any], node: Callable[[Any], Node] | None = None) -> Distribution:
    """Return the distribution that `Distribution.to_dict` described.

    Args:
        data: the dict. Enum members come back as their names, tuples as tuples.
        node: reads a candidate that has a `kind`; by default, this function.

    Raises:
        SpaceError: it describes no distribution.

    >>> from_dict({"kind": "ints", "low": 1, "high": 3})
    Ints(low=1, high=3, log=False, step=None)
    """
    arguments = dict(data)
    kind = _KINDS.get(arguments.pop("kind", ""))
    try:
        if kind is None:
            raise TypeError
        return kind._read(arguments, node or from_dict)
    except (TypeError, KeyError):
        raise SpaceError(
            f"{dict(data)!r} describes no distribution that this letstune knows; expected a kind "
            f"of {', '.join(sorted(_KINDS))}, with its arguments. Was it written by a newer "
            "letstune?"
        ) from None
