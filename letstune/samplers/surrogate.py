"""What a history comes to for a Gaussian process, and which params that finds most promising."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, TypeAlias

import numpy as np
from scipy.special import ndtri  # type: ignore[import-untyped, unused-ignore]

from letstune.samplers.acquisition import Search
from letstune.samplers.coordinates import Coordinates
from letstune.samplers.gaussian_process import Posterior, fit
from letstune.samplers.sampler import Observation
from letstune.space.params import ParamsLike, Space

Array: TypeAlias = np.ndarray[Any, Any]

MOST: Final = 300
"""So many results are looked at: the time that a proposal takes grows with their cube."""
EPOCHS: Final = 8
"""From a trial, at most so many epochs and its last one."""
NEAR: Final = 5
"""So many of the best params are looked around."""
_LOG_EPOCHS: Final = 4.0
"""How far apart logarithms of epochs are that differ as much as both ends of another axis do."""


@dataclass(frozen=True)
class Results:
    """What has been seen, a row for each trial and epoch.

    Attributes:
        trials: the positions of the trials in the history.
        epochs: after how many epochs it was.
        values: the best until then; -inf for what failed, or has no finite value.
        longest: the number of epochs of the longest training.
    """

    trials: Array
    epochs: Array
    values: Array
    longest: int

    @classmethod
    def of(cls, history: Sequence[Observation]) -> Results:
        """Return the results that a history shows, at most `MOST` of them.

        Not each epoch is looked at, since neighbours tell the same, but those that trials were
        trained to, where they are compared, and some between. If there are too many results, those
        between are left out, then some of the others.
        """
        reached = [best_so_far(seen) for seen in history]
        ends = sorted({len(best) for best in reached if best})
        longest = ends[-1] if ends else 0
        for epochs in (_between(ends), _spread(ends)):
            rows = [
                (place, epoch, value)
                for place, (seen, best) in enumerate(zip(history, reached, strict=True))
                if seen.status != "pending"
                for epoch, value in _results(seen, best, epochs, longest)
            ]
            if len(rows) <= MOST:
                break
        trials, at, values = map(np.array, zip(*rows, strict=True))
        kept = _kept(values, MOST)
        return cls(trials[kept], at[kept], values[kept], longest)


def _results(
    seen: Observation, best: list[float], epochs: Sequence[int], longest: int
) -> Iterator[tuple[int, float]]:
    """Yield epochs of a trial, and the best until then."""
    if not best:  # counts as if trained to the end
        yield longest, -math.inf
        return
    if seen.status == "stopped":  # it competes with what it has in all later rounds
        best = best + [best[-1]] * (longest - len(best))
    for epoch in sorted({epoch for epoch in epochs if epoch <= len(best)} | {len(best)}):
        if best[epoch - 1] > -math.inf:
            yield epoch, best[epoch - 1]


def _kept(values: Array, most: int) -> Array:
    """Return which values to keep: the best ones, and of the others evenly many."""
    if len(values) <= most:
        return np.arange(len(values))
    order = np.argsort(-values, kind="stable")
    rest = np.sort(order[most // 2 :])
    even = rest[np.linspace(0, len(rest) - 1, most - most // 2).round().astype(int)]
    return np.sort(np.append(order[: most // 2], even))


def best_so_far(seen: Observation) -> list[float]:
    """Return the best finite value up to each epoch; nothing if the trial has no result."""
    if seen.status == "failed" or not any(map(math.isfinite, seen.values)):
        return []
    return list(accumulate((v if math.isfinite(v) else -math.inf for v in seen.values), max))


def _between(ends: Sequence[int]) -> list[int]:
    """Return numbers of epochs in which something ends, and Fibonacci's between them."""
    found, one, other = set(_spread(ends)), 1, 2
    while ends and one < ends[-1]:
        found |= {one} if one > ends[0] else set()
        one, other = other, one + other
    return sorted(found)


def _spread(ends: Sequence[int]) -> list[int]:
    """Return up to `EPOCHS` of some numbers of epochs, evenly spread in their logarithms."""
    if len(ends) <= EPOCHS:
        return list(ends)
    wanted = np.geomspace(ends[0], ends[-1], EPOCHS)
    return sorted({min(ends, key=lambda n: (abs(math.log(n / w)), n)) for w in wanted})


