"""The samplers that come with letstune: random, grid and sobol."""

from __future__ import annotations

import builtins
import math
import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from journal_facts import facts
from scipy.stats import qmc
from small_trainers import Hill, Point, tune
from strategies import distributions, spaces

from letstune import Params, SimpleTrainer, rand
from letstune.errors import MissingPackageError, PlanError, SpaceError
from letstune.rounds.seeding import Purpose, generator, run_seed
from letstune.samplers.grid import thinned, values
from letstune.samplers.proposer import Proposer
from letstune.samplers.sampler import GridSampler, RandomSampler, Sampler, SobolSampler
from letstune.samplers.sobol import sobol_point
from letstune.testing import SamplerSuite

SHARES = st.floats(0, 1)


def proposed(sampler: Any, space: Any, trial: int, seed: int = 1, attempt: int = 0) -> Any:
    return sampler.propose(space, [], generator(seed, Purpose.PROPOSE, trial, attempt), trial)


# Quantiles


@given(distributions(), SHARES)
def test_a_quantile_is_a_value(distribution: Any, share: float) -> None:
    value = distribution.quantile(share)
    if isinstance(distribution, rand.OneOf):
        assert value in [index for index, _ in distribution._live]
    else:
        assert distribution.contains(value)


@given(distributions(), SHARES, SHARES)
def test_quantiles_are_in_order(distribution: Any, one: float, other: float) -> None:
    low, high = sorted([one, other])
    assert distribution.quantile(low) <= distribution.quantile(high)


@pytest.mark.parametrize(
    "distribution",
    [
        rand.uniform(-3, 5),
        rand.uniform(1e-5, 1e3, log=True),
        rand.uniform(0, 1, step=0.25),
        rand.normal(3, 2),
        rand.normal(3, 2, log=True),
        rand.ints(1, 7),
        rand.ints(2, 100, log=True),
        rand.ints(0, 10, step=5),
        rand.bools(0.3),
        rand.oneof(["a", "b", "c"]),
        rand.oneof(["a", "b", "c"], weights=[0, 1, 3]),
    ],
)
def test_quantiles_of_even_shares_are_as_likely_as_draws(distribution: Any) -> None:
    shares = (np.arange(4000) + 0.5) / 4000
    even = np.array([float(distribution.quantile(float(share))) for share in shares])
    rng = np.random.default_rng(1)
    drawn = np.array([float(distribution.sample(rng)) for _ in range(4000)])
    at = np.unique(np.concatenate([even, drawn]))
    apart = np.searchsorted(np.sort(even), at, "right") - np.searchsorted(
        np.sort(drawn), at, "right"
    )
    assert np.abs(apart).max() / 4000 < 0.04  # Kolmogorov-Smirnov, p < 2e-4


def test_a_share_at_a_boundary_is_exact() -> None:
    ten = rand.ints(0, 9)
    assert [ten.quantile(i / 10) for i in (0, 1, 2, 5)] == [0, 1, 2, 5]
    assert ten.quantile(math.nextafter(0.5, 0)) == 4
    assert ten.quantile(1.0) == 9
    wide = rand.ints(0, 2**61)
    assert wide.quantile(math.nextafter(1, 0)) < 2**61
    assert rand.bools(0).quantile(1.0) is False
    assert rand.bools(1).quantile(0.0) is True


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_there_is_no_quantile_beyond(share: float) -> None:
    with pytest.raises(SpaceError, match="give a number from 0 to 1"):
        rand.uniform(0, 1).quantile(share)


# Sobol


class Plain(Params):
    a: float = rand.uniform(0, 1)
    b: float = rand.uniform(0, 1)
    c: float = rand.uniform(0, 1)


class Tree(Params):
    depth: int = rand.ints(1, 9)
    rate: float = rand.uniform(1e-4, 1, log=True)


class Line(Params):
    alpha: float = rand.normal(1, 2, log=True)


