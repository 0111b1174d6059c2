"""Trials are distinct, and a space in which nothing is left ends a run without an error."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from files import in_all
from small_trainers import Hill, Point, tune

import letstune
from letstune import Params, Sampler, SimpleTrainer
from letstune.errors import (
    LetstuneError,
)
from letstune.samplers.sampler import GridSampler, RandomSampler

# Spaces and samplers


class Small(Params):
    a: bool
    b: Literal["x", "y", "z"]


class OfSmall(SimpleTrainer[Small]):
    metric = "m"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train(self, params: Small) -> Any:
        return None, {"m": len(params.b) + params.a}


@pytest.mark.parametrize("sampler", ["random", "grid", RandomSampler(), ("grid", {})])
def test_a_finite_space_is_exhausted_without_an_error(sampler: Any, path: Path) -> None:
    tuning = tune(OfSmall(), 50, path, sampler=sampler)
    assert tuning.finished
    assert len({trial.params for trial in tuning}) == len(tuning) == 6
    before = in_all(path.parent)
    assert len(tune(OfSmall(), 50, path, sampler=sampler)) == 6
    assert in_all(path.parent) == before
    assert len(tune(OfSmall(), 60, path, sampler=sampler)) == 6


def test_trials_are_distinct(path: Path) -> None:
    tuning = tune(OfSmall(), 5, path)
    assert len({trial.params for trial in tuning}) == 5


def test_the_grid_goes_through_all_points_in_order(path: Path) -> None:
    tuning = tune(OfSmall(), 6, path, sampler="grid")
    points = [tuning.trial(i).params.to_dict() for i in range(6)]
    assert points == [{"a": a, "b": b} for a in (False, True) for b in "xyz"]


def test_a_grid_object_is_the_grid(path: Path) -> None:
    assert len(tune(OfSmall(), 4, path, sampler=GridSampler())) == 4


class Own(Params):
    x: int

    @classmethod
    def get_random_params(cls, rng: np.random.Generator) -> "Own":
        return cls(x=int(rng.integers(3)))


class OfOwn(SimpleTrainer[Own]):
    metric = "m"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train(self, params: Own) -> Any:
        return None, {"m": params.x}


def test_params_that_sample_themselves_are_distinct_while_they_can(path: Path) -> None:
    assert {trial.params.x for trial in tune(OfOwn(), 9, path)} == {0, 1, 2}


def test_a_sampler_that_needs_structure_refuses_them(path: Path) -> None:
    with pytest.raises(LetstuneError, match=r"get_random_params, so sampler .grid."):
        tune(OfOwn(), 3, path, sampler="grid")
    assert in_all(path.parent) == {}


# Spaces that are hard to find something new in


class Stuck(Sampler):
    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Params:
        return Point(x=0.5, n=1)


def test_a_sampler_that_repeats_itself_gets_distinct_trials_all_the_same(path: Path) -> None:
    tuning = tune(Hill(), 6, path, sampler=Stuck())
    assert tuning.finished
    assert len({trial.params for trial in tuning}) == 6
    assert tuning.trial(0).params == Point(x=0.5, n=1)


class Growing(Own):
    limit = 3

    @classmethod
    def get_random_params(cls, rng: np.random.Generator) -> "Growing":
        return cls(x=int(rng.integers(Growing.limit)))


class OfGrowing(OfOwn):
    params_cls = Growing


@pytest.mark.parametrize("how", ["tune", "resume"])
def test_more_trials_look_again_at_a_space_that_seemed_exhausted(
    how: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Growing, "limit", 3)

    def more(n_trials: int) -> int:
        if how == "tune":
            return len(tune(OfGrowing(), n_trials, path))
        return len(letstune.resume(path, n_trials=n_trials, progress=False))

    assert len(tune(OfGrowing(), 9, path)) == 3
    monkeypatch.setattr(Growing, "limit", 6)
    assert more(9) == 3  # what is finished is only read
    assert more(10) == 6
    assert more(11) == 6