def scores(values: Array) -> Array:
    """Return values as the model sees them: of a mean of 0 and a variance of 1, and all finite.

    The better half keeps its proportions, in units of its distance from the median: by ranks, what
    hardly differs would be as far apart as anything, and the search would not get away from it. Of
    the worse half, and of what is lost, only the order counts, as that of a normal distribution:
    how bad the worst is makes no difference. As Vizier does; Song et al., "The Vizier Gaussian
    process bandit algorithm", 2024.

    >>> scores(np.array([-math.inf, -1e300, 0.0, 1.0, 2.0])).round(2).tolist()
    [-1.4, -0.64, -0.11, 0.68, 1.47]
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    normal = ndtri((np.cumsum(counts) - counts / 2)[inverse] / len(values))
    halves = values / 2  # so that no sum overflows
    least = float(halves[np.isfinite(halves)].min())
    median = max(float(np.median(halves)), least)
    above = np.maximum(halves - median, 0.0)
    largest = float(above.max())
    if largest > 0:
        above = above / largest
        above /= math.sqrt(float(np.mean(above[halves >= median] ** 2)))
    found: Array = np.where(halves >= median, above, np.minimum(normal, 0.0))
    found = found - np.mean(found)
    return found / (float(np.std(found)) or 1.0)


def promising(
    space: Space, history: Sequence[Observation], rng: np.random.Generator
) -> ParamsLike | None:
    """Return the params with the greatest expected improvement at the longest training.

    Args:
        space: the search space.
        history: what may be seen.
        rng: draws candidates.

    Returns:
        Params that are not in the history; None if none were found.
    """
    coordinates = Coordinates(space)
    taken = {seen.params.to_json() for seen in history}
    placed = [(seen, coordinates.row(seen.params)) for seen in history]
    history = [seen for seen, row in placed if row is not None]
    rows = np.array([row for _, row in placed if row is not None], dtype=float)
    if not coordinates.axes or not any(map(best_so_far, history)):
        return None
    results = Results.of(history)
    late = np.log([results.longest]) / _LOG_EPOCHS
    known = np.hstack([coordinates.embedded(rows), np.tile(late, (len(rows), 1))])
    points, found = known[results.trials], scores(results.values)
    points[:, -1] = np.log(results.epochs) / _LOG_EPOCHS
    owners = np.append(coordinates.owners, len(coordinates.axes))
    scales = fit(points, found, owners, expected_lengths(coordinates))
    posterior = Posterior(points, found, scales, owners)
    last = results.epochs == results.longest
    # Every other time, what is to be improved on is the best that was seen, which the model may
    # take for luck, or else what the model makes of the best. Only with the first, the search goes
    # on elsewhere while the model is too sure of itself, and only with the second, it gets to the
    # point: measured on functions of 2 to 20 axes, some stood still with either of them alone.
    seen_best = len(history) % 2 == 1
    best = float(np.max(found[last] if seen_best else posterior.predict(points[last])[0]))
    waiting = known[[seen.status == "pending" for seen in history]]
    if len(waiting):  # as if they had come out as expected: nothing more is to be learned there
        guessed, _ = posterior.predict(waiting)
        posterior = Posterior(
            np.vstack([points, waiting]), np.append(found, guessed), scales, owners
        )
    order = np.argsort(-posterior.predict(known)[0], kind="stable")
    search = Search(coordinates, posterior, late, best, rng)
    for row in search.ranked(rows[order[:NEAR]]):
        params = coordinates.build(row)
        if params.to_json() not in taken:
            return params
    return None


def expected_lengths(coordinates: Coordinates) -> Array:
    """Return the means of the logarithms of the length scales, in the prior.

    The more axes are active, the longer; an axis of a branch counts as often as it is.
    """
    # Even shares rather than random ones: this is no matter of luck.
    axes = len(coordinates.axes)
    shares = (np.arange(64)[:, None] * np.sqrt(np.arange(2, axes + 2)) + 0.5) % 1
    active = np.mean(np.sum(~np.isnan(coordinates.snapped(shares)), axis=1)) if axes else 1.0
    lengths = np.full(axes, math.sqrt(2) + math.log(max(active, 1.0)) / 2)
    return np.append(lengths, math.sqrt(2))
