"""Hypothesis strategies for any search space: nested, union, log, step and one-value ones."""

from __future__ import annotations

from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from hypothesis import strategies as st

from letstune import rand
from letstune.space.params import Params, Space

if TYPE_CHECKING:
    import numpy as np


class Color(Enum):
    """What an Enum parameter may be."""

    RED = 1
    GREEN = 2


FINITE = st.floats(-1e6, 1e6)
NAMES = [f"f{i}" for i in range(4)]
_number = count()


@st.composite
def uniforms(draw: st.DrawFn) -> Any:
    """Declarations of `rand.uniform`, with and without a logarithm or a step."""
    low, high = sorted([draw(FINITE), draw(FINITE)])
    if draw(st.booleans()):
        return rand.uniform(abs(low) + 1e-6, abs(low) + 1e-6 + (high - low), log=True)
    step = draw(st.none() | st.sampled_from([0.1, 0.25, 3.0]))
    return rand.uniform(low, high, step=step)


@st.composite
def stepped(draw: st.DrawFn) -> Any:
    """Declarations of `rand.uniform` with few values."""
    low, step = draw(FINITE), draw(st.sampled_from([0.1, 0.25, 3.0]))
    return rand.uniform(low, low + step * draw(st.integers(0, 4)), step=step)


@st.composite
def normals(draw: st.DrawFn) -> Any:
    """Declarations of `rand.normal`."""
    log = draw(st.booleans())
    return rand.normal(draw(st.floats(0.1, 1e3)), draw(st.floats(0.01, 1e4)), log=log)


@st.composite
def int_ranges(draw: st.DrawFn, finite: bool = False) -> Any:
    """Declarations of `rand.ints`; short ranges only, if finite."""
    low = draw(st.integers(1, 5))
    if not finite and draw(st.booleans()):
        return rand.ints(low, low + draw(st.integers(0, 1000)), log=True)
    high = low + draw(st.integers(0, 4))
    return rand.ints(low, high, step=draw(st.none() | st.integers(1, 3)))


def candidates() -> st.SearchStrategy[list[Any]]:
    """Distinct values that no other distribution here contains."""
    values = st.sampled_from([None, True, 1, 1.0, "a", "b", (), (1, "x"), -0.0, float("nan")])
    return st.lists(values, min_size=1, max_size=3, unique_by=rand.Constant)


@st.composite
def choices(draw: st.DrawFn) -> Any:
    """Declarations of `rand.oneof` constants, with and without weights."""
    values = draw(candidates())
    weight = st.sampled_from([0, 0.5, 1, 3])
    weights = draw(st.none() | st.lists(weight, min_size=len(values), max_size=len(values)))
    return rand.oneof(values, weights=weights if weights and sum(weights) else None)


def declarations(finite: bool = False) -> dict[str, st.SearchStrategy[Any]]:
    """Return declarations by each function of `rand`; if finite, of few values."""
    endless = {} if finite else {"uniform": uniforms() | stepped(), "normal": normals()}
    return {
        "uniform": stepped(),
        "ints": int_ranges(finite),
        "oneof": choices(),
        "bools": st.floats(0, 1).map(rand.bools),
    } | endless


def distributions(finite: bool = False) -> st.SearchStrategy[Any]:
    """Declarations of every kind, or of those with few values."""
    return st.one_of(*declarations(finite).values())


ANYTHING = bool | int | float | str | tuple[int | str, ...] | None


@st.composite
def fields(draw: st.DrawFn, depth: int, finite: bool) -> tuple[Any, Any]:
    """An annotation, and a declaration or `...` for none."""
    kinds = ["distribution", "constant", "bool", "literal", "enum", "mixed"]
    kind = draw(st.sampled_from(kinds + ["nested", "union", "weighted"] * (depth > 0)))
    if kind == "distribution":
        return ANYTHING, draw(distributions(finite))
    if kind == "constant":
        return ANYTHING, draw(candidates())[0]
    if kind == "mixed":
        return ANYTHING, rand.oneof(
            [draw(int_ranges(finite)), "auto", draw(stepped() if finite else uniforms()), None]
        )
    if kind in ("nested", "union", "weighted"):
        first = draw(params_classes(depth - 1, finite))
        if kind == "nested":
            return first, ...
        second = draw(params_classes(depth - 1, finite))
        if kind == "union":
            return first | second | None, ...
        return first | second | str, rand.oneof([first, "none", second], weights=[1, 0, 3])
    return {"bool": bool, "literal": Literal["l1", "l2", 3], "enum": Color}[kind], ...


@st.composite
def params_classes(draw: st.DrawFn, depth: int = 2, finite: bool = False) -> type[Params]:
    """Params classes of up to four fields, with nested ones and unions of them."""
    declared = draw(
        st.dictionaries(
            st.sampled_from(NAMES), fields(depth, finite), min_size=1, max_size=2 + depth
        )
    )
    namespace: dict[str, Any] = {
        "__module__": __name__,
        "__annotations__": {name: annotation for name, (annotation, _) in declared.items()},
    }
    namespace |= {name: value for name, (_, value) in declared.items() if value is not ...}
    return type(f"P{next(_number)}", (Params,), namespace)


def spaces() -> st.SearchStrategy[Space]:
    """Any search space that is fully described by its distributions."""
    return params_classes().map(lambda cls: cls.space())


def finite_spaces() -> st.SearchStrategy[Space]:
    """Any search space with finitely many points, for a sampler that needs one."""
    return params_classes(finite=True).map(lambda cls: cls.space())


class Itself(Params):
    """Samples itself, so that nobody can know how."""

    x: float

    @classmethod
    def get_random_params(cls, rng: np.random.Generator) -> Itself:
        """Return params that no distribution describes."""
        return cls(x=float(rng.choice([0.1, 0.2, 0.4, 0.8, 1.6])))


def any_spaces() -> st.SearchStrategy[Space]:
    """Search spaces of every kind, including those that not every sampler can drive."""
    return st.one_of(spaces(), finite_spaces(), st.just(Itself.space()))
