import json
import pickle
import re
import shutil
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from sqlite3 import connect
from types import FunctionType, ModuleType
from typing import Any, Literal

import numpy as np
import pytest
from facts import facts, metrics_of
from tiny import Climb, Hill, Point, in_all, python, tune
from walks import NearBest, WalkTrainer

import letstune
from letstune import EpochTrainer, Params, Rounds, Sampler, SimpleTrainer, rand
from letstune.errors import (
    LetstuneError,
    PlanChangedError,
    PlanError,
    SpaceError,
    StoreError,
    TrainerError,
)
from letstune.samplers.sampler import GridSampler, Observation, RandomSampler
from letstune.training.checkpoints import Checkpoint
from letstune.training.stores import DirectoryStore

# The same again, and more


@pytest.mark.parametrize(
    ("trainer", "options"),
    [
        (Climb(), {"rounds": [1, 2]}),
        (Hill(), {}),
        (WalkTrainer(), {"rounds": [2, 3, 4], "keep_checkpoints": 2}),
        (WalkTrainer(), {"rounds": Rounds([1, 2], cohort=[3, 2]), "sampler": NearBest()}),
        (Climb(), {"rounds": [1, 2], "keep_checkpoints": "all", "store": "models"}),
    ],
)
def test_the_same_again_redoes_nothing(
    trainer: Any, options: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    first = tune(trainer, 8, path, **options)
    before = in_all(path.parent)
    for again in (
        tune(trainer, 8, path, **options),
        tune(trainer, 8, path, **options, seed=None),
        letstune.resume(path, progress=False),
    ):
        assert repr(again) == repr(first)
        assert in_all(path.parent) == before


GROWTHS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "more trials": ({"n_trials": 5}, {"n_trials": 19}),
    "a longer last round": ({"rounds": [1, 2, 3]}, {"rounds": [1, 2, 7]}),
    "another round": ({"rounds": [1, 2]}, {"rounds": [1, 2, 3]}),
    "a longer only round": ({"rounds": [2]}, {"rounds": [5, 3]}),
    "all of it": (
        {"n_trials": 5, "rounds": [1, 2]},
        {"n_trials": 17, "rounds": [1, 4, 3, 2]},
    ),
    "more trials of cohorts": (
        {"n_trials": 5, "rounds": Rounds([1, 2], cohort=[4, 3])},
        {"n_trials": 15, "rounds": Rounds([1, 2], cohort=[4, 3])},
    ),
}


@pytest.mark.parametrize("trainer", [Climb(), WalkTrainer()])
@pytest.mark.parametrize("keep_checkpoints", [0, 2])
@pytest.mark.parametrize("growth", GROWTHS)
def test_what_has_grown_contains_what_a_fresh_run_contains(
    growth: str, keep_checkpoints: Any, trainer: Any, path: Path
) -> None:
    small, large = ({"n_trials": 12, "rounds": [1, 2, 3]} | change for change in GROWTHS[growth])
    fresh, grown = path.with_name("fresh.db"), path
    options = {"keep_checkpoints": keep_checkpoints}
    tune(trainer, journal=grown, **small, **options)
    found = tune(trainer, journal=grown, **large, **options)
    wanted = tune(trainer, journal=fresh, **large, **options)
    assert found.finished
    assert [t.params for t in sorted(found, key=lambda t: t.trial_id)] == [
        t.params for t in sorted(wanted, key=lambda t: t.trial_id)
    ]
    epochs, fresh_epochs = metrics_of(grown), metrics_of(fresh)
    assert fresh_epochs
    assert repr({at: epochs.get(at) for at in fresh_epochs}) == repr(fresh_epochs)


def test_a_resumed_run_grows_as_well(path: Path) -> None:
    tune(Climb(), 4, path, rounds=Rounds([1, 1], keep=0.5))
    tuning = letstune.resume(path, n_trials=8, rounds=[1, 2], progress=False)
    assert [len(trial.epochs) for trial in tuning].count(3) == 4  # keep is as it was
    assert len(tuning) == 8


