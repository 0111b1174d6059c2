"""Samplers: who proposes the params of a trial.

A sampler is a pure function of the search space, of what the lag rule shows of the run, and of a
generator that is seeded for the trial. It keeps nothing from call to call but caches that may be
dropped at any moment, so it proposes the same after a crash.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from letstune.errors import PlanError, SpaceError
from letstune.params import Params, RecordedParams, Space
from letstune.seeding import Purpose, generator

if TYPE_CHECKING:
    import numpy as np

ATTEMPTS: Final = 100


@dataclass(frozen=True, slots=True)
class Observation:
    """What a sampler sees of a trial.

    Attributes:
        trial: its id.
        params: its params.
        status: trained, stopped or failed; pending, if its results are not to be seen yet.
        values: the optimized metric after each epoch that is to be seen.
        metrics: all metric values after each of these epochs.
    """

    trial: int
    params: Params | RecordedParams
    status: str
    values: tuple[float, ...] = ()
    metrics: tuple[Mapping[str, float], ...] = ()


class Sampler(ABC):
    """Proposes params.

    Attributes:
        adaptive: whether it looks at the history. A sampler that does not can have all its
            trials proposed at once.

    >>> class Draw(Sampler):
    ...     def propose(self, space, history, rng, trial):
    ...         return space.build(lambda path, distribution: distribution.sample(rng))
    """

    adaptive: ClassVar[bool] = False

    @abstractmethod
    def propose(
        self,
        space: Space,
        history: Sequence[Observation],
        rng: np.random.Generator,
        trial: int,
    ) -> Params | RecordedParams:
        """Return the params of a trial.

        Args:
            space: the search space.
            history: what is to be seen of the trials before this one, in their order; empty
                unless the sampler is `adaptive`.
            rng: seeded for this trial.
            trial: its id, from 0 on.
        """

    def check(self, space: Space) -> None:
        """Refuse a space that the sampler cannot drive, before anything is written.

        Raises:
            PlanError: says why.
        """
        return


class RandomSampler(Sampler):
    """Draws every trial independently from the distributions of the space."""

    def propose(
        self,
        space: Space,
        history: Sequence[Observation],
        rng: np.random.Generator,
        trial: int,
    ) -> Params | RecordedParams:
        """Return a random draw."""
        params: Params | RecordedParams = space.sample(rng)
        return params


class GridSampler(Sampler):
    """Goes through all points of a finite space, in order, the last field fastest."""

    def propose(
        self,
        space: Space,
        history: Sequence[Observation],
        rng: np.random.Generator,
        trial: int,
    ) -> Params | RecordedParams:
        """Return the point of the grid that has the trial's number."""
        params: Params | RecordedParams = space.point(trial)
        return params

    def check(self, space: Space) -> None:
        """Refuse a space that is not finite."""
        space.require_structure("sampler 'grid'")
        if space.size is None:
            raise PlanError(
                f"sampler 'grid' needs a finite space, but {space.name} has a continuous "
                "parameter. Give it a step or use rand.oneof, or use sampler='random'."
            )


BUILT_IN: Final[Mapping[str, type[Sampler]]] = {"random": RandomSampler, "grid": GridSampler}


def make_sampler(name: str, options: Mapping[str, Any]) -> Sampler:
    """Return a new sampler by its name.

    Raises:
        PlanError: there is none of that name, or it does not take these options.
    """
    if name not in BUILT_IN:
        raise PlanError(f"There is no sampler {name!r}; there are {', '.join(sorted(BUILT_IN))}.")
    try:
        return BUILT_IN[name](**options)
    except TypeError as error:
        raise PlanError(f"sampler {name!r} with options {dict(options)!r}: {error}.") from error


def propose_distinct(
    sampler: Sampler,
    space: Space,
    history: Sequence[Observation],
    seed: int,
    trial: int,
    taken: Collection[str],
) -> Params | RecordedParams | None:
    """Return a trial's params, other than those taken; None if there are no others.

    A sampler that repeats itself is asked again with fresh randomness. What it cannot find then
    is drawn from the space at random, or, if that is finite, taken point by point from a random
    one on. A space whose size is unknown, because a class has its own ``get_random_params``,
    counts as exhausted then.

    Args:
        sampler: who is asked.
        space: the search space.
        history: what the sampler may see.
        seed: the run's.
        trial: the trial.
        taken: the JSON of the params of all trials so far.
    """
    if space.size is not None and len(taken) >= space.size:
        return None
    params: Params | RecordedParams
    for attempt in range(ATTEMPTS):
        rng = generator(seed, Purpose.PROPOSE, trial, attempt)
        params = sampler.propose(space, history, rng, trial)
        if not isinstance(params, Params | RecordedParams):
            raise SpaceError(
                f"Sampler {type(sampler).__name__} proposed {params!r:.200} for trial {trial}; "
                f"expected params of {space.name}, for instance from space.build()."
            )
        if params.to_json() not in taken:
            return params
    rng = generator(seed, Purpose.PROPOSE, trial, ATTEMPTS)
    start = 0 if space.size is None else int(rng.integers(space.size))
    for i in range(space.size or ATTEMPTS):
        params = space.point((start + i) % space.size) if space.size else space.sample(rng)
        if params.to_json() not in taken:
            return params
    return None
