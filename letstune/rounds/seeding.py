"""Seeds for (purpose, trial, epoch), derived from the run's seed and never stored.

A pickled generator may not be the same after a crash, or in another version of its library; a
seed that is computed anew always is. `numpy.random.SeedSequence` mixes the numbers, so that
neighbouring trials and epochs get independent streams.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


class Purpose(IntEnum):
    """What a stream of random numbers is for. The numbers are part of the journal's contract."""

    PROPOSE = 0
    LOAD_DATASET = 1
    CREATE_MODEL = 2
    LOAD = 3
    TRAIN = 4
    SCRAMBLE = 5


def derive(seed: int, purpose: Purpose, trial: int, epoch: int) -> int:
    """Return the seed for one purpose of one epoch of one trial, from 0 to 2**31 - 1.

    A hash, rather than the first word of the `sequence` of the same numbers: this is done for each
    epoch, and making a SeedSequence takes twenty times as long.

    >>> derive(1, Purpose.TRAIN, 2, 3)
    1038380715
    """
    digest = _blake2b()(b"%d %d %d %d" % (seed, purpose, trial, epoch), digest_size=4).digest()
    return int.from_bytes(digest) >> 1


@cache
def _blake2b() -> Any:
    """Import hashlib when it is first needed: it loads OpenSSL."""
    from hashlib import blake2b

    return blake2b


def sequence(seed: int, purpose: Purpose, trial: int, epoch: int) -> np.random.SeedSequence:
    """Return the seed sequence for one purpose of one epoch of one trial.

    >>> sequence(1, Purpose.TRAIN, 2, 3).generate_state(2).tolist()
    [1437847277, 2801510896]
    """
    from numpy.random import SeedSequence

    return SeedSequence([seed, purpose, trial, epoch])


def generator(seed: int, purpose: Purpose, trial: int, epoch: int) -> np.random.Generator:
    """Return a new generator at the start of its stream."""
    from numpy.random import PCG64, Generator

    # Not default_rng(): which bit generator that is may change with a version of NumPy.
    return Generator(PCG64(sequence(seed, purpose, trial, epoch)))


def run_seed(rng: np.random.Generator) -> int:
    """Return the run's seed, from a generator that was seeded for one of its trials.

    It is for a sampler that needs one random choice for the whole run, such as the scrambling of
    a sequence, and yet keeps nothing from call to call. What the generator has drawn meanwhile
    does not matter.

    >>> run_seed(generator(7, Purpose.PROPOSE, 2, 3))
    7
    """
    entropy: Any = getattr(rng.bit_generator.seed_seq, "entropy", None)
    if isinstance(entropy, Sequence):
        entropy = entropy[0]
    return int(entropy or 0)


def seed_globals(seed: int) -> None:
    """Seed the global generators of `random`, NumPy, and of frameworks that are imported.

    These are PyTorch, TensorFlow and Keras. JAX has none: its keys are made from `Trainer.seed`.

    Args:
        seed: from 0 to 2**31 - 1, which every one of them takes.
    """
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)
    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.random.set_seed(seed)
    if keras := sys.modules.get("keras"):  # whose layers have a generator beside its backend's
        keras.utils.set_random_seed(seed)


def frameworks() -> set[str]:
    """Return which frameworks are imported, and so are seeded by `seed_globals`."""
    return {"keras", "tensorflow", "torch"} & sys.modules.keys()


def fresh_seed() -> int:
    """Return a seed for a new run that was given none, from the operating system."""
    return random.SystemRandom().randrange(2**31)