def test_growth_in_steps_is_growth_at_once(path: Path) -> None:
    other = path.with_name("other.db")
    for n in (2, 5, 9):
        tune(Climb(), n, path, rounds=[1])
    tune(Climb(), 9, other, rounds=[1])
    assert metrics_of(path) == metrics_of(other)


# Another plan


class Renamed(Climb):
    metric = "epoch"


class Widened(Params):
    x: float = rand.uniform(-2, 1)
    n: int = rand.ints(1, 9)
    new: bool


class OtherSpace(Climb):
    params_cls = Widened  # type: ignore[assignment]


BASE: dict[str, Any] = {
    "trainer": Climb(),
    "n_trials": 4,
    "rounds": Rounds([1, 2], keep=0.5, cohort=4),
    "dataset": "digits",
    "lag": 0,
}
CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "trainer": ({"trainer": Renamed()}, ["trainer: was tiny:Climb, is test_tuning:Renamed"]),
    "metric": ({"trainer": Renamed()}, ["metric: was height, is epoch"]),
    "space": ({"trainer": OtherSpace()}, ["search space, .*x.*-1.*-2", "search space, .*new"]),
    "simple": ({"trainer": Hill(), "rounds": None}, ["simple: was false, is true"]),
    "sampler": ({"sampler": NearBest()}, [r'sampler: was .*"random".*, is .*walks:NearBest']),
    "n_trials": ({"n_trials": 3}, ["n_trials: was 4, is 3; it can only grow"]),
    "rounds": (
        {"rounds": Rounds([2, 2], keep=0.5, cohort=4)},
        [r"rounds: .*\[1, 2\].*\[2, 2\]"],
    ),
    "fewer rounds": ({"rounds": Rounds([1], keep=0.5, cohort=4)}, [r"rounds: was .*, is .*\[1\]"]),
    "shorter rounds": ({"rounds": Rounds([1, 1], keep=0.5, cohort=4)}, ["rounds: was"]),
    "timed rounds": (
        {"rounds": Rounds([timedelta(1), timedelta(2)], keep=0.5, cohort=4)},
        ["rounds: was .*epochs.*, is .*seconds"],
    ),
    "keep": ({"rounds": Rounds([1, 2], keep=0.25, cohort=4)}, ["0.5.*0.25"]),
    "cohort": ({"rounds": Rounds([1, 2], keep=0.5, cohort=2)}, [r"\[4\].*\[2\]"]),
    "seed": ({"seed": 2}, ["seed: was 1, is 2"]),
    "lag": ({"lag": 1}, ["lag: was 0, is 1"]),
    "dataset": ({"dataset": "other"}, ['dataset: was .*"digits".*, is .*"other"']),
    "keep_checkpoints": ({"keep_checkpoints": 3}, ["keep_checkpoints: was 10, is 3"]),
    "store": ({"store": "elsewhere"}, ["store: was .*, is .*elsewhere"]),
    "many": (
        {"n_trials": 2, "seed": 7, "dataset": 3, "keep_checkpoints": "all"},
        ["n_trials: was 4, is 2", "seed: was 1, is 7", "dataset: was", "is all"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_plan_is_refused_listing_the_differences(
    change: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    tune(journal=path, **BASE)
    before = in_all(path.parent)
    changes, lines = CHANGES[change]
    with pytest.raises(PlanChangedError) as caught:
        tune(journal=path, **{**BASE, **changes})
    told = str(caught.value)
    assert told.startswith(f"{path} was started with another plan, and nothing was changed:\n  ")
    for line in lines:
        assert re.search(line, told), told
    assert in_all(path.parent) == before


@pytest.mark.parametrize("options", [{"n_trials": 3}, {"rounds": [2, 2]}, {"trainer": Renamed()}])
def test_resuming_with_another_plan_is_refused_as_well(options: Any, path: Path) -> None:
    tune(journal=path, **BASE)
    before = in_all(path.parent)
    with pytest.raises(PlanChangedError):
        letstune.resume(path, **options, progress=False)
    assert in_all(path.parent) == before


def test_what_is_not_asked_for_is_no_difference(path: Path) -> None:
    tune(Hill(), 2, path, seed=77, lag=None)
    assert len(tune(Hill(), 3, path, seed=None)) == 3


@pytest.mark.parametrize("dataset", ["digits", None, 3, 0.5, True, Path("x"), [1], float("nan")])
def test_the_same_dataset_is_no_difference(dataset: Any, path: Path) -> None:
    for n in (1, 2):
        assert len(tune(Hill(), n, path, dataset=dataset)) == n


# Bad arguments


class Empty(Params):
    pass


class OfNothing(Climb):
    params_cls = Empty  # type: ignore[assignment]


class Continuous(Params):
    x: float = rand.uniform(0, 1)


class OfContinuous(Hill):
    params_cls = Continuous  # type: ignore[assignment]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"n_trials": 0}, "n_trials=0: expected a whole number, 1 or more"),
    ({"n_trials": -1}, "n_trials=-1"),
    ({"n_trials": 1.5}, "n_trials=1.5"),
    ({"n_trials": "9"}, "n_trials='9'"),
    ({"n_trials": True}, "n_trials=True"),
    ({"n_trials": None}, "n_trials=None"),
    ({"rounds": []}, r"rounds=\[\]: expected at least one length"),
    ({"rounds": [0]}, r"rounds=\[0\]: 0 is no length"),
    ({"rounds": [3, -1]}, "-1 is no length"),
    ({"rounds": [1.5]}, "1.5 is no length"),
    ({"rounds": [True]}, "True is no length"),
    ({"rounds": 3}, "rounds=3: expected numbers of epochs"),
    ({"rounds": "3,9"}, "rounds='3,9'"),
    ({"rounds": [3, timedelta(1)]}, "all of them numbers of epochs or all of them timedelta"),
    ({"rounds": [timedelta(0)]}, "positive timedelta"),
    ({"rounds": [timedelta(seconds=-1)]}, "positive timedelta"),
    ({"trainer": Hill(), "rounds": [1]}, "SimpleTrainer.*takes no rounds.*EpochTrainer"),
    ({"trainer": Hill(), "rounds": Rounds()}, "SimpleTrainer.*takes no rounds"),
    ({"sampler": "rndom"}, "There is no sampler 'rndom'; there is .*grid, random"),
    ({"sampler": 3}, "sampler=3: expected a name"),
    ({"sampler": RandomSampler}, "sampler=.*an object of a class derived from letstune.Sampler"),
    (
        {"sampler": ("random", {"x": 1})},
        "sampler 'random' of letstune .* with options {'x': 1}: got an unexpected",
    ),
    ({"sampler": "grid", "trainer": OfContinuous()}, "needs a finite space.*continuous"),
    ({"store": 3}, "store=3: expected a directory"),
    ({"workers": "many"}, "workers='many'"),
    ({"workers": True}, "workers=True"),
    ({"gpus": []}, r"gpus=\[\]"),
    ({"gpus": [-1]}, r"gpus=\[-1\]"),
    ({"epoch_timeout": -1}, "epoch_timeout=-1"),
    ({"trial_timeout": "1h"}, "trial_timeout='1h'"),
    ({"max_deaths": 0}, "max_deaths=0"),
    ({"workers": 0}, "workers=0"),
    ({"seed": -1}, "seed=-1"),
    ({"seed": 1.0}, "seed=1.0"),
    ({"seed": "1"}, "seed='1'"),
    ({"lag": -1}, "lag=-1"),
    ({"keep_checkpoints": -1}, "keep_checkpoints=-1"),
    ({"keep_checkpoints": "some"}, "keep_checkpoints='some'.*all"),
    ({"keep_checkpoints": None}, "keep_checkpoints=None"),
    ({"trainer": OfNothing()}, "Empty has no fields, so there is nothing to tune"),
]


@pytest.mark.parametrize(("options", "text"), WRONG)
def test_a_bad_argument_is_told_and_makes_nothing(options: Any, text: str, path: Path) -> None:
    with pytest.raises((PlanError, SpaceError), match=text):
        tune(**{"trainer": Climb(), "n_trials": 2, "journal": path, **options})
    assert in_all(path.parent) == {}


@pytest.mark.parametrize(("options", "text"), WRONG)
def test_a_bad_argument_leaves_a_journal_as_it_was(options: Any, text: str, path: Path) -> None:
    trainer = options.get("trainer", Climb())
    tune(Hill() if isinstance(trainer, SimpleTrainer) else Climb(), 1, path)
    before = in_all(path.parent)
    with pytest.raises((PlanError, SpaceError)):
        tune(**{"trainer": Climb(), "n_trials": 2, "journal": path, **options})
    assert in_all(path.parent) == before


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Rounds(keep=0), "keep=0: expected the share.* above 0 and at most 1"),
        (lambda: Rounds(keep=1.1), "keep=1.1"),
        (lambda: Rounds(keep=float("nan")), "keep=nan"),
        (lambda: Rounds(keep="0.5"), "keep='0.5'"),  # type: ignore[arg-type]
        (lambda: Rounds(keep=True), "keep=True"),
        (lambda: Rounds(cohort=0), "cohort=0: expected a number of trials"),
        (lambda: Rounds(cohort=[]), r"cohort=\[\]"),
        (lambda: Rounds(cohort=[4, 0]), r"cohort=\[4, 0\]"),
        (lambda: Rounds(cohort=1.5), "cohort=1.5"),  # type: ignore[arg-type]
        (lambda: Rounds(5), "rounds=5|lengths=5"),  # type: ignore[arg-type]
    ],
)
def test_bad_rounds_are_told(make: Any, text: str) -> None:
    with pytest.raises(PlanError, match=text):
        make()


