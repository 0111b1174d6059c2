"""A bad argument is told, makes nothing and changes nothing."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import in_all
from small_trainers import Climb, Hill, tune

import letstune
from letstune import Params, Rounds, SimpleTrainer, rand
from letstune.errors import (
    PlanError,
    SpaceError,
)
from letstune.samplers.sampler import RandomSampler


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
        "sampler 'random' of letstune .* with the options x: got an unexpected",
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
    ({"workers": -1}, "workers=-1"),
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


def test_a_bad_argument_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlanError):
        letstune.tune(Hill(), 0)
    assert list(tmp_path.iterdir()) == []
