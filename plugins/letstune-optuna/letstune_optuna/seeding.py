"""Seeds for Optuna's samplers, and for whatever is within them."""

from __future__ import annotations

import copyreg
import io
import pickle
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import cloudpickle
import numpy as np
from optuna.samplers import BaseSampler, QMCSampler
from optuna.samplers._lazy_random_state import LazyRandomState

GENERATORS: Final = (
    LazyRandomState,
    np.random.RandomState,
    np.random.Generator,
    np.random.BitGenerator,
    random.Random,
)
_EXACTLY: Final = (LazyRandomState, np.random.RandomState, np.random.Generator, random.Random)

GIVEN: Final = 2**32
"""Seeds that are given to Optuna are below that, since NumPy refuses others. If `QMCSampler` is
given none, it draws one of 64 bits."""


class _RunSeed:
    """Where the run's seed belongs."""


_RUN_SEED: Final = _RunSeed()

Spare = list[np.random.RandomState]
"""Generators to use again: making one takes fifty times as long as seeding it."""


@dataclass
class Generators:
    """The generators of a sampler.

    Attributes:
        found: each once.
        spare: is added to. The sampler must not be used any more when these are used again.
    """

    found: Sequence[Any]
    spare: Spare
    _now: int = 0

    def seed(self, seed: int) -> None:
        """Seed all of them, in place, each with a stream of its own.

        `BaseSampler.reseed_rng` is of no use here: it takes what the operating system gives.

        Args:
            seed: from 0 on.
        """
        self._now = seed
        count = len(self.found)
        states = np.random.SeedSequence(seed).generate_state(count).tolist() if count else []
        for place, (generator, state) in enumerate(zip(self.found, states, strict=True)):
            if isinstance(generator, LazyRandomState):
                generator._rng = _spare(self.spare, place)
                generator._rng.seed(state)
            elif isinstance(generator, np.random.RandomState | random.Random):
                generator.seed(state)
            else:
                bits = getattr(generator, "bit_generator", generator)
                bits.state = type(bits)(state).state

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Seed all of them for something else meanwhile, and then again as they were."""
        before = self._now
        self.seed(seed)
        yield
        self.seed(before)


def _spare(spare: Spare, place: int) -> np.random.RandomState:
    while place >= len(spare):
        spare.append(np.random.RandomState())
    return spare[place]


def dumps(sampler: BaseSampler) -> tuple[bytes, list[Any]]:
    """Return a pickle of a sampler without its generators, and these, in order.

    Pickling comes across each of them, wherever it is: in a list, in a helper, in a closure. None
    of the randomness that they took from the operating system is in the pickle.

    Raises:
        TypeError: there is a generator that nobody knows how to seed.
        Exception: whatever else cannot be pickled.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(sampler)
    return file.getvalue(), pickler.found


def loads(pickled: bytes, run_seed: int, spare: Spare) -> tuple[BaseSampler, Generators]:
    """Return a new copy of a sampler, and its generators, which are still to be seeded.

    Args:
        pickled: what `dumps` returned.
        run_seed: for what Optuna would seed once, from the operating system.
        spare: see `Generators`.
    """
    unpickler = _Unpickler(io.BytesIO(pickled), run_seed, spare)
    sampler: BaseSampler = unpickler.load()
    made = unpickler.made
    return sampler, Generators([made[place] for place in range(len(made))], spare)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Puts a number in the place of each generator."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.found: list[Any] = []  # which keeps them alive, so that an id stays taken
        self._places: dict[int, int] = {}

    def persistent_id(self, value: Any) -> Any:
        if value is _RUN_SEED:
            return "run seed"
        if not isinstance(value, GENERATORS):
            return None
        kind = type(value)
        if kind not in _EXACTLY and not isinstance(value, np.random.BitGenerator):
            raise TypeError(f"it holds a {kind.__qualname__}, a generator that cannot be seeded")
        place = self._places.setdefault(id(value), len(self.found))
        if place == len(self.found):
            self.found.append(value)
        bits = type(value.bit_generator) if isinstance(value, np.random.Generator) else None
        return kind, bits, place

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, QMCSampler) and value._seed >= GIVEN:
            state = {**vars(value), "_seed": _RUN_SEED}
            return copyreg.__newobj__, (type(value),), state  # type: ignore[attr-defined]
        return super().reducer_override(value)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, run_seed: int, spare: Spare) -> None:
        super().__init__(file)
        self.made: dict[int, Any] = {}
        self._run_seed = run_seed
        self._spare = spare

    def persistent_load(self, found: Any) -> Any:
        if found == "run seed":
            return self._run_seed
        kind, bits, place = found
        if place not in self.made:
            if kind is np.random.RandomState:
                self.made[place] = _spare(self._spare, place)
            else:
                self.made[place] = kind() if bits is None else kind(bits())
        return self.made[place]


def given_seed(generator: Any) -> Any:
    """Return the seed that somebody made a generator with; None if that cannot be told.

    It cannot be told after a draw, nor for a generator of Python's. Entropy from the operating
    system is not a seed, nor is the state of the global generator.
    """
    if generator is np.random.mtrand._rand:
        return None
    if isinstance(generator, LazyRandomState):
        generator = generator._rng
    if isinstance(generator, np.random.RandomState):
        state = _state(generator)
        seed = int(state["key"][0]) if "key" in state else None
        return seed if seed is not None and _same(state, np.random.RandomState(seed)) else None
    bits = getattr(generator, "bit_generator", generator)
    entropy = getattr(getattr(bits, "seed_seq", None), "entropy", None)
    system = entropy is None or (isinstance(entropy, int) and entropy >= 2**64)  # it has 128 bits
    return None if system else np.asarray(entropy).tolist()


def _state(generator: np.random.RandomState) -> Any:
    return generator.get_state(legacy=False)["state"]


def _same(state: Any, other: np.random.RandomState) -> bool:
    wanted = _state(other)
    return bool(state["pos"] == wanted["pos"] and np.array_equal(state["key"], wanted["key"]))
