"""A distribution of which this package knows nothing is driven by the order of its values."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from letstune import Observation, Space
from letstune.rand import Distribution

from letstune_optuna import CMAES, NSGAII, TPE
from letstune_optuna.axes import Axes


@dataclass(frozen=True, eq=False)
class Triangle(Distribution):
    """Floats from 0 to 1, the more likely the larger they are."""

    kind: ClassVar[str] = "triangle"
    produces: ClassVar[type] = float

    def sample(self, rng: np.random.Generator) -> float:
        return float(rng.random() ** 0.5)

    def _quantile(self, share: float) -> float:
        return share**0.5

    def contains(self, value: object) -> bool:
        return type(value) is float and 0 <= value <= 1


@dataclass(frozen=True, eq=False)
class Squares(Distribution):
    """The first square numbers."""

    count: int
    kind: ClassVar[str] = "squares"
    produces: ClassVar[type] = int

    @property
    def size(self) -> int:
        return self.count

    def sample(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.count)) ** 2

    def _point(self, i: int) -> int:
        return i**2

    def contains(self, value: object) -> bool:
        return value in [i**2 for i in range(self.count)]


SPACE = Space("New", (("x", Triangle()), ("n", Squares(9))))


@pytest.mark.parametrize(
    ("name", "values"), [("x", [0.0, 1e-9, 0.25, 0.5, 1.0]), ("n", [0, 1, 4, 25, 64])]
)
def test_values_come_back_from_their_coordinates(name: str, values: list[Any]) -> None:
    axis = Axes(SPACE).by_name[name]
    for value in values:
        assert axis.value(axis.coordinate(value)) == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize("sampler", [TPE(n_startup_trials=4), CMAES(), NSGAII(population_size=4)])
def test_samplers_drive_them(sampler: Any) -> None:
    history: list[Observation] = []
    for trial in range(12):
        params: Any = sampler.propose(SPACE, history, np.random.default_rng(trial), trial)
        assert SPACE.contains(params)
        value = params.x - abs(params.n - 16) / 64
        history.append(Observation(trial, params, "trained", (value,), ({"m": value},)))
    assert len({(o.params.x, o.params.n) for o in history}) > 6  # type: ignore[attr-defined]
