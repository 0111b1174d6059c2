from __future__ import annotations

import json
from collections import Counter
from enum import Enum
from inspect import isfunction
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Color, declarations, distributions

from letstune import Params, rand
from letstune.errors import SpaceError

NAN = float("nan")


def value_of(distribution: Any, rng: np.random.Generator) -> Any:
    sampled = distribution.sample(rng)
    if isinstance(distribution, rand.OneOf):
        return distribution.candidates[sampled].sample(rng)
    return sampled


def test_every_function_is_tested_and_known_to_type_checkers():
    functions = [getattr(rand, name) for name in rand.__all__]
    names = {f.__name__ for f in functions if isfunction(f) and f.__module__ == rand.__name__}
    assert names == set(declarations())
    known = cast(Any, Params).__dataclass_transform__["field_specifiers"]
    assert names == {function.__name__ for function in known}


@given(distributions(), st.integers(0, 99))
def test_sampled_is_contained_and_pure_python(distribution, seed):
    value = value_of(distribution, np.random.default_rng(seed))
    assert distribution.contains(value)
    assert type(value).__module__ == "builtins"


@given(distributions(), st.integers(0, 99))
def test_same_seed_same_sample(distribution, seed):
    one, two = (repr(distribution.sample(np.random.default_rng(seed))) for _ in range(2))
    assert one == two


@given(distributions())
def test_json_round_trip(distribution):
    again = rand.from_dict(json.loads(json.dumps(distribution.to_dict())))
    assert again == distribution
    assert hash(again) == hash(distribution)


@given(distributions())
def test_points_are_distinct_and_contained(distribution):
    if distribution.size is not None:
        points = [distribution.point(i) for i in range(min(distribution.size, 200))]
        assert len({rand.Constant(point) for point in points}) == len(points)
        assert all(map(distribution.contains, points))


@given(distributions())
def test_no_point_past_the_last(distribution):
    with pytest.raises(SpaceError, match="has no value number"):
        distribution.point(10**30)


def test_steps_are_decimal():
    steps = rand.uniform(0, 1, step=0.1)
    assert [steps.point(i) for i in range(steps.size)] == [
        0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0,
    ]  # fmt: skip


def test_steps_need_not_reach_high():
    assert rand.uniform(0, 1, step=0.4).size == 3
    assert not rand.uniform(0, 1, step=0.4).contains(1.0)


def test_all_steps_come_up():
    rng = np.random.default_rng(0)
    distribution = rand.uniform(1, 2, step=0.5)
    assert {distribution.sample(rng) for _ in range(100)} == {1.0, 1.5, 2.0}


def test_log_uniform_is_uniform_in_the_exponent():
    rng = np.random.default_rng(0)
    distribution = rand.uniform(1e-4, 1, log=True)
    share = sum(distribution.sample(rng) < 1e-2 for _ in range(2000)) / 2000
    assert share == pytest.approx(0.5, abs=0.05)


def test_uniform_is_uniform():
    rng = np.random.default_rng(0)
    distribution = rand.uniform(-1, 3)
    share = sum(distribution.sample(rng) < 0 for _ in range(2000)) / 2000
    assert share == pytest.approx(0.25, abs=0.04)


def test_both_ends_of_ints_come_up():
    rng = np.random.default_rng(0)
    assert {rand.ints(1, 3).sample(rng) for _ in range(100)} == {1, 2, 3}


def test_log_ints_prefer_small_ones():
    rng = np.random.default_rng(0)
    counts = Counter(rand.ints(1, 100, log=True).sample(rng) for _ in range(3000))
    assert counts[1] > 5 * counts[10] > 0
    assert max(counts) == 100


@pytest.mark.parametrize("log", [False, True])
def test_normal_has_its_median(log):
    rng = np.random.default_rng(0)
    distribution = rand.normal(3, 0.5, log=log)
    values = sorted(distribution.sample(rng) for _ in range(2001))
    assert values[1000] == pytest.approx(3, abs=0.1)


def test_absurd_scale_stays_finite_and_positive():
    rng = np.random.default_rng(0)
    distribution = rand.normal(1e300, 1e300, log=True)
    assert all(distribution.contains(distribution.sample(rng)) for _ in range(100))


def test_weights_weigh():
    rng = np.random.default_rng(0)
    counts = Counter(
        rand.oneof(["a", "b", "c"], weights=[0, 1, 3]).sample(rng) for _ in range(2000)
    )
    assert counts[0] == 0
    assert counts[2] / 2000 == pytest.approx(0.75, abs=0.04)


def test_weightless_candidates_do_not_count():
    distribution = rand.oneof([1, rand.uniform(0, 1)], weights=[1, 0])
    assert distribution.size == 1
    assert not distribution.contains(0.5)


