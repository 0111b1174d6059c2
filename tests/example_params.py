"""Params of every kind, with branches, and how tests make more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Optional

import numpy as np
from hypothesis import strategies as st
from strategies import Color

from letstune import rand
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


def recorded() -> RecordedParams:
    params = model(kind=Tree(depth=2, color=Color.GREEN), gamma=NAN, maybe=Lin(alpha=0.5))
    return Space.from_json(Model.space().to_json()).decode(params.to_json())
