"""Numbers as users give them, checked."""

from __future__ import annotations

from typing import Any

from letstune.errors import PlanError


def whole_number(name: str, value: Any, least: int) -> int:
    """Return a whole number that is at least ``least``, as an int.

    Args:
        name: that of the argument, for an error.
        value: what was given for it; NumPy's whole numbers are such, booleans are not.
        least: the least that it may be.

    Raises:
        PlanError: it is something else.

    >>> whole_number("workers", 2, 1)
    2
    """
    try:
        number = value.__index__() if not isinstance(value, bool) else None
    except AttributeError:
        number = None
    if number is None or number < least:
        raise PlanError(f"{name}={value!r}: expected a whole number, {least} or more.")
    return int(number)
