"""A Gaussian process, its coordinates and its expected improvement are as their formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.optimize import approx_fprime
from strategies import spaces

from letstune import Observation, Params, rand
from letstune.samplers.acquisition import Search, log_improvement
from letstune.samplers.coordinates import Coordinates
from letstune.samplers.gaussian_process import Posterior, Scales, correlation, fit, implausibility
from letstune.samplers.surrogate import MOST, Results, scores

SEEDS = st.integers(0, 2**31)


def matern(a: Any, b: Any, lengths: Any) -> float:
    """Return the kernel by Rasmussen and Williams, equation 4.17, for two points."""
    r = math.sqrt(sum(((x - y) / length) ** 2 for x, y, length in zip(a, b, lengths, strict=True)))
    return (1 + math.sqrt(5) * r + 5 * r**2 / 3) * math.exp(-math.sqrt(5) * r)


def drawn(seed: int, size: int, axes: int) -> tuple[Any, Any, Scales, Any]:
    rng = np.random.default_rng(seed)
    owners = np.arange(axes)
    scales = Scales(np.exp(rng.normal(size=axes)), float(np.exp(rng.normal() - 4)))
    return rng.random((size, axes)), rng.normal(size=size), scales, owners


@settings(deadline=None)
@given(SEEDS, st.integers(1, 12), st.integers(1, 4))
def test_predictions_are_those_of_the_textbook(seed: int, size: int, axes: int) -> None:
    points, values, scales, owners = drawn(seed, size, axes)
    posterior = Posterior(points, values, scales, owners)
    at = np.random.default_rng(seed + 1).random((3, axes))
    means, deviations = posterior.predict(at)
    kernel = np.array([[matern(a, b, scales.lengths) for b in points] for a in points])
    inverse = np.linalg.inv(kernel + scales.noise * np.eye(size))
    for point, mean, deviation in zip(at, means, deviations, strict=True):
        to = np.array([matern(point, b, scales.lengths) for b in points])
        # Rasmussen and Williams, equations 2.23 and 2.24, around a constant mean.
        wanted = posterior.mean + to @ inverse @ (values - posterior.mean)
        assert mean == pytest.approx(wanted, abs=1e-7)
        assert deviation**2 == pytest.approx(1 - to @ inverse @ to, abs=1e-7)


@settings(deadline=None)
@given(SEEDS, st.integers(2, 10), st.integers(1, 4))
def test_gradients_are_those_of_finite_differences(seed: int, size: int, axes: int) -> None:
    points, values, scales, owners = drawn(seed, size, axes)
    posterior = Posterior(points, values, scales, owners)
    at = np.random.default_rng(seed + 1).random(axes)
    mean, deviation, mean_slope, slope = posterior.slopes(at)
    means, deviations = posterior.predict(at[None])
    assert [mean, deviation] == pytest.approx([means[0], deviations[0]], abs=1e-7)
    for index, found in enumerate([mean_slope, slope]):
        wanted = approx_fprime(at, lambda x, i=index: posterior.predict(x[None])[i][0], 1e-6)
        assert found == pytest.approx(wanted, rel=1e-2, abs=1e-3)


@settings(deadline=None)
@given(SEEDS, st.integers(3, 12))
def test_the_gradient_of_the_fit_is_that_of_finite_differences(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    owners = np.array([0, 1, 1, 1, 2])  # a category of three has three columns
    points, values = rng.random((size, 5)), rng.normal(size=size)
    logs, expected = rng.normal(size=4) - 0.5, np.array([1.0, 0.5, 1.5])
    arguments = points, values, owners, expected
    _, gradient = implausibility(logs, *arguments)
    wanted = approx_fprime(logs, lambda x: implausibility(x, *arguments)[0], 1e-6)
    assert gradient == pytest.approx(wanted, rel=1e-2, abs=1e-2)


def test_a_fit_finds_which_axis_matters_and_how_noisy_values_are() -> None:
    rng = np.random.default_rng(1)
    points = rng.random((80, 3))
    exact = np.sin(6 * points[:, 0])
    expected = np.full(3, math.sqrt(2) + math.log(3) / 2)
    plain = fit(points, exact / exact.std(), np.arange(3), expected)
    assert plain.lengths[0] * 3 < min(plain.lengths[1:])
    noisy = exact + rng.normal(scale=0.7, size=80)
    assert fit(points, noisy / noisy.std(), np.arange(3), expected).noise > 10 * plain.noise


def test_the_kernel_is_exact_where_points_are_near() -> None:
    a, lengths = np.array([[0.5, 0.5]]), np.array([0.1, 10.0])
    b = a + 1e-6
    assert correlation(a, b, lengths)[0][0, 0] == pytest.approx(matern(a[0], b[0], lengths))


@given(st.floats(-8, 5))
def test_the_expected_improvement_is_the_integral(z: float) -> None:
    def improvement(x: float) -> float:
        return max(0.0, z + x) * math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)

    wanted, _ = integrate.quad(improvement, -z, -z + 12, epsabs=0, epsrel=1e-10, limit=200)
    assert log_improvement(np.array([z]))[0] == pytest.approx(math.log(wanted), rel=1e-6, abs=1e-6)


@given(st.floats(-1e10, 1e3), st.floats(0, 1e3))
def test_the_expected_improvement_is_finite_and_grows(z: float, more: float) -> None:
    low, high = log_improvement(np.array([z, z + more]))
    assert math.isfinite(low)
    assert low <= high + 1e-9 * abs(high)


@settings(max_examples=25, deadline=None)
@given(spaces(), SEEDS)
def test_coordinates_lead_back_to_the_params(space: Any, seed: int) -> None:
    coordinates, rng = Coordinates(space), np.random.default_rng(seed)
    rows = coordinates.snapped(rng.random((4, len(coordinates.axes))))
    for row in rows:
        params = coordinates.build(row)
        assert space.contains(params)
        assert coordinates.row(params) is not None
        again = coordinates.build(np.array(coordinates.row(params), dtype=float))
        for path, value in space.choices(params).items():
            other = space.choices(again)[path]
            assert other == (pytest.approx(value, rel=1e-4) if type(value) is float else value)
    assert np.isfinite(coordinates.embedded(rows)).all()
    assert coordinates.embedded(rows).shape == (4, len(coordinates.owners))
    again = coordinates.snapped(coordinates.shares(rows, rng.random(rows.shape)))
    np.testing.assert_allclose(again, rows, atol=1e-9)


class Round(Params):
    radius: float = rand.uniform(0, 1)


class Square(Params):
    side: float = rand.uniform(0, 1)
    tilt: float = rand.uniform(0, 1)


class Shape(Params):
    shape: Round | Square
    color: str = rand.oneof(["red", "green", "blue"])


def round_at(radius: float, color: str = "red") -> Params:
    return Shape(shape=Round(radius=radius), color=color)


def square_at(tilt: float) -> Params:
    return Shape(shape=Square(side=0.5, tilt=tilt), color="red")


def test_params_differ_by_what_is_active_in_them_and_by_nothing_else() -> None:
    coordinates = Coordinates(Shape.space())

    def apart(one: Params, other: Params) -> float:
        rows = np.array([coordinates.row(one), coordinates.row(other)], dtype=float)
        first, second = coordinates.embedded(rows)
        return float(np.linalg.norm(first - second))

    assert apart(round_at(0.2), round_at(0.7)) == pytest.approx(0.5)
    assert apart(round_at(0.2), round_at(0.2, "blue")) == pytest.approx(1)
    middle = square_at(0.5)
    assert apart(round_at(0.5), middle) == pytest.approx(1)
    assert apart(round_at(0.5), square_at(1.0)) > 1


def test_params_that_the_space_does_not_lead_to_have_no_row() -> None:
    assert Coordinates(Shape.space()).row(round_at(0.5, "yellow")) is None


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(FINITE | st.just(-math.inf), min_size=1, max_size=30).filter(
        lambda v: max(v) > -math.inf
    )
)
def test_scores_are_finite_and_in_the_order_of_the_values(values: list[float]) -> None:
    found = scores(np.array(values))
    assert np.isfinite(found).all()
    assert abs(found.mean()) < 1e-6
    assert (np.diff(found[np.argsort(values, kind="stable")]) >= -1e-9).all()


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=30), st.floats(0.1, 1e6), SEEDS)
def test_the_unit_of_a_metric_makes_no_difference(
    values: list[int], factor: float, seed: int
) -> None:
    some = np.array(values, dtype=float)
    np.testing.assert_allclose(scores(some * factor), scores(some), atol=1e-9)
    order = np.random.default_rng(seed).permutation(len(some))
    np.testing.assert_allclose(scores(some)[order], scores(some[order]), atol=1e-12)


def test_how_bad_the_worst_is_makes_no_difference() -> None:
    values = np.array([-9.0, -3.0, 0.0, 1.0, 2.0, 3.0])
    worse = np.where(values == -9, -1e200, values)
    np.testing.assert_array_equal(scores(worse), scores(values))
    np.testing.assert_array_equal(scores(np.where(values == -9, -math.inf, values)), scores(worse))


def seen(trial: int, status: str, *values: float) -> Observation:
    return Observation(trial, Round(radius=trial / 1000), status, values)


def test_results_are_the_best_so_far_where_trials_end_and_between() -> None:
    nan, inf = math.nan, math.inf
    results = Results.of(
        [
            seen(0, "trained", *range(13)),
            seen(1, "trained", nan, 5, 4),
            seen(2, "stopped", 7, 6, 6),
            seen(3, "failed", 9, 9),
            seen(4, "pending"),
            seen(5, "trained", nan, inf, -inf),
        ]
    )
    found = sorted(zip(results.trials, results.epochs, results.values, strict=True))
    assert found == [
        *[(0, 3, 2), (0, 5, 4), (0, 8, 7), (0, 13, 12)],
        (1, 3, 5),
        *[(2, 3, 7), (2, 5, 7), (2, 8, 7), (2, 13, 7)],
        (3, 13, -inf),
        (5, 13, -inf),
    ]


def test_of_thousands_of_results_the_best_are_looked_at_and_some_of_the_others() -> None:
    rng = np.random.default_rng(0)
    history = [seen(i, "trained", *rng.random(rng.integers(1, 30))) for i in range(2000)]
    results = Results.of(history)
    assert len(results.values) == MOST
    best = max(range(2000), key=lambda i: max(history[i].values))
    assert best in results.trials
    assert min(results.values) < 0.5


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_a_search_ends_at_a_maximum(seed: int) -> None:
    class Box(Params):
        x: float = rand.uniform(0, 1)
        y: float = rand.uniform(0, 1)

    coordinates, rng = Coordinates(Box.space()), np.random.default_rng(seed)
    points = rng.random((12, 2))
    values = scores(-np.sum((points - 0.6) ** 2, axis=1))
    posterior = Posterior(points, values, Scales(np.array([0.5, 0.5]), 1e-4), np.arange(2))
    search = Search(coordinates, posterior, np.zeros(0), float(values.max()), rng)
    found = next(search.ranked(points[:2]))
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 60)] * 2), axis=-1).reshape(-1, 2)
    assert search.worth(found[None])[0] >= search.worth(grid).max() - 1e-3
