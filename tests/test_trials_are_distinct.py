"""Trials are distinct, and a space in which nothing is left ends a run without an error."""

from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from files import in_all
from small_trainers import Hill, Point, tune

import letstune
from letstune import Params, Sampler, SimpleTrainer, rand
from letstune.errors import LetstuneError
from letstune.journal.journal import Journal
from letstune.rounds.plan import Plan
from letstune.samplers.proposer import Proposer
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


class Stubborn(Sampler):
    """Proposes the best so far, unless that is pending, as a model that is sure of itself."""

    adaptive = True
    asked: ClassVar[list[tuple[int, int]]] = []

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        self.asked.append((trial, sum(seen.status == "pending" for seen in history)))
        done = [seen for seen in history if seen.status == "trained"]
        if not done:
            return space.sample(rng)
        best = max(done, key=lambda seen: seen.values[-1]).params
        refused = sum(seen.status == "pending" and seen.trial == trial for seen in history)
        return best.replace(x=best.x + 1) if refused == 2 else best


class Whole(Params):
    x: int = rand.ints(0, 10**6)


class WholeTrainer(SimpleTrainer[Whole]):
    metric = "x"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train(self, params: Whole) -> Any:
        return None, {"x": params.x}


def test_a_sampler_that_learns_is_told_what_was_refused(path: Path) -> None:
    Stubborn.asked.clear()
    tuning = tune(WholeTrainer(), 4, path, sampler=Stubborn())
    first, *others = sorted(trial.params.x for trial in tuning)
    assert others == [first + 1, first + 2, first + 3]
    assert Stubborn.asked == [(0, 0)] + [(n, k) for n in (1, 2, 3) for k in (0, 1, 2)]


class SureOfItself(Stubborn):
    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        self.asked.append((trial, 0))
        return Whole(x=7)


def test_a_sampler_that_never_has_anything_new_is_asked_three_times_a_trial_and_told_of_once(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SureOfItself.asked.clear()
    tuning = tune(WholeTrainer(), 30, path, sampler=SureOfItself(), progress=None)
    assert len({trial.params.x for trial in tuning}) == 30
    assert len(SureOfItself.asked) == 1 + 29 * 3
    err = capsys.readouterr().err
    assert err.count("SureOfItself has proposed params that were there already for 10 trials") == 1


def test_a_run_from_before_that_goes_on_as_it_began(path: Path) -> None:
    tune(WholeTrainer(), 2, path, sampler=SureOfItself())
    with closing(Journal(path)) as journal:
        facts = journal.facts()
    assert facts["attempts"] == 3
    assert Plan.from_facts({k: v for k, v in facts.items() if k != "attempts"}).attempts is None
    proposer = Proposer(SureOfItself(), Whole.space(), 1, ['{"x":7}'])
    SureOfItself.asked.clear()
    assert proposer.propose([], 1) is not None
    assert len(SureOfItself.asked) == 100
