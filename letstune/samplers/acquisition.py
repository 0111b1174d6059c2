"""What a trial is worth: the expected improvement, and the params where it is greatest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import numpy as np
from scipy.optimize import minimize  # type: ignore[import-untyped, unused-ignore]
from scipy.special import (  # type: ignore[import-untyped, unused-ignore]
    erfcx,
    log_ndtr,
    ndtr,
)

from letstune.samplers.coordinates import Coordinates
from letstune.samplers.gaussian_process import Posterior

Array: TypeAlias = np.ndarray[Any, Any]

DRAWN: Final = 512
"""Candidates that are drawn from all of the space."""
NEAR: Final = 256
"""Candidates in each round of changes of the best ones."""
ROUNDS: Final = (0.3, 0.1, 0.03, 0.01)
"""How far these changes go, in each round."""
KEPT: Final = 8
"""How many of the best candidates are changed."""
POLISHED: Final = 2
"""How many of them are followed to their maximum at last."""

_TAIL: Final = -1 / math.sqrt(np.finfo(float).eps)
_C1: Final = math.log(2 * math.pi) / 2
_C2: Final = math.log(math.pi / 2) / 2


def log_improvement(deviations: Array) -> Array:
    """Return log(E(max(0, z + X))) for a standard normal X, for each z.

    The expected improvement itself is 0 in floats where it matters still; Ament, Daulton,
    Eriksson, Balandat and Bakshy, "Unexpected improvements to expected improvement for Bayesian
    optimization", NeurIPS 2023, appendix A.1.

    >>> float(log_improvement(np.array([0.0]))[0]) == -math.log(2 * math.pi) / 2
    True
    """
    z = np.asarray(deviations, dtype=float)
    near = np.maximum(z, -1.0)
    upper = np.log(np.exp(-(near**2) / 2 - _C1) + near * ndtr(near))
    far = np.clip(z, _TAIL, -1.0)
    ratio = np.log(erfcx(-far / math.sqrt(2)) * -far) + _C2
    lower = -(far**2) / 2 - _C1 + np.log(-np.expm1(ratio))
    last = np.minimum(z, _TAIL)
    lowest = -(last**2) / 2 - _C1 - 2 * np.log(-last)
    found: Array = np.where(z > -1, upper, np.where(z > _TAIL, lower, lowest))
    return found


class Search:
    """Looks for the params with the greatest expected improvement.

    Args:
        coordinates: of the search space.
        posterior: of the values at embedded params, with what is appended.
        appended: what each embedded row ends with, such as the epoch that counts.
        best: the value to be improved on.
        rng: draws the candidates.
    """

    def __init__(
        self,
        coordinates: Coordinates,
        posterior: Posterior,
        appended: Array,
        best: float,
        rng: np.random.Generator,
    ) -> None:
        self._coordinates = coordinates
        self._posterior = posterior
        self._appended = appended
        self._best = best
        self._rng = rng

    def worth(self, rows: Array) -> Array:
        """Return the logarithm of the expected improvement by the params of each row."""
        embedded = self._coordinates.embedded(rows)
        ends = np.broadcast_to(self._appended, (len(rows), len(self._appended)))
        means, deviations = self._posterior.predict(np.hstack([embedded, ends]))
        return np.log(deviations) + log_improvement((means - self._best) / deviations)

    def ranked(self, known: Array) -> Iterator[Array]:
        """Yield rows, those that promise most first.

        Args:
            known: rows near which it is worthwhile to look, too.
        """
        rows = self._coordinates.drawn(DRAWN, self._rng)
        if len(known):
            rows = np.vstack([self._changed(known, NEAR, 0.1), rows])
        worth = self.worth(rows)
        for reach in ROUNDS:
            rows, worth = _best(rows, worth, KEPT)
            more = self._changed(rows, NEAR, reach)
            rows = np.vstack([rows, more])
            worth = np.append(worth, self.worth(more))
        rows, worth = _best(rows, worth, len(rows))
        polished = np.array([self._polished(row) for row in rows[:POLISHED]])
        rows = np.vstack([rows, polished])
        worth = np.append(worth, self.worth(polished))
        yield from _best(rows, worth, len(rows))[0]

    def _changed(self, rows: Array, count: int, reach: float) -> Array:
        """Return changes of rows: of one axis or of a few, a little or to anything."""
        size = (count, len(self._coordinates.axes))
        sources = rows[np.arange(count) % len(rows)]
        spare = self._rng.random(size)
        shares = self._coordinates.shares(sources, spare)
        # At least one axis; on average, two of them.
        changed = self._rng.random(size) < min(1.0, 1.0 / size[1])
        changed[np.arange(count), self._rng.integers(size[1], size=count)] = True
        moved = np.clip(shares + reach * self._rng.standard_normal(size), 0.0, 1.0)
        moved = np.where(self._coordinates.steps(reach), moved, spare)
        return self._coordinates.snapped(np.where(changed, moved, shares))

    def _polished(self, row: Array) -> Array:
        """Return the row with its continuous coordinates at the nearest maximum."""
        coordinates = self._coordinates
        free = coordinates.continuous & ~np.isnan(row)
        if not free.any():
            return row
        columns = coordinates.columns[free]
        whole = np.append(coordinates.embedded(row[None])[0], self._appended)

        def loss(shares: Array) -> tuple[float, Array]:
            whole[columns] = shares
            mean, deviation, mean_slope, slope = self._posterior.slopes(whole)
            z = (mean - self._best) / deviation
            value = float(log_improvement(np.array([z]))[0])
            steep = math.exp(min(float(log_ndtr(z)) - value, 700.0))
            whole_slope = steep * (mean_slope - z * slope) / deviation + slope / deviation
            return -(math.log(deviation) + value), -whole_slope[columns]

        found = minimize(
            loss,
            row[free],
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, 1.0)] * len(columns),
            options={"maxiter": 30},
        )
        polished = row.copy()
        polished[free] = found.x
        return polished


def _best(rows: Array, worth: Array, count: int) -> tuple[Array, Array]:
    """Return the best of some rows, without repeats, and what they are worth."""
    order = np.argsort(-worth, kind="stable")
    rows, worth = rows[order], worth[order]
    _, first = np.unique(np.nan_to_num(rows, nan=-1.0), axis=0, return_index=True)
    kept = np.sort(first)[:count]
    return rows[kept], worth[kept]