def test_numbers_of_numpy_are_numbers(path: Path) -> None:
    tuning = tune(
        Climb(),
        np.int64(4),  # type: ignore[arg-type]
        path,
        seed=np.int64(3),
        rounds=np.array([1, 2]),
        keep_checkpoints=np.int32(2),
    )
    assert len(tuning) == 4


# Failures


class Faulty(EpochTrainer[Point]):
    """Raises in the given call of every other trial."""

    metric = "height"

    def __init__(self, where: str) -> None:
        self.where = where

    def fail(self, where: str, params: Point) -> None:
        if where == self.where and params.n % 2:
            raise OSError(f"no way to {where}")

    def load_dataset(self, dataset: Any) -> None:
        pass

    def create_model(self, params: Point) -> None:
        self.params = params
        self.fail("create_model", params)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.fail("train_epoch", self.params)
        return {"height": self.params.n % 2 + self.params.x / 10}

    def save(self, checkpoint: Checkpoint) -> None:
        self.fail("save", self.params)
        checkpoint.save_pickle(self.params)

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        self.params = checkpoint.load_pickle()
        self.fail("load", params)


@pytest.mark.parametrize("where", ["create_model", "train_epoch", "save", "load"])
def test_a_failure_is_recorded_with_its_traceback_and_the_run_goes_on(
    where: str, path: Path
) -> None:
    tuning = tune(Faulty(where), 8, path, rounds=[1, 1])
    assert tuning.finished
    assert tuning.errors
    for error in tuning.errors:
        assert error.message == f"OSError: no way to {where}"
        assert error.kind == "raised"
        assert error.epoch == (1 if where == "load" else 0)
        assert 'raise OSError(f"no way to {where}")' in error.traceback
        trial = tuning.trial(error.trial_id)
        assert trial.params.n % 2 == 1
        assert trial.status == "failed"
    assert tuning[0].status == "trained"


