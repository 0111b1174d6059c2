from pathlib import Path
from typing import Any

import letstune
import optuna
import pytest
from trainers import Climb

from letstune_optuna import TPE, export


class Losing(Climb):
    """Returns minus the height, less of which is better."""

    metric = "-depth"

    def train_epoch(self, epoch: int) -> Any:
        try:
            return {"depth": -super().train_epoch(epoch)["height"]}
        except letstune.StopTraining as stop:
            if not isinstance(stop.metric_values, dict):
                raise
            raise letstune.StopTraining({"depth": -stop.metric_values["height"]}) from None


def run(trainer: Any, path: Path) -> Any:
    options = {"rounds": [1, 2], "seed": 3, "progress": False}
    return letstune.tune(trainer, 24, journal=path, sampler=TPE(), **options)


@pytest.fixture
def pair(path: Path) -> tuple[Any, Any]:
    return run(Losing(), path), run(Climb(), path.with_name("other.db"))


def test_a_sampler_learns_the_same_of_a_loss(pair: tuple[Any, Any]) -> None:
    down, up = pair
    assert [trial.trial_id for trial in down] == [trial.trial_id for trial in up]
    assert [trial.params for trial in down] == [trial.params for trial in up]


def test_a_run_that_minimises_is_exported_as_one(pair: tuple[Any, Any], path: Path) -> None:
    down, _ = pair
    sqlite = path.with_name("optuna.sqlite3")
    export(down, sqlite)
    study = optuna.load_study(study_name="run", storage=f"sqlite:///{sqlite}")
    assert (study.direction.name, study.metric_names) == ("MINIMIZE", ["depth"])
    assert (study.best_trial.number, study.best_value) == (down[0].trial_id, down[0].metric_value)