def test_bools_have_their_probability():
    rng = np.random.default_rng(0)
    assert sum(rand.bools(0.2).sample(rng) for _ in range(2000)) / 2000 == pytest.approx(
        0.2, abs=0.03
    )


def test_certain_bools_have_one_value():
    assert [rand.bools(p).point(0) for p in (0, 1)] == [False, True]
    assert rand.bools(1).size == 1


def test_one_true_and_1_0_are_different():
    assert rand.oneof([1, 1.0, True]).size == 3
    assert rand.Constant(1) != rand.Constant(True)


def test_contains_is_exact():
    assert not rand.ints(0, 1).contains(True)
    assert not rand.uniform(0, 1).contains(1)
    assert not rand.uniform(0, 1).contains(NAN)


def test_numpy_arguments_become_python_ones():
    distribution = rand.oneof([np.int64(1), np.str_("a")], weights=np.array([1, 2]))
    assert repr(distribution) == repr(rand.oneof([1, "a"], weights=[1.0, 2.0]))
    assert type(rand.uniform(np.float64(0), np.int64(1)).low) is float


def test_arrays_and_enums_are_candidates():
    assert rand.oneof(np.array([1, 2])) == rand.oneof([1, 2])
    assert rand.oneof(Color).size == 2


def test_str_is_the_declaration():
    assert str(rand.uniform(1e-5, 1, log=True)) == "uniform(1e-05, 1, log=True)"
    assert str(rand.oneof([None, "a"], weights=[1, 0.5])) == "oneof([None, 'a'], weights=[1, 0.5])"


class Flavour(Enum):
    SWEET = "sweet"


def test_enum_constants_come_back_as_names():
    again = rand.from_dict(rand.oneof([Flavour.SWEET, (1, NAN)]).to_dict())
    assert repr(again) == repr(rand.oneof(["SWEET", (1, NAN)]))


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: rand.uniform(1, 0), "low is above high"),
        (lambda: rand.uniform(0, 1, log=True), "needs low above 0"),
        (lambda: rand.uniform(1, 2, log=True, step=1), r"exclude each other.*oneof\(\[1, 2"),
        (lambda: rand.ints(8, 99, log=True, step=8), r"rand.oneof\(\[8, 16, 32, ...\]\)"),
        (lambda: rand.oneof([[64], [64, 64]]), r"is a list, .* write a tuple: \(64,\)"),
        (lambda: rand.oneof([dict, int]), "For a class or a function, write its name, or an Enum"),
        (lambda: rand.uniform(0, 1, step=0), "step must be above 0"),
        (lambda: rand.uniform(1e16, 1e17, step=0.1), "step is too small"),
        (lambda: rand.uniform(-1.7e308, 1.7e308), "too wide"),
        (lambda: rand.uniform(0, NAN), "high is nan, expected a finite number"),
        (lambda: rand.uniform(False, 1), "low is False"),
        (lambda: rand.uniform("0", 1), "low is '0'"),
        (lambda: rand.uniform(0, 10**400), "expected a finite number"),
        (lambda: rand.uniform(1, 2, log=1), "log is 1; give True or False"),
        (lambda: rand.normal(0, 0), "scale must be above 0"),
        (lambda: rand.normal(0, 1, log=True), "needs median above 0"),
        (lambda: rand.ints(0, 3, log=True), "needs low from 1 on"),
        (lambda: rand.ints(0, 1.0), "high is 1.0, expected an int"),
        (lambda: rand.ints(0, 2**63), "expected an int from"),
        (lambda: rand.ints(2, 1), "low is above high"),
        (lambda: rand.bools(1.1), "probability must be from 0 to 1"),
        (lambda: rand.oneof([]), "no candidates"),
        (lambda: rand.oneof("abc"), r"is the str 'abc', expected a list"),
        (lambda: rand.oneof({1, 2}), "is the set"),
        (lambda: rand.oneof(3), "is no list"),
        (lambda: rand.oneof([1, 2, 1]), "1 is there twice"),
        (lambda: rand.oneof([{1}]), r"\{1\} is not what a parameter can be"),
        (lambda: rand.oneof([int]), "is not what a parameter can be"),
        (lambda: rand.oneof([1, 2], weights=[1]), "expected 2 finite numbers"),
        (lambda: rand.oneof([1, 2], weights=[1, -1]), "expected 2 finite numbers"),
        (lambda: rand.oneof([1, 2], weights=[0, 0]), "expected 2 finite numbers"),
        (lambda: rand.oneof([1, 2], weights=[1, NAN]), "expected 2 finite numbers"),
        (lambda: rand.from_dict({"kind": "zipf"}), "describes no distribution"),
        (lambda: rand.from_dict({"kind": "ints", "lo": 1}), "describes no distribution"),
    ],
)
def test_refused(declare, message):
    with pytest.raises(SpaceError, match=message):
        declare()