def test_a_failed_save_records_no_epoch(path: Path) -> None:
    tuning = tune(Faulty("save"), 8, path, rounds=[1])
    assert {len(trial.epochs) for trial in tuning if trial.status == "failed"} == {0}


@pytest.mark.parametrize("where", ["create_model", "train_epoch", "save", "load"])
def test_passed_through_an_error_is_raised_after_it_is_recorded(where: str, path: Path) -> None:
    with pytest.raises(OSError, match=f"no way to {where}"):
        tune(Faulty(where), 8, path, rounds=[1, 1], passthrough_errors=True)
    assert [error.message for error in letstune.load(path).errors] == [
        f"OSError: no way to {where}"
    ]
    other = path.with_name("other.db")
    tune(Faulty(where), 8, other, rounds=[1, 1])
    letstune.resume(path, progress=False)
    assert facts(path) == facts(other)


class Hopeless(Hill):
    def train(self, params: Point) -> Any:
        raise ValueError("never")


class Unlucky(Hill):
    def train(self, params: Point) -> Any:
        if params.x < 0:
            raise ValueError("below")
        return super().train(params)


def test_a_run_may_fail_altogether(path: Path) -> None:
    tuning = tune(Hopeless(), 3, path)
    assert tuning.finished
    assert len(tuning.errors) == 3
    with pytest.raises(LetstuneError, match="no trial has a result yet"):
        _ = tuning.best


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "error", [Odd(), StopIteration(), MemoryError(), RecursionError("deep"), ValueError("\ud800")]
)
def test_any_exception_is_a_failure(error: Exception, path: Path) -> None:
    class Raising(Hill):
        def train(self, params: Point) -> Any:
            raise error

    assert len(tune(Raising(), 2, path).errors) == 2


