import io
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from sqlite3 import connect
from typing import Any

import numpy as np
import pytest
from processes import environment
from rich.console import Console
from small_trainers import Climb, Hill, Point, tune
from stateful_trainer import WalkTrainer

import letstune
from letstune import Params, SimpleTrainer, TuningResults, rand
from letstune.errors import MissingPackageError, TrialNotFoundError


class Color(Enum):
    RED = 1


class Leaf(Params):
    depth: int = rand.ints(1, 3)


class Stem(Params):
    color: Color = Color.RED
    width: float = rand.uniform(0, 1)


class Plant(Params):
    kind: Leaf | Stem
    name: str = rand.oneof(["[bold]a", "[/x]b", "<b>&", "ü"])
    sizes: tuple[int, ...] = (1, 2)
    nothing: float | None = None
    nan: float = math.nan


class Garden(SimpleTrainer[Plant]):
    metric = "height"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train(self, params: Plant) -> Any:
        return params, {"height": len(params.name), "x": 0.5}


class Listed(Climb):
    """Trial i has the i-th list of values of its dataset; None is an exception."""

    made = 0

    def create_model(self, params: Point) -> None:
        self.model = self.dataset[Listed.made]
        Listed.made += 1

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if self.model[epoch] is None:
            raise ValueError("as asked for")
        return {"height": self.model[epoch], "epoch": epoch}


@pytest.fixture
def listed(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*values: Sequence[float | None]) -> TuningResults:
        monkeypatch.setattr(Listed, "made", 0)
        rounds = [max(map(len, values))]
        return tune(Listed(), len(values), path, rounds=rounds, dataset=list(values))

    return run


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> TuningResults:
    path = tmp_path_factory.mktemp("walked") / "run.db"
    return tune(WalkTrainer(), 30, path, seed=5, rounds=[6, 3])


# A sequence of trials


def test_results_are_a_sequence_of_trials(walked: TuningResults) -> None:
    assert isinstance(walked, Sequence)
    assert len(walked) == len(list(walked)) == 30
    assert walked[0] is walked.best
    assert walked[-1] is list(walked)[-1]
    assert walked[1:3] == [walked[1], walked[2]]
    assert walked[0] in walked
    assert walked.index(walked[3]) == 3
    with pytest.raises(IndexError):
        _ = walked[30]


def test_the_best_is_first_ties_go_to_the_lower_id_and_failures_are_last(listed: Any) -> None:
    nan, inf = math.nan, math.inf
    tuning = listed([1.0], [3.0], [nan], [3.0], [None], [inf], [-inf], [-2.0])
    assert [trial.trial_id for trial in tuning] == [1, 3, 0, 7, 2, 5, 6, 4]


def test_a_failed_trial_is_behind_all_others_whatever_it_reached(listed: Any) -> None:
    tuning = listed([9.0, None], [math.nan, math.nan])
    assert [trial.trial_id for trial in tuning] == [1, 0]


def test_best_and_last_epoch(listed: Any) -> None:
    (trial,) = listed([1.0, 5.0, math.inf, 5.0, 2.0])
    assert trial.metric_value == 5.0
    assert trial.metric_values == {"height": 5.0, "epoch": 1.0}
    assert (trial.best_epoch.epoch, trial.last_epoch.epoch) == (1, 4)
    assert [epoch.metric_value for epoch in trial.epochs] == [1.0, 5.0, math.inf, 5.0, 2.0]


def test_a_trial_without_finite_values_has_its_first_epoch(listed: Any) -> None:
    (trial,) = listed([math.inf, math.nan])
    assert trial.best_epoch.epoch == 0
    assert trial.metric_value == math.inf


def test_a_trial_without_epochs(listed: Any) -> None:
    (trial,) = listed([None])
    assert math.isnan(trial.metric_value)
    assert trial.metric_values == {}
    assert trial.best_epoch is trial.last_epoch is None
    assert trial.epochs == ()
    assert trial.duration == 0


def test_rounds_and_durations(path: Path) -> None:
    before = datetime.now(UTC)
    tuning = tune(Climb(), 4, path, rounds=[1, 2])
    assert [trial.round for trial in tuning].count(1) == 1
    for trial in tuning:
        assert trial.duration == pytest.approx(sum(epoch.duration for epoch in trial.epochs))
        for epoch in trial.epochs:
            assert before < epoch.started_at < datetime.now(UTC)
            assert 0 < epoch.duration < 1


def test_trials_are_found_by_id(walked: TuningResults) -> None:
    assert walked.trial(7).trial_id == 7
    with pytest.raises(TrialNotFoundError, match="has no trial 30; it has trials 0 to 29"):
        walked.trial(30)
    with pytest.raises(LookupError):
        walked.trial(-1)


def test_errors_tell_how_trials_failed(walked: TuningResults) -> None:
    failed = {trial.trial_id for trial in walked if trial.status == "failed"}
    assert {error.trial_id for error in walked.errors} == failed != set()
    for error in walked.errors:
        assert error.kind == "raised"
        assert error.traceback.startswith("Traceback (most recent call last)")
        assert error.traceback.rstrip().endswith(error.message)
        assert error.epoch == len(walked.trial(error.trial_id).epochs)


