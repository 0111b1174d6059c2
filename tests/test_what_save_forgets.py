"""What of a trainer is not the same after a load is named, and only what matters is wrong."""

from __future__ import annotations

import pickle
import random
import threading
from collections import OrderedDict, deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from letstune.training.audit import Audit, Looks, Parts, audit, unlike
from letstune.training.parts import Anatomy


def parts(**fields: Any) -> Parts:
    anatomy = Anatomy([])
    return {("field", name): anatomy.of(value) for name, value in fields.items()}


def told(was: Any, now: Any) -> list[str]:
    return [str(each) for each in unlike(parts(x=was), parts(x=now))]


class Stateful:
    def __init__(self, **state: Any) -> None:
        self.state = state
        self.training = True

    def state_dict(self) -> dict[str, Any]:
        return self.state


class Slotted:
    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        self.count = count


def drawn(generator: Any) -> Any:
    generator.random()
    return generator


class Refusing:
    def state_dict(self) -> Any:
        raise RuntimeError


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        (0.84, float("inf"), ["x: 0.84 became inf"]),
        (0.1, 0.1 + 1e-15, ["x: 0.1 became 0.100000000000001"]),
        ({"a": 1, "b": 2}, {}, ["x: 2 keys became 0"]),
        ({"a": 1}, {"b": 1}, ["x has other keys"]),
        ([1, 2], [1], ["x: 2 items became 1"]),
        ([1, [2, 3]], [1, [2, 4]], ["x[1][1]: 3 became 4"]),
        (deque([1.0], 3), deque([2.0], 3), ["x[0]: 1 became 2"]),
        (np.zeros(3), np.ones(3), ["x differs"]),
        (np.zeros(3), np.zeros(4), ["x: float64 of shape (3,) became float64 of shape (4,)"]),
        ([0.5] * 200, [0.5] * 199 + [1.0], ["x differs"]),
        (random.Random(1), drawn(random.Random(1)), ["x differs"]),
        (np.random.default_rng(1), drawn(np.random.default_rng(1)), ["x differs"]),
        (np.random.RandomState(1), drawn(np.random.RandomState(1)), ["x differs"]),
        (np.random.PCG64(1), np.random.PCG64(2), ["x differs"]),
        (SimpleNamespace(best=0.84), SimpleNamespace(best=None), ["x.best: 0.84 became None"]),
        (SimpleNamespace(a=1), SimpleNamespace(), ["x.a is missing"]),
        (SimpleNamespace(), SimpleNamespace(a=1), ["x.a is new"]),
        (Slotted(1), Slotted(2), ["x.count: 1 became 2"]),
        (Stateful(step=6), Stateful(step=0), ["x.state_dict()['step']: 6 became 0"]),
        ({1, 2}, {1}, ["x: 2 items became 1"]),
        (iter([1]), None, ["x: a list_iterator became None"]),
    ],
)
def test_a_difference_is_told_with_its_path(was: Any, now: Any, expected: list[str]) -> None:
    assert told(was, now) == expected


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (float("nan"), float("nan")),
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0])),
        (np.float32(0.5), 0.5),
        ((1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (threading.Lock(), threading.Lock()),
        (lambda: 1, lambda: 2),
        (iter([1, 2]), iter([3])),
        (Refusing(), Refusing()),
        (np.array([{}], dtype=object), np.array([{1: 2}], dtype=object)),
    ],
)
def test_what_is_the_same_or_cannot_be_compared_is_no_difference(was: Any, now: Any) -> None:
    assert told(was, now) == []


def test_names_in_a_state_that_are_made_anew_for_each_object_are_no_difference() -> None:
    was, now = ({f"dense_{k}": np.ones(2), f"dense_{k + 1}": 2.0} for k in (3, 8))
    assert told(Stateful(**was), Stateful(**now)) == []
    assert told(Stateful(**was), Stateful(**{**now, "dense_9": 3.0})) == [
        "x.state_dict()['dense_4']: 2 became 3"
    ]
    assert told(Stateful(**was), Stateful(dense_3=np.ones(2))) == [
        "x.state_dict(): 2 keys became 1"
    ]


def test_objects_that_have_themselves_or_share_parts_are_told_once() -> None:
    def ring(value: int) -> Any:
        shared = SimpleNamespace(value=value)
        whole = SimpleNamespace(first=shared, second=shared)
        whole.whole = whole
        return whole

    assert told(ring(1), ring(2)) == ["x.first.value: 1 became 2"]


def test_what_is_noted_outlives_the_object_and_its_process() -> None:
    weights = np.zeros(3)
    noted = parts(weights=weights)
    weights += 1
    again = pickle.loads(pickle.dumps(noted))
    assert [str(each) for each in unlike(again, parts(weights=weights))] == ["weights differs"]


