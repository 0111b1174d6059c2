"""The same again redoes nothing, and a run that has grown contains what a fresh one contains."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from files import in_all
from journal_facts import metrics_of
from small_trainers import Climb, Hill, tune
from stateful_trainer import NearBest, WalkTrainer

import letstune
from letstune import Rounds
from letstune.errors import (
    StoreError,
)


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