def test_an_error_of_load_dataset_ends_the_run_and_can_be_mended(path: Path) -> None:
    class NoData(Hill):
        def load_dataset(self, dataset: Any) -> None:
            (Path(dataset) / "x").read_bytes()

    with pytest.raises(FileNotFoundError) as caught:
        tune(NoData(), 2, path, dataset=str(path.parent))
    assert "load_dataset" in caught.value.__notes__[0]
    (path.parent / "x").touch()
    assert letstune.resume(path, progress=False).errors == []


def test_a_metric_that_is_missing_leaves_no_failure(path: Path) -> None:
    class Missing(Hill):
        metric = "depth"

    with pytest.raises(TrainerError, match=r"no 'depth', which is the trainer's metric.*height"):
        tune(Missing(), 2, path)
    assert facts(path)["failures"] == facts(path)["epochs"] == []


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


class Witness(Sampler):
    """Notes the history that it is shown, by trial."""

    adaptive = True

    def propose(
        self, space: Any, history: Sequence[Observation], rng: Any, trial: int
    ) -> Params | Any:
        SHOWN[trial] = [(o.trial, o.params, o.status, o.values, o.metrics) for o in history]
        return space.sample(rng)


SHOWN: dict[int, list[Any]] = {}


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.parametrize("sizes", [[4, 2], [3], [1]])
def test_a_sampler_sees_exactly_what_the_lag_rule_shows(
    lag: int, sizes: list[int], path: Path
) -> None:
    SHOWN.clear()
    lengths, limits = [1, 2, 2], [1, 3, 5]
    tuning = tune(
        WalkTrainer(),
        13,
        path,
        rounds=Rounds(lengths, keep=0.5, cohort=sizes),
        sampler=Witness(),
        lag=lag,
    )
    cohorts: list[int] = []
    while len(cohorts) < 13:
        number = cohorts[-1] + 1 if cohorts else 0
        cohorts += [number] * sizes[min(number, len(sizes) - 1)]
    for number, shown in SHOWN.items():
        cohort = cohorts[number]
        wanted = []
        for other in range(number):
            trial = tuning.trial(other)
            # Round k of the cohorts up to c - 1 - lag (k + 1), of those that took part in it.
            seen = [k for k in range(3) if cohorts[other] <= cohort - 1 - lag * (k + 1)]
            epochs: tuple[Any, ...] = ()
            if seen:
                epochs = trial.epochs[: limits[min(max(seen), trial.round)]]
            values = tuple(epoch.metric_value for epoch in epochs)
            status = "pending"
            if seen:
                cut = limits[min(max(seen), trial.round)]
                status = "trained" if len(trial.epochs) >= cut else trial.status
            wanted.append(
                (other, trial.params, status, values, tuple(e.metric_values for e in epochs))
            )
        assert repr(shown) == repr(wanted)
    assert len(SHOWN) == 13


def test_by_default_a_sampler_that_learns_has_a_simple_trainers_every_result(path: Path) -> None:
    SHOWN.clear()
    tune(Hill(), 5, path, sampler=Witness())
    assert [[status for _, _, status, _, _ in SHOWN[i]] for i in range(5)] == [
        ["trained"] * i for i in range(5)
    ]


