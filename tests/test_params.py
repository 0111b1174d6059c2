from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Optional, Union

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Color, params_classes, spaces

from letstune import rand
from letstune.errors import SpaceError
from letstune.space.params import Params, RecordedParams, Space

if TYPE_CHECKING:
    from decimal import Decimal

NAN = float("nan")
SEEDS = st.integers(0, 99)


class Lin(Params):
    alpha: float = rand.uniform(1e-5, 1, log=True)


class Tree(Params):
    depth: int = rand.ints(1, 3)
    color: Color


class Model(Params):
    model_cls: ClassVar[type[Decimal]] = dict

    kind: Lin | Tree
    flag: bool
    gamma: float | str = rand.oneof([rand.uniform(0, 1), "auto"])
    layers: tuple[int, ...] = rand.oneof([(50,), (100, 50)])
    tree: Tree
    maybe: Optional[Lin] = None  # noqa: UP045
    penalty: Literal["l1", "l2"]
    n: int = 3


def model(**changes: Any) -> Model:
    values: dict[str, Any] = {
        "kind": Lin(alpha=0.1),
        "flag": True,
        "gamma": "auto",
        "layers": (50,),
        "tree": Tree(depth=1, color=Color.RED),
        "penalty": "l1",
    }
    return Model(**(values | changes))


def make(annotation: Any, *declared: Any, name: str = "x") -> type[Params]:
    namespace = {"__annotations__": {name: annotation}, "__module__": __name__}
    return type("C", (Params,), namespace | dict.fromkeys([name] * len(declared), *declared))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Laws


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


# Instances


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
        ("{", "is no JSON"),
        ("[]", "is no dict"),
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


# Declarations


def test_fields_are_inherited_in_order():
    class Child(Tree):
        more: bool
        depth = 7

    assert [name for name, _ in Child.space().fields] == ["depth", "color", "more"]
    assert Child(color=Color.RED, more=True).depth == 7
    assert [name for name, _ in Tree.space().fields] == ["depth", "color"]


def test_an_override_is_checked_by_the_inherited_annotation():
    with pytest.raises(SpaceError, match=r"Child\.depth is 0.5 of type float, expected int"):

        class Child(Tree):
            depth = 0.5


def test_the_first_base_wins():
    class Left(Params):
        x: int = 1

    class Right(Params):
        x: int = 2
        y: bool

    class Both(Left, Right):
        pass

    assert Both(y=True).x == 1


def test_annotations_see_the_function_around():
    class Inner(Params):
        a: bool

    def define() -> type[Params]:
        class Local(Params):
            b: bool

        class Outer(Params):
            inner: Inner | Local
            inners: Union[Local, None]  # noqa: UP007

        assert Inner
        return Outer

    assert define().space().size == 12


def test_constants_may_be_params():
    cls = make(Tree | None, Tree(depth=1, color=Color.RED))
    assert cls.space().size == 1
    assert cls.space().sample(rng()) == cls()
    assert cls.space().choices(cls()) == {}
    recorded = Space.from_json(cls.space().to_json())
    assert recorded.point(0).to_json() == cls().to_json()


def test_int_candidates_of_a_float_are_floats():
    assert [repr(p) for p in map(make(float, rand.oneof([1, 2])).space().point, range(2))] == [
        "C(x=1.0)",
        "C(x=2.0)",
    ]


def test_members_of_a_union_are_equally_likely():
    counts = [make(Literal["a", "b", "c"] | None).space().sample(rng(i)).x for i in range(300)]
    assert counts.count(None) == pytest.approx(150, abs=40)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: make(float), r"C\.x: float without a distribution.*x: float = rand.uniform"),
        (lambda: make(int | None), r"for instance  x: int \| None = rand.ints"),
        (lambda: make(str), r"= rand.oneof"),
        (lambda: make(int, rand.uniform(0, 1)), r"C\.x: uniform\(0, 1\) gives values other"),
        (lambda: make(float, rand.ints(0, 1)), "gives values other than float"),
        (lambda: make(int, rand.oneof([1, "a"])), r"oneof\(\[1, 'a'\]\) gives values other"),
        (lambda: make(Lin, rand.oneof([Lin, Tree])), "gives values other than Lin"),
        (lambda: make(float, rand.oneof([1, 1.0])), r"C\.x: .*1.0 is there twice"),
        (lambda: make(int, "a"), r"C\.x is 'a' of type str, expected int"),
        (lambda: make(list[int]), r"C\.x: list\[int\] is no type for a parameter"),
        (lambda: make(Params), "is no type for a parameter"),
        (lambda: make(Enum), "is no type for a parameter"),
        (lambda: make(tuple[Lin, ...]), "params in a tuple"),
        (lambda: make("Missing | None"), r"C\.x: the annotation 'Missing \| None' .*'Missing'"),
        (lambda: make(bool, name="to_json"), r"C\.to_json: Params has that name"),
        (lambda: make(bool, name="_x"), "choose another name, without a leading underscore"),
        (lambda: make(Lin | type("Lin", (Lin,), {})), "two classes of the same name"),
        (lambda: make(Color | str), "an Enum beside strings"),
        (lambda: make(Color | Literal["x"]), "an Enum beside strings"),
        (lambda: make(Color | Enum("Other", "A")), "an Enum beside strings"),
        (lambda: make(tuple[int, ...] | tuple[str, ...]), "two tuple types"),
        (lambda: type("E", (Params,), {}).space(), "E has no fields, so there is nothing to tune"),
    ],
)  # fmt: skip
def test_refused(declare, message):
    with pytest.raises(SpaceError, match=message):
        declare()


