"""What is broken on purpose: by which law, and a suite that tries it by all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest


def law_of(cls: Any) -> str:
    """Return the law that a plugin breaks, by its docstring; nothing for what is not broken."""
    if not isinstance(cls, type):
        return ""
    line = (cls.__doc__ or "").partition("\n")[0]
    return line.removeprefix("Law: ").rstrip(".") if line.startswith("Law: ") else ""


def suites(
    module: Mapping[str, Any], suite: type, fixtures: Callable[[Any], dict[str, Any]]
) -> Iterator[tuple[str, type]]:
    """Yield a test class, and its name, for each broken plugin of a module.

    Args:
        module: the names in it.
        suite: the laws of their kind.
        fixtures: returns the functions that make what the suite asks for, of one of them.
    """
    for cls in list(module.values()):
        if law_of(cls):
            named = {n: pytest.fixture(function, name=n) for n, function in fixtures(cls).items()}
            yield f"Test{cls.__name__}", type(f"Test{cls.__name__}", (suite,), named)