def test_what_was_asked_for(path: Path) -> None:
    walked = tune(Climb(), 1, path, rounds=[1])
    assert walked.metric == "height"
    assert walked.journal == path
    assert walked.finished


# Read from the journal only


def contents(tuning: TuningResults) -> list[Any]:
    return [
        (t.trial_id, t.params.to_json(), repr(t.metric_value), t.status, t.duration, repr(t.epochs))
        for t in tuning
    ]


def test_what_is_loaded_is_what_was_returned(walked: TuningResults) -> None:
    loaded = letstune.load(walked.journal)
    assert contents(loaded) == contents(walked)
    assert loaded.errors == walked.errors
    assert repr(loaded) == repr(walked)


def test_loaded_params_are_read_only_values(path: Path) -> None:
    fresh = tune(Garden(), 12, path)
    loaded = letstune.load(path)
    for one, other in zip(loaded, fresh, strict=True):
        assert one.params.name == other.params.name
        assert one.params.sizes == (1, 2)
        assert one.params.nothing is None
        assert math.isnan(one.params.nan)
        assert one.params.to_dict() == other.params.to_dict()
        assert one.params.to_json() == other.params.to_json()
        with pytest.raises(AttributeError):
            one.params.name = "other"
        with pytest.raises(AttributeError, match="nonesuch"):
            _ = one.params.nonesuch
        assert one.params == pickle.loads(pickle.dumps(one.params))
    kinds = {repr(trial.params.kind).partition("(")[0] for trial in loaded}
    assert kinds == {"Leaf", "Stem"}


def test_returned_params_are_of_the_users_class(path: Path) -> None:
    assert {type(trial.params) for trial in tune(Garden(), 3, path)} == {Plant}


class Bomb:
    def __reduce__(self) -> Any:
        return os._exit, (42,)


def test_reading_never_unpickles(path: Path) -> None:
    tune(Climb(), 4, path, rounds=[1, 2])
    bomb = pickle.dumps(Bomb())
    with closing(connect(path)) as db, db:
        db.execute("DROP TRIGGER pickles_refuses_update")
        db.execute("UPDATE pickles SET pickle = ?", (bomb,))
    for file in path.with_name("run.checkpoints").iterdir():
        file.write_bytes(bomb)
    reading = (
        "import sys, letstune\nfrom letstune.cli.main import main\n"
        "tuning = letstune.load(sys.argv[1])\n"
        "list(tuning.rows()), list(tuning.epoch_rows()), tuning.errors, tuning[0].params.x\n"
        "for command in ['status', 'trials', 'best', 'export', 'check']:\n"
        "    try: main([command, sys.argv[1]], standalone_mode=False)\n"
        "    except SystemExit: pass\n"
        "try: tuning[0].checkpoint.load_pickle()\n"
        "except letstune.LetstuneError: print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", reading, path], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("refused\n")


# Tables


def test_to_df_has_a_row_for_each_trial(walked: TuningResults) -> None:
    frame = walked.to_df()
    assert list(frame["trial_id"]) == [trial.trial_id for trial in walked]
    assert list(frame.columns)[:7] == (
        ["trial_id", "metric_value", "status", "round", "epochs", "best_epoch", "duration"]
    )
    for i, trial in enumerate(walked):
        row = frame.iloc[i]
        assert row["epochs"] == len(trial.epochs)
        assert row["params.pace"] == trial.params.pace
        assert row["params.kind"] == trial.params.kind
        if trial.best_epoch and trial.last_epoch:
            assert row["best_epoch"] == trial.best_epoch.epoch
            best, last = trial.best_epoch.metric_values, trial.last_epoch.metric_values
            for prefix, values in (("best", best), ("last", last)):
                for name in ("height", "pace"):
                    found, wanted = float(row[f"{prefix}.{name}"]), values.get(name, math.nan)
                    assert repr(found) == repr(wanted)


class Layered(letstune.Params):
    layers: tuple[int, ...] = rand.oneof([(64,), (64, 64), ()])
    x: float = rand.uniform(0, 1)


class LayeredTrainer(letstune.SimpleTrainer[Layered]):
    metric = "x"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train(self, params: Layered) -> Any:
        return None, {"x": params.x}


def test_tuples_are_tuples_in_a_frame_so_that_it_can_be_grouped(path: Path) -> None:
    frame = tune(LayeredTrainer(), 12, path).to_df()
    sizes = frame.groupby("params.layers").size()
    assert set(sizes.index) == {(64,), (64, 64), ()}
    assert sizes.sum() == 12


