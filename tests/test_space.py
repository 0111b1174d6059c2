"""The space tells paths, points, choices and differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import Color, spaces

from letstune import rand
from letstune.errors import SpaceError
from letstune.space.params import Params, Space

if TYPE_CHECKING:
    pass
from example_params import Lin, Model, Tree, make, model, rng


def test_the_last_field_changes_fastest():
    points = [Tree.space().point(i) for i in range(3)]
    assert [(p.depth, p.color) for p in points] == [
        (1, Color.RED),
        (1, Color.GREEN),
        (2, Color.RED),
    ]


def test_paths_tell_the_branch():
    params = model(gamma=0.5, kind=Tree(depth=2, color=Color.GREEN))
    assert Model.space().choices(params) == {
        "kind": 1,
        "kind.Tree.depth": 2,
        "kind.Tree.color": 1,
        "flag": True,
        "gamma": 0,
        "gamma[0]": 0.5,
        "layers": 0,
        "tree.depth": 1,
        "tree.color": 0,
        "penalty": 0,
    }


def test_choices_of_recorded_params_and_back():
    params = model(kind=Tree(depth=2, color=Color.GREEN))
    recorded = Space.from_json(Model.space().to_json())
    assert recorded.choices(params) == Model.space().choices(params)
    assert Model.space().choices(recorded.decode(params.to_json())) == recorded.choices(params)


def test_choices_refuse_what_no_choice_leads_to():
    with pytest.raises(SpaceError, match=r"Model\.layers is \(1,\), expected one of oneof"):
        Model.space().choices(model(layers=(1,)))
    with pytest.raises(SpaceError, match=r"Model\.n is 4, expected the constant 3"):
        Model.space().choices(model(n=4))


def test_choices_take_the_first_candidate_that_fits():
    space = make(int, rand.oneof([rand.ints(1, 3), 2])).space()
    assert space.choices(space.point(3)) == {"x": 0, "x[0]": 2}


def test_an_int_chosen_for_a_float_becomes_one_without_the_class_too():
    space = Space.from_json(Lin.space().to_json())
    assert space.build(lambda path, distribution: 1).to_json() == '{"alpha":1.0}'


def test_a_wrong_index_is_refused():
    with pytest.raises(SpaceError, match="2 was chosen for x, expected the index of one of the 2"):
        make(Color).space().build(lambda path, distribution: 2)


def test_infinite_and_missing_points_are_refused():
    with pytest.raises(SpaceError, match="infinitely many points"):
        Lin.space().point(0)
    with pytest.raises(SpaceError, match="Tree has 6 points, counted from 0; it has no 6"):
        Tree.space().point(6)


class Custom(Params):
    low: float
    high: float
    flag: bool

    @classmethod
    def get_random_params(cls, rng: np.random.Generator) -> Custom:
        low = rng.random()
        return cls(low=low, high=low + 1, flag=False)


def test_custom_sampling():
    assert Custom.space().custom
    params = Custom.space().sample(rng())
    assert params.high == params.low + 1
    nested = make(Custom).space().sample(rng()).x
    assert nested.high == nested.low + 1
    assert Custom.from_json(params.to_json()) == params


def test_custom_sampling_may_build_on_the_default():
    class Capped(Tree):
        @classmethod
        def get_random_params(cls, rng: np.random.Generator) -> Capped:
            return super().get_random_params(rng).replace(depth=9)

    assert Capped.space().sample(rng()).depth == 9


def test_custom_spaces_have_no_structure():
    for space in (Custom.space(), make(Custom | None).space()):
        assert space.size is None
        with pytest.raises(
            SpaceError, match="Custom defines its own get_random_params, so sampler"
        ):
            space.require_structure("sampler 'grid'")
        with pytest.raises(SpaceError, match="Custom defines its own"):
            space.build(lambda path, distribution: 0)


def test_custom_sampling_needs_the_class():
    with pytest.raises(SpaceError, match="was read from a journal without its class"):
        Space.from_json(Custom.space().to_json()).sample(rng())


def test_custom_sampling_must_return_the_class():
    class Wrong(Params):
        a: bool

        @classmethod
        def get_random_params(cls, rng: np.random.Generator) -> Any:
            return {"a": True}

    with pytest.raises(SpaceError, match=r"get_random_params returned \{'a': True\}"):
        Wrong.space().sample(rng())


def test_wrong_space_json_is_refused():
    for text in ("{", "[]", '{"kind":"space"}', '{"kind":"ints","low":1,"high":2}'):
        with pytest.raises(SpaceError, match="describes"):
            Space.from_json(text)


def test_diff_tells_every_path():
    class Before(Params):
        alpha: float = rand.uniform(1e-5, 1, log=True)
        l1_ratio: float = rand.uniform(0, 1)
        kind: Lin | Tree
        tree: Tree

    was = Before.space()

    class Tree2(Tree):
        depth: int = rand.ints(1, 4)

    Tree2.__name__ = "Tree"
    depth4 = Space("Tree", Tree2.space().fields)
    now = Space(
        "Before",
        (
            ("alpha", rand.Uniform(1e-5, 0.1, log=True)),
            ("kind", rand.OneOf((Lin.space(), depth4))),
            ("tree", depth4),
            ("beta", rand.Bools()),
        ),
        tagged=("kind",),
    )
    assert was.diff(now) == [
        "alpha: was uniform(1e-05, 1, log=True), is uniform(1e-05, 0.1, log=True)",
        "l1_ratio: removed",
        "kind.Tree.depth: was ints(1, 3), is ints(1, 4)",
        "tree.depth: was ints(1, 3), is ints(1, 4)",
        "beta: added",
    ]


@settings(max_examples=30)
@given(spaces(), spaces())
def test_unequal_spaces_differ(one, other):
    assert bool(one.diff(other)) == (one != other)


def test_diff_tells_order_and_custom():
    a, b = ("a", rand.Bools()), ("b", rand.Bools())
    assert Space("P", (a, b)).diff(Space("P", (b, a))) == ["order of P: was a, b, is b, a"]
    assert Space("P", (a,)).diff(Space("P", (a,), custom=True)) == [
        "P: was sampled by the distributions, is by its own get_random_params"
    ]
