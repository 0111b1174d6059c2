"""What all distributions of one value have in common, and how their arguments are checked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from letstune._public import public
from letstune.errors import SpaceError
from letstune.space.encoding import exact, plain

if TYPE_CHECKING:
    import numpy as np


class Node(Protocol):
    """What a distribution and a search space have in common: a part of the tree."""

    @property
    def size(self) -> int | None:
        """The number of values, None if infinite."""

    def sample(self, rng: np.random.Generator) -> Any:
        """Return a random value."""

    def point(self, i: int) -> Any:
        """Return the i-th of finitely many values."""

    def contains(self, value: object) -> bool:
        """Return whether the node can produce the value."""

    def to_dict(self) -> dict[str, Any]:
        """Return what `json` takes."""


@public("letstune.rand")
class Distribution:
    """How one value is chosen. Immutable; equal if of the same kind with the same arguments.

    Attributes:
        kind: the name in `to_dict`.
        produces: the type of the values; `object` if any.
    """

    kind: ClassVar[str]
    produces: ClassVar[type] = object

    @property
    def size(self) -> int | None:
        """The number of distinct values, or None if there are infinitely many."""
        return None

    def sample(self, rng: np.random.Generator) -> Any:
        """Return a random answer to `Space.build`, the same for the same state of `rng`.

        It is a plain Python value; from a `OneOf`, it is the index of a candidate.
        """
        raise NotImplementedError

    def quantile(self, share: float) -> Any:
        """Return the answer to `Space.build` below which a given share of all draws lies.

        So shares that are drawn evenly give the answers of `sample`, with the same odds.

        Args:
            share: from 0 to 1.

        Raises:
            SpaceError: the share is not from 0 to 1.
        """
        if not 0 <= share <= 1:
            raise SpaceError(f"{self} has no quantile at {share!r}; give a number from 0 to 1.")
        return self._quantile(float(share))

    def _quantile(self, share: float) -> Any:
        size = self.size
        if size is None:
            raise NotImplementedError
        return self._point(slot(share, size))

    def point(self, i: int) -> Any:
        """Return the i-th value, counted from 0.

        Raises:
            SpaceError: there is no i-th value, or there are infinitely many.
        """
        size = self.size
        if size is None or not 0 <= i < size:
            raise SpaceError(
                f"{self} has no value number {i}: it has "
                f"{'infinitely many' if size is None else size}, counted from 0."
            )
        return self._point(i)

    def _point(self, i: int) -> Any:
        raise NotImplementedError

    def contains(self, value: object) -> bool:
        """Return whether `sample` could return the value; a bool is no int, an int no float."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return a dict for JSON, with `kind` and the arguments; `from_dict` is the inverse."""
        return {"kind": self.kind} | self._arguments()

    @classmethod
    def _read(cls, arguments: dict[str, Any], node: Callable[[Any], Node]) -> Distribution:
        """Return the distribution whose arguments a dict holds; ``node`` reads a candidate."""
        return cls(**arguments)

    def _arguments(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(cast(Any, self))}

    def _key(self) -> object:
        return tuple(map(exact, self._arguments().values()))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.kind, self._key()))

    def __str__(self) -> str:
        """Return the declaration, without the arguments that have their defaults."""
        declared = []
        for name, value in self._arguments().items():
            if name in ("log", "step"):
                declared += [f"{name}={short(value)}"] if value else []
            else:
                declared.append(short(value))
        return f"{self.kind}({', '.join(declared)})"

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def slot(share: float, size: int) -> int:
    """Return which of ``size`` equal parts of the range from 0 to 1 a share is in."""
    # Exactly, since a product of floats may round.
    numerator, denominator = share.as_integer_ratio()
    return min(numerator * size // denominator, size - 1)


def short(value: object) -> str:
    """Return an argument as one writes it."""
    text = repr(value)
    return text.removesuffix(".0") if isinstance(value, float) else text


def number(distribution: Distribution, name: str) -> float:
    """Return an argument as a float, or refuse it."""
    value = plain(getattr(distribution, name))
    # abs() rather than math.isfinite(), which overflows on a huge int.
    if type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    raise SpaceError(
        f"rand.{distribution.kind}: {name} is {value!r}, expected a finite number; give it one."
    )


def flag(distribution: Distribution, name: str) -> bool:
    """Return an argument as a bool, or refuse it."""
    value = plain(getattr(distribution, name))
    if type(value) is bool:
        return value
    raise SpaceError(f"rand.{distribution.kind}: {name} is {value!r}; give True or False.")


def require(condition: bool, distribution: Distribution, otherwise: str) -> None:
    """Refuse a distribution unless a condition holds."""
    if not condition:
        raise SpaceError(f"rand.{distribution}: {otherwise}")
