"""What a person must know in the morning is said wherever they look, and in the exit code."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small_trainers import tune

import letstune
from letstune import EpochTrainer, Params, rand
from letstune.cli.main import main
from letstune.results import verdicts
from letstune.rounds.events import TrialFailed, WorkerDied
from letstune.telling.troubles import Troubles


class Height(Params):
    x: int = rand.ints(0, 10**6)


class Falling(EpochTrainer[Height]):
    """Fails in the epochs, and for the params, that its dataset names."""

    metric = "height"

    def load_dataset(self, dataset: Any) -> None:
        self.fails = dataset

    def create_model(self, params: Height) -> None:
        self.model = params.x

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch in self.fails:
            raise AttributeError(f"model {self.model} has no booster")
        return {"height": self.model + epoch}


class LessFalling(Falling):
    metric = "-height"


class BestFails(Falling):
    """The best of seed 1 fails in its fifth epoch."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 4 and self.model > 900_000:
            raise AttributeError(f"model {self.model} has no booster")
        return {"height": self.model + epoch}


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_round_that_nobody_gets_through_is_the_first_thing_told(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = tune(Falling(), 16, path, rounds=[3, 3, 3], dataset=[4], progress=None)
    verdict, fell = tuning.verdicts
    assert verdict.startswith(
        "No trial got through round 2: all 4 in it failed alike: AttributeError: model "
    )
    assert f"test_verdicts.py:{Falling.train_epoch.__code__.co_firstlineno + 2} train_epoch" in (
        verdict
    )
    assert f"`letstune retry {path}`" in verdict
    assert f"letstune: {verdict}" in capsys.readouterr().err
    status = json.loads(run("status", path, "--json").stdout)
    assert status["verdicts"] == letstune.load(path).verdicts == [verdict, fell]
    assert run("resume", path, "--no-retry").exit_code == 1  # nobody got into the last round


def test_all_trials_failing_in_the_first_round_is_told_as_such(path: Path) -> None:
    tuning = tune(Falling(), 4, path, rounds=[3, 3], dataset=[1])
    assert tuning.verdicts[0].startswith("All 4 trials failed alike: AttributeError")
    assert run("resume", path, "--no-retry").exit_code == 1


def test_a_last_round_that_fails_is_told_and_no_error(path: Path) -> None:
    tuning = tune(Falling(), 16, path, rounds=[3, 3], dataset=[4])
    stuck, fell = tuning.verdicts
    assert stuck.startswith("No trial got through round 2: all 4 in it failed alike")
    assert fell.startswith("The best so far fell from ")
    assert run("resume", path, "--no-retry").exit_code == 0


def test_a_winner_that_is_less_than_a_failed_trial_had_is_told(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = tune(BestFails(), 16, path, rounds=[3, 3], progress=None)
    failed = {error.trial_id for error in tuning.errors}
    assert 0 < len(failed) < 4
    reached = max(tuning.trial(number).epochs[-1].metric_value for number in failed)
    fell, some = tuning.verdicts
    assert fell.startswith(
        f"The best so far fell from {reached:.6g} to {tuning.best.metric_value:.6g}: trial "
    )
    assert some.startswith(f"{len(failed)} of 16 trials failed")
    err = capsys.readouterr().err
    assert f"Best so far fell from {reached:.6g} (trial " in err  # when it happened
    assert f"letstune: {fell}" in err
    assert run("resume", path, "--no-retry").exit_code == 0


def test_where_less_is_better_it_is_told_as_it_was_returned(path: Path) -> None:
    tuning = tune(LessFalling(), 1, path, rounds=[3], dataset=[2])
    assert tuning.verdicts[0].startswith("The only trial failed: AttributeError")
    assert not [verdict for verdict in tuning.verdicts if "fell" in verdict]


def test_a_run_without_failures_says_nothing(path: Path) -> None:
    assert tune(Falling(), 8, path, rounds=[3, 3], dataset=[]).verdicts == []


def test_a_retry_takes_the_verdict_back(path: Path) -> None:
    tune(Falling(), 4, path, rounds=[3, 3], dataset=[1])
    tuning = letstune.resume(path, dataset=[], retry_failed=True, progress=False)
    assert tuning.verdicts == []


def test_three_alike_are_told_and_then_they_are_counted(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(Falling(), 9, path, rounds=[3], dataset=[1], progress=None)
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("Trial ")]) == 3
    (more,) = [line for line in lines if "more" in line]
    assert more.startswith("6 more trials failed alike: AttributeError: model ")


def test_failures_and_deaths_are_counted_each_for_its_kind() -> None:
    troubles = Troubles()
    events = [
        *(TrialFailed(n, 0, "raised", f"ValueError: {n}", "") for n in range(4)),
        *(TrialFailed(n, 0, "timed out", "It took longer than 4 s.", "") for n in range(5)),
        *(WorkerDied(n, 0, "a", -9, None, "", "") for n in range(5)),
    ]
    assert sum(len(troubles.lines(event)) for event in events) == 9
    assert troubles.more() == [
        "1 more trial failed alike: ValueError: 3",
        "2 more trials failed alike: It took longer than 4 s.",
        "2 more workers died: signal 9 (SIGKILL).",
    ]
    assert troubles.more() == []


@pytest.mark.parametrize("dataset", [[1], [0]])
def test_while_a_run_goes_on_each_thing_is_told_once(
    dataset: list[int], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = letstune.Rounds([1, 1], cohort=4)
    tune(Falling(), 40, path, rounds=rounds, dataset=dataset, progress=None)
    told = capsys.readouterr().err.splitlines()
    assert sum("failed alike: " in line and "more" not in line for line in told) == 2  # at the end


def test_what_is_to_be_told_is_found_without_looking_at_the_whole_run_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    def look(cohort: Any, k: int) -> bool:
        looked.append(k)
        return had_nothing(cohort, k)

    had_nothing = verdicts._had_nothing
    monkeypatch.setattr(verdicts, "_had_nothing", look)
    rounds = letstune.Rounds([1, 1], cohort=1)
    tune(Falling(), 50, path, rounds=rounds, dataset=[])
    assert len(looked) <= 4 * 2 * 50  # at the beginning, while it goes on, and twice at the end