def test_a_branch_may_be_empty():
    empty = type("Empty", (Params,), {})
    assert [p.x for p in map(make(empty | None).space().point, range(2))] == [empty(), None]


# The space


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


# Recorded params


def recorded() -> RecordedParams:
    params = model(kind=Tree(depth=2, color=Color.GREEN), gamma=NAN, maybe=Lin(alpha=0.5))
    return Space.from_json(Model.space().to_json()).decode(params.to_json())


def test_recorded_params_have_attributes():
    params = recorded()
    assert params.kind.color == "GREEN"
    assert params.tree.depth == 1
    assert params.layers == (50,)
    assert params.gamma != params.gamma


def test_recorded_params_are_named():
    assert repr(recorded().kind) == "Tree(depth=2, color='GREEN')"


def test_recorded_params_of_other_classes_are_unequal():
    assert RecordedParams("A", {"x": 1}) == RecordedParams("A", {"x": 1})
    assert RecordedParams("A", {"x": 1}) != RecordedParams("B", {"x": 1})
    assert RecordedParams("A", {"x": 1}) != RecordedParams("A", {"x": 1.0})


def test_recorded_params_help_with_a_missing_attribute():
    with pytest.raises(AttributeError, match="no 'alhpa', only: kind, flag"):
        recorded().alhpa  # noqa: B018


def test_recorded_params_are_read_only():
    with pytest.raises(AttributeError, match="can't be changed"):
        recorded().flag = False


# Other processes

SCRIPT = """
import cloudpickle, enum, sys
from letstune import rand
from letstune.space.params import Params

def define():
    class Kind(enum.Enum):
        A = 1
        B = 2
    class Inner(Params):
        kind: Kind
        x: float = rand.uniform(0, 1)
    class Outer(Params):
        inner: Inner | None
        nan: float = float("nan")
        n: int = rand.oneof([1, 2])
        def create_model(self):
            return self.n + 1
    class Heir(Outer):
        n = 5
    return Inner, Outer, Heir

Inner, Outer, Heir = define()
class Main(Params):
    inner: Inner
    m: int = rand.ints(1, 3)
params = Outer(inner=Inner(kind=list(Inner.space().fields[0][1].candidates)[0].value, x=0.5), n=1)
heir = Heir(inner=None)
main = Main(inner=params.inner, m=1)
Outer.best = params  # a class that holds an instance of itself
everything = [Outer, params, heir, main, Heir.space(), params.to_json()]
sys.stdout.buffer.write(cloudpickle.dumps(everything))
"""

CHECK = """
import cloudpickle, sys, numpy as np
Outer, params, heir, main, space, text = cloudpickle.loads(sys.stdin.buffer.read())
assert isinstance(params, Outer) and isinstance(heir, Outer)
assert params == Outer.from_json(text) and hash(params) == hash(Outer.from_json(text))
assert Outer.best == params and params in {params}
assert heir.n == 5 and type(heir).space() == space and space.cls is type(heir)
rng = np.random.default_rng(1)
for cls in (Outer, type(heir), type(main)):
    sampled = cls.space().sample(rng)
    assert type(sampled) is cls and cls.from_json(sampled.to_json()) == sampled
assert type(main.inner) is type(params.inner) and params.create_model() == 2
print("all well")
"""


def test_classes_of_main_reach_another_process():
    dumped = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True).stdout
    checked = subprocess.run(
        [sys.executable, "-c", CHECK], input=dumped, capture_output=True, check=False
    )
    assert checked.stdout.decode().strip() == "all well", checked.stderr.decode()


def test_params_of_a_module_are_pickled():
    assert pickle.loads(pickle.dumps(model())) == model()


def test_numpy_is_not_imported():
    # The package itself is passed over: it may well import more.
    code = """
import importlib.util, sys, types
package = types.ModuleType("letstune")
package.__path__ = importlib.util.find_spec("letstune").submodule_search_locations
sys.modules["letstune"] = package
import letstune.space.params
print(sorted({"numpy", "pandas", "cloudpickle"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ran.stdout.strip() == b"[]"


def test_a_distribution_without_an_annotation_is_refused() -> None:
    with pytest.raises(
        SpaceError, match=r"P\.batch has a distribution, but no annotation.*batch: int"
    ):

        class P(Params):
            x: float = rand.uniform(0, 1)
            batch = rand.ints(8, 256)


def test_a_distribution_of_a_mixin_is_refused() -> None:
    class Mixin:
        lr: float = rand.uniform(0, 1)

    with pytest.raises(SpaceError, match=r"Derive Mixin from letstune\.Params"):

        class Mixed(Mixin, Params):
            x: float = rand.uniform(0, 1)


def test_fields_are_inherited_in_the_order_of_python() -> None:
    class A(Params):
        x: float = rand.uniform(0, 1)
        z: int = 1

    class B(A):
        x: float = rand.uniform(5, 6)
        z: int = 2

    class C(A):
        y: float = rand.uniform(0, 1)

    class D(C, B):
        pass

    assert D.space().fields == (*B.space().fields, C.space().fields[-1])
    assert D(x=5.5, y=0.5).z == 2


def test_a_cached_property_is_no_field() -> None:
    class Cached(Params):
        x: float = rand.uniform(0, 1)

        @cached_property
        def double(self) -> float:
            return 2 * self.x

    params = Cached(x=0.5)
    assert params.double == 1.0
    assert params == Cached(x=0.5)
    assert params.to_dict() == {"x": 0.5}
    assert params.replace(x=0.25).double == 0.5
    assert repr(params) == "Cached(x=0.5)"
    assert copy.copy(params).__dict__ == {"x": 0.5}
