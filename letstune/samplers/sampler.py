"""Samplers: who proposes the params of a trial.

A sampler is a pure function of the search space, of what the lag rule shows of the run, and of a
generator that is seeded for the trial. It keeps nothing from call to call but caches that may be
dropped at any moment, so it proposes the same after a crash.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from letstune._public import public
from letstune.errors import PlanError
from letstune.rounds.seeding import run_seed
from letstune.samplers.grid import thinned
from letstune.samplers.sobol import check_dimensions, sobol_point
from letstune.space.params import ParamsLike, Space

if TYPE_CHECKING:
    import numpy as np


@public("letstune")
@dataclass(frozen=True, slots=True)
class Observation:
    """What a sampler sees of a trial.

    Attributes:
        trial: its id.
        params: its params.
        status: trained, stopped or failed; pending, if its results are not to be seen yet.
        values: the standing after each epoch that is to be seen, of which greater is better: the
            optimized metric, or minus that if its name has a leading minus; NaN if it was missing.
        metrics: all metric values after each of these epochs, as they were returned.
    """

    trial: int
    params: ParamsLike
    status: str
    values: tuple[float, ...] = ()
    metrics: tuple[Mapping[str, float], ...] = ()


@public("letstune")
class Sampler(ABC):
    """Proposes params.

    Attributes:
        adaptive: whether it looks at the history. If not, all its trials can be proposed at once.
        begins_with: options with which a run begins unless they are given, and which it records.
            A run that began without them goes on without them, so this is how an option that came
            later can have another default than what it meant before that. It is looked at on what
            is registered under a name, too.

    >>> class Draw(Sampler):
    ...     def propose(self, space, history, rng, trial):
    ...         return space.build(lambda path, distribution: distribution.sample(rng))
    """

    adaptive: ClassVar[bool] = False
    begins_with: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @abstractmethod
    def propose(
        self,
        space: Space,
        history: Sequence[Observation],
        rng: np.random.Generator,
        trial: int,
    ) -> ParamsLike:
        """Return the params of a trial.

        Args:
            space: the search space.
            history: what may be seen of the trials before this one, in their order; empty
                unless the sampler is `adaptive`.
            rng: seeded for this trial.
            trial: its id, from 0 on.
        """

    def check(self, space: Space) -> None:
        """Refuse a space that the sampler cannot drive, before anything is written.

        Raises:
            PlanError: it cannot; the message says why.
        """
        return

    def narrow(self, space: Space) -> Space:
        """Return the part of a space that the sampler proposes from; by default, all of it.

        A run ends when all points of a finite part are proposed.
        """
        return space


@public("letstune.samplers")
class RandomSampler(Sampler):
    """Draws every trial independently from the distributions of the space."""

    def propose(
        self,
        space: Space,
        history: Sequence[Observation],
        rng: np.random.Generator,
        trial: int,
    ) -> ParamsLike:
        """Return a random draw."""
        return space.sample(rng)


@public("letstune.samplers")
class GridSampler(Sampler):
    """Goes through all points of a grid, in order, the last field fastest.

    A finite axis contributes all of its values. Each branch of a union has a grid of its own.

    Args:
        points: how many evenly spaced points each continuous axis has. They are spaced by the
            logarithm if the axis is logarithmic, and by quantiles if it is normal. Or a mapping
            from paths, such as ``"lr"`` or ``"model.Linear.alpha"``, to the number for each of
            these axes. Without ``points``, the space must be finite.

    Raises:
        PlanError: ``points`` is not a number of points.
    """

    def __init__(self, points: int | Mapping[str, int] | None = None) -> None:
        counts: list[Any] = [*points.values()] if isinstance(points, Mapping) else [points or 1]
        if points == 0 or any(type(n) is not int or n < 1 for n in counts):
            raise PlanError(
                f"sampler 'grid': points={points!r}; expected a whole number from 1 on, or a dict "
                "from paths to such numbers."
            )
        self.points = points

    def narrow(self, space: Space) -> Space:
        """Return the space of the points of the grid."""
        return space if self.points is None else thinned(space, self.points)

    def propose(
        self,
        space: Space,
        history: Sequence[Observation],
        rng: np.random.Generator,
        trial: int,
    ) -> ParamsLike:
        """Return the point of the grid that has the trial's number."""
        return self.narrow(space).point(trial)

    def check(self, space: Space) -> None:
        """Refuse a space whose points cannot all be listed."""
        space.require_structure("sampler 'grid'")
        if self.narrow(space).size is None:
            raise PlanError(
                f"sampler 'grid' needs a finite space, but {space.name} has a continuous "
                "parameter. Give it a step or use rand.oneof, say how many points it shall have "
                "with sampler=('grid', {'points': 5}), or use sampler='random'."
            )


@public("letstune.samplers")
class SobolSampler(Sampler):
    """Fills the space evenly: a scrambled Sobol' sequence, with a dimension for each parameter.

    A parameter of a branch that is not chosen has its dimension, too, so that no branch disturbs
    the others. The run's seed decides the scrambling. The sequence is at its best when the number
    of trials is a power of two.
    """

    def propose(
        self,
        space: Space,
        history: Sequence[Observation],
        rng: np.random.Generator,
        trial: int,
    ) -> ParamsLike:
        """Return the point of the sequence that has the trial's number."""
        paths = space.distributions()
        point = dict(zip(paths, sobol_point(run_seed(rng), len(paths), trial), strict=True))
        return space.build(lambda path, distribution: distribution.quantile(point[path]))

    def check(self, space: Space) -> None:
        """Refuse a space of unknown or too many dimensions."""
        space.require_structure("sampler 'sobol'")
        check_dimensions(len(space.distributions()), space.name)
