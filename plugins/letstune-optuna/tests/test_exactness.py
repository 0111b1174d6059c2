"""Whatever the sampler and wherever its generators are, proposals are those of the run's seed."""

from __future__ import annotations

import functools
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import letstune
import optuna
import own_samplers as own
import pytest
from letstune import Params, Sampler, rand
from letstune.errors import PlanError
from letstune.samplers import Purpose, generator
from letstune.testing import Child
from optuna.samplers import NSGAIISampler, TPESampler
from optuna.samplers.nsgaii import SBXCrossover, UniformCrossover
from trainers import Hill, recorded

from letstune_optuna import QMC, OptunaSampler


class Plane(Params):
    x: float = rand.uniform(0, 1)
    y: float = rand.uniform(0, 1)
    n: int = rand.ints(0, 10)
    flag: bool


def proposed(sampler: Sampler, seed: int = 1, trials: int = 8) -> list[str]:
    """Propose as a run of that seed does, with nothing to look at."""
    space = Plane.space()
    return [
        sampler.propose(space, [], generator(seed, Purpose.PROPOSE, trial, 0), trial).to_json()
        for trial in range(trials)
    ]


# Quasi-random sequences


def test_qmc_has_the_seed_of_the_run() -> None:
    assert proposed(QMC(), seed=1) != proposed(QMC(), seed=2)
    assert proposed(QMC(), seed=1) == proposed(QMC(), seed=1)
    assert proposed(QMC(), seed=7) == proposed(QMC(seed=7), seed=8)


def test_qmc_has_a_seed_of_its_own_if_it_is_given_one() -> None:
    assert proposed(QMC(seed=3), seed=1) == proposed(QMC(seed=3), seed=2)
    assert proposed(QMC(seed=3)) != proposed(QMC(seed=4))
    assert proposed(QMC(seed=0), seed=5) != proposed(QMC(), seed=5)


def test_all_trials_of_a_run_share_one_sequence() -> None:
    space = Plane.space()
    xs = sorted(space.decode(params).x for params in proposed(QMC(), seed=9, trials=64))
    assert all(i / 64 <= x <= (i + 1) / 64 for i, x in enumerate(xs))


def test_a_sequence_that_the_system_seeded_is_that_of_the_run() -> None:
    first, again = (OptunaSampler(own.unseeded_qmc()) for _ in range(2))
    assert proposed(first, seed=1) == proposed(again, seed=1) == proposed(QMC(), seed=1)
    assert proposed(first, seed=2) != proposed(first, seed=1)


def test_a_script_that_runs_again_continues_its_sequence(path: Path, tmp_path: Path) -> None:
    def run(journal: Path, n_trials: int) -> list[str]:
        tuning = letstune.tune(
            Hill(),
            n_trials,
            sampler=OptunaSampler(own.unseeded_qmc()),
            journal=journal,
            seed=3,
            progress=False,
        )
        return [tuning.trial(i).params.to_json() for i in range(n_trials)]

    wanted = run(path, 12)
    assert run(tmp_path / "again.db", 5) == wanted[:5]
    assert run(tmp_path / "again.db", 12) == wanted


# Generators, wherever they are


@pytest.mark.parametrize("name", sorted(own.HELPED))
def test_generators_are_seeded_wherever_they_are(name: str) -> None:
    one, other = (OptunaSampler(own.HELPED[name]()) for _ in range(2))
    params = proposed(one)
    assert len(set(params)) == len(params)
    assert proposed(one) == proposed(other) == params
    assert proposed(pickle.loads(cloudpickle.dumps(one))) == params
    assert proposed(one, seed=2) != params
    one.check(Plane.space())


def test_each_generator_has_a_stream_of_its_own() -> None:
    def draw(held: Any) -> float:
        held.reverse()
        return float(held[0].random())

    np = own.np
    sampler = OptunaSampler(own.Own([np.random.default_rng(1), np.random.default_rng(1)], draw))
    params = Plane.space().decode(proposed(sampler)[0])
    assert params.x != params.y


@pytest.mark.parametrize("name", sorted(own.INEXACT))
def test_a_sampler_that_cannot_be_seeded_is_refused(name: str) -> None:
    sampler = OptunaSampler(own.INEXACT[name]())
    with pytest.raises(PlanError, match=r"twice the same, and proposed .* and .*exact"):
        sampler.check(Plane.space())


def test_a_sampler_that_cannot_be_seeded_is_refused_within_another_one() -> None:
    sampler = OptunaSampler(own.fixed(own.INEXACT["system"](), x=0.5))
    with pytest.raises(PlanError, match="PartialFixedSampler was asked twice the same"):
        sampler.check(Plane.space())


@pytest.mark.parametrize("rng", [own.random.SystemRandom(), own.Seeded(3)], ids=repr)
def test_a_generator_that_cannot_be_seeded_is_refused(rng: Any) -> None:
    with pytest.raises(PlanError, match=f"{type(rng).__name__}.*cannot be seeded"):
        OptunaSampler(own.Own(rng, lambda h: float(h.random())))


@pytest.mark.parametrize("name", sorted(own.MADE))
def test_exact_samplers_are_not_refused(name: str) -> None:
    own.MADE[name]().check(Plane.space())


