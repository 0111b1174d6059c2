"""Samplers of somebody's own, in a module that forked and restarted processes import."""

from __future__ import annotations

import hashlib
import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.samplers._lazy_random_state import LazyRandomState

from letstune_optuna import CMAES, NSGAII, QMC, TPE, OptunaSampler


class Own(BaseSampler):
    """Draws each parameter by a function of what it holds, which returns shares from 0 to 1."""

    def __init__(self, held: Any, draw: Callable[[Any], float]) -> None:
        self.held = held
        self.draw = draw

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        share = self.draw(self.held)
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[int(share * len(distribution.choices))]
        low, high = distribution.low, distribution.high
        if isinstance(distribution, IntDistribution):
            return low + int(share * ((high - low) // distribution.step + 1)) * distribution.step
        return float(low + share * (high - low))


class Late(Own):
    """Draws from what nobody can seed, once it has seen some trials."""

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        if len(study.trials) > 5:
            self.held = np.random.RandomState()
        return super().sample_independent(study, trial, name, distribution)


class Helper:
    def __init__(self, rng: Any) -> None:
        self.rng = rng


class Slotted:
    __slots__ = ("rng",)

    def __init__(self, rng: Any) -> None:
        self.rng = rng


class Seeded(random.Random):
    """A generator that nobody knows how to seed."""


def with_a_closure() -> Own:
    rng = np.random.RandomState()
    return Own(None, lambda _: float(rng.random_sample()))


def with_two_names() -> Own:
    rng = np.random.RandomState()
    return Own({"one": rng, "other": rng}, by_two_names)


def by_two_names(held: Any) -> float:
    if held["one"] is not held["other"]:
        raise ValueError("They were one generator.")
    return float(held["other"].random_sample())


HELPED: dict[str, Callable[[], BaseSampler]] = {
    "attribute": lambda: Own(np.random.RandomState(), lambda h: float(h.random_sample())),
    "helper": lambda: Own(Helper(np.random.RandomState(1)), lambda h: float(h.rng.random_sample())),
    "lazy": lambda: Own(Helper(LazyRandomState()), lambda h: float(h.rng.rng.random_sample())),
    "list": lambda: Own([np.random.default_rng()], lambda h: float(h[0].random())),
    "dict": lambda: Own({"a": {"b": (random.Random(),)}}, lambda h: float(h["a"]["b"][0].random())),
    "slots": lambda: Own(Slotted(random.Random(4)), lambda h: float(h.rng.random())),
    "method": lambda: Own(np.random.RandomState().random_sample, lambda h: float(h())),
    "bits": lambda: Own(
        {"bits": np.random.PCG64()}, lambda h: float(np.random.Generator(h["bits"]).random())
    ),
    "global": lambda: Own([np.random.mtrand._rand], lambda h: float(h[0].random_sample())),
    "closure": with_a_closure,
    "two names": with_two_names,
}
"""Samplers whose generators are seeded by the system, at different places."""

INEXACT: dict[str, Callable[[], BaseSampler]] = {
    "clock": lambda: Own(None, lambda _: time.perf_counter_ns() % 997 / 997),
    "system": lambda: Own(None, lambda _: float(np.random.RandomState().random_sample())),
    "global": lambda: Own(None, lambda _: random.random()),
    "late": lambda: Late(random.Random(), lambda h: float(h.random_sample())
                         if isinstance(h, np.random.RandomState) else h.random()),
}  # fmt: skip


def fixed(base: BaseSampler, **params: Any) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.PartialFixedSampler(params, base)


def unseeded_qmc() -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.QMCSampler(scramble=True, warn_asynchronous_seeding=False)


MADE: dict[str, Callable[[], OptunaSampler]] = {
    "tpe": TPE,
    "group": lambda: TPE(group=True),
    "cmaes": CMAES,
    "nsgaii": NSGAII,
    "qmc": QMC,
    "random": lambda: OptunaSampler(optuna.samplers.RandomSampler()),
    "seeded": lambda: OptunaSampler(optuna.samplers.TPESampler(seed=3)),
    "unseeded": lambda: OptunaSampler(unseeded_qmc()),
    "fixed": lambda: OptunaSampler(fixed(unseeded_qmc(), x=0.5)),
    "grid": lambda: OptunaSampler(
        optuna.samplers.GridSampler({"x": [0.5, 0.25], "y": [0.5], "n": [1, 2, 3], "flag": [0, 1]})
    ),
    **{f"own, {name}": lambda make=make: OptunaSampler(make()) for name, make in HELPED.items()},
}


def digests() -> dict[str, str]:
    """Return what tells the pickles of samplers apart that are made here and now."""
    return {
        name: hashlib.sha256(cloudpickle.dumps(make())).hexdigest() for name, make in MADE.items()
    }