def test_however_deep_or_large_it_ends() -> None:
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    assert told(deep, deep) == []
    assert told([{n: n} for n in range(1000)] * 300, []) == ["x: 300000 items became 0"]


def judged(
    fresh: dict[str, Any],
    trained: dict[str, Any],
    later: dict[str, Any],
    loaded: dict[str, Any],
    resumed: dict[str, Any],
    **options: Any,
) -> Audit:
    looks = [parts(**fields) for fields in (fresh, trained, later, loaded, resumed)]
    names = ("fresh", "trained", "later", "loaded", "resumed")
    return audit(Looks(**dict(zip(names, looks, strict=True))), **options)


def wrong(*looks: dict[str, Any], **options: Any) -> list[str]:
    return [str(each) for each in judged(*looks, **options).wrong]


def test_a_number_that_load_leaves_as_it_was_created_is_wrong_though_it_comes_right() -> None:
    best = [{"best": value} for value in (float("inf"), 0.84, 0.7, float("inf"), 0.7)]
    assert wrong(*best) == ["best: 0.84 became inf"]


def test_what_the_next_epoch_sets_before_it_asks_for_it_is_not_wrong() -> None:
    last = [{"last": value} for value in (None, 0.84, 0.7, None, 0.7)]
    assert wrong(*last, asked={(("field", "last"),)}) == ["last: 0.84 became None"]
    assert wrong(*last, asked=set()) == []


def test_a_generator_or_array_that_the_next_epoch_makes_anew_is_not_wrong() -> None:
    for make in (np.random.default_rng, lambda n: np.full(3, n)):
        values = [make(n) for n in range(4)]
        anew = [{"x": values[n]} for n in (0, 1, 2, 0, 2)]
        kept = [{"x": values[n]} for n in (0, 1, 2, 0, 1)]
        assert wrong(*anew) == []
        assert wrong(*kept) == ["x differs"]


def test_a_record_that_begins_anew_is_not_wrong() -> None:
    losses = [{"losses": values} for values in ([], [1.0], [1.0, 0.5], [], [0.5])]
    assert wrong(*losses) == []
    by_epoch = [{"x": value} for value in ({}, {0: 1.0}, {0: 1.0, 1: 0.5}, {}, {1: 0.5})]
    assert wrong(*by_epoch) == []


def test_a_dict_that_begins_anew_is_wrong_where_its_values_then_differ() -> None:
    moments = [{"m": value} for value in ({}, {"w": 1.0}, {"w": 2.0}, {}, {"w": 0.5})]
    assert wrong(*moments) == ["m: 1 key became 0"]


def test_times_are_not_wrong() -> None:
    seconds = [{"seconds": value} for value in (0.0, 1.0, 2.0, 0.0, 1.1)]
    assert wrong(*seconds, noise={(("field", "seconds"),)}) == []


def test_what_an_object_says_is_its_state_is_wrong_at_once_unless_it_is_made_anew() -> None:
    kept, other = Stateful(good=1), Stateful(good=0)
    first = [parts(s=Stateful(good=0)), parts(s=kept)]
    rest = [parts(s=kept), parts(s=other), parts(s=other)]
    names = ("fresh", "trained", "later", "loaded", "resumed")
    looks = Looks(**dict(zip(names, [*first, *rest], strict=True)))
    assert [str(each) for each in audit(looks).wrong] == ["s.state_dict()['good']: 1 became 0"]
    anew = [{"s": Stateful(good=n)} for n in (0, 1, 1, 0, 1)]
    assert wrong(*anew) == []


def test_the_lr_that_is_set_in_each_epoch_is_not_wrong() -> None:
    opt = Stateful(param_groups=[{"lr": 0.05}])
    fresh = {"opt": Stateful(param_groups=[{"lr": 0.1}])}
    assert wrong(fresh, {"opt": opt}, {"opt": opt}, fresh, {"opt": opt}) == []


def test_a_path_that_differs_is_not_wrong() -> None:
    folders = [{"x": value} for value in ("a", "a", "a", "b", "b")]
    assert wrong(*folders) == []
    phase = [{"x": value} for value in ("warm", "main", "main", "warm", "warm")]
    assert wrong(*phase) == ["x: 'main' became 'warm'"]


def test_who_is_loaded_as_created_is_told_apart() -> None:
    begun, trained = {"w": np.zeros(2), "n": 0}, {"w": np.ones(2), "n": 1}
    assert judged(begun, trained, trained, begun, trained).anew
    assert not judged(begun, trained, trained, trained, trained).anew