class Branched(Params):
    first: float = rand.uniform(0, 1)
    model: Tree | Line
    gamma: float | str = rand.oneof([rand.uniform(0, 1), "auto"], weights=[3, 1])
    last: float = rand.uniform(0, 1)


@given(spaces(), st.integers(0, 2**20), st.integers(0, 2**31))
def test_sobol_stays_in_any_space(space: Any, trial: int, seed: int) -> None:
    params = proposed(SobolSampler(), space, trial, seed)
    assert space.contains(params)
    assert proposed(pickle.loads(pickle.dumps(SobolSampler())), space, trial, seed) == params


@given(st.lists(st.integers(0, 5000), min_size=2, max_size=10))
def test_a_point_does_not_know_what_was_asked_for_before(numbers: list[int]) -> None:
    from letstune.samplers.sobol import _block

    _block.cache_clear()
    backwards = [sobol_point(3, 4, number) for number in reversed(numbers)]
    _block.cache_clear()
    assert [sobol_point(3, 4, number) for number in numbers] == backwards[::-1]


@pytest.mark.parametrize("dimensions", [1, 3, 40])
def test_the_points_are_those_of_scipy(dimensions: int) -> None:
    rng = generator(5, Purpose.SCRAMBLE, 0, 0)
    wanted = qmc.Sobol(dimensions, bits=32, rng=rng).random(4096).tolist()
    assert [sobol_point(5, dimensions, number) for number in range(4096)] == wanted


def test_sobol_is_spread_more_evenly_than_random() -> None:
    space = Plain.space()
    for seed in range(5):
        points = [proposed(SobolSampler(), space, trial, seed) for trial in range(256)]
        drawn = [proposed(RandomSampler(), space, trial, seed) for trial in range(256)]
        even, chance = (
            qmc.discrepancy(np.array([[p.a, p.b, p.c] for p in some])) for some in (points, drawn)
        )
        assert even < chance / 5


def test_each_branch_is_filled_evenly() -> None:
    space = Branched.space()
    points = [proposed(SobolSampler(), space, trial) for trial in range(256)]
    kinds = Counter(type(p.model).__name__ for p in points)
    assert kinds == {"Tree": 128, "Line": 128}
    assert Counter(p.gamma == "auto" for p in points) == {False: 192, True: 64}
    depths = Counter(p.model.depth for p in points if isinstance(p.model, Tree))
    assert set(depths) == set(range(1, 10))
    assert max(depths.values()) - min(depths.values()) <= 6
    assert qmc.discrepancy(np.array([[p.first, p.last] for p in points])) < 2e-4


def test_all_paths_are_listed_whichever_branch_is_active() -> None:
    assert list(Branched.space().distributions()) == [
        "first",
        "model",
        "model.Tree.depth",
        "model.Tree.rate",
        "model.Line.alpha",
        "gamma",
        "gamma[0]",
        "last",
    ]


@given(spaces(), st.integers(0, 2**31))
def test_what_is_asked_for_is_among_the_paths_listed(space: Any, seed: int) -> None:
    listed, rng = space.distributions(), np.random.default_rng(seed)

    def choose(path: str, distribution: Any) -> Any:
        assert listed[path] == distribution
        return distribution.sample(rng)

    space.build(choose)


def test_every_run_has_a_scrambling_of_its_own_and_an_attempt_has_not() -> None:
    space = Plain.space()
    assert proposed(SobolSampler(), space, 3, 1) != proposed(SobolSampler(), space, 3, 2)
    one = proposed(SobolSampler(), space, 3, 1, attempt=0)
    assert one == proposed(SobolSampler(), space, 3, 1, attempt=1)


def test_the_runs_seed_is_known_after_a_draw_and_after_pickling() -> None:
    rng = generator(2**40, Purpose.PROPOSE, 5, 6)
    rng.normal()
    assert run_seed(rng) == run_seed(pickle.loads(pickle.dumps(rng))) == 2**40
    assert run_seed(np.random.default_rng(8)) == 8
    assert run_seed(np.random.Generator(np.random.MT19937(9))) == 9