def test_a_sampler_that_does_not_know_the_space_is_refused() -> None:
    sampler = OptunaSampler(optuna.samplers.GridSampler({"x": [0.5]}))
    with pytest.raises(PlanError, match=r"GridSampler .* Plane: .* y, .* they are x, y, n, flag"):
        sampler.check(Plane.space())


# What is recorded


def test_what_is_made_alike_has_the_same_pickle_in_any_process() -> None:
    wanted = own.digests()
    assert own.digests() == wanted
    assert Child(own.digests).result() == wanted


def few(n: int) -> int:
    return min(n, 5)


def many(n: int) -> int:
    return min(n, 25)


def quiet(make: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "seed": (lambda: TPESampler(seed=4), lambda: TPESampler(seed=5)),
    "seed, or none": (lambda: TPESampler(seed=4), TPESampler),
    "seed of a sequence": (
        lambda: optuna.samplers.QMCSampler(scramble=True, seed=1),
        own.unseeded_qmc,
    ),
    "function": (lambda: TPESampler(gamma=few), lambda: TPESampler(gamma=many)),
    "class": (
        lambda: NSGAIISampler(crossover=UniformCrossover()),
        lambda: NSGAIISampler(crossover=SBXCrossover()),
    ),
    "attribute": (
        lambda: NSGAIISampler(crossover=UniformCrossover(0.1)),
        lambda: NSGAIISampler(crossover=UniformCrossover(0.2)),
    ),
    "fixed": (
        lambda: own.fixed(TPESampler(), x=0.1),
        lambda: own.fixed(TPESampler(), x=0.2),
    ),
    "within": (
        lambda: own.fixed(TPESampler(), x=0.1),
        lambda: own.fixed(TPESampler(n_startup_trials=3), x=0.1),
    ),
    "seed in a helper": (
        lambda: own.Own([own.random.Random(1), own.np.random.RandomState(1)], few),
        lambda: own.Own([own.random.Random(1), own.np.random.RandomState(2)], few),
    ),
    "seed of a new generator": (
        lambda: own.Own([own.np.random.default_rng(1)], few),
        lambda: own.Own([own.np.random.default_rng(2)], few),
    ),
}


def up_to(limit: int) -> Callable[[int], int]:
    return lambda n: min(n, limit)


PAIRS |= {
    "code": (lambda: TPESampler(gamma=lambda n: 3), lambda: TPESampler(gamma=lambda n: 4)),
    "closure": (lambda: TPESampler(gamma=up_to(3)), lambda: TPESampler(gamma=up_to(4))),
    "partial": (
        lambda: TPESampler(gamma=functools.partial(min, 3)),
        lambda: TPESampler(gamma=functools.partial(min, 4)),
    ),
    "slots": (lambda: own.Own(own.Slotted(1), few), lambda: own.Own(own.Slotted(2), few)),
    "set": (lambda: own.Own({"a", "b"}, few), lambda: own.Own({"a", "c"}, few)),
    "array": (
        lambda: own.Own([own.np.arange(3)], few),
        lambda: own.Own([own.np.arange(4)], few),
    ),
    "long": (
        lambda: own.Own(list(range(1000)), few),
        lambda: own.Own([*range(999), 0], few),
    ),
    "grid": (
        lambda: optuna.samplers.GridSampler({"x": [1, 2, 3]}, seed=1),
        lambda: optuna.samplers.GridSampler({"x": [1, 2, 3]}, seed=4),
    ),
}


class Unchecked(OptunaSampler):
    """A sampler of which the plan is written even if it cannot propose anything."""

    def check(self, space: Any) -> None:
        pass


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_settings_tell_differences(name: str) -> None:
    one, other = PAIRS[name]
    settings = [OptunaSampler(quiet(make)).settings for make in (one, one, other, other)]
    assert settings[0] == settings[1] != settings[2] == settings[3]
    facts = [recorded(Unchecked(quiet(make))) for make in (one, one, other)]
    assert facts[0] == facts[1] != facts[2]


def test_a_used_sampler_proposes_as_a_new_one() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    used = TPESampler(n_startup_trials=1)
    study = optuna.create_study(sampler=used)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=4)
    assert proposed(OptunaSampler(used)) == proposed(OptunaSampler(TPESampler(n_startup_trials=1)))


def test_the_state_of_the_global_generator_is_no_setting() -> None:
    state = own.np.random.get_state()
    try:
        own.np.random.seed(5)
        assert "seeds" not in OptunaSampler(own.HELPED["global"]()).settings
    finally:
        own.np.random.set_state(state)


def test_settings_can_be_read() -> None:
    sampler = OptunaSampler(own.fixed(quiet(lambda: TPESampler(gamma=few, seed=4)), x=0.1))
    for part in ('"x": 0.1', '.TPESampler"', 'few"', '"seeds": [4, 4]', '"n_startup_trials": 10'):
        assert part in sampler.settings
    assert "seeds" not in OptunaSampler(TPESampler()).settings


def test_a_loop_in_a_sampler_is_no_loop_in_its_settings() -> None:
    held: list[Any] = [1]
    held.append(held)
    assert "held" in OptunaSampler(own.Own(held, few)).settings
