"""Distributions of numbers: `uniform`, `normal` and `ints`."""

# ruff: noqa: D102 (what a method of Distribution returns is said there, once for all kinds)

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TYPE_CHECKING, ClassVar, Final

from letstune._public import public
from letstune.errors import SpaceError
from letstune.space.distribution import Distribution, flag, number, require, short, slot
from letstune.space.encoding import plain

if TYPE_CHECKING:
    import numpy as np

# Any two of them, and the width between any two, fit the 64 bits of NumPy's integers.
INT_LIMIT: Final = 2**61

_EXACT: Final = Context(prec=60)  # not the thread's own, which a user may change


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
        self._set(low=number(self, "low"), high=number(self, "high"), log=flag(self, "log"))
        if self.step is not None:
            self._set(step=number(self, "step"))
        _require_range(self)
        require(not self.log or self.low > 0, self, "log=True needs low above 0; raise low.")
        require(math.isfinite(self.high - self.low), self, "too wide for a float; narrow it.")
        if self.step is not None and self.low < self.high:
            apart = self.low + self.step > self.low and self.high - self.step < self.high
            require(apart, self, "step is too small to tell the values apart; raise it.")

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
        return self._between(share) if size is None else self._point(slot(share, size))

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
        self._set(median=number(self, "median"), scale=number(self, "scale"))
        self._set(log=flag(self, "log"))
        require(self.scale > 0, self, "scale must be above 0; raise it.")
        require(not self.log or self.median > 0, self, "log=True needs median above 0; raise it.")

    def sample(self, rng: np.random.Generator) -> float:
        return self._at(float(rng.standard_normal()))

    def _quantile(self, share: float) -> float:
        from statistics import NormalDist

        # Half of the least step of a random float: at 0 and 1, the quantile is infinite.
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
        self._set(low=_whole(self, "low"), high=_whole(self, "high"), log=flag(self, "log"))
        if self.step is not None:
            self._set(step=_whole(self, "step"))
        _require_range(self)
        require(not self.log or self.low >= 1, self, "log=True needs low from 1 on; raise low.")

    @property
    def size(self) -> int:
        return (self.high - self.low) // (self.step or 1) + 1

    def sample(self, rng: np.random.Generator) -> int:
        if not self.log:
            return self._point(int(rng.integers(self.size)))
        return self._between(float(rng.random()))

    def _quantile(self, share: float) -> int:
        return self._between(share) if self.log else self._point(slot(share, self.size))

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


def _require_range(d: Uniform | Ints) -> None:
    require(d.low <= d.high, d, "low is above high; swap them.")
    if d.log and d.step is not None:
        some = ", ".join(short(d.low * 2**i) for i in range(3))
        raise SpaceError(
            f"rand.{d}: log and step exclude each other; drop one, or list the values that you "
            f"want: rand.oneof([{some}, ...])."
        )
    require(d.step is None or d.step > 0, d, "step must be above 0; leave it out for none.")


def _whole(distribution: Distribution, name: str) -> int:
    value = plain(getattr(distribution, name))
    if type(value) is int and abs(value) <= INT_LIMIT:
        return value
    raise SpaceError(
        f"rand.{distribution.kind}: {name} is {value!r}, expected an int from -2**61 to 2**61; "
        "for other numbers use rand.uniform."
    )


def _decimal(number: float) -> Decimal:
    # The decimal that the user wrote: 0.1, not the binary fraction next to it.
    return Decimal(repr(number))
