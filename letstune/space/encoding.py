"""Values of parameters: told apart exactly, and written to JSON and back exactly."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, Final

from letstune.errors import SpaceError

_NON_FINITE: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def plain(value: Any) -> Any:
    """Return the Python value of a NumPy scalar, and anything else as it is."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def exact(value: object) -> object:
    """Return a key that tells 1, 1.0 and True apart, as well as 0.0 and -0.0; nan equals nan."""
    if isinstance(value, tuple):
        return (tuple, *map(exact, value))
    if isinstance(value, Enum):
        return (type(value), value.name)
    return (type(value), repr(value) if isinstance(value, float) else value)


def encode(value: Any) -> Any:
    """Return a constant as `json` takes it: Enum members by name, tuples as lists.

    >>> encode((1, float("inf")))
    [1, {'$float': 'inf'}]
    """
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    return value


def decode(data: Any) -> Any:
    """Return the constant that `encode` was given; an Enum member stays a name.

    Raises:
        SpaceError: a dict does not stand for a non-finite float.
    """
    if isinstance(data, list):
        return tuple(decode(item) for item in data)
    if isinstance(data, dict):
        if set(data) != {"$float"} or data["$float"] not in _NON_FINITE:
            raise SpaceError(f'{data!r} is not a value; expected {{"$float": "nan"}} or the like.')
        return _NON_FINITE[data["$float"]]
    return data


def is_value(value: object) -> bool:
    """Tell whether a parameter may have this value."""
    if isinstance(value, tuple):
        return all(map(is_value, value))
    return value is None or type(value) in (bool, int, float, str) or isinstance(value, Enum)
