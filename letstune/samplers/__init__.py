"""Samplers: who proposes params; the interface, and the samplers that letstune has.

Knows search spaces, and the part of a run's history that it is shown.
Must not remember anything from one proposal to the next: a proposal is a function of its arguments.
"""

from typing import TYPE_CHECKING

from letstune._public import later

__all__ = [
    "BayesSampler",
    "GridSampler",
    "Observation",
    "Purpose",
    "RandomSampler",
    "Sampler",
    "SobolSampler",
    "generator",
    "run_seed",
]

if TYPE_CHECKING:
    from letstune.rounds.seeding import Purpose, generator, run_seed
    from letstune.samplers.bayes import BayesSampler
    from letstune.samplers.sampler import (
        GridSampler,
        Observation,
        RandomSampler,
        Sampler,
        SobolSampler,
    )
else:
    _ROOMS = {
        "BayesSampler": "letstune.samplers.bayes",
        **dict.fromkeys(["Purpose", "generator", "run_seed"], "letstune.rounds.seeding"),
        **dict.fromkeys(
            ["GridSampler", "Observation", "RandomSampler", "Sampler", "SobolSampler"],
            "letstune.samplers.sampler",
        ),
    }
    __getattr__ = later(globals(), _ROOMS)
