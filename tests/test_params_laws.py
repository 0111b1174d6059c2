"""Params of any space survive whatever they go through, and are the same without their class."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import cloudpickle
from hypothesis import given, settings
from strategies import params_classes, spaces

from letstune import rand
from letstune.space.params import Space

if TYPE_CHECKING:
    pass
from example_params import SEEDS, rng


@settings(max_examples=30)
@given(spaces(), SEEDS)
def test_sample_is_in_the_space_and_repeatable(space, seed):
    params = space.sample(rng(seed))
    assert space.contains(params)
    assert space.sample(rng(seed)) == params


@settings(max_examples=30)
@given(spaces(), SEEDS)
def test_params_survive_json(space, seed):
    params = space.sample(rng(seed))
    again = type(params).from_json(params.to_json())
    assert again == params
    assert hash(again) == hash(params)
    assert list(json.loads(params.to_json())) == [name for name, _ in space.fields]


@settings(max_examples=30)
@given(spaces(), SEEDS)
def test_params_survive_pickle_and_copy(space, seed):
    params = space.sample(rng(seed))
    for again in (
        cloudpickle.loads(cloudpickle.dumps(params)),
        copy.copy(params),
        copy.deepcopy(params),
    ):
        assert again == params
        assert hash(again) == hash(params)


@settings(max_examples=30)
@given(spaces(), SEEDS)
def test_space_survives_json(space, seed):
    again = Space.from_json(space.to_json())
    assert again == space
    assert hash(again) == hash(space)
    assert again.diff(space) == []
    assert again.size == space.size


@settings(max_examples=30)
@given(spaces(), SEEDS)
def test_without_the_class_the_same_is_sampled(space, seed):
    recorded = Space.from_json(space.to_json())
    params = recorded.sample(rng(seed))
    assert params.to_json() == space.sample(rng(seed)).to_json()
    assert recorded.decode(params.to_json()) == params
    assert pickle.loads(pickle.dumps(params)) == params
    assert copy.deepcopy(params) == params


@settings(max_examples=30)
@given(spaces(), SEEDS)
def test_choices_are_the_inverse_of_build(space, seed):
    for tree in (space, Space.from_json(space.to_json())):
        params = tree.sample(rng(seed))
        choices = tree.choices(params)
        assert tree.build(lambda path, _, choices=choices: choices[path]) == params


@settings(max_examples=30)
@given(spaces(), SEEDS)
def test_sample_is_a_build(space, seed):
    generator = rng(seed)
    asked = []

    def choose(path: str, distribution: rand.Distribution) -> Any:
        asked.append(path)
        return distribution.sample(generator)

    assert space.build(choose) == space.sample(rng(seed))
    assert len(set(asked)) == len(asked)


@settings(max_examples=30)
@given(params_classes(depth=1))
def test_points_are_distinct_and_complete(cls):
    space = cls.space()
    if space.size is not None and space.size <= 300:
        points = [space.point(i) for i in range(space.size)]
        assert len(set(points)) == len(points)
        assert all(map(space.contains, points))
        assert {space.sample(rng(seed)) for seed in range(20)} <= set(points)
        recorded = Space.from_json(space.to_json())
        assert [recorded.point(i).to_json() for i in range(space.size)] == [
            point.to_json() for point in points
        ]
