import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from journal_facts import facts
from own_keys import sign_again
from small_trainers import Climb, tune

import letstune
from letstune import Observer, Rounds
from letstune.errors import PlanError
from letstune.journal.journal import Journal
from letstune.rounds.events import EpochFinished, TrialFailed
from letstune.rounds.plan import Plan


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


class Diary(Observer):
    """Writes down all that it is told, and how much of it the journal holds by then."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.durable: list[bool] = []

    def run_started(self, journal: Path, plan: Plan) -> None:
        self.journal = journal
        self.lines.append(("started", plan.n_trials))

    def trial_proposed(self, trial: int, params: Any) -> None:
        self.lines.append(("proposed", trial, sorted(params)))

    def epoch_recorded(self, epoch: EpochFinished) -> None:
        reader = Journal(self.journal)
        self.durable.append(any(e[:2] == epoch[:2] for e in reader.epochs(epoch.trial)))
        reader.close()
        self.lines.append(("epoch", epoch.trial, epoch.epoch))

    def trial_failed(self, failure: TrialFailed) -> None:
        self.lines.append(("failed", failure.trial, failure.kind))

    def round_finished(self, cohort: int, round: int) -> None:
        self.lines.append(("round", cohort, round))

    def run_finished(self, how: str) -> None:
        self.lines.append(("finished", how))

    def of(self, *kinds: str) -> list[tuple[Any, ...]]:
        return [line for line in self.lines if line[0] in kinds]


class Stumbles(Climb):
    """Fails in its second epoch, in one of four trials or so."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1 and self.rng.random() < 0.25:
            raise ValueError("stumbled")
        return super().train_epoch(epoch)


def test_all_that_happens_is_told_in_order_once_it_is_durable(path: Path) -> None:
    diary = Diary()
    tuning = tune(Climb(), 4, path, rounds=Rounds([1, 2], keep=0.5), observers=[diary])
    assert diary.lines[0] == ("started", 4)
    assert diary.lines[-1] == ("finished", "finished")
    assert diary.of("proposed") == [("proposed", trial, ["n", "x"]) for trial in range(4)]
    assert diary.durable == [True] * 8
    assert sorted(diary.of("epoch")) == sorted(
        ("epoch", trial.trial_id, epoch.epoch) for trial in tuning for epoch in trial.epochs
    )
    assert diary.of("round") == [("round", 0, 0), ("round", 0, 1)]
    first = diary.lines.index(("round", 0, 0))
    before = [line[1:] for line in diary.lines[:first] if line[0] == "epoch"]
    assert {(trial, 0) for trial in range(4)} <= set(before)


def test_rounds_of_cohorts_are_told_in_their_order(path: Path) -> None:
    diary = Diary()
    tune(Climb(), 6, path, rounds=Rounds([1, 1], cohort=2), observers=[diary])
    for round in (0, 1):
        told = [line[1] for line in diary.of("round") if line[2] == round]
        assert told == [0, 1, 2]


def test_failures_are_told(path: Path) -> None:
    diary = Diary()
    tuning = tune(Stumbles(), 12, path, rounds=[3], observers=[diary])
    assert 0 < len(tuning.errors) < 12
    assert diary.of("failed") == [("failed", e.trial_id, "raised") for e in tuning.errors]


class Raises(Observer):
    """Raises whatever it is told."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.told = 0

    def epoch_recorded(self, epoch: EpochFinished) -> None:
        self.told += 1
        raise self.error


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), UserWarning("w"), asyncio.CancelledError()]
)
def test_one_that_raises_is_reported_once_and_stops_nothing(
    error: BaseException, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raises, diary = Raises(error), Diary()
    tune(Climb(), 3, path, rounds=[2], observers=[raises, diary])
    assert capsys.readouterr().err == (
        f"letstune: Raises.epoch_recorded raised {error!r}. The run goes on.\n"
    )
    assert raises.told == len(diary.of("epoch")) == 6
    tune(Climb(), 3, path.with_name("b.db"), rounds=[2])
    assert facts(path)["epochs"] == facts(path.with_name("b.db"))["epochs"]


class Meddles(Diary):
    """Tries to change what it sees."""

    def run_started(self, journal: Path, plan: Plan) -> None:
        super().run_started(journal, plan)
        plan.sampler["name"] = "evil"  # type: ignore[index]
        object.__setattr__(plan, "n_trials", 1)

    def trial_proposed(self, trial: int, params: Any) -> None:
        super().trial_proposed(trial, params)
        params.clear()

    def epoch_recorded(self, epoch: EpochFinished) -> None:
        super().epoch_recorded(epoch)
        epoch.metrics.clear()  # type: ignore[attr-defined]


def test_one_that_meddles_changes_nothing(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diary = Diary()
    tune(Climb(), 3, path, rounds=[2], observers=[Meddles(), diary])
    assert capsys.readouterr().err == ""
    assert ("started", 3) in diary.lines
    assert diary.of("proposed") == [("proposed", trial, ["n", "x"]) for trial in range(3)]
    tune(Climb(), 3, path.with_name("b.db"), rounds=[2])
    assert facts(path) == facts(path.with_name("b.db"))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT DISTINCT sampler FROM trials").fetchall() == [("random",)]


class Stops(Climb):
    """Fails to load its dataset."""

    def load_dataset(self, dataset: Any) -> None:
        raise OSError("no data")


def test_an_error_is_told_as_the_end(path: Path) -> None:
    diary = Diary()
    with pytest.raises(OSError, match="no data"):
        tune(Stops(), 3, path, rounds=[2], observers=[diary])
    assert diary.lines[-1] == ("finished", "error")


def test_a_resumption_tells_what_is_new(path: Path) -> None:
    tune(Climb(), 2, path, rounds=[1])
    diary = Diary()
    letstune.resume(path, n_trials=3, observers=[diary], progress=False)
    assert [line[:2] for line in diary.of("proposed", "epoch")] == [("proposed", 2), ("epoch", 2)]


@pytest.mark.parametrize("observers", ["tpe", [5], ["nobody"], [("nobody", {})], 5])
def test_what_is_no_observer_is_refused(observers: Any, path: Path) -> None:
    with pytest.raises(PlanError, match=r"observer"):
        tune(Climb(), 2, path, observers=observers)
    assert not path.exists()


def test_observers_are_told_the_same(path: Path) -> None:
    diary = Diary()
    pairs: Sequence[Any] = [diary, Diary()]
    tune(Climb(), 3, path, rounds=[2], observers=pairs)
    assert pairs[0].lines == pairs[1].lines


def test_observers_that_were_recorded_without_their_plugin_are_still_told(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(Climb(), 2, path, rounds=[1])
    with closing(sqlite3.connect(path)) as db, db:  # as before the first release
        ((last,),) = db.execute("SELECT max(seq) FROM sessions")
        db.execute("INSERT INTO plan VALUES (?, 'observers', ?)", (last + 1, '[["nobody", {}]]'))
    sign_again(path)
    letstune.resume(path, n_trials=3, progress=False)
    assert "goes on without an observer. There is no observer 'nobody'" in capsys.readouterr().err
