"""Distributions of one value, as classes: what the functions of `rand` return.

Users declare them through those functions; samplers look at the classes.
"""

# ruff: noqa: D102 (what a method of Distribution returns is said there, once for all kinds)

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Context, Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

from letstune._public import public
from letstune.errors import SpaceError
from letstune.space.encoding import decode, encode, exact, is_value, plain

if TYPE_CHECKING:
    import numpy as np

# Any two of them, and the width between any two, fit the 64 bits of NumPy's integers.
INT_LIMIT: Final = 2**61

_EXACT: Final = Context(prec=60)  # not the thread's own, which a user may change


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
        """The number of distinct values, or None if there is no end of them."""
        return None

    def sample(self, rng: np.random.Generator) -> Any:
        """Return what `Space.build` asks for, the same for the same state of `rng`.

        That is a random value, a pure Python one; from a `OneOf`, the index of a candidate.
        """
        raise NotImplementedError

    def quantile(self, share: float) -> Any:
        """Return what `Space.build` asks for, below which there is such a share of all draws.

        So a share that is drawn evenly gives what `sample` gives, with the same odds.

        Args:
            share: from 0 to 1.

        Raises:
            SpaceError: it is not.
        """
        if not 0 <= share <= 1:
            raise SpaceError(f"{self} has no quantile at {share!r}; give a number from 0 to 1.")
        return self._quantile(float(share))

    def _quantile(self, share: float) -> Any:
        size = self.size
        if size is None:
            raise NotImplementedError
        return self._point(_slot(share, size))

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

    def _arguments(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(cast(Any, self))}

    def _key(self) -> object:
        return tuple(map(exact, self._arguments().values()))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash((self.kind, self._key()))

    def __str__(self) -> str:
        """Return the declaration, without what is left out by default."""
        declared = []
        for name, value in self._arguments().items():
            if name in ("log", "step"):
                declared += [f"{name}={_short(value)}"] if value else []
            else:
                declared.append(_short(value))
        return f"{self.kind}({', '.join(declared)})"

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _slot(share: float, size: int) -> int:
    """Return in which of ``size`` equal parts of 0 to 1 a share is. Exact: a product may round."""
    numerator, denominator = share.as_integer_ratio()
    return min(numerator * size // denominator, size - 1)


def _short(value: object) -> str:
    text = repr(value)
    return text.removesuffix(".0") if isinstance(value, float) else text


def _number(distribution: Distribution, name: str) -> float:
    value = plain(getattr(distribution, name))
    # abs() rather than math.isfinite(), which overflows on a huge int.
    if type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    raise SpaceError(
        f"rand.{distribution.kind}: {name} is {value!r}, expected a finite number; give it one."
    )


def _whole(distribution: Distribution, name: str) -> int:
    value = plain(getattr(distribution, name))
    if type(value) is int and abs(value) <= INT_LIMIT:
        return value
    raise SpaceError(
        f"rand.{distribution.kind}: {name} is {value!r}, expected an int from -2**61 to 2**61; "
        "for other numbers use rand.uniform."
    )


def _flag(distribution: Distribution, name: str) -> bool:
    value = plain(getattr(distribution, name))
    if type(value) is bool:
        return value
    raise SpaceError(f"rand.{distribution.kind}: {name} is {value!r}; give True or False.")


def _require(condition: bool, distribution: Distribution, otherwise: str) -> None:
    if not condition:
        raise SpaceError(f"rand.{distribution}: {otherwise}")


def _require_range(d: Uniform | Ints) -> None:
    _require(d.low <= d.high, d, "low is above high; swap them.")
    _require(not d.log or d.step is None, d, "log and step exclude each other; drop one.")
    _require(d.step is None or d.step > 0, d, "step must be above 0; leave it out for none.")


def _decimal(number: float) -> Decimal:
    # The decimal that the user wrote: 0.1, not the binary fraction next to it.
    return Decimal(repr(number))


@public("letstune.rand")
@dataclass(frozen=True, eq=False)
class Uniform(Distribution):
    """Floats between two bounds; see `uniform`."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    kind: ClassVar[str] = "uniform"
    produces: ClassVar[type] = float

    def __post_init__(self) -> None:
        self._set(low=_number(self, "low"), high=_number(self, "high"), log=_flag(self, "log"))
        if self.step is not None:
            self._set(step=_number(self, "step"))
        _require_range(self)
        _require(not self.log or self.low > 0, self, "log=True needs low above 0; raise low.")
        _require(math.isfinite(self.high - self.low), self, "too wide for a float; narrow it.")
        if self.step is not None and self.low < self.high:
            apart = self.low + self.step > self.low and self.high - self.step < self.high
            _require(apart, self, "step is too small to tell the values apart; raise it.")

    @property
    def size(self) -> int | None:
        if self.low == self.high:
            return 1
        if self.step is None:
            return None
        width = _EXACT.subtract(_decimal(self.high), _decimal(self.low))
        return int(_EXACT.divide_int(width, _decimal(self.step))) + 1

    def sample(self, rng: np.random.Generator) -> float:
        size = self.size
        if size is not None:
            return self._point(int(rng.integers(size)))
        return self._between(float(rng.random()))

    def _quantile(self, share: float) -> float:
        size = self.size
        return self._between(share) if size is None else self._point(_slot(share, size))

    def _between(self, share: float) -> float:
        low, high = self.low, self.high
        if self.log:
            low, high = math.log(low), math.log(high)
        value = low + (high - low) * share
        # Rounding, in exp above all, may lead just past the bounds.
        return min(max(math.exp(value) if self.log else value, self.low), self.high)

    def _point(self, i: int) -> float:
        if self.step is None:
            return self.low
        value = _EXACT.add(_decimal(self.low), _EXACT.multiply(i, _decimal(self.step)))
        return min(float(value), self.high)

    def contains(self, value: object) -> bool:
        if type(value) is not float or not self.low <= value <= self.high:
            return False
        size = self.size
        if self.step is None or size is None:
            return True
        return self._point(min(round((value - self.low) / self.step), size - 1)) == value


@public("letstune.rand")
@dataclass(frozen=True, eq=False)
class Normal(Distribution):
    """Floats around a median; see `normal`."""

    median: float
    scale: float
    log: bool = False

    kind: ClassVar[str] = "normal"
    produces: ClassVar[type] = float

    def __post_init__(self) -> None:
        self._set(median=_number(self, "median"), scale=_number(self, "scale"))
        self._set(log=_flag(self, "log"))
        _require(self.scale > 0, self, "scale must be above 0; raise it.")
        _require(not self.log or self.median > 0, self, "log=True needs median above 0; raise it.")

    def sample(self, rng: np.random.Generator) -> float:
        return self._at(float(rng.standard_normal()))

    def _quantile(self, share: float) -> float:
        from statistics import NormalDist

        # Half of the least step of a random float: at 0 and 1 themselves, it is infinite.
        return self._at(NormalDist().inv_cdf(min(max(share, 2.0**-54), 1 - 2.0**-53)))

    def _at(self, deviations: float) -> float:
        deviation = self.scale * deviations
        # An absurd scale must not lead to infinity, nor exp to 0 or an OverflowError.
        if self.log:
            value = self.median * math.exp(min(max(deviation, -700.0), 700.0))
            return min(max(value, sys.float_info.min), sys.float_info.max)
        value = self.median + deviation
        return min(max(value, -sys.float_info.max), sys.float_info.max)

    def contains(self, value: object) -> bool:
        return type(value) is float and math.isfinite(value) and (not self.log or value > 0)


@public("letstune.rand")
@dataclass(frozen=True, eq=False)
class Ints(Distribution):
    """Whole numbers between two bounds; see `ints`."""

    low: int
    high: int
    log: bool = False
    step: int | None = None

    kind: ClassVar[str] = "ints"
    produces: ClassVar[type] = int

    def __post_init__(self) -> None:
        self._set(low=_whole(self, "low"), high=_whole(self, "high"), log=_flag(self, "log"))
        if self.step is not None:
            self._set(step=_whole(self, "step"))
        _require_range(self)
        _require(not self.log or self.low >= 1, self, "log=True needs low from 1 on; raise low.")

    @property
    def size(self) -> int:
        return (self.high - self.low) // (self.step or 1) + 1

    def sample(self, rng: np.random.Generator) -> int:
        if not self.log:
            return self._point(int(rng.integers(self.size)))
        return self._between(float(rng.random()))

    def _quantile(self, share: float) -> int:
        return self._between(share) if self.log else self._point(_slot(share, self.size))

    def _between(self, share: float) -> int:
        # Half a number on either side, so that the ends are as likely as their neighbours are.
        low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
        value = round(math.exp(low + (high - low) * share))
        return min(max(value, self.low), self.high)

    def _point(self, i: int) -> int:
        return self.low + i * (self.step or 1)

    def contains(self, value: object) -> bool:
        if type(value) is not int or not self.low <= value <= self.high:
            return False
        return (value - self.low) % (self.step or 1) == 0


@public("letstune.rand")
@dataclass(frozen=True, eq=False)
class Bools(Distribution):
    """True or False; see `bools`."""

    probability: float = 0.5

    kind: ClassVar[str] = "bools"
    produces: ClassVar[type] = bool

    def __post_init__(self) -> None:
        self._set(probability=_number(self, "probability"))
        _require(0 <= self.probability <= 1, self, "probability must be from 0 to 1; correct it.")

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
        if not is_value(self.value):
            raise SpaceError(
                f"{self.value!r} is not what a parameter can be; expected None, a bool, int, "
                "float, str, Enum member, a tuple of those, a distribution or a Params class."
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

    def __str__(self) -> str:
        return repr(decode(encode(self.value)))


@public("letstune.rand")
@dataclass(frozen=True, eq=False)
class Undeclared(Distribution):
    """A field that only its class knows how to sample, by its own `get_random_params`."""

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
        _require(bool(self.candidates), self, "no candidates; give at least one.")
        seen = set()
        for candidate in self.candidates:
            _require(candidate not in seen, self, f"{candidate} is there twice; use weights.")
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
            return _slot(share, len(self.candidates))
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

    def __str__(self) -> str:
        weights = (
            "" if self.weights is None else f", weights=[{', '.join(map(_short, self.weights))}]"
        )
        return f"oneof([{', '.join(map(str, self.candidates))}]{weights})"


_KINDS: Final[dict[str, type[Distribution]]] = {
    kind.kind: kind for kind in (Uniform, Normal, Ints, Bools, Constant, Undeclared, OneOf)
}


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
        if kind is Constant:
            arguments["value"] = decode(arguments["value"])
        if kind is OneOf:
            arguments["candidates"] = [
                (node or from_dict)(item)
                if isinstance(item, dict) and "kind" in item
                else decode(item)
                for item in arguments["candidates"]
            ]
        return kind(**arguments)
    except (TypeError, KeyError):
        raise SpaceError(
            f"{dict(data)!r} describes no distribution that this letstune knows; expected a kind "
            f"of {', '.join(_KINDS)}, with its arguments. Was it written by a newer letstune?"
        ) from None
