"""A night is not spent on failing alike: the run stops, and says what they have in common."""

from pathlib import Path
from typing import Any

import pytest
from processes import command
from small_trainers import Climb, Hill, Point, tune

import letstune
from letstune.errors import PlanError
from letstune.rounds.events import EpochFinished, TrialFailed, TrialProposed, TrialStopped
from letstune.rounds.plan import Plan, Rounds
from letstune.rounds.state import State
from letstune.rounds.streaks import Streaks


class Hopeless(Hill):
    def train(self, params: Point) -> Any:
        raise ValueError(f"no column {params.x}")


class LateFailing(Climb):
    """Fails in the second round, and gets through the first one."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            raise KeyError("weights")
        return super().train_epoch(epoch)


@pytest.mark.parametrize("workers", [None, 2])
def test_three_that_fail_alike_are_enough_if_nothing_succeeds(
    workers: int | None, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tuning = tune(Hopeless(), 50, path, max_failures=None, workers=workers)
    assert not tuning.finished
    told = tuning.stopped
    assert told in capfd.readouterr().err
    assert "3 trials in a row failed alike in round 1" in told
    assert "ValueError: no column" in told
    assert f"{Path(__file__).name}:" in told
    assert "max_failures=0" in told
    assert 3 <= len(letstune.load(path).errors) <= 4


def test_it_is_the_round_that_counts(path: Path) -> None:
    tuning = tune(LateFailing(), 40, path, max_failures=None, rounds=[1, 2])
    assert tuning.stopped.startswith("3 trials in a row failed alike in round 2")
    assert len(letstune.load(path).errors) == 3


def test_a_resume_goes_on_as_if_it_had_not_been(path: Path) -> None:
    whole = path.with_name("whole.db")
    tune(Hopeless(), 8, whole, max_failures=0)
    assert tune(Hopeless(), 8, path, max_failures=2).stopped
    assert letstune.resume(path, max_failures=2, progress=False).stopped  # from the start again
    assert len(letstune.load(path).errors) == 4
    assert letstune.resume(path, max_failures=0, progress=False).finished
    fails = [
        [(error.trial_id, error.message) for error in letstune.load(each).errors]
        for each in (path, whole)
    ]
    assert fails[0] == fails[1]


def test_a_run_that_ends_with_the_last_of_them_is_done(path: Path) -> None:
    tuning = tune(Hopeless(), 3, path, max_failures=None)
    assert tuning.finished
    assert not tuning.stopped


@pytest.mark.slow
def test_the_command_ends_with_1(tmp_path: Path) -> None:
    script = tmp_path / "hopeless.py"
    script.write_text(
        "from letstune import Params, SimpleTrainer, rand\n"
        "class P(Params):\n    x: float = rand.uniform(0, 1)\n"
        "class T(SimpleTrainer[P]):\n    metric = 'm'\n"
        "    def load_dataset(self, dataset): pass\n"
        "    def train(self, params): raise ValueError(params.x)\n"
    )
    done = command("tune", "hopeless.py:T", "-n", "9", "--journal", "run.db", cwd=tmp_path)
    assert done.returncode == 1
    assert "3 trials in a row failed alike" in done.stderr
    assert "hopeless.py:7 train" in done.stderr
    more = command("resume", "run.db", "--max-failures", "0", cwd=tmp_path)
    assert more.returncode == 1  # all of them failed
    assert len(letstune.load(tmp_path / "run.db").errors) == 9


@pytest.mark.parametrize("wrong", [-1, 1.5, "3", True])
def test_a_wrong_number_is_refused(wrong: Any, path: Path) -> None:
    with pytest.raises(PlanError, match="max_failures="):
        tune(Hopeless(), 3, path, max_failures=wrong)
    assert not path.exists()


def failed(trial: int, message: str = "ValueError: 1", kind: str = "raised") -> TrialFailed:
    return TrialFailed(trial, 0, kind, message, "")


@pytest.mark.parametrize(
    ("events", "ends"),
    [
        ([failed(0), failed(1), failed(2)], True),
        ([failed(0), failed(1), failed(2, "ValueError: 2")], True),  # numbers do not count
        ([failed(0), failed(1), failed(2, "TypeError: 1")], False),
        ([failed(0), failed(1), failed(2, kind="timed out")], False),
        ([failed(0), failed(1), TrialStopped(2, -1), failed(3)], False),
        ([failed(0), failed(1), EpochFinished(2, 0, 1.0, {}, "", 1.0), failed(3)], False),
    ],
)
def test_what_comes_between_counts(events: list[Any], ends: bool) -> None:
    plan = Plan(
        **{"metric": "m", "n_trials": 4, "rounds": Rounds([1, 1], keep=1.0), "simple": False},
        **{"seed": 0, "space": "{}", "sampler": {"name": "random", "options": {}}},
        **{"adaptive": False, "store": {}, "lag": 0, "keep_checkpoints": 1, "trainer": "t"},
    )
    state, streaks = State(plan), Streaks(3)
    for event in [*(TrialProposed(n, "{}", "random") for n in range(4)), *events]:
        state.apply(event)
        streaks.see(event, state)
    assert (streaks.end is not None) == ends
