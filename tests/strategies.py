"""Hypothesis strategies for the tests: distributions, and whole Params classes."""

from __future__ import annotations

from enum import Enum
from itertools import count
from typing import Any, Literal

from hypothesis import strategies as st

from letstune import rand
from letstune.params import Params


class Color(Enum):
    RED = 1
    GREEN = 2


FINITE = st.floats(-1e6, 1e6)
NAMES = [f"f{i}" for i in range(4)]
_number = count()


@st.composite
def uniforms(draw: st.DrawFn) -> Any:
    low, high = sorted([draw(FINITE), draw(FINITE)])
    if draw(st.booleans()):
        return rand.uniform(abs(low) + 1e-6, abs(low) + 1e-6 + (high - low), log=True)
    step = draw(st.none() | st.sampled_from([0.1, 0.25, 3.0]))
    return rand.uniform(low, high, step=step)


@st.composite
def normals(draw: st.DrawFn) -> Any:
    log = draw(st.booleans())
    return rand.normal(draw(st.floats(0.1, 1e3)), draw(st.floats(0.01, 1e4)), log=log)


@st.composite
def int_ranges(draw: st.DrawFn) -> Any:
    low = draw(st.integers(1, 5))
    if draw(st.booleans()):
        return rand.ints(low, low + draw(st.integers(0, 1000)), log=True)
    high = low + draw(st.integers(0, 4))
    return rand.ints(low, high, step=draw(st.none() | st.integers(1, 3)))


def candidates() -> st.SearchStrategy[list[Any]]:
    """Distinct values that no other distribution here contains."""
    values = st.sampled_from([None, True, 1, 1.0, "a", "b", (), (1, "x"), -0.0, float("nan")])
    return st.lists(values, min_size=1, max_size=3, unique_by=rand.Constant)


@st.composite
def choices(draw: st.DrawFn) -> Any:
    values = draw(candidates())
    weight = st.sampled_from([0, 0.5, 1, 3])
    weights = draw(st.none() | st.lists(weight, min_size=len(values), max_size=len(values)))
    return rand.oneof(values, weights=weights if weights and sum(weights) else None)


def distributions() -> st.SearchStrategy[Any]:
    return st.one_of(
        uniforms(), normals(), int_ranges(), choices(), st.floats(0, 1).map(rand.bools)
    )


ANYTHING = bool | int | float | str | tuple[int | str, ...] | None


@st.composite
def fields(draw: st.DrawFn, depth: int) -> tuple[Any, Any]:
    """An annotation, and a declaration or `...` for none."""
    kinds = ["distribution", "constant", "bool", "literal", "enum", "mixed"]
    kind = draw(st.sampled_from(kinds + ["nested", "union", "weighted"] * (depth > 0)))
    if kind == "distribution":
        return ANYTHING, draw(distributions())
    if kind == "constant":
        return ANYTHING, draw(candidates())[0]
    if kind == "mixed":
        return ANYTHING, rand.oneof([draw(int_ranges()), "auto", draw(uniforms()), None])
    if kind in ("nested", "union", "weighted"):
        first = draw(params_classes(depth - 1))
        if kind == "nested":
            return first, ...
        second = draw(params_classes(depth - 1))
        if kind == "union":
            return first | second | None, ...
        return first | second | str, rand.oneof([first, "none", second], weights=[1, 0, 3])
    return {"bool": bool, "literal": Literal["l1", "l2", 3], "enum": Color}[kind], ...


@st.composite
def params_classes(draw: st.DrawFn, depth: int = 2) -> type[Params]:
    """Params classes of up to four fields, with nested ones and unions of them."""
    declared = draw(
        st.dictionaries(st.sampled_from(NAMES), fields(depth), min_size=1, max_size=2 + depth)
    )
    namespace: dict[str, Any] = {
        "__module__": __name__,
        "__annotations__": {name: annotation for name, (annotation, _) in declared.items()},
    }
    namespace |= {name: value for name, (_, value) in declared.items() if value is not ...}
    return type(f"P{next(_number)}", (Params,), namespace)


def spaces() -> st.SearchStrategy[Any]:
    """The spaces of such classes."""
    return params_classes().map(lambda cls: cls.space())
