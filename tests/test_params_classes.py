"""A class of params says what is to be tuned, or what is wrong with it."""

from __future__ import annotations

import copy
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Union

import pytest
from strategies import Color

from letstune import rand
from letstune.errors import SpaceError
from letstune.space.params import Params, Space

if TYPE_CHECKING:
    pass
from example_params import Lin, Tree, make, rng


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


class Act(Enum):
    def relu(self):
        pass


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
        (lambda: make(list[int]), r"C\.x: list\[int\] can't be the type of a parameter"),
        (lambda: make(Params), "can't be the type of a parameter"),
        (lambda: make(Enum), "can't be the type of a parameter"),
        (lambda: make(Act), r"C\.x: the Enum Act has no members\. Functions in an Enum are"),
        (lambda: make(tuple[Lin, ...]), "a tuple can't hold params"),
        (lambda: make("Missing | None"), r"C\.x: the annotation 'Missing \| None' .*'Missing'"),
        (lambda: make(bool, name="to_json"), r"C\.to_json: Params itself uses that name"),
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

    with pytest.raises(
        SpaceError, match=r"inherits from Mixin, .* not derived from letstune\.Params"
    ):

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
