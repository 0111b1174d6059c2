import math
import random
from typing import Any

import numpy as np
import pytest
from histories import walks
from hypothesis import given
from hypothesis import strategies as st
from letstune import Observation, Params, rand
from letstune.testing import spaces
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import NSGAIISampler, PartialFixedSampler, TPESampler
from optuna.trial import TrialState

from letstune_optuna.axes import Axes
from letstune_optuna.seeding import dumps, loads
from letstune_optuna.told import Told, below, is_lost


class Side(Params):
    s: int = rand.ints(1, 3)


class Box(Params):
    a: float = rand.uniform(1e-5, 1, log=True)
    b: float = rand.uniform(0, 1, step=0.1)
    c: int = rand.ints(0, 11, step=5)
    d: int = rand.ints(1, 64, log=True)
    e: float = rand.normal(10, 2)
    f: str = rand.oneof(["x", "y", "z"], weights=[1, 0, 3])
    g: bool
    h: Side | None
    i: int = rand.ints(7, 7)
    j: str = rand.oneof(["only"])
    k: int = rand.ints(2**60, 2**60 + 4)
    m: bool = rand.bools(0.9)


def make_box() -> Box:
    return Box(
        a=0.1,
        b=0.3,
        c=10,
        d=8,
        e=10.0,
        f="z",
        g=True,
        h=Side(s=2),
        i=7,
        j="only",
        k=2**60 + 3,
        m=False,
    )


def test_axes() -> None:
    axes = Axes(Box.space())
    quantile = FloatDistribution(0, 1)
    assert {name: axis.distribution for name, axis in axes.by_name.items() if name != "e"} == {
        "a": FloatDistribution(1e-5, 1, log=True),
        "b": IntDistribution(0, 10),
        "c": IntDistribution(0, 10, step=5),
        "d": IntDistribution(1, 64, log=True),
        "f": quantile,
        "g": CategoricalDistribution((False, True)),
        "h": CategoricalDistribution((0, 1)),
        "h.Side.s": IntDistribution(1, 3),
        "k": IntDistribution(0, 4),
        "m": quantile,
    }
    assert "h.Side.s" not in axes.always()
    assert set(axes.always()) == set(axes.by_name) - {"h.Side.s"}
    found = axes.coordinates(make_box())
    assert found == {
        "a": 0.1,
        "b": 3,
        "c": 10,
        "d": 8,
        "e": 0.5,
        "f": pytest.approx(0.625),
        "g": True,
        "h": 0,
        "h.Side.s": 2,
        "k": 3,
        "m": pytest.approx(0.95),
    }


@given(space=spaces(), seed=st.integers(0, 2**32))
def test_coordinates_lead_back_to_the_params(space: Any, seed: int) -> None:
    params, axes = space.sample(np.random.default_rng(seed)), Axes(space)
    found = axes.coordinates(params)
    for name, coordinate in found.items():
        distribution = axes.by_name[name].distribution
        assert distribution._contains(distribution.to_internal_repr(coordinate))
    rebuilt = axes.build(lambda axis: found[axis.name])
    assert space.contains(rebuilt)
    wanted, chosen = space.choices(params), space.choices(rebuilt)
    assert wanted.keys() == chosen.keys()
    for name, value in wanted.items():
        node = axes.by_name[name].node if name in axes.by_name else None
        if not isinstance(node, rand.Normal):
            assert repr(chosen[name]) == repr(value)
        elif abs(found[name] - 0.5) < 0.499:  # the tails are beyond what quantiles can tell
            spread = node.scale * (abs(value) if node.log else 1)
            assert abs(chosen[name] - value) <= 1e-9 * (spread + abs(value))


# With a half, it is one of two categories.
@given(p=st.floats(0.01, 0.99).filter(lambda p: p != 0.5))
def test_priors_are_those_of_the_space(p: float) -> None:
    class Coin(Params):
        heads: bool = rand.bools(p)
        side: str = rand.oneof(["a", "b", "c"], weights=[p, 1 - p, 1])

    quantiles = (np.arange(500) + 0.5) / 500
    axes = Axes(Coin.space())
    built = [axes.build(lambda axis, u=u: u) for u in quantiles]
    assert np.mean([coin.heads for coin in built]) == pytest.approx(p, abs=0.01)
    assert np.mean([coin.side == "a" for coin in built]) == pytest.approx(p / 2, abs=0.01)
    assert np.mean([coin.side == "c" for coin in built]) == pytest.approx(0.5, abs=0.01)


class Line(Params):
    x: float = rand.uniform(0, 1)


def seen(trial: int, status: str, *values: float) -> Observation:
    return Observation(trial, Line(x=trial / 10), status, values)


HISTORY = [
    seen(0, "trained", 1.0, 3.0, 2.0),
    seen(1, "trained", 4.0),
    seen(2, "stopped", 5.0),
    seen(3, "failed", 6.0),
    seen(4, "pending"),
    seen(5, "trained", math.nan, math.inf, -math.inf),
    seen(6, "trained", math.nan, 2.0),
]


def told(
    dropped: Any, *histories: list[Observation], failures: Any = "worst", ranks: bool = False
) -> list[tuple[Any, ...]]:
    telling = Told(Axes(Line.space()), dropped, failures, ranks=ranks)
    for history in histories:
        telling.update(history)
    return rows(telling)


def rows(telling: Told) -> list[tuple[Any, ...]]:
    return [(t.number, t.state, t.value, t.intermediate_values) for t in telling.trials]