def test_a_sampler_that_does_not_learn_is_shown_nothing(path: Path) -> None:
    class Blind(Witness):
        adaptive = False

    SHOWN.clear()
    tune(Hill(), 3, path, sampler=Blind())
    assert SHOWN == {0: [], 1: [], 2: []}


def test_a_sampler_that_proposes_something_else_is_told(path: Path) -> None:
    class Lost(Sampler):
        def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
            return {"x": 1}

    with pytest.raises(SpaceError, match=r"Lost proposed \{'x': 1\} for trial 0; expected params"):
        tune(Hill(), 3, path, sampler=Lost())


# Rounds in time


def test_rounds_may_be_times(path: Path) -> None:
    tuning = tune(Climb(), 4, path, rounds=[timedelta(microseconds=1), timedelta(microseconds=1)])
    assert tuning.finished
    for trial in tuning:
        short = sum(epoch.duration for epoch in trial.epochs[:-1])
        assert short < 1e-6 * (trial.round + 1) <= trial.duration
    assert len(letstune.resume(path, n_trials=8, progress=False)) == 8


# Journals


def test_a_journal_is_always_written_and_named_in_the_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tuning = letstune.tune(Hill(), 2)
    (path,) = Path("letstune-runs").glob("*.db")
    assert tuning.journal.resolve() == path.resolve()
    first = capsys.readouterr().err.splitlines()[0]
    named = re.fullmatch(r"letstune: (.*); resume with: letstune resume (.*)", first)
    assert named is not None
    assert named[1] == named[2]
    assert Path(named[1]).resolve() == path.resolve()
    assert "Hill" in path.name


def test_every_run_without_a_journal_is_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        letstune.tune(Hill(), 1, progress=False)
    assert len(list(Path("letstune-runs").glob("*.db"))) == 3


def test_a_bad_argument_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError):
        letstune.tune(Hill(), 0)
    assert list(tmp_path.iterdir()) == []


def test_the_journals_folder_is_made(path: Path) -> None:
    assert len(tune(Hill(), 1, path.parent / "a" / "b" / "run.db")) == 1


def test_a_path_may_be_text(path: Path) -> None:
    tune(Hill(), 1, str(path))  # type: ignore[arg-type]
    letstune.resume(str(path), n_trials=2, progress=False)
    assert len(letstune.load(str(path))) == 2


def test_without_a_seed_runs_differ_and_their_seed_is_recorded(path: Path) -> None:
    other = path.with_name("other.db")
    first, second = (tune(Hill(), 2, p, seed=None) for p in (path, other))
    assert first[0].params != second[0].params
    with closing(connect(path)) as db:
        ((seed,),) = db.execute("SELECT value FROM plan WHERE fact = 'seed'")
    third = tune(Hill(), 2, path.with_name("third.db"), seed=int(seed))
    assert [t.params for t in third] == [t.params for t in first]


def test_a_run_may_be_in_another_thread(path: Path) -> None:
    thread = threading.Thread(target=tune, args=(Climb(), 4, path))
    thread.start()
    thread.join()
    assert letstune.load(path).finished


