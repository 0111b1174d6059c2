"""Params are values: they are compared, printed, converted, changed by copy, and checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from strategies import Color

from letstune import rand
from letstune.errors import SpaceError

if TYPE_CHECKING:
    pass
from example_params import NAN, Lin, Tree, make, model, rng


def test_repr_names_all_values():
    assert repr(Tree(depth=1, color=Color.RED)) == "Tree(depth=1, color=<Color.RED: 1>)"


def test_json_is_tagged_where_the_annotation_is_a_union():
    assert json.loads(model().to_json()) == {
        "kind": {"$type": "Lin", "alpha": 0.1},
        "flag": True,
        "gamma": "auto",
        "layers": [50],
        "tree": {"depth": 1, "color": "RED"},
        "maybe": None,
        "penalty": "l1",
        "n": 3,
    }


def test_type_is_the_first_key():
    assert model().to_json().startswith('{"kind":{"$type":"Lin",')


def test_non_finite_floats_survive():
    cls = make(float, rand.uniform(0, 1))
    for value in (NAN, float("inf"), -float("inf")):
        params = cls(x=value)
        assert cls.from_json(params.to_json()) == params
        assert repr(cls.from_json(params.to_json())) == repr(params)
    assert cls(x=NAN).to_dict() == {"x": {"$float": "nan"}}


def test_a_class_of_one_candidate_survives_json():
    cls = make(Lin, rand.oneof([Lin]))
    params = cls.space().sample(rng())
    assert cls.from_json(params.to_json()) == params


def test_zeros_are_told_apart():
    assert Lin(alpha=0.0) != Lin(alpha=-0.0)


def test_other_classes_are_unequal():
    class Other(Lin):
        pass

    assert Other(alpha=0.1) != Lin(alpha=0.1)


def test_int_becomes_float_and_list_tuple():
    assert repr(Lin(alpha=1)) == "Lin(alpha=1.0)"
    assert model(layers=[1, 2]).layers == (1, 2)


def test_numpy_scalars_become_python_ones():
    assert type(Lin(alpha=np.float64(0.5)).alpha) is float
    assert type(Tree(depth=np.int64(1), color=Color.RED).depth) is int


def test_values_out_of_range_are_allowed_by_hand():
    assert Lin(alpha=100.0).alpha == 100.0


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, True), (int, 1.0), (float, "1"), (bool, 1), (str, 1),
        (Literal[1], True), (tuple[int, ...], ("a",)), (tuple[int, int], (1,)), (Color, "RED"),
        (Lin, Tree(depth=1, color=Color.RED)), (float, 10**400),
    ],
)  # fmt: skip
def test_wrong_type_is_refused(annotation, value):
    cls = make(annotation | None, rand.oneof([None]))
    with pytest.raises(SpaceError, match=r"C\.x is .* expected "):
        cls(x=value)


def test_unknown_and_missing_are_all_named():
    with pytest.raises(SpaceError, match=r"Tree: unknown: a, b; missing: depth, color\. Its"):
        Tree(a=1, b=2)


def test_missing_is_told_before_wrong_types():
    with pytest.raises(SpaceError, match="missing: color"):
        Tree(depth=1)


def test_params_are_immutable():
    params = Lin(alpha=0.1)
    with pytest.raises(AttributeError, match=r"Lin\.alpha: params can't be changed.*replace"):
        params.alpha = 1  # type: ignore[misc]
    with pytest.raises(AttributeError, match="can't be changed"):
        del params.alpha


def test_replace_gives_a_changed_copy():
    params = model()
    assert params.replace(n=4).n == 4
    assert params.replace(n=4).replace(n=3) == params
    with pytest.raises(SpaceError, match="unknown: m"):
        params.replace(m=1)


def test_create_model_calls_model_cls():
    params = model()
    assert params.create_model(n=5, seed=1) == vars(params) | {"n": 5, "seed": 1}


def test_create_model_without_model_cls_says_what_to_do():
    with pytest.raises(SpaceError, match=r"Lin has no model_cls\. Set it"):
        Lin(alpha=0.1).create_model()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a dict"),
        ('{"depth":1}', "missing: color"),
        ('{"depth":1,"color":"RED","x":1}', "unknown: x"),
        ('{"depth":1,"color":"BLUE"}', r"Tree\.color is 'BLUE'"),
        ('{"depth":"1","color":"RED"}', r"Tree\.depth is '1'"),
        ('{"depth":{"$float":1},"color":"RED"}', "is not a value"),
    ],
)
def test_wrong_json_is_refused(text, message):
    with pytest.raises(SpaceError, match=message):
        Tree.from_json(text)