def test_what_is_told() -> None:
    low = -math.inf
    assert told("pruned", HISTORY) == [
        (0, TrialState.COMPLETE, 3.0, {0: 1.0, 1: 3.0, 2: 3.0}),
        (1, TrialState.PRUNED, 4.0, {0: 4.0}),
        (2, TrialState.COMPLETE, 5.0, {0: 5.0}),
        (3, TrialState.PRUNED, low, {}),
        (4, TrialState.RUNNING, None, {}),
        (5, TrialState.PRUNED, low, {}),
        (6, TrialState.PRUNED, 2.0, {0: low, 1: 2.0}),
    ]
    # 2 is the worst, and 5 the best: late as it was, the 6 of what failed counts for nothing.
    values = [value for _, _, value, _ in told("complete", HISTORY)]
    assert values == [3.0, 4.0, 5.0, 0.5, None, 0.5, 2.0]
    values = [value for _, _, value, _ in told("complete", HISTORY, ranks=True)]
    assert values == [3.0, 4.0, 5.0, low, None, low, 2.0]


def test_what_was_told_before_there_was_a_choice() -> None:
    low = -math.inf
    assert told("pruned", HISTORY, failures="ignore") == [
        (0, TrialState.COMPLETE, 3.0, {0: 1.0, 1: 3.0, 2: 3.0}),
        (1, TrialState.PRUNED, 4.0, {0: 4.0}),
        (2, TrialState.COMPLETE, 5.0, {0: 5.0}),
        (3, TrialState.FAIL, None, {0: 6.0}),
        (4, TrialState.RUNNING, None, {}),
        (5, TrialState.COMPLETE, low, {0: low, 1: low, 2: low}),
        (6, TrialState.PRUNED, 2.0, {0: low, 1: 2.0}),
    ]
    states = [state for _, state, _, _ in told("complete", HISTORY, failures="ignore")]
    assert states.count(TrialState.COMPLETE) == 5
    assert TrialState.PRUNED not in states


def test_what_is_worst_may_change() -> None:
    failed, fair = seen(0, "failed"), [seen(1, "trained", 2.0), seen(2, "trained", 4.0)]

    def value(*others: Observation) -> Any:
        return told("complete", [failed], [failed, *others])[0][2]

    assert value() == -1.0
    assert value(*fair[:1]) == 0.0
    assert value(*fair) == 1.0
    assert value(*fair, seen(3, "trained", -4.0)) == -8.0
    assert value(*fair, seen(3, "failed", -4.0), seen(4, "trained", math.nan)) == 1.0


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_failures_are_worse_than_the_worst_and_not_far_off(values: list[float]) -> None:
    low, high = min(values, default=0.0), max(values, default=0.0)
    found = below(values)
    assert not values or found < low
    if 1e-300 < high - low < 1e300:
        assert low - found <= max((high - low) / 2 * 1.001, math.ulp(low))


@given(data=st.data(), dropped=st.sampled_from(["pruned", "complete"]), ranks=st.booleans())
def test_what_is_told_depends_on_the_history_only(
    data: st.DataObject, dropped: Any, ranks: bool
) -> None:
    for failures in ("worst", "ignore"):
        telling = Told(Axes(Line.space()), dropped, failures, ranks=ranks)
        for history in data.draw(walks(Line.space())):
            telling.update(history)
            assert rows(telling) == told(dropped, history, failures=failures, ranks=ranks)
            assert telling.lost == sum(map(is_lost, telling.trials)) or failures == "ignore"


def test_who_is_outlasted_is_told_anew() -> None:
    short, longer = HISTORY[1:2], [HISTORY[1], HISTORY[0]]
    assert told("pruned", short)[0][1] is TrialState.COMPLETE
    assert told("pruned", short, longer) == told("pruned", longer)
    assert told("pruned", longer, short) == told("pruned", short)
    assert told("pruned", HISTORY, HISTORY[:3], HISTORY) == told("pruned", HISTORY)


def test_adding_and_ending_are_no_rewrites() -> None:
    telling = Told(Axes(Line.space()), "complete", "worst")
    telling.update([seen(0, "trained", 1.0), seen(1, "pending")])
    telling.update([seen(0, "trained", 1.0), seen(1, "trained", 2.0), seen(2, "pending")])
    assert telling.rewrites == 0
    telling.update([seen(0, "trained", 1.0, 9.0), seen(1, "trained", 2.0), seen(2, "pending")])
    assert telling.rewrites == 1
    assert telling.trials[0].value == 9.0


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_seeds_reach_samplers_within_samplers() -> None:
    inner = TPESampler()
    inner.own = random.Random()  # type: ignore[attr-defined]
    inner.modern = np.random.default_rng()  # type: ignore[attr-defined]
    for sampler in (PartialFixedSampler({}, inner), NSGAIISampler()):
        pickled, found = dumps(sampler)
        drawn = []
        for _ in range(2):
            copied, generators = loads(pickled, 0, [])
            assert len(generators.found) == len(found)
            for seed in (5, 6, 5):
                generators.seed(seed)
                drawn.append(draws(copied))
            with generators.seeded(6):
                drawn.append(draws(copied))
            drawn.append(draws(copied))
        assert drawn[:5] == drawn[5:]
        five, six, *again = drawn[:5]
        assert again == [five, six, five]
        assert len({*five, *six}) == 2 * len(five)


def draws(sampler: Any) -> list[float]:
    if isinstance(sampler, NSGAIISampler):
        assert sampler._rng is sampler._child_generation_strategy._rng
        return [sampler._rng.rng.rand(), sampler._random_sampler._rng.rng.rand()]
    inner = sampler._base_sampler
    return [
        inner._rng.rng.rand(),
        inner._random_sampler._rng.rng.rand(),
        inner.own.random(),
        inner.modern.random(),
    ]
