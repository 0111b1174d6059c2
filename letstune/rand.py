"""Distributions of one value: `uniform`, `normal`, `ints`, `oneof` and `bools`.

A function here is typed as the value that its distribution produces, and returns the
`Distribution`, so that a declaration reads as what it is, to a type checker too::

    class SGDParams(Params):
        alpha: float = rand.uniform(1e-5, 1, log=True)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, cast

from letstune.space.choices import Bools, Constant, OneOf, Undeclared
from letstune.space.distribution import Distribution, Node
from letstune.space.distributions import from_dict
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
    "bools",
    "from_dict",
    "ints",
    "normal",
    "oneof",
    "uniform",
]

V = TypeVar("V")


def uniform(low: float, high: float, log: bool = False, step: float | None = None) -> float:
    """Return the distribution of floats from `low` to `high`.

    Args:
        low: the lowest value.
        high: the highest value; with `step`, the values need not reach it.
        log: make every factor as likely as any other, so that 1e-4 to 1e-3 comes up as often as
            1e-3 to 1e-2. Needs `low` above 0.
        step: only low, low + step, low + 2 step and so on, computed in decimal. Not with `log`.

    Raises:
        SpaceError: the arguments contradict that.

    >>> uniform(1e-5, 1, log=True)
    Uniform(low=1e-05, high=1.0, log=True, step=None)
    >>> [uniform(0, 1, step=0.1).point(i) for i in range(4)]
    [0.0, 0.1, 0.2, 0.3]
    """
    return cast(float, Uniform(low, high, log, step))


def normal(median: float, scale: float, log: bool = False) -> float:
    """Return the distribution of floats around a median: normal, or with `log` log-normal.

    Args:
        median: half of the values are below it. With `log`, it must be above 0.
        scale: the standard deviation, above 0; with `log`, that of the values' logarithms, so
            that two thirds of them are between median / exp(scale) and median * exp(scale).
        log: whether the values' logarithms are normal.

    Raises:
        SpaceError: the arguments contradict that.

    >>> normal(0.1, 1, log=True)
    Normal(median=0.1, scale=1.0, log=True)
    """
    return cast(float, Normal(median, scale, log))


def ints(low: int, high: int, log: bool = False, step: int | None = None) -> int:
    """Return the distribution of whole numbers from `low` to `high`, both included.

    Args:
        low: the lowest value.
        high: the highest value; with `step`, the values need not reach it.
        log: make every factor as likely as any other. Needs `low` of at least 1.
        step: only low, low + step, low + 2 step and so on. Not with `log`.

    Raises:
        SpaceError: the arguments contradict that.

    >>> ints(16, 256, log=True)
    Ints(low=16, high=256, log=True, step=None)
    >>> ints(0, 10, step=5).size
    3
    """
    return cast(int, Ints(low, high, log, step))


# mypy infers no union from several candidates, and takes a list of classes for one of a common
# callable. `V | Any` and `type[Any]` are what makes it look at the annotation of the field instead.
def oneof(candidates: Iterable[V | type[Any]], weights: Iterable[float] | None = None) -> V | Any:
    """Return the distribution of candidates: values, other distributions, or `Params` classes.

    Args:
        candidates: values (None, bools, ints, floats, strings, Enum members, tuples of those),
            other distributions, and `Params` classes. All different; 1, 1.0 and True are.
        weights: how likely each one is, relative to the others; equally by default.

    Raises:
        SpaceError: the arguments contradict that.

    >>> oneof(["relu", "tanh"], weights=[3, 1])
    OneOf(candidates=(Constant(value='relu'), Constant(value='tanh')), weights=(3.0, 1.0))
    >>> print(oneof([uniform(0, 1), "auto"]))
    oneof([uniform(0, 1), 'auto'])
    """
    return OneOf(cast(Any, candidates), cast(Any, weights))


def bools(probability: float = 0.5) -> bool:
    """Return the distribution of `True`, with the given probability, and `False`.

    Raises:
        SpaceError: the probability is not a number from 0 to 1.

    >>> bools(0.1)
    Bools(probability=0.1)
    """
    return cast(bool, Bools(probability))
