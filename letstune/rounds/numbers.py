"""Whole numbers, as people give them: Python's, NumPy's, and never True."""

from __future__ import annotations

import operator
from typing import Any

from letstune.errors import PlanError


def whole(value: Any) -> int | None:
    """Return a whole number as Python's; None if it is not one.

    >>> import numpy as np
    >>> [whole(value) for value in (3, np.int8(3), True, 3.0, "3")]
    [3, 3, None, None, None]
    """
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def whole_number(name: str, value: object, least: int) -> int:
    """Return a whole number that is large enough.

    Args:
        name: of the argument, for an error.
        value: what was given.
        least: the least that it may be.

    Raises:
        PlanError: it is something else, or too small.

    >>> whole_number("n_trials", 0, 1)
    Traceback (most recent call last):
    ...
    letstune.errors.PlanError: n_trials=0: expected a whole number, 1 or more.
    """
    number = whole(value)
    if number is None or number < least:
        raise PlanError(f"{name}={value!r}: expected a whole number, {least} or more.")
    return number
