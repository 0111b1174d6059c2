"""A Gaussian process: what some observed points tell of all others. Arrays in, arrays out.

One Matern kernel of smoothness 5/2 with a length scale for each axis, a constant mean, and noise;
Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2, 4 and 5. The
length scales and the noise are those of the highest posterior density, with a prior that expects
each axis to matter less, the more axes there are; without that, distances in many dimensions grow
until nothing tells of anything: Hvarfner, Hellsten and Nardi, "Vanilla Bayesian optimization
performs great in high dimensions", ICML 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from scipy.linalg import (  # type: ignore[import-untyped, unused-ignore]
    cho_solve,
    cholesky,
    solve_triangular,
)
from scipy.linalg.lapack import dpotri  # type: ignore[import-untyped, unused-ignore]
from scipy.optimize import minimize  # type: ignore[import-untyped, unused-ignore]

Array: TypeAlias = np.ndarray[Any, Any]

SPREAD: Final = math.sqrt(3)
"""Of the logarithm of a length scale, in the prior."""
NOISE: Final = (-8.0, 3.0)
"""Of the logarithm of the noise's variance, in the prior: mean and standard deviation. The values'
own variance is 1, so that is anything from none to much. A prior that expects more takes the last
steps to a maximum for luck."""
FLOOR: Final = 1e-6
"""The least variance of the noise, with which every kernel matrix has a Cholesky factor."""
_BOUNDS: Final = (math.log(0.005), math.log(1e4))
_STEPS: Final = 25


@dataclass(frozen=True)
class Scales:
    """The hyperparameters.

    Attributes:
        lengths: how far values tell of each other, for each axis.
        noise: the variance of what is added to each observation.
    """

    lengths: Array
    noise: float


def correlation(a: Array, b: Array, lengths: Array) -> tuple[Array, Array]:
    """Return the kernel between the rows of two arrays, and what all its derivatives contain.

    The derivative by a coordinate of `a` is the second, times what `b` is further on there, over
    the square of the length.

    Args:
        a: points, a row each.
        b: points, a row each.
        lengths: the length scale of each column.
    """
    scaled, other = a / lengths, b / lengths
    # By |a - b|^2 = |a|^2 - 2ab + |b|^2, since a matrix product takes a tenth of the time that an
    # array of all differences does. What rounds away is far below the least noise.
    square = (
        np.sum(scaled**2, axis=1)[:, None] - 2 * scaled @ other.T + np.sum(other**2, axis=1)[None]
    )
    distance = np.sqrt(5 * np.maximum(square, 0.0))
    decay = np.exp(-distance)
    slope = (5 / 3) * (1 + distance) * decay
    return (1 + distance + distance**2 / 3) * decay, slope


class Posterior:
    """What observations tell of all points.

    Args:
        points: where was observed, a row each.
        values: what was observed there.
        scales: the hyperparameters.
        owners: for each column of the points, the number of the axis that it is part of.
    """

    def __init__(self, points: Array, values: Array, scales: Scales, owners: Array) -> None:
        self._points = points
        self._lengths = scales.lengths[owners]
        kernel, _ = correlation(points, points, self._lengths)
        kernel[np.diag_indices_from(kernel)] += scales.noise
        self._factor = cholesky(kernel, lower=True, check_finite=False)
        self.mean = _mean(self._factor, values)
        self._weights = _solve(self._factor, values - self.mean)

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return the means and the standard deviations of the values at points, without noise."""
        kernel, _ = correlation(points, self._points, self._lengths)
        half = solve_triangular(self._factor, kernel.T, lower=True, check_finite=False)
        variances = np.maximum(1.0 - np.sum(half**2, axis=0), 1e-12)
        return self.mean + kernel @ self._weights, np.sqrt(variances)

    def slopes(self, point: Array) -> tuple[float, float, Array, Array]:
        """Return mean and standard deviation at one point, and the gradients of the two."""
        kernel, slope = correlation(point[None], self._points, self._lengths)
        toward = (self._points - point) / self._lengths**2 * slope[0][:, None]
        solved = _solve(self._factor, kernel[0])
        deviation = math.sqrt(max(1.0 - float(kernel[0] @ solved), 1e-12))
        mean = self.mean + float(kernel[0] @ self._weights)
        return mean, deviation, self._weights @ toward, -(solved @ toward) / deviation


def fit(points: Array, values: Array, owners: Array, expected: Array) -> Scales:
    """Return the most plausible hyperparameters.

    Args:
        points: where was observed, a row each.
        values: what was observed there, with a variance of about 1.
        owners: for each column of the points, the number of the axis that it is part of.
        expected: the mean of the logarithm of each axis' length scale, in the prior.
    """
    bounds = [_BOUNDS] * len(expected) + [(math.log(FLOOR), 1.0)]
    best: Any = None
    # What is noise, and what is a short length scale, may both explain the values: each is a
    # maximum of its own, so the search begins with little noise and with much.
    for noise in (NOISE[0], -2.0):
        start = np.clip(np.append(expected - SPREAD**2, noise), *np.array(bounds).T)
        found = minimize(
            implausibility,
            start,
            args=(points, values, owners, expected),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": _STEPS, "ftol": 1e-5, "gtol": 1e-3},
        )
        if best is None or found.fun < best.fun:
            best = found
    return Scales(np.exp(best.x[:-1]), math.exp(best.x[-1]))


def implausibility(
    logs: Array, points: Array, values: Array, owners: Array, expected: Array
) -> tuple[float, Array]:
    """Return minus the logarithm of the posterior density, but for a constant; and its gradient.

    Args:
        logs: the logarithms of the lengths and of the noise.
        points: as in `fit`.
        values: as in `fit`.
        owners: as in `fit`.
        expected: as in `fit`.
    """
    axes = len(expected)
    lengths, noise = np.exp(logs[:axes])[owners], math.exp(logs[-1])
    kernel, slope = correlation(points, points, lengths)
    kernel[np.diag_indices_from(kernel)] += noise
    factor = cholesky(kernel, lower=True, check_finite=False)
    mean = _mean(factor, values)
    weights = _solve(factor, values - mean)
    inverse, _ = dpotri(factor, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    fitness = float((values - mean) @ weights) / 2 + float(np.sum(np.log(np.diag(factor))))

    # Rasmussen and Williams, equation 5.9. By columns, the sum over all pairs of w (x - x')^2 is
    # a matrix product again; the mean moves, too, but is where that changes nothing.
    outer = inverse - np.outer(weights, weights)
    pull = outer * slope
    by_column = (np.sum(pull, axis=1) @ points**2 - np.sum(points * (pull @ points), axis=0)) / (
        lengths**2
    )
    gradient = np.append(
        np.bincount(owners, by_column, minlength=axes), noise * np.trace(outer) / 2
    )
    centre = np.append(expected, NOISE[0])
    spread = np.append(np.full(axes, SPREAD), NOISE[1])
    off = (logs - centre) / spread
    # The density of a length is that of itself, hence the last term: a log-normal's mode is below
    # the exponential of the mean. That of the noise is its logarithm's.
    fitness += float(np.sum(off**2) / 2 + np.sum(logs[:-1])) + mean**2 / 2
    return fitness, gradient + off / spread + np.append(np.ones(axes), 0.0)


def _mean(factor: Array, values: Array) -> float:
    """Return the most plausible constant mean, if a standard normal one is expected."""
    ones = _solve(factor, np.ones_like(values))
    return float(ones @ values) / (float(np.sum(ones)) + 1.0)


def _solve(factor: Array, values: Array) -> Array:
    solved: Array = cho_solve((factor, True), values, check_finite=False)
    return solved