def test_progress_goes_to_stderr_and_can_be_silenced(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(Hill(), 2, path)
    assert capsys.readouterr() == ("", "")
    tune(Hill(), 3, path, progress=None)
    out, err = capsys.readouterr()
    assert out == ""
    assert "finished" in err


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


# What is recorded of the packages in use


def versions(path: Path) -> dict[str, str]:
    with closing(connect(path)) as db:
        ((text,),) = db.execute("SELECT value FROM plan WHERE fact = 'versions'")
    found: dict[str, str] = json.loads(text)
    return found


class OfModule(Hill):
    """Belongs to a module that the test makes."""


@pytest.mark.parametrize("how", ["module", "class", "function"])
def test_versions_of_what_the_trainers_module_imports_are_recorded(
    how: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = ModuleType("apackage")
    package.__version__ = "1.2.3"  # type: ignore[attr-defined]
    user = ModuleType("auser")
    user.imported = {  # type: ignore[attr-defined]
        "module": package,
        "class": type("Made", (), {"__module__": "apackage.sub"}),
        "function": FunctionType((lambda: None).__code__, {"__name__": "apackage"}),
    }[how]
    user.OfModule = OfModule  # type: ignore[attr-defined]
    for module in (package, user):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(OfModule, "__module__", "auser")
    tune(OfModule(), 1, path)
    assert versions(path)["apackage"] == "1.2.3"
    assert versions(path)["numpy"] == np.__version__
    assert "auser" not in versions(path)


def test_asking_for_versions_imports_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    lazy, user = ModuleType("alazy"), ModuleType("auser")

    def fail(name: str) -> Any:
        asked.append(name)
        raise ImportError(name)

    lazy.__getattr__ = fail  # type: ignore[method-assign]
    user.lazy, user.OfModule = lazy, OfModule  # type: ignore[attr-defined]
    for module in (lazy, user):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(OfModule, "__module__", "auser")
    tune(OfModule(), 1, path)
    assert asked == []
    assert "alazy" not in versions(path)


def test_all_trials_failing_is_told(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tune(Hopeless(), 3, path)
    assert f"all 3 trials failed; `letstune show {path} 0` tells how" in capfd.readouterr().err


def test_where_to_read_of_failures_is_told(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    results = tune(Unlucky(), 6, path, progress=None)
    first, *others = [error.trial_id for error in results.errors]
    assert 0 < len(others) < 5
    assert f"letstune: {len(others) + 1} trials failed; `letstune show {path} {first}` tells" in (
        capfd.readouterr().err
    )
    letstune.resume(path, progress=False)
    assert capfd.readouterr().err == ""


def test_a_plan_without_an_epoch_may_be_deleted(path: Path) -> None:
    class Misspelt(Hill):
        metric = "hight"

    with pytest.raises(TrainerError, match="'hight'"):
        tune(Misspelt(), 3, path)
    with pytest.raises(PlanChangedError, match="No epoch is recorded in it yet: delete it"):
        tune(Hill(), 3, path)


# Samplers and stores that are objects


class Near(Sampler):
    """Proposes near a place; the fields of the place are no plain values."""

    def __init__(self, place: Any, memory: Any = None) -> None:
        self.place = place
        self._memory = memory  # a cache: which one is no difference

    def propose(
        self, space: Any, history: Sequence[Observation], rng: np.random.Generator, trial: int
    ) -> Any:
        return space.sample(rng)


class Place:
    def __init__(self, at: Any) -> None:
        self.at = at


PAIRS = [
    (GridSampler({"x": 3, "n": 2}), GridSampler({"x": 5, "n": 2})),
    (Near(Place(np.array([1.0, 2.0]))), Near(Place(np.array([1.0, 3.0])))),
    (Near(Place({"a": [1]})), Near(Place({"a": [2]}))),
    (Near(Place({1, 2})), Near(Place({1, 3}))),
    (Near(max), Near(min)),
    (Near(lambda n: n + 1), Near(lambda n: n + 2)),
]


def test_a_cache_is_no_difference(path: Path) -> None:
    tune(Hill(), 3, path, sampler=Near(1, memory=None))
    assert len(tune(Hill(), 4, path, sampler=Near(1, memory={"a": object}))) == 4


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_an_object_with_other_fields_is_another_plan(first: Any, second: Any, path: Path) -> None:
    tune(Hill(), 3, path, sampler=first)
    before = in_all(path.parent)
    with pytest.raises(PlanChangedError, match=r"sampler: was .* is "):
        tune(Hill(), 4, path, sampler=second)
    assert in_all(path.parent) == before
    assert len(tune(Hill(), 4, path, sampler=first)) == 4


def test_a_store_at_another_place_is_another_plan(path: Path, tmp_path: Path) -> None:
    tune(Climb(), 3, path, rounds=[1], store=DirectoryStore(tmp_path / "a"))
    with pytest.raises(PlanChangedError, match=r"store: was .*/a.* is .*/b"):
        tune(Climb(), 4, path, rounds=[1], store=DirectoryStore(tmp_path / "b"))
    assert tune(Climb(), 4, path, rounds=[1], store=DirectoryStore(tmp_path / "a"))[0].checkpoint


def pickles(path: Path) -> list[str]:
    with closing(connect(path)) as db:
        return [name for (name,) in db.execute("SELECT name FROM pickles ORDER BY seq")]


def test_an_equal_object_is_kept_once_and_a_mended_one_again(path: Path) -> None:
    tune(Hill(), 3, path, sampler=Near(Place(1)))
    assert pickles(path) == ["trainer", "sampler", "dataset"]
    tune(Hill(), 4, path, sampler=Near(Place(1)))
    assert "sampler" not in pickles(path)[3:]


SCRIPT = """
import sys
from typing import Any

import letstune
from tiny import Hill

class Fixed(letstune.Sampler):
    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return space.build(lambda path, d: 1 + trial if path == "n" else AT)

letstune.tune(Hill(), int(sys.argv[1]), journal="run.db", sampler=Fixed(), progress=False)
"""


def test_what_a_script_has_mended_is_what_goes_on(tmp_path: Path) -> None:
    for n, at in ((2, "0.25"), (4, "0.5")):
        (tmp_path / "script.py").write_text(SCRIPT.replace("AT", at))
        done = python("script.py", n, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    letstune.resume(tmp_path / "run.db", n_trials=6, progress=False)
    tuning = letstune.load(tmp_path / "run.db")
    assert [tuning.trial(n).params.x for n in range(6)] == [0.25, 0.25, 0.5, 0.5, 0.5, 0.5]


def test_a_refused_extension_leaves_the_journal_as_it_was(path: Path) -> None:
    tune(Climb(), 2, path, rounds=[2])
    shutil.rmtree(path.with_name("run.checkpoints"))
    before = path.read_bytes()
    with pytest.raises(StoreError, match="none of the run's 2 checkpoints"):
        letstune.resume(path, n_trials=4, progress=False)
    assert path.read_bytes() == before


def test_rounds_that_are_not_asked_for_are_those_of_the_run(path: Path) -> None:
    tune(Climb(), 2, path, rounds=[1, 2])
    assert tune(Climb(), 3, path).finished
    assert in_epochs(path) == {1, 3}


def in_epochs(path: Path) -> set[int]:
    return {len(trial.epochs) for trial in letstune.load(path)}


def test_a_journal_without_a_name_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tuning = letstune.tune(Hill(), 1, progress=False)
    monkeypatch.chdir("/")
    assert tuning[0].epochs[0].epoch == 0


class Plus(Hill):
    def __init__(self, more: float) -> None:
        self.more = more

    def train(self, params: Point) -> Any:
        return params, {"height": params.x + self.more}


def test_another_trainer_is_noted(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tune(Plus(1), 2, path)
    tune(Plus(1), 3, path)
    assert capfd.readouterr().err == ""
    tune(Plus(100), 4, path)
    told = capfd.readouterr().err
    changed = (
        f"the trainer, or the script that it is in, has changed since {path} has recorded 3 epochs"
    )
    assert changed in told


def test_without_a_result_there_is_no_best(path: Path) -> None:
    class LateHopeless(Climb):
        def train_epoch(self, epoch: int) -> dict[str, float]:
            return {"height": 1 / (1 - epoch)}

    tuning = tune(LateHopeless(), 2, path, rounds=[2])
    assert [len(trial.epochs) for trial in tuning] == [1, 1]
    with pytest.raises(LetstuneError, match="all that had one have failed"):
        _ = tuning.best


def test_results_can_be_pickled_and_epochs_compared(path: Path) -> None:
    tuning = tune(Climb(), 2, path, rounds=[2])
    again = pickle.loads(pickle.dumps(tuning))
    assert [trial.metric_value for trial in again] == [trial.metric_value for trial in tuning]
    assert set(again[0].epochs) == set(tuning[0].epochs)


def test_a_new_journal_needs_no_pandas(tmp_path: Path) -> None:
    code = (
        "import sys, tiny, pathlib; tiny.tune(tiny.Hill(), 1, pathlib.Path('a.db')); "
        "print('pandas' in sys.modules); import pandas"
    )
    done = python("-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
