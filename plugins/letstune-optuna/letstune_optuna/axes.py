"""The search space as Optuna sees it: an axis for each parameter that can have several values.

Optuna's distributions are used where they say exactly the same. Where they do not, an axis has
coordinates of its own, and two functions that lead from them to values and back:

- Grids of floats are numbered: letstune computes low + i step in decimal, Optuna in floats, so
  that its 0.1 + 2 * 0.1 is none of our values.
- So are whole numbers past 2**53, which not even floats can tell apart; unless they are ``log`` and
  span more than a factor of four.
- Ranges of floats that are too narrow or too wide to compute with are from 0 to 1.
- Normal distributions, and choices with weights, are in quantiles, from 0 to 1. So the prior is
  what the user said; and TPE, which starts from a uniform prior, starts from that one.
- All other choices are categories, by index, so that 1, 1.0 and True are told apart.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from statistics import NormalDist
from typing import Any, Final

from letstune import ParamsLike, Space
from letstune.errors import PlanError
from letstune.rand import Bools, Constant, Distribution, Ints, Normal, OneOf, Uniform
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

_STANDARD: Final = NormalDist()
_FLOAT_EXACT: Final = 2**53
_TAIL: Final = 1e-16  # beyond 8 standard deviations, a float cannot tell quantiles from 1
_QUANTILES: Final = FloatDistribution(0.0, 1.0)


@dataclass(frozen=True)
class Axis:
    """One parameter.

    Attributes:
        name: the path that `Space.build` gives it.
        node: its distribution, as letstune has it.
        distribution: of its coordinates.
        value: returns the value at a coordinate; it is always one of the space's.
        coordinate: returns the coordinate of a value.
        always: whether all params have it, whatever is chosen elsewhere.
    """

    name: str
    node: Distribution
    distribution: BaseDistribution
    value: Callable[[Any], Any]
    coordinate: Callable[[Any], Any]
    always: bool = True


@dataclass(frozen=True)
class Axes:
    """The axes of a space.

    Raises:
        PlanError: two parameters have the same path, and not the same distribution.
    """

    space: Space
    by_name: dict[str, Axis] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for axis in _walk(self.space, "", "", True):
            known = self.by_name.setdefault(axis.name, axis)
            if known.distribution != axis.distribution:
                raise PlanError(
                    f"{self.space.name}.{axis.name} is two parameters, {known.distribution} and "
                    f"{axis.distribution}, which Optuna cannot tell apart; rename one class."
                )

    def always(self) -> dict[str, BaseDistribution]:
        """Return the distributions of the parameters that all params have, by name."""
        return {
            name: axis.distribution for name, axis in sorted(self.by_name.items()) if axis.always
        }

    def build(self, ask: Callable[[Axis], Any]) -> Any:
        """Return params of the space; ``ask`` is called for the coordinate on each active axis."""

        def choose(path: str, distribution: Distribution) -> Any:
            axis = self.by_name.get(path)
            if axis is not None:
                return axis.value(ask(axis))
            return (
                _live(distribution)[0] if isinstance(distribution, OneOf) else _only(distribution)
            )

        return self.space.build(choose)

    def coordinates(self, params: ParamsLike) -> dict[str, Any]:
        """Return where params are: a coordinate for each active axis."""
        chosen = self.space.choices(params)
        found = {}
        for name, value in chosen.items():
            axis = self.by_name.get(name)
            # None: a value that the space does not have, in params that were made by hand.
            if axis is not None and (coordinate := axis.coordinate(value)) is not None:
                found[name] = coordinate
        return found


def _walk(node: Any, path: str, below: str, always: bool) -> Iterator[Axis]:
    if isinstance(node, Space):
        for name, child in node.fields:
            yield from _walk(child, below + name, f"{below}{name}.", always)
    elif isinstance(node, OneOf):
        live = _live(node)
        if len(live) > 1:
            yield _choice(path, node, live, always)
        for index in live:
            candidate = node.candidates[index]
            # As Space.build names them.
            branch = path if isinstance(candidate, Space) else f"{path}[{index}]"
            inner = f"{path}.{candidate.name}" if isinstance(candidate, Space) else branch
            yield from _walk(candidate, branch, f"{inner}.", always and len(live) == 1)
    elif not isinstance(node, Constant) and node.size != 1:
        yield _leaf(path, node, always)


def _live(node: OneOf) -> list[int]:
    return [i for i in range(len(node.candidates)) if node.weights is None or node.weights[i] > 0]


def _only(distribution: Distribution) -> Any:
    return distribution.point(0)


def _leaf(path: str, node: Any, always: bool) -> Axis:
    match node:
        case Uniform(step=None):
            return _uniform(path, node, always)
        case Uniform():
            return _grid(path, node, always)
        case Ints():
            return _ints(path, node, always)
        case Normal():
            return _normal(path, node, always)
        case Bools(probability=p) if p == 0.5:
            return Axis(path, node, CategoricalDistribution((False, True)), bool, bool, always)
        case Bools(probability=p):
            # In the middle of each part, so that it is as far as can be from the other one.
            return Axis(
                path,
                node,
                _QUANTILES,
                lambda u: u < p,
                lambda v: p / 2 if v else (1 + p) / 2,
                always,
            )
    return _in_order(path, node, always)


def _in_order(path: str, node: Distribution, always: bool) -> Axis:
    """Return the axis of a distribution of which no more is known than the order of its values."""
    size = node.size
    if size is not None:

        def place(value: Any) -> int:
            return min(bisect_left(range(size), value, key=node.point), size - 1)

        return Axis(
            path,
            node,
            IntDistribution(0, size - 1),
            lambda index: node.point(min(max(int(index), 0), size - 1)),
            place,
            always,
        )

    def share(value: Any) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):  # until they are neighbours
            middle = (low + high) / 2
            low, high = (low, middle) if node.quantile(middle) >= value else (middle, high)
        return low if node.quantile(low) >= value else high

    return Axis(path, node, _QUANTILES, lambda u: node.quantile(float(u)), share, always)


def _uniform(path: str, node: Uniform, always: bool) -> Axis:
    low, high = node.low, node.high

    def clip(value: float) -> float:
        return min(max(float(value), low), high)

    if _is_extreme(low, high):
        return Axis(
            path,
            node,
            _QUANTILES,
            lambda u: clip(low + (high - low) * u),
            lambda v: min(max((v - low) / (high - low), 0.0), 1.0),
            always,
        )
    return Axis(path, node, FloatDistribution(low, high, log=node.log), clip, clip, always)


def _is_extreme(low: float, high: float) -> bool:
    """Tell whether Optuna's arithmetic would break down: overflow, or find no room for a number.

    A range that is that narrow is no different if it is ``log``.
    """
    widest = max(abs(low), abs(high))
    return widest > 1e150 or high - low <= max(1e-9 * widest, 1e-150)


def _grid(path: str, node: Uniform, always: bool) -> Axis:
    last, step = (node.size or 1) - 1, node.step or 1.0

    def value(index: Any) -> Any:
        return node.point(min(max(int(index), 0), last))

    def index(value: float) -> int:
        return min(max(round((value - node.low) / step), 0), last)

    return Axis(path, node, IntDistribution(0, last), value, index, always)


def _ints(path: str, node: Ints, always: bool) -> Axis:
    low, step, last = node.low, node.step or 1, node.size - 1
    high = low + last * step

    def clip(number: float) -> int:
        return min(max(int(number), low), high)

    if max(abs(low), abs(high)) <= _FLOAT_EXACT and not _is_extreme(low, high):
        distribution = IntDistribution(low, high, log=node.log, step=step)
        return Axis(path, node, distribution, clip, clip, always)
    if node.log and low < high / 4:
        return Axis(path, node, FloatDistribution(low, high, log=True), clip, float, always)

    def value(index: float) -> int:
        return low + min(max(int(index), 0), last) * step

    return Axis(
        path, node, IntDistribution(0, last), value, lambda n: (clip(n) - low) // step, always
    )


def _normal(path: str, node: Normal, always: bool) -> Axis:
    def value(quantile: Any) -> float:
        deviations = _STANDARD.inv_cdf(min(max(float(quantile), _TAIL), 1 - _TAIL))
        deviation = node.scale * deviations
        if node.log:
            found = node.median * math.exp(min(max(deviation, -700.0), 700.0))
            return min(max(found, sys.float_info.min), sys.float_info.max)
        return min(max(node.median + deviation, -sys.float_info.max), sys.float_info.max)

    def quantile(value: Any) -> float:
        if node.log:
            deviation = math.log(value) - math.log(node.median) if value > 0 else -math.inf
        else:
            deviation = value - node.median
        return min(max(_STANDARD.cdf(deviation / node.scale), _TAIL), 1 - _TAIL)

    return Axis(path, node, FloatDistribution(_TAIL, 1 - _TAIL), value, quantile, always)


def _choice(path: str, node: OneOf, live: list[int], always: bool) -> Axis:
    weights = [1.0 if node.weights is None else node.weights[index] for index in live]
    if len(set(weights)) == 1:
        known = frozenset(live)
        return Axis(
            path,
            node,
            CategoricalDistribution(tuple(live)),
            int,
            lambda index: index if index in known else None,
            always,
        )
    edges = [0.0, *(total / sum(weights) for total in accumulate(weights))]
    middles = {index: (a + b) / 2 for index, (a, b) in zip(live, pairwise(edges), strict=True)}

    def value(quantile: Any) -> int:
        return live[min(bisect_right(edges, float(quantile)) - 1, len(live) - 1)]

    return Axis(path, node, _QUANTILES, value, middles.get, always)
