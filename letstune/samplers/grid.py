"""A finite part of a search space: some points of every continuous axis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from letstune.errors import PlanError
from letstune.space.distributions import Constant, Distribution, Ints, OneOf, Uniform
from letstune.space.tree import Space, branch

Points = int | Mapping[str, int]
"""How many points a continuous axis gets, or, by its path, each of some axes."""


def thinned(space: Space, points: Points) -> Space:
    """Return a space with some evenly spaced values in place of each continuous distribution.

    A uniform distribution gets both ends and evenly spaced values between them, in the logarithm if
    it is declared with ``log=True``. A normal one gets its quantiles at (i + 0.5) / points. A
    finite one stays as it is, unless a mapping names it, as it may name a long range of `ints`.

    Args:
        space: the space.
        points: how many each continuous axis gets; or a mapping from paths, as in `Space.build`, to
            how many each of these axes gets.

    Raises:
        PlanError: there is no axis of a name, or it cannot have that many points.
    """
    named = points if isinstance(points, Mapping) else {}
    axes = space.distributions()
    for path in named:
        if not isinstance(axes.get(path), Distribution) or isinstance(axes[path], OneOf):
            numeric = [path for path, axis in axes.items() if not isinstance(axis, OneOf)]
            raise PlanError(
                f"sampler 'grid': points names {path!r}, expected one of the axes of {space}: "
                f"{', '.join(numeric)}."
            )

    def walk(node: Any, path: str, below: str) -> Any:
        if isinstance(node, Space):
            fields = [(name, walk(n, below + name, f"{below}{name}.")) for name, n in node.fields]
            return replace(node, fields=tuple(fields))
        if isinstance(node, OneOf):
            candidates = [
                walk(candidate, *branch(path, node, i))
                for i, candidate in enumerate(node.candidates)
            ]
            return replace(node, candidates=tuple(candidates))
        count = named.get(path, points if node.size is None else None)
        if isinstance(count, int) and not isinstance(node, Constant):
            return OneOf(tuple(map(Constant, values(node, count))))
        return node

    whole: Space = walk(space, "", "")
    return whole


def values(distribution: Distribution, count: int) -> list[Any]:
    """Return up to so many evenly spaced values of a distribution, in order, without repeats.

    >>> values(Uniform(0.001, 10.0, log=True), 5)
    [0.001, 0.01, 0.1, 1.0, 10.0]
    >>> values(Ints(1, 1000, log=True), 4)
    [1, 10, 100, 1000]
    """
    return list(dict.fromkeys(_spaced(distribution, count)))


def _spaced(distribution: Distribution, count: int) -> Iterator[Any]:
    size = distribution.size
    for i in range(count):
        share = i / (count - 1) if count > 1 else 0.5
        if isinstance(distribution, Uniform | Ints) and distribution.log:
            low, high = math.log10(distribution.low), math.log10(distribution.high)
            value = min(
                max(10 ** (low + (high - low) * share), distribution.low), distribution.high
            )
            ends = {0.0: distribution.low, 1.0: distribution.high}
            value = ends.get(share, value)
            yield distribution.produces(round(value) if isinstance(distribution, Ints) else value)
        elif size is not None:
            yield distribution.point(round((size - 1) * share))
        elif isinstance(distribution, Uniform):
            yield distribution.quantile(share)
        else:
            yield distribution.quantile((i + 0.5) / count)
