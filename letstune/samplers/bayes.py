"""The sampler that learns: the class, and the trials with which it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from letstune._public import public
from letstune.rounds.seeding import run_seed
from letstune.samplers.sampler import Observation, Sampler
from letstune.samplers.sobol import check_dimensions, sobol_point
from letstune.space.params import ParamsLike, Space

if TYPE_CHECKING:
    import numpy as np

START: Final = 8
"""So many trials are evenly spread, before the model has a say."""


@public("letstune.samplers")
class BayesSampler(Sampler):
    """Learns which params are worth training next: a Gaussian process over params and epochs.

    The first eight trials are spread evenly over the space. After that, each one has the greatest
    expected improvement at the end of the longest training so far. What failed counts as worse
    than all that has a result, and what is pending as if it had come out as expected.

    It looks at 300 results at most: of more, at the best, and at some of the others. The linear
    algebra is that of NumPy and SciPy, whose last bits may differ from one machine to another, so
    the same history may lead to other params there. What is proposed is in the journal.
    """

    adaptive: ClassVar[bool] = True

    def propose(
        self,
        space: Space,
        history: Sequence[Observation],
        rng: np.random.Generator,
        trial: int,
    ) -> ParamsLike:
        """Return the params that promise most at the longest training so far."""
        if trial >= START and any(map(_has_result, history)):
            # Imported late: NumPy and SciPy take longer to import than all of letstune.
            from letstune.samplers.surrogate import promising

            found = promising(space, history, rng)
        else:
            found = _evenly(space, rng, trial)
            if any(seen.params == found for seen in history):
                found = None
        return space.sample(rng) if found is None else found

    def check(self, space: Space) -> None:
        """Refuse a space of unknown or too many dimensions."""
        space.require_structure("sampler 'bayes'")
        check_dimensions(len(space.distributions()), space.name)


def _evenly(space: Space, rng: np.random.Generator, number: int) -> ParamsLike:
    """Return the point of the run's Sobol' sequence that has a number."""
    paths = space.distributions()
    point = dict(zip(paths, sobol_point(run_seed(rng), len(paths), number), strict=True))
    return space.build(lambda path, distribution: distribution.quantile(point[path]))


def _has_result(seen: Observation) -> bool:
    return seen.status != "failed" and any(map(math.isfinite, seen.values))
