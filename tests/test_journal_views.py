"""The views rank, list and tell what the results do."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from journal_facts import metrics_of, query
from small_trainers import Climb, Hill, Point, tune

import letstune
from letstune.journal.schema import VIEWS


class ByTrial(Climb):
    """Trial i has the i-th list of values of its dataset; None is an exception."""

    made = 0

    def create_model(self, params: Point) -> None:
        self.model = self.dataset[ByTrial.made]
        ByTrial.made += 1

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if self.model[epoch] is None:
            raise ValueError("as asked for")
        return {"height": self.model[epoch]}


RANKED = [
    [0.5, 0.7, 0.7],  # ties with the next: its id is lower
    [0.7, 0.1, 0.2],
    [math.nan, math.inf, -math.inf],
    [-math.inf, math.nan, math.inf],
    [math.inf, 0.1, math.nan],
    [0.9, None],
    [None],
    [-5.0, -6.0, -4.0],
    [math.nan, math.nan, math.nan],
]


@pytest.fixture
def ranked(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ByTrial, "made", 0)
    tune(ByTrial(), len(RANKED), path, rounds=[3], dataset=RANKED)
    return path


def test_the_leaderboard_is_the_order_of_the_results(ranked: Path) -> None:
    tuning = letstune.load(ranked)
    rows = query(
        ranked, "SELECT place, trial, best_epoch, epochs, failure IS NULL FROM leaderboard"
    )
    assert rows == [
        (
            place,
            trial.trial_id,
            trial.best_epoch.epoch if trial.best_epoch else None,
            len(trial.epochs),
            int(trial.status != "failed"),
        )
        for place, trial in enumerate(tuning, 1)
    ]


def test_finite_values_come_first_then_the_others_then_failures(ranked: Path) -> None:
    assert [trial.trial_id for trial in letstune.load(ranked)] == [0, 1, 4, 7, 2, 3, 8, 5, 6]


def test_the_best_epoch_is_the_first_of_the_best(ranked: Path) -> None:
    best = {trial.trial_id: trial._state.best_epoch for trial in letstune.load(ranked)}
    assert best == {0: 1, 1: 0, 2: 0, 3: 0, 4: 1, 5: 0, 6: -1, 7: 2, 8: 0}


def test_the_learning_curves_are_all_epochs(walked: Path) -> None:
    rows = query(walked, "SELECT trial, epoch, metrics FROM learning_curves")
    assert rows == sorted(rows, key=lambda row: row[:2])
    found = {(t, e): {k: float(v) for k, v in json.loads(m).items()} for t, e, m in rows}
    assert repr(found) == repr(dict(sorted(metrics_of(walked).items())))


def test_the_checkpoints_tell_which_are_deleted_and_why(walked: Path) -> None:
    rows = query(walked, "SELECT checkpoint FROM checkpoints WHERE deleted IS NULL")
    folder = walked.with_name("run.checkpoints")
    kept = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".letstune-")}
    assert {uri for (uri,) in rows} == kept
    reasons = query(walked, "SELECT DISTINCT deleted FROM checkpoints WHERE deleted IS NOT NULL")
    assert {why for (why,) in reasons} <= {"superseded", "outranked", "failed"}


@pytest.mark.parametrize("view", VIEWS)
def test_views_work_on_a_run_that_has_not_begun(view: str, path: Path) -> None:
    class Stuck(Hill):
        def load_dataset(self, dataset: Any) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tune(Stuck(), 3, path)
    assert len(query(path, f"SELECT * FROM {view}")) == (3 if view == "leaderboard" else 0)
