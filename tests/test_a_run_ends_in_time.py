"""A run ends when it is told to, with no epoch begun that would not end in time, and is resumed."""

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from journal_facts import facts
from processes import command
from small_trainers import Climb, Hill, tune

import letstune
from letstune.errors import Interrupted, PlanError
from letstune.rounds.events import EpochFinished
from letstune.runs.deadline import Deadline, seconds_left


class Slow(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        time.sleep(0.05)
        return super().train_epoch(epoch)


class State:
    """So much of a state as a deadline looks at."""

    total_epochs, total_seconds = 4, 8.0


def epoch(trial: int, seconds: float) -> EpochFinished:
    return EpochFinished(trial, 0, 0.0, {}, "", seconds)


def test_an_epoch_is_begun_if_the_trials_own_pace_leaves_time_for_it() -> None:
    now = 0.0
    deadline = Deadline(100.0, clock=lambda: now)
    state: Any = State()
    for _ in range(3):
        deadline.see(epoch(0, 10.0))
    deadline.see(epoch(1, 40.0))
    now = 84.0
    assert deadline.allows(state, 0)
    assert not deadline.allows(state, 1)
    assert deadline.allows(state, 2)  # as the median of all
    now = 86.0
    assert not deadline.allows(state, 0)


def test_before_an_epoch_of_this_session_those_recorded_tell() -> None:
    now = 0.0
    deadline = Deadline(10.0, clock=lambda: now)
    state: Any = State()
    assert deadline.allows(state)
    now = 7.5
    assert not deadline.allows(state)


def test_without_a_deadline_all_is_allowed() -> None:
    assert Deadline().allows(State(), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_what_is_left_is_resumed_as_if_nothing_had_been(workers: int | None, path: Path) -> None:
    whole = path.with_name("whole.db")
    tune(Slow(), 24, whole, rounds=[1, 2])
    began = time.monotonic()
    with pytest.raises(Interrupted) as caught:
        tune(Slow(), 24, path, rounds=[1, 2], for_=timedelta(seconds=1), workers=workers)
    assert time.monotonic() - began < 20
    assert caught.value.code == 75
    assert 0 < sum(len(trial.epochs) for trial in letstune.load(path)) < 36 if not workers else True
    assert letstune.resume(path, progress=False).finished
    assert facts(path)["epochs"] == facts(whole)["epochs"]


@pytest.mark.slow
def test_until_the_time_is_up_there_are_always_more_trials(path: Path) -> None:
    tuning = tune(Slow(), None, path, rounds=[1], for_=5)  # type: ignore[arg-type]
    more = len(tuning)
    assert more > 64
    assert not tuning.errors
    letstune.resume(path, for_=3, progress=False)
    assert sum(len(t.epochs) for t in letstune.load(path)) > sum(len(t.epochs) for t in tuning)
    fresh = tune(Slow(), more, path.with_name("b.db"), rounds=letstune.Rounds([1], cohort=64))
    values = {t.trial_id: [e.metric_value for e in t.epochs] for t in fresh}
    for trial in tuning:
        assert [e.metric_value for e in trial.epochs] == values[trial.trial_id][: len(trial.epochs)]


def test_a_run_with_all_it_was_asked_for_ends_before_its_time(path: Path) -> None:
    assert tune(Hill(), 5, path, for_=3600).finished
    assert letstune.resume(path, for_=3600, progress=False).finished
    assert len(letstune.load(path)) == 5


def test_a_moment_may_be_given_in_many_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now().astimezone()
    later = now + timedelta(hours=2)
    assert seconds_left(later, None) == pytest.approx(7200, abs=60)
    assert seconds_left(later.isoformat(), None) == pytest.approx(7200, abs=60)
    assert seconds_left(later.strftime("%Y-%m-%dT%H:%M"), None) == pytest.approx(7200, abs=61)
    assert seconds_left(later.strftime("%H:%M"), None) == pytest.approx(7200, abs=61)
    earlier = (now - timedelta(hours=2)).strftime("%H:%M")  # of tomorrow
    assert seconds_left(earlier, None) == pytest.approx(22 * 3600, abs=61)
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(later.timestamp())))
    assert seconds_left("slurm", None) == pytest.approx(7200, abs=60)
    assert seconds_left(later, timedelta(hours=1)) == pytest.approx(3600, abs=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"until": "late"}, "until='late': expected"),
        ({"until": 7}, "until=7: expected"),
        ({"until": "2020-01-01T00:00"}, "is in the past"),
        ({"until": "slurm"}, "SLURM_JOB_END_TIME is ''"),
        ({"for_": 0}, "for_=0: expected seconds"),
        ({"for_": "8h"}, "for_='8h': expected seconds"),
        ({}, "n_trials=None: expected a whole number"),
    ],
)
def test_what_is_no_time_is_refused(
    options: dict[str, Any], told: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    with pytest.raises(PlanError, match=told):
        tune(Hill(), None, path, **options)  # type: ignore[arg-type]
    assert not path.exists()


@pytest.mark.slow
def test_the_command_line_takes_an_end_instead_of_a_number(tmp_path: Path) -> None:
    script = tmp_path / "quick.py"
    script.write_text(
        "from letstune import Params, SimpleTrainer, rand\n"
        "class P(Params):\n    x: float = rand.uniform(0, 1)\n"
        "class T(SimpleTrainer[P]):\n    metric = 'm'\n"
        "    def load_dataset(self, dataset): pass\n"
        "    def train(self, params): return None, {'m': params.x}\n"
    )
    done = command("tune", "quick.py:T", "--for", "2s", "--journal", "run.db", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(letstune.load(tmp_path / "run.db")) > 64
    done = command("tune", "quick.py:T", "--journal", "other.db", cwd=tmp_path)
    assert done.returncode == 2
    assert "Missing option '-n' / '--n-trials', or --until or --for." in done.stderr