def test_to_df_flattens_nested_params(path: Path) -> None:
    frame = tune(Garden(), 12, path).to_df()
    assert set(frame.filter(like="params.")) == {
        "params.kind.$type",
        "params.kind.depth",
        "params.kind.color",
        "params.kind.width",
        "params.name",
        "params.sizes",
        "params.nothing",
        "params.nan",
    }
    assert set(frame["params.kind.$type"]) == {"Leaf", "Stem"}
    assert frame["params.nan"].isna().all()


def test_epochs_df_has_a_row_for_each_epoch(walked: TuningResults) -> None:
    frame = walked.epochs_df()
    epochs = [e for i in range(30) for e in walked.trial(i).epochs]
    columns = ["trial_id", "epoch", "metric_value", "started_at", "duration"]
    assert list(frame.columns)[:5] == columns
    assert set(frame.columns[5:]) == {"metrics.height", "metrics.pace", "metrics.inf"}
    assert len(frame) == len(epochs)
    assert list(frame["trial_id"]) == [e.trial_id for e in epochs]
    assert list(frame["epoch"]) == [e.epoch for e in epochs]
    assert repr(list(frame["metric_value"])) == repr([e.metric_value for e in epochs])
    assert str(frame["started_at"].dt.tz) == "UTC"


def test_tables_of_a_run_in_which_all_fails(listed: Any) -> None:
    tuning = listed([None], [None])
    assert len(tuning.to_df()) == 2
    assert len(tuning.epochs_df()) == 0


@pytest.mark.slow
def test_pandas_is_imported_only_when_asked_for(path: Path) -> None:
    tune(Hill(), 2, path)
    script = (
        "import sys, letstune\ntuning = letstune.load(sys.argv[1])\n"
        "repr(tuning), tuning._repr_html_(), list(tuning.rows())\n"
        "print('pandas' in sys.modules)\ntuning.to_df()\nprint('pandas' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\nTrue\n"


def test_without_pandas_it_says_how_to_get_it(
    walked: TuningResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for frame in (walked.to_df, walked.epochs_df):
        with pytest.raises(MissingPackageError, match="pip install pandas"):
            frame()


# What people see


def test_the_repr_is_a_table_of_the_best(walked: TuningResults) -> None:
    first, head, *rows, more = repr(walked).splitlines()
    failed = len(walked.errors)
    assert first == f"<TuningResults {walked.journal}: 30 trials, {failed} failed, finished>"
    assert head.split() == ["trial", "height", "round", "epochs", "seconds", "params"]
    assert [row.split()[0] for row in rows] == [str(trial.trial_id) for trial in walked[:10]]
    assert more == "... and 20 more"


def test_one_of_a_thing_has_no_s(listed: Any) -> None:
    assert ": 1 trial, 0 failed, finished>" in repr(listed([1.5]))


def test_the_repr_of_a_trial_and_an_epoch(listed: Any) -> None:
    (trial,) = listed([1.5])
    assert repr(trial) == (
        f"Trial(trial_id=0, metric_value=1.5, round=0, epochs=1, params={trial.params!r})"
    )
    assert repr(trial.epochs[0]) == "Epoch(epoch=0, metric_value=1.5)"


def rich(tuning: TuningResults) -> str:
    file = io.StringIO()
    Console(file=file, width=200).print(tuning)
    return file.getvalue()


def test_rich_shows_a_table(walked: TuningResults) -> None:
    shown = rich(walked)
    assert "and 20 more" in shown
    assert all(f" {trial.trial_id} " in shown for trial in walked[:10])


def test_rich_shows_text_as_it_is(path: Path) -> None:
    tuning = tune(Garden(), 12, path.with_name("[red]run.db"))
    shown = rich(tuning)
    assert "[red]run.db" in shown.replace("\n", "")
    for name in {trial.params.name for trial in tuning[:10]}:
        assert f"name={name}" in shown


def test_html_shows_a_table_and_escapes(path: Path) -> None:
    tuning = tune(Garden(), 12, path.with_name("<run>.db"))
    html = tuning._repr_html_()
    assert html.count("<tr>") == 11
    assert "&lt;run&gt;.db" in html
    assert "<b>&" not in html
    assert "name=&lt;b&gt;&amp;" in html


@pytest.mark.parametrize("show", [repr, rich, lambda tuning: tuning._repr_html_()])
def test_an_unfinished_run_can_be_shown(show: Any, path: Path) -> None:
    class Stuck(Hill):
        def load_dataset(self, dataset: Any) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tune(Stuck(), 3, path)
    tuning = letstune.load(path)
    assert not tuning.finished
    assert "3 trials, 0 failed, unfinished" in show(tuning)
    with pytest.raises(TrialNotFoundError, match="no trial has a result yet"):
        _ = tuning.best


class OfItsSeed(Hill):
    def train(self, params: Point) -> Any:
        return None, {"height": float(np.random.default_rng(self.seed).normal())}


def test_the_seed_of_a_trial_trains_it_again(path: Path) -> None:
    best = tune(OfItsSeed(), 4, path).best
    trainer = OfItsSeed()
    trainer.seed = best.seed
    assert trainer.train(best.params)[1]["height"] == best.metric_value
