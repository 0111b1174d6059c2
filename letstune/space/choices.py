"""Distributions of values that are listed: `bools`, `oneof`, and the one value of a constant."""

# ruff: noqa: D102 (what a method of Distribution returns is said there, once for all kinds)

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, cast

from letstune._public import public
from letstune.errors import SpaceError
from letstune.space.distribution import Distribution, Node, number, require, short, slot
from letstune.space.encoding import decode, encode, exact, is_value, plain

if TYPE_CHECKING:
    import numpy as np


@public("letstune.rand")
@dataclass(frozen=True, eq=False)
class Bools(Distribution):
    """True or False; see `bools`."""

    probability: float = 0.5

    kind: ClassVar[str] = "bools"
    produces: ClassVar[type] = bool

    def __post_init__(self) -> None:
        self._set(probability=number(self, "probability"))
        require(0 <= self.probability <= 1, self, "probability must be from 0 to 1; correct it.")

    @property
    def size(self) -> int:
        return 1 if self.probability in (0, 1) else 2

    def sample(self, rng: np.random.Generator) -> bool:
        return float(rng.random()) < self.probability

    def _quantile(self, share: float) -> bool:
        return self.probability > 0 and share >= 1 - self.probability

    def _point(self, i: int) -> bool:
        return self.probability == 1 or i == 1

    def contains(self, value: object) -> bool:
        return type(value) is bool and self.probability != (0 if value else 1)


@public("letstune.rand")
@dataclass(frozen=True, eq=False)
class Constant(Distribution):
    """Always the one value: None, a bool, int, float, str, Enum member, or a tuple of those."""

    value: Any

    kind: ClassVar[str] = "constant"

    def __post_init__(self) -> None:
        self._set(value=plain(self.value))
        if isinstance(self.value, list):
            raise SpaceError(
                f"{self.value!r} is a list, which a parameter cannot be, since it may change; "
                f"write a tuple: {tuple(self.value)!r}."
            )
        if not is_value(self.value):
            raise SpaceError(
                f"{self.value!r} is not what a parameter can be; expected None, a bool, int, "
                "float, str, Enum member, a tuple of those, a distribution or a Params class. For "
                "a class or a function, write its name, or an Enum that has it as a member."
            )

    @property
    def size(self) -> int:
        return 1

    def sample(self, rng: np.random.Generator) -> Any:
        return self.value

    def _point(self, i: int) -> Any:
        return self.value

    def contains(self, value: object) -> bool:
        return exact(value) == exact(self.value)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "value": encode(self.value)}

    @classmethod
    def _read(cls, arguments: dict[str, Any], node: Callable[[Any], Node]) -> Distribution:
        return super()._read(arguments | {"value": decode(arguments["value"])}, node)

    def __str__(self) -> str:
        return repr(decode(encode(self.value)))


@public("letstune.rand")
@dataclass(frozen=True, eq=False)
class Undeclared(Distribution):
    """A field that only its class can sample, by its own `get_random_params`."""

    annotation: str

    kind: ClassVar[str] = "undeclared"

    def contains(self, value: object) -> bool:
        return True

    def __str__(self) -> str:
        return self.annotation


def _candidate(value: Any) -> Node:
    # A Params class, which this module cannot import, knows its node of the tree.
    node = getattr(value, "_space", None) if isinstance(value, type) else value
    if isinstance(node, Distribution) or hasattr(node, "require_structure"):
        return cast(Node, node)
    return Constant(value)


@public("letstune.rand")
@dataclass(frozen=True, eq=False)
class OneOf(Distribution):
    """One of some candidates, each a `Constant`, a distribution or a `Space`; see `oneof`."""

    candidates: tuple[Node, ...]
    weights: tuple[float, ...] | None = None

    kind: ClassVar[str] = "oneof"

    def __post_init__(self) -> None:
        candidates: Any = self.candidates
        if isinstance(candidates, (str, bytes, set, frozenset, Mapping)):
            raise SpaceError(
                f"rand.oneof: candidates is the {type(candidates).__name__} {candidates!r}, "
                "expected a list; write the candidates in [...]."
            )
        try:
            self._set(candidates=tuple(map(_candidate, candidates)))
        except SpaceError as error:
            raise SpaceError(f"rand.oneof: {error}") from None
        except TypeError:
            raise SpaceError(f"rand.oneof: {candidates!r} is no list of candidates.") from None
        require(bool(self.candidates), self, "no candidates; give at least one.")
        seen = set()
        for candidate in self.candidates:
            require(candidate not in seen, self, f"{candidate} is there twice; use weights.")
            seen.add(candidate)
        if self.weights is not None:
            self._check_weights()

    def _check_weights(self) -> None:
        try:
            weights = tuple(map(plain, cast(Any, self.weights)))
        except TypeError:
            weights = ()
        right = len(weights) == len(self.candidates) and all(
            type(weight) in (int, float) and 0 <= weight <= sys.float_info.max for weight in weights
        )
        if not right or not 0 < sum(map(float, weights)) < math.inf:
            raise SpaceError(
                f"rand.oneof: weights is {self.weights!r}, expected {len(self.candidates)} finite "
                "numbers, none below 0 and not all 0; give one for each candidate."
            )
        self._set(weights=tuple(map(float, weights)))

    @property
    def _live(self) -> list[tuple[int, Node]]:
        return [
            (index, candidate)
            for index, candidate in enumerate(self.candidates)
            if self.weights is None or self.weights[index] > 0
        ]

    @property
    def size(self) -> int | None:
        sizes = [candidate.size for _, candidate in self._live]
        return None if None in sizes else sum(cast(list[int], sizes))

    def sample(self, rng: np.random.Generator) -> int:
        if self.weights is None:
            return int(rng.integers(len(self.candidates)))
        return self._weighted(self.weights, float(rng.random()))

    def _quantile(self, share: float) -> int:
        if self.weights is None:
            return slot(share, len(self.candidates))
        return self._weighted(self.weights, share)

    def _weighted(self, weights: tuple[float, ...], share: float) -> int:
        sums = list(accumulate(weights))
        index = bisect_right(sums, sums[-1] * share)
        # The product may round up to the total, which is past the last candidate.
        return min(index, self._live[-1][0])

    def locate(self, i: int) -> tuple[int, int]:
        """Return which candidate holds the i-th value, and which of its values that is."""
        for index, candidate in self._live:
            size = candidate.size or 0
            if i < size:
                return index, i
            i -= size
        raise SpaceError(f"{self} has no such value; ask for one below its size.")

    def _point(self, i: int) -> Any:
        index, rest = self.locate(i)
        return self.candidates[index].point(rest)

    def contains(self, value: object) -> bool:
        return any(candidate.contains(value) for _, candidate in self._live)

    def to_dict(self) -> dict[str, Any]:
        candidates = [
            encode(candidate.value) if isinstance(candidate, Constant) else candidate.to_dict()
            for candidate in self.candidates
        ]
        weights = None if self.weights is None else list(self.weights)
        return {"kind": self.kind, "candidates": candidates, "weights": weights}

    @classmethod
    def _read(cls, arguments: dict[str, Any], node: Callable[[Any], Node]) -> Distribution:
        candidates = [
            node(item) if isinstance(item, dict) and "kind" in item else decode(item)
            for item in arguments["candidates"]
        ]
        return super()._read(arguments | {"candidates": candidates}, node)

    def __str__(self) -> str:
        weights = (
            "" if self.weights is None else f", weights=[{', '.join(map(short, self.weights))}]"
        )
        return f"oneof([{', '.join(map(str, self.candidates))}]{weights})"
