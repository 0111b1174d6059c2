"""Seeds for Optuna's samplers, and for those within them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from optuna.samplers import BaseSampler
from optuna.samplers._lazy_random_state import LazyRandomState

_GENERATORS: Final = (
    LazyRandomState,
    np.random.RandomState,
    np.random.Generator,
    random.Random,
)


Spare = list[np.random.RandomState]
"""Generators to be used again: making one takes fifty times as long as seeding it."""


def reseed(sampler: object, seed: int, spare: Spare) -> None:
    """Seed all generators of a sampler, in place; each gets a stream of its own.

    `BaseSampler.reseed_rng` is of no use here: it takes what the operating system gives.

    Args:
        sampler: must not be used any more when the spare generators are used again.
        seed: from 0 on.
        spare: is added to.
    """
    found = list(_generators(sampler, {}))
    states = np.random.SeedSequence(seed).generate_state(len(found)) if found else ()
    for place, (generator, state) in enumerate(zip(found, states, strict=True)):
        if isinstance(generator, LazyRandomState):
            while place >= len(spare):
                spare.append(np.random.RandomState())
            spare[place].seed(int(state))
            generator._rng = spare[place]
        elif isinstance(generator, np.random.RandomState | random.Random):
            generator.seed(int(state))
        else:
            bits = type(generator.bit_generator)(int(state))
            generator.bit_generator.state = bits.state


def without_generators(sampler: object) -> None:
    """Let go of generators that `reseed` sets anyway, and that are large in a pickle."""
    for generator in _generators(sampler, {}):
        if isinstance(generator, LazyRandomState):
            generator._rng = None


def _generators(owner: object, seen: dict[int, object]) -> Iterator[Any]:
    """Yield the generators below an object, each once, in the order of their attributes."""
    for value in vars(owner).values():
        if id(value) in seen:
            continue
        if isinstance(value, _GENERATORS):
            seen[id(value)] = value
            yield value
        elif isinstance(value, BaseSampler) or (
            type(value).__module__.startswith("optuna.samplers") and hasattr(value, "__dict__")
        ):
            seen[id(value)] = value
            yield from _generators(value, seen)