class Few(Params):
    a: bool
    b: str = rand.oneof(["x", "y", "z"])


def test_sobol_exhausts_a_finite_space_without_an_end() -> None:
    proposer, taken = Proposer(SobolSampler(), Few.space(), 1), list[str]()
    while params := proposer.propose([], len(taken)):
        taken.append(params.to_json())
    assert len(set(taken)) == len(taken) == 6


def test_a_space_of_constants_only_has_one_point() -> None:
    class One(Params):
        a: int = 3

    assert proposed(SobolSampler(), One.space(), 0) == One()


@pytest.mark.slow
def test_more_dimensions_than_there_are_are_refused() -> None:
    namespace = {f"p{i}": rand.uniform(0, 1) for i in range(21202)}
    wide = type("Wide", (Params,), {"__annotations__": dict.fromkeys(namespace, float)} | namespace)
    with pytest.raises(PlanError, match="Wide has 21202 parameters, expected at most 21201"):
        SobolSampler().check(wide.space())


def test_without_scipy_one_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    real = builtins.__import__

    def without_scipy(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("scipy"):
            raise ImportError("No module named 'scipy'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    with pytest.raises(MissingPackageError, match="pip install scipy"):
        tune(Hill(), 3, path, sampler="sobol")
    assert list(path.parent.iterdir()) == []


def test_a_run_by_sobol_is_the_same_in_one_go_and_in_two(path: Path, tmp_path: Path) -> None:
    from letstune import resume

    tune(Hill(), 16, path, sampler="sobol")
    other = tmp_path / "other.db"
    tune(Hill(), 5, other, sampler="sobol")
    resume(other, n_trials=16, progress=False)
    assert facts(path)["trials"] == facts(other)["trials"]
    tuning = tune(Hill(), 16, path, sampler="sobol")
    points = [proposed(SobolSampler(), Point.space(), trial) for trial in range(16)]
    assert [tuning.trial(i).params for i in range(16)] == points


# The laws


class ByTheWorkingDirectory(Sampler):
    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        seed = [trial, *str(Path.cwd()).encode()]
        return space.sample(np.random.default_rng(seed))


class ByTheUser(Sampler):
    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return space.sample(np.random.default_rng([trial, *os.environ["USER"].encode()]))


class ByTheEnvironment(Sampler):
    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return space.sample(np.random.default_rng([trial, *repr(os.environ).encode()]))


def check_law(sampler: Sampler, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SamplerSuite().test_draws_from_the_given_generator_only(
        sampler, Point, 10, scratch, monkeypatch
    )


@pytest.mark.parametrize("broken", [ByTheWorkingDirectory, ByTheUser, ByTheEnvironment])
def test_what_is_around_a_process_must_not_matter_to_a_sampler(
    broken: type[Sampler], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USER", "me")
    with pytest.raises(AssertionError):
        check_law(broken(), tmp_path, monkeypatch)
    assert Path.cwd() == tmp_path
    assert os.environ["USER"] == "me"
    check_law(SobolSampler(), tmp_path, monkeypatch)


# Grid


def grid(space: Any, points: Any) -> list[Any]:
    part = thinned(space, points)
    return [part.point(i) for i in range(part.size or 0)]


@pytest.mark.parametrize(
    ("distribution", "count", "wanted"),
    [
        (rand.uniform(0, 1), 5, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (rand.uniform(2, 3), 1, [2.5]),
        (rand.uniform(0.01, 100, log=True), 3, [0.01, 1.0, 100.0]),
        (rand.normal(5, 2), 1, [5.0]),
        (rand.ints(0, 100), 3, [0, 50, 100]),
        (rand.ints(0, 2), 9, [0, 1, 2]),
        (rand.ints(8, 512, log=True), 4, [8, 32, 128, 512]),
        (rand.uniform(0, 1, step=0.1), 3, [0.0, 0.5, 1.0]),
    ],
)
def test_the_points_of_an_axis_are_evenly_spaced(
    distribution: Any, count: int, wanted: list[Any]
) -> None:
    assert values(distribution, count) == wanted


def test_the_points_of_a_normal_axis_are_quantiles() -> None:
    assert values(rand.normal(0, 1), 3) == [
        pytest.approx(-0.967421566), 0.0, pytest.approx(0.967421566)
    ]  # fmt: skip


@given(distributions(), st.integers(1, 20))
def test_points_are_distinct_values_of_the_axis(distribution: Any, count: int) -> None:
    assume(not isinstance(distribution, rand.OneOf))
    found = values(distribution, count)
    assert len(set(found)) == len(found) <= count
    assert all(map(distribution.contains, found))
    assert found == sorted(found)


def test_each_branch_has_a_grid_of_its_own() -> None:
    # first 3 x model (9 depths x 3 rates + 3 alphas) x gamma (3 + "auto") x last 3
    points = grid(Branched.space(), 3)
    assert len(set(points)) == len(points) == 3 * (9 * 3 + 3) * 4 * 3
    assert all(map(Branched.space().contains, points))


def test_the_points_of_each_axis_can_be_given() -> None:
    counts = {
        "first": 2,
        "model.Tree.depth": 3,
        "model.Tree.rate": 4,
        "model.Line.alpha": 5,
        "gamma[0]": 6,
        "last": 1,
    }
    assert len(grid(Branched.space(), counts)) == 2 * (3 * 4 + 5) * 7 * 1


@given(spaces())
def test_the_grid_of_any_space_is_within_it(space: Any) -> None:
    try:
        part = thinned(space, 2)
    except SpaceError:  # two ranges, with the same two ends: "there twice"
        return
    assert part.size is not None
    for i in {0, part.size // 2, part.size - 1}:
        assert space.contains(part.point(i))


class Continuous(SimpleTrainer[Branched]):
    metric = "m"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train(self, params: Branched) -> Any:
        return None, {"m": params.first}


def test_a_run_over_a_grid_ends_with_its_last_point(path: Path) -> None:
    sampler = ("grid", {"points": 1})
    tuning = tune(Continuous(), 99, path, sampler=sampler)
    assert tuning.finished
    assert len({t.params for t in tuning}) == len(tuning) == 1 * (9 + 1) * 2
    again = tune(Continuous(), 99, path, sampler=sampler)
    assert len(again) == len(tuning)


@pytest.mark.parametrize(
    ("points", "wanted"),
    [
        (0, "expected a whole number from 1 on"),
        (2.0, "expected a whole number from 1 on"),
        (True, "expected a whole number from 1 on"),
        ({"first": 0}, "expected a whole number from 1 on"),
        ({"frist": 2}, "points names 'frist', expected one of .*first, model.Tree.depth"),
        ({"model": 2}, "points names 'model'"),
        ({"first": 2}, "has a continuous parameter"),
    ],
)
def test_points_that_make_no_grid_are_refused(points: Any, wanted: str, path: Path) -> None:
    with pytest.raises(PlanError, match=wanted):
        tune(Continuous(), 3, path, sampler=("grid", {"points": points}))
    assert list(path.parent.iterdir()) == []


def test_a_grid_asks_nothing_of_the_history_or_the_seed() -> None:
    sampler = GridSampler(2)
    assert proposed(sampler, Few.space(), 5) == Few(a=True, b="z")


def test_a_finite_space_may_be_larger_than_numpys_integers() -> None:
    class Huge(Params):
        a: int = rand.oneof([0, rand.ints(1, 2**60)], weights=[1, 1e-12])
        b: int = rand.oneof([0, rand.ints(1, 2**60)], weights=[1, 1e-12])

    proposer, taken = Proposer(RandomSampler(), Huge.space(), 1), set[str]()
    for trial in range(5):
        params = proposer.propose([], trial)
        assert params is not None
        taken.add(params.to_json())
    assert len(taken) == 5
