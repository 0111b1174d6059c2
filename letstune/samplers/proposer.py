"""A proposer: has a sampler propose trials, no two of which have the same params."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from letstune.errors import PluginError, SpaceError
from letstune.rounds.seeding import Purpose, generator
from letstune.samplers.sampler import Observation, Sampler
from letstune.space.params import Params, ParamsLike, RecordedParams, Space

if TYPE_CHECKING:
    import numpy as np

ATTEMPTS: Final = 100


class Proposer:
    """Proposes params that no trial of the run has had.

    Args:
        sampler: who is asked.
        space: the search space.
        seed: the run's.
        taken: the JSON of the params of all trials so far.
        attempts: how often a sampler that learns is asked for a trial, and told what was refused;
            None for one that is only asked with fresh randomness, as often as makes sense.

    Attributes:
        repeated: how many trials it has been given nothing new for, so that they were drawn.
    """

    def __init__(
        self,
        sampler: Sampler,
        space: Space,
        seed: int,
        taken: Iterable[str] = (),
        attempts: int | None = None,
    ) -> None:
        self._sampler = sampler
        self._space = space
        self._seed = seed
        self._taken = set(taken)
        self._attempts = attempts
        self.repeated = 0

    def propose(self, history: Sequence[Observation], trial: int) -> ParamsLike | None:
        """Return a trial's params, which are taken from then on; None if there are no others.

        A sampler that repeats itself is asked again with fresh randomness. If it learns, it is told
        as well what was refused, as pending: its answer may depend on nothing but the history, and
        each one may take seconds. If it finds nothing new then, params are drawn from the space at
        random or, if the space is finite, taken point by point from a random point on. If even that
        finds nothing in a space whose size is unknown, because a class has its own
        ``get_random_params``, the space counts as exhausted.

        Args:
            history: what the sampler may see.
            trial: the trial.

        Raises:
            SpaceError: the sampler proposed what is no params.
            PluginError: they are not of the space.
        """
        size = self._sampler.narrow(self._space).size
        if size is not None and len(self._taken) >= size:
            return None
        asked = list(history)
        for attempt in range(self._attempts or ATTEMPTS):
            params = self._asked(asked, trial, self._rng(trial, attempt))
            if self._takes(params):
                return params
            if self._attempts is not None:
                asked.append(Observation(trial, params, "pending"))
        self.repeated += 1
        return self._drawn(self._rng(trial, ATTEMPTS))

    def _rng(self, trial: int, attempt: int) -> np.random.Generator:
        return generator(self._seed, Purpose.PROPOSE, trial, attempt)

    def _asked(
        self, history: Sequence[Observation], trial: int, rng: np.random.Generator
    ) -> ParamsLike:
        params = self._sampler.propose(self._space, history, rng, trial)
        if not isinstance(params, Params | RecordedParams):
            raise SpaceError(
                f"Sampler {type(self._sampler).__name__} proposed {params!r:.200} for trial "
                f"{trial}; expected params of {self._space.name}, for instance from space.build()."
            )
        if stray := self._space.stray(params):
            raise PluginError(
                f"Sampler {type(self._sampler).__name__} proposed params for trial {trial} that "
                f"are not of the search space: {stray}. Mend the sampler; nothing is recorded."
            )
        return params

    def _drawn(self, rng: np.random.Generator) -> ParamsLike | None:
        part = self._sampler.narrow(self._space)
        start = 0 if part.size is None else _below(part.size, rng)
        for i in range(part.size or ATTEMPTS):
            params = part.point((start + i) % part.size) if part.size else part.sample(rng)
            if self._takes(params):
                return params
        return None

    def _takes(self, params: ParamsLike) -> bool:
        """Take params, unless they are taken; tell whether they were not."""
        text = params.to_json()
        new = text not in self._taken
        self._taken.add(text)
        return new


def _below(size: int, rng: np.random.Generator) -> int:
    if size <= 2**63:
        return int(rng.integers(size))
    # NumPy has no larger integers; with 8 bytes to spare, the remainder is evenly spread.
    return int.from_bytes(rng.bytes(size.bit_length() // 8 + 9)) % size
