"""A search space in coordinates: params as rows of numbers, and back.

A row has a number for each parameter that can have several values. That of a number is its share,
from 0 to 1, as `Distribution.quantile` understands it; that of a choice is the position among the
candidates that can be chosen. A parameter of a branch that is not chosen has NaN.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from scipy.special import ndtr  # type: ignore[import-untyped, unused-ignore]

from letstune.errors import SpaceError
from letstune.space.distributions import Bools, Constant, Distribution, Ints, Normal, OneOf, Uniform
from letstune.space.params import ParamsLike, Space
from letstune.space.tree import branch

Array: TypeAlias = np.ndarray[Any, Any]

_FINE: Final = 2**40
"""So many values count as a continuum, in which nothing needs to be snapped."""


@dataclass(eq=False)
class Axis:
    """A parameter.

    Attributes:
        path: its path, as in `Space.build`.
        node: its distribution.
        live: if it is a choice, the indices of the candidates that can be chosen.
        parents: the choices on which it depends: if any of these axes is at that position, it is
            active. Empty if it always is.
    """

    path: str
    node: Distribution
    live: list[int] = field(default_factory=list)
    parents: list[tuple[int, int]] = field(default_factory=list)

    @property
    def categories(self) -> int:
        """How many categories there are; 0 for a number."""
        return 2 if isinstance(self.node, Bools) else len(self.live)

    @property
    def continuous(self) -> bool:
        """Whether any share is a value of its own."""
        size = self.node.size
        return not self.categories and (size is None or size > _FINE)

    def steps(self, reach: float) -> bool:
        """Return whether changes of a share by about so much lead to other values."""
        size = self.node.size
        return size is None or reach * size > 0.5

    def coordinate(self, value: Any) -> float:
        """Return the coordinate of an answer to `Space.build`; NaN if it has none."""
        node = self.node
        if isinstance(node, OneOf):
            return float(self.live.index(value)) if value in self.live else math.nan
        if isinstance(node, Bools):
            return float(value)
        if isinstance(node, Normal):
            offset = math.log(max(value, 5e-324) / node.median) if node.log else value - node.median
            return float(ndtr(offset / node.scale))
        return min(max(_share(node, value), 0.0), 1.0)

    def answer(self, coordinate: float) -> Any:
        """Return the answer to `Space.build` that a coordinate stands for."""
        if self.live:
            return self.live[int(coordinate)]
        if isinstance(self.node, Bools):
            return coordinate > 0.5
        return self.node.quantile(min(max(float(coordinate), 0.0), 1.0))

    def snapped(self, shares: Array) -> Array:
        """Return the coordinates of the values at any shares."""
        node, count = self.node, self.categories or self.node.size
        if self.categories:
            return _slots(shares, self.categories)
        if self.continuous or count is None:
            return np.clip(shares, 0.0, 1.0)
        if isinstance(node, Ints) and node.log:
            low, high = math.log(node.low - 0.5), math.log(node.high + 0.5)
            values = np.clip(np.round(np.exp(low + (high - low) * shares)), node.low, node.high)
            found: Array = (np.log(values) - low) / (high - low)
            return found
        return (_slots(shares, count) + 0.5) / count


def _slots(shares: Array, count: int) -> Array:
    """Return in which of so many equal parts of the range from 0 to 1 shares are."""
    slots: Array = np.clip(np.floor(shares * count), 0, count - 1)
    return slots


def _share(node: Any, value: Any) -> float:
    size = node.size
    if isinstance(node, Ints) and node.log:
        low, high = math.log(node.low - 0.5), math.log(node.high + 0.5)
        return float((math.log(max(value, 0.5)) - low) / (high - low))
    if isinstance(node, Ints | Uniform) and size is not None:
        return float((round((value - node.low) / (node.step or 1)) + 0.5) / size)
    if node.log:
        low, high = math.log(node.low), math.log(node.high)
        return float((math.log(max(value, 5e-324)) - low) / (high - low))
    return float((value - node.low) / (node.high - node.low))


class Coordinates:
    """The axes of a search space.

    Attributes:
        axes: in the order in which `Space.build` asks, so that a choice is before what depends on
            it.
        owners: for each column of `embedded`, the number of its axis.
        columns: for each axis, the number of its first column.
        continuous: for each axis, whether any share is a value of its own.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.axes: list[Axis] = []
        self._numbers: dict[tuple[str, Distribution], int] = {}
        self._walk(space, "", "", None)
        widths = [axis.categories if axis.categories > 2 else 1 for axis in self.axes]
        self.owners: Array = np.repeat(np.arange(len(self.axes)), widths)
        self.columns: Array = np.cumsum([0, *widths])[:-1]
        self.continuous: Array = np.array([axis.continuous for axis in self.axes], dtype=bool)

    def _walk(self, node: Any, path: str, below: str, parent: tuple[int, int] | None) -> None:
        if isinstance(node, Space):
            for name, child in node.fields:
                self._walk(child, below + name, f"{below}{name}.", parent)
        elif isinstance(node, OneOf):
            live = [index for index, _ in node._live]
            number = self._add(path, node, live, parent) if len(live) > 1 else None
            for position, index in enumerate(live):
                here = parent if number is None else (number, position)
                self._walk(node.candidates[index], *branch(path, node, index), here)
        elif not isinstance(node, Constant) and node.size != 1:
            self._add(path, node, [], parent)

    def _add(
        self, path: str, node: Distribution, live: list[int], parent: tuple[int, int] | None
    ) -> int:
        # Two branches of the same name share their paths, so the distribution is looked at, too.
        number = self._numbers.setdefault((path, node), len(self.axes))
        if number == len(self.axes):
            self.axes.append(Axis(path, node, live))
        if parent is not None:
            self.axes[number].parents.append(parent)
        return number

    def row(self, params: ParamsLike) -> list[float] | None:
        """Return the row of params; None if no choices in the space lead to them."""
        try:
            chosen = self._space.choices(params)
        except SpaceError:
            # Made by hand, with a value that no candidate of a choice contains.
            return None
        row = [math.nan] * len(self.axes)
        for (path, _), number in self._numbers.items():
            parents = self.axes[number].parents
            if path in chosen and (not parents or any(row[which] == at for which, at in parents)):
                row[number] = self.axes[number].coordinate(chosen[path])
        return row

    def drawn(self, count: int, rng: np.random.Generator) -> Array:
        """Return so many random rows; or all that there are, if these are not many more."""
        size = self._space.size
        if size is None or size > 2 * count:
            return self.snapped(rng.random((count, len(self.axes))))
        rows = [self.row(self._space.point(i)) for i in range(size)]
        return np.array(rows, dtype=float).reshape(size, len(self.axes))

    def build(self, row: Array) -> ParamsLike:
        """Return the params of a row."""

        def choose(path: str, node: Distribution) -> Any:
            number = self._numbers.get((path, node))
            # What is no axis has one value, which is at every share.
            return node.quantile(0.5) if number is None else self.axes[number].answer(row[number])

        return self._space.build(choose)

    def snapped(self, shares: Array) -> Array:
        """Return rows of values of the space: each share's, or NaN where it is not active."""
        rows = np.empty_like(shares)
        for number, axis in enumerate(self.axes):
            rows[:, number] = axis.snapped(shares[:, number])
            if axis.parents:
                active = np.zeros(len(rows), dtype=bool)
                for which, at in axis.parents:
                    active |= rows[:, which] == at
                rows[~active, number] = np.nan
        return rows

    def shares(self, rows: Array, spare: Array) -> Array:
        """Return shares from which `snapped` makes these rows.

        Args:
            rows: the rows.
            spare: shares for what is not active, of the same shape.
        """
        shares = rows.copy()
        for number, axis in enumerate(self.axes):
            if axis.categories:
                shares[:, number] = (rows[:, number] + 0.5) / axis.categories
        return np.where(np.isnan(rows), spare, shares)

    def steps(self, reach: float) -> Array:
        """Return for each axis whether a change by that much may lead to another value."""
        return np.array([not axis.categories and axis.steps(reach) for axis in self.axes])

    def embedded(self, rows: Array) -> Array:
        """Return rows for the model: distances are from 0 to 1 on each axis.

        Any two categories are as far apart as both ends of a number. What is not active is in the
        middle: so params of one branch differ by what is active in them, and by nothing else.
        """
        columns = []
        for number, axis in enumerate(self.axes):
            values = rows[:, number]
            if axis.categories > 2:
                columns.append((values[:, None] == np.arange(axis.categories)) / math.sqrt(2))
            else:
                columns.append(np.where(np.isnan(values), 0.5, values)[:, None])
        return np.hstack(columns) if columns else np.zeros((len(rows), 0))
