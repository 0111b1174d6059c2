"""Hypothesis strategies: search spaces of every kind, and histories of every kind."""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import numpy as np
from hypothesis import strategies as st
from letstune import Observation, Params, Space, rand

ANYTHING = bool | int | float | str | tuple[int | str, ...] | None
FINITE = st.floats(-1e6, 1e6)
_number = count()


@st.composite
def uniforms(draw: st.DrawFn) -> Any:
    low, high = sorted([draw(FINITE), draw(FINITE)])
    if draw(st.booleans()):
        return rand.uniform(abs(low) + 1e-6, abs(low) + 1e-6 + (high - low), log=True)
    return rand.uniform(low, high, step=draw(st.none() | st.sampled_from([0.1, 0.25, 3.0])))


@st.composite
def normals(draw: st.DrawFn) -> Any:
    log = draw(st.booleans())
    return rand.normal(draw(st.floats(0.1, 1e3)), draw(st.floats(0.01, 1e4)), log=log)


@st.composite
def int_ranges(draw: st.DrawFn) -> Any:
    low = draw(st.integers(1, 5) | st.just(2**60))
    if draw(st.booleans()):
        return rand.ints(low, low + draw(st.integers(0, 1000)), log=True)
    return rand.ints(low, low + draw(st.integers(0, 50)), step=draw(st.none() | st.integers(1, 7)))


def candidates() -> st.SearchStrategy[list[Any]]:
    values = st.sampled_from([None, True, 1, 1.0, "a", "b", (), (1, "x"), -0.0, math.nan])
    return st.lists(values, min_size=1, max_size=4, unique_by=rand.Constant)


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


@st.composite
def fields(draw: st.DrawFn, depth: int) -> tuple[Any, Any]:
    """An annotation, and a declaration or `...` for none."""
    kinds = ["distribution"] * 4 + ["constant", "bool", "mixed"]
    kind = draw(st.sampled_from(kinds + ["nested", "union", "weighted"] * (depth > 0)))
    if kind == "bool":
        return bool, ...
    if kind == "constant":
        return ANYTHING, draw(candidates())[0]
    if kind == "mixed":
        return ANYTHING, rand.oneof([draw(int_ranges()), "auto", draw(uniforms()), None])
    if kind == "distribution":
        return ANYTHING, draw(distributions())
    first = draw(params_classes(depth - 1))
    if kind == "nested":
        return first, ...
    second = draw(params_classes(depth - 1))
    if kind == "union":
        return first | second | None, ...
    return first | second | str, rand.oneof([first, "none", second], weights=[1, 0, 3])


@st.composite
def params_classes(draw: st.DrawFn, depth: int = 2) -> type[Params]:
    names = st.sampled_from([f"f{i}" for i in range(4)])
    declared = draw(st.dictionaries(names, fields(depth), min_size=1, max_size=2 + depth))
    namespace: dict[str, Any] = {
        "__module__": __name__,
        "__annotations__": {name: annotation for name, (annotation, _) in declared.items()},
    }
    namespace |= {name: value for name, (_, value) in declared.items() if value is not ...}
    return type(f"P{next(_number)}", (Params,), namespace)


def spaces() -> st.SearchStrategy[Space]:
    return params_classes().map(lambda cls: cls.space())


# Few values, so that there are ties; and all that a metric may be.
VALUES = st.sampled_from([0.0, 0.5, 1.0, -1e300, math.nan, math.inf, -math.inf]) | st.floats(-9, 9)
SERIES = st.lists(VALUES, min_size=1, max_size=4).map(tuple)
STATUSES = ["pending", "trained", "trained", "trained", "stopped", "failed"]


@st.composite
def observations(draw: st.DrawFn, space: Space, trial: int) -> Observation:
    params = space.sample(np.random.default_rng(draw(st.integers(0, 2**32))))
    return result(draw, Observation(trial, params, "pending"))


def result(draw: st.DrawFn, seen: Observation) -> Observation:
    status = draw(st.sampled_from(STATUSES))
    values = draw(SERIES) if status in ("trained", "stopped") else ()
    return Observation(seen.trial, seen.params, status, values)


@st.composite
def walks(draw: st.DrawFn, space: Space) -> list[list[Observation]]:
    """Histories one after another: trials are added, end, go on, and are taken back."""
    history: list[Observation] = []
    steps = []
    for _ in range(draw(st.integers(1, 6))):
        change = draw(st.sampled_from(["add", "add", "add", "end", "change", "cut"]))
        history = list(history)
        if change == "cut":
            del history[draw(st.integers(0, len(history))) :]
        elif change == "add":
            for _ in range(draw(st.integers(1, 6))):
                history.append(draw(observations(space, len(history))))
        else:
            for place, seen in enumerate(history):
                if (seen.status == "pending") == (change == "end") and draw(st.booleans()):
                    history[place] = result(draw, seen)
        steps.append(history)
    return steps
