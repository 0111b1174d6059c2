"""Values that are missing, or no numbers, or less of which is better; and what workers send."""

import asyncio
import json
import math
import os
import re
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from journal_facts import facts, metrics_of, query
from small_trainers import Climb, Hill, Point, tune

import letstune
from letstune.cli.main import main
from letstune.errors import CheckpointError, LetstuneError, TrainerError, WorkerError
from letstune.journal.journal import Journal
from letstune.results.verdicts import in_vain, verdicts
from letstune.samplers.sampler import Sampler
from letstune.workers.messages import pack, unpack

WORKERS = [None, pytest.param(1, marks=pytest.mark.slow)]
"""In this process, and in another one."""


class Losing(Climb):
    """Less is better; the other way round, it is a `Climb`."""

    metric = "-depth"

    def train_epoch(self, epoch: int) -> dict[str, float]:
        return {"depth": -super().train_epoch(epoch)["height"], "epoch": epoch}


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# Less is better


@pytest.mark.parametrize("workers", WORKERS)
def test_with_a_minus_the_least_wins_and_is_shown_as_returned(
    workers: int | None, path: Path
) -> None:
    other = path.with_name("other.db")
    up = tune(Climb(), 16, other, rounds=[1, 2], workers=workers)
    down = tune(Losing(), 16, path, rounds=[1, 2], workers=workers)
    assert [trial.trial_id for trial in down] == [trial.trial_id for trial in up]
    assert [trial.metric_value for trial in down] == [-trial.metric_value for trial in up]
    assert (down.metric, down.less_is_better, up.less_is_better) == ("depth", True, False)
    for trial in down:
        assert trial.metric_value == min(epoch.metric_value for epoch in trial.epochs)
        assert trial.metric_values["depth"] == trial.metric_value
    assert repr(down).splitlines()[1].split()[:2] == ["trial", "depth"]
    assert f"{down[0].metric_value:.6g}" in repr(down).splitlines()[2]


def test_the_journal_and_its_view_hold_the_standing(path: Path) -> None:
    import sqlite3

    tuning = tune(Losing(), 16, path, rounds=[1, 2])
    db = sqlite3.connect(path)
    (first, *_) = db.execute("SELECT trial, value FROM leaderboard").fetchall()
    db.close()
    assert first == (tuning[0].trial_id, -tuning[0].metric_value)


def test_commands_show_the_value_as_returned(path: Path) -> None:
    best = tune(Losing(), 8, path, rounds=[1, 2])[0]
    status = json.loads(run("status", path, "--json").stdout)
    assert (status["metric"], status["better"], status["best"], status["verdicts"]) == (
        *("depth", "less", best.metric_value),
        [],
    )
    shown = json.loads(run("best", path, "--json").stdout)
    assert (shown["trial_id"], shown["metric"], shown["metric_value"]) == (
        *(best.trial_id, "depth"),
        best.metric_value,
    )
    rows = json.loads(run("trials", path, "--json").stdout)
    assert rows[0]["metric_value"] == rows[0]["best.depth"] == best.metric_value


def test_progress_shows_the_value_as_returned(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = tune(Losing(), 8, path, rounds=[1, 2], progress=None)[0]
    assert f"best {best.metric_value:.6g} (trial {best.trial_id})" in capsys.readouterr().err


class Noting(Sampler):
    """Draws, and keeps what it has seen."""

    adaptive = True

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        SEEN.extend(
            (v, m["depth"])
            for seen in history
            for v, m in zip(seen.values, seen.metrics, strict=True)
        )
        return space.build(lambda path, distribution: distribution.sample(rng))


SEEN: list[tuple[float, float]] = []


def test_a_sampler_sees_the_standing_and_what_was_returned(path: Path) -> None:
    SEEN.clear()
    tune(Losing(), 4, path, rounds=letstune.Rounds([1], cohort=1), sampler=Noting())
    assert SEEN
    assert all(standing == -depth for standing, depth in SEEN)


def test_a_run_that_minimises_resumes_exactly(path: Path) -> None:
    other = path.with_name("other.db")
    tune(Losing(), 8, path, rounds=[1])
    letstune.resume(path, rounds=[1, 2], progress=False)
    tune(Losing(), 8, other, rounds=[1, 2])
    assert metrics_of(path) == metrics_of(other)


@pytest.mark.parametrize(
    ("name", "hinted"), [("valid_loss", True), ("-valid_loss", False), ("minus_error", False)]
)
def test_a_name_that_sounds_like_less_gets_a_line_in_a_new_run_only(
    name: str, hinted: bool, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Named(Hill):
        metric = name

        def train(self, params: Point) -> Any:
            return None, {name.removeprefix("-"): params.x}

    tune(Named(), 2, path)
    assert ('write metric = "-valid_loss"' in capsys.readouterr().err) is hinted
    tune(Named(), 4, path)
    assert capsys.readouterr().err == ""


class Direction(Enum):
    MINIMIZE = 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("direction", "minimize"), ("mode", "min"), ("minimize", True), ("direction", Direction(1))],
)
@pytest.mark.parametrize("on_class", [True, False])
def test_what_other_tuners_say_is_refused_before_anything_is_written(
    name: str, value: object, on_class: bool, path: Path
) -> None:
    class Elsewhere(Hill):
        pass

    trainer = Elsewhere()
    setattr(Elsewhere if on_class else trainer, name, value)
    with pytest.raises(TrainerError, match=rf'{name} = .*Write metric = "-height"'):
        tune(trainer, 2, path)
    assert not path.exists()


def test_a_minus_that_is_contradicted_is_refused(path: Path) -> None:
    trainer = Losing()
    trainer.direction = "maximize"  # type: ignore[attr-defined]
    with pytest.raises(TrainerError, match='Write metric = "depth" if greater is better'):
        tune(trainer, 2, path)


@pytest.mark.parametrize(("name", "value"), [("mode", "train"), ("minimize", len), ("mode", "max")])
def test_what_says_nothing_else_than_the_metric_is_left_alone(
    name: str, value: object, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = Hill()
    setattr(trainer, name, value)
    assert tune(trainer, 2, path).finished
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("workers", WORKERS)
def test_a_loss_that_is_to_be_minimised_is_and_how_to_write_it_is_told(
    workers: int | None, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = tune(Keras(), 8, path, workers=workers)
    told = "Keras.mode = 'min' is taken for a leading minus.*metric = \"-val_loss\" instead"
    assert_match(told, capsys.readouterr().err)
    least = min(trial.metric_values["val_loss"] for trial in tuning)
    assert tuning[0].metric_value == tuning[0].metric_values["val_loss"] == least
    assert letstune.resume(path, progress=False)[0].metric_value == tuning[0].metric_value


class Keras(Hill):
    metric = "val_loss"
    mode = "min"

    def train(self, params: Point) -> Any:
        return None, {"val_loss": abs(params.x)}


def assert_match(pattern: str, text: str) -> None:
    import re

    assert re.search(f"(?s){pattern}", text), text


# Epochs without the metric


class Sparse(Climb):
    """Is evaluated in every third epoch."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        values = super().train_epoch(epoch)
        return values if epoch % 3 == 2 else {"epoch": epoch}


@pytest.mark.parametrize("workers", WORKERS)
def test_an_epoch_without_the_metric_has_no_value_and_that_is_told_once(
    workers: int | None, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = tune(Sparse(), 8, path, rounds=[3, 3], workers=workers, progress=None)
    err = capsys.readouterr().err
    assert err.count("returned no 'height'") == 1
    assert tuning.finished
    assert tuning.errors == tuning.verdicts == []
    assert [math.isnan(epoch.metric_value) for epoch in tuning[0].epochs] == [True, True, False] * 2
    assert math.isfinite(tuning[0].metric_value)
    assert "height" not in tuning[0].epochs[0].metric_values


def test_a_run_with_epochs_without_the_metric_resumes_exactly(path: Path) -> None:
    other = path.with_name("other.db")
    tune(Sparse(), 8, path, rounds=[2])
    letstune.resume(path, rounds=[2, 4], progress=False)
    tune(Sparse(), 8, other, rounds=[2, 4])
    assert metrics_of(path) == metrics_of(other)


class Forgets(Hill):
    def train(self, params: Point) -> Any:
        return params, {"depth": 1.0}


@pytest.mark.parametrize("workers", WORKERS)
def test_a_trainer_of_one_epoch_without_the_metric_ends_the_run(
    workers: int | None, path: Path
) -> None:
    with pytest.raises(TrainerError, match=r"returned no 'height'.*\['depth'\].*Return it"):
        tune(Forgets(), 4, path, workers=workers)
    assert facts(path)["failures"] == facts(path)["epochs"] == []
    store = path.with_name("run.checkpoints")
    assert [entry for entry in store.iterdir() if not entry.name.startswith(".")] == []


# Values that are no numbers


class Name(str):
    """Ends whoever brings it back."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        return os._exit, (3,)


class Raises:
    def __float__(self) -> float:
        raise ZeroDivisionError("no number")

    __repr__ = __float__  # type: ignore[assignment]


class Weird:
    """Registered as a number, and none."""

    def __float__(self) -> float:
        raise ZeroDivisionError("no number")


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "none": (lambda: {"height": None}, "'height': None; expected a real number"),
    "text": (lambda: {"height": "0.9"}, "'height': '0.9'; expected a real number"),
    "no dict": (lambda: 0.9, "returned 0.9; expected metric values, a dict"),
    "nothing": (lambda: None, "returned None; expected metric values, a dict"),
    "other": (lambda: {"height": 1.0, "other": None}, "'other': None; expected a real number"),
    "name": (lambda: {Name("height"): 1.0}, "'height', of the class Name; expected a str"),
    "no repr": (lambda: {"height": Raises()}, "of the class Raises, whose repr() raises"),
}


class Odd(Climb):
    """Returns what is no number, in the second epoch of the second trial, or in each."""

    def __init__(self, which: str, *, always: bool = False) -> None:
        self.which = which
        self.always = always

    def create_model(self, params: Point) -> None:
        super().create_model(params)
        self.model.append(params.n)

    def train_epoch(self, epoch: int) -> Any:
        values = {"height": float(epoch)}
        bad = self.always or (self.model[0] > 0 and epoch == 1)
        return BAD[self.which][0]() if bad else values


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("which", BAD)
def test_what_is_no_number_is_its_trials_failure(
    which: str, workers: int | None, path: Path
) -> None:
    tuning = tune(Odd(which), 6, path, rounds=[3], workers=workers)
    assert tuning.finished
    assert {error.trial_id for error in tuning.errors} == {
        trial.trial_id for trial in tuning if trial.params.x > 0
    }
    assert 0 < len(tuning.errors) < 6
    for error in tuning.errors:
        assert (error.kind, error.epoch) == ("raised", 1)
        assert BAD[which][1] in error.message


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("which", ["none", "no dict", "name"])
def test_in_the_very_first_epoch_it_ends_the_run(
    which: str, workers: int | None, path: Path
) -> None:
    with pytest.raises(TrainerError) as caught:
        tune(Odd(which, always=True), 6, path, rounds=[3], workers=workers)
    assert BAD[which][1] in str(caught.value)
    assert facts(path)["failures"] == facts(path)["epochs"] == []


class Converting(Climb):
    """Returns a value that raises when it is asked for its number, in one kind of trial."""

    def __init__(self, *, always: bool = False) -> None:
        self.always = always

    def train_epoch(self, epoch: int) -> Any:
        import numbers

        numbers.Real.register(Weird)
        bad = self.always or self.model[0] > 0
        return {"height": Weird()} if bad else super().train_epoch(epoch)


@pytest.mark.parametrize("workers", WORKERS)
def test_a_value_that_raises_is_its_trials_failure_even_in_the_first_epoch(
    workers: int | None, path: Path
) -> None:
    tuning = tune(Converting(always=True), 2, path, rounds=[1], workers=workers)
    assert [error.message.splitlines()[0] for error in tuning.errors] == [
        "ZeroDivisionError: no number"
    ] * 2
    assert "the metric value 'height', of the class Weird" in tuning.errors[0].message


class Clock(Climb):
    def train_epoch(self, epoch: int) -> Any:
        if self.model[0] > 0:
            real = time.perf_counter

            def broken() -> float:
                time.perf_counter = real
                return math.nan

            time.perf_counter = broken
        return super().train_epoch(epoch)


@pytest.mark.parametrize("workers", WORKERS)
def test_a_clock_without_a_number_is_its_trials_failure(workers: int | None, path: Path) -> None:
    tuning = tune(Clock(), 6, path, rounds=[1], workers=workers)
    assert 0 < len(tuning.errors) < 6
    assert all("The clock, time.perf_counter, told" in error.message for error in tuning.errors)


def test_what_is_wrong_in_create_model_is_its_trials_failure(path: Path) -> None:
    class Stops(Climb):
        def create_model(self, params: Point) -> None:
            super().create_model(params)
            if params.x < 0:
                raise letstune.StopTraining({"height": 1.0})

    tuning = tune(Stops(), 6, path, rounds=[1])
    assert all("StopTraining was raised with metric values" in e.message for e in tuning.errors)
    assert 0 < len(tuning.errors) < 6


# Verdicts


class Lost(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        return {"height": math.nan, "other": math.inf}


@pytest.mark.parametrize("workers", WORKERS)
def test_a_run_without_a_finite_value_is_told(
    workers: int | None, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = tune(Lost(), 8, path, rounds=[1, 2], workers=workers)
    (verdict,) = tuning.verdicts
    assert verdict.startswith("There is no winner: none of 12 epochs has a finite value of height")
    assert f"letstune: {verdict}" in capsys.readouterr().err
    with pytest.raises(letstune.errors.TrialNotFoundError, match="no result: no epoch has"):
        _ = tuning.best
    assert json.loads(run("status", path, "--json").stdout)["verdicts"] == [verdict]
    assert verdict in run("status", path).stdout
    best = run("best", path)
    assert (best.exit_code, best.stdout) == (1, "")
    assert "no result" in best.stderr
    assert run("resume", path).exit_code == 1


def test_a_round_with_nothing_to_decide_by_is_told_when_it_happens(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = tune(Sparse(), 8, path, rounds=[2, 4], progress=None)
    (verdict,) = tuning.verdicts
    assert verdict.startswith("Round 1 had nothing to decide by: none of its 8 trials had a finite")
    first, *_ = [line for line in capsys.readouterr().err.splitlines() if verdict in line]
    assert first == verdict  # while it goes on; at the end, it says who speaks
    assert math.isfinite(tuning.best.metric_value)
    assert run("best", path).exit_code == 0
    assert run("resume", path).exit_code == 1


def test_a_round_that_keeps_all_decides_nothing(path: Path) -> None:
    tuning = tune(Sparse(), 4, path, rounds=letstune.Rounds([2, 4], keep=1))
    assert tuning.verdicts == []


def test_a_good_run_has_no_verdicts(path: Path) -> None:
    tune(Climb(), 8, path, rounds=[1, 2])
    _, state = Journal(path).load()
    assert verdicts(state, "run.db") == []
    assert not in_vain(state)
    assert run("resume", path).exit_code == 0


# What workers send


class Bomb(Exception):
    """Ends whoever brings it back."""

    def __reduce__(self) -> Any:
        return os._exit, (3,)


class Bombing(Climb):
    def train_epoch(self, epoch: int) -> Any:
        if self.model[0] > 0:
            raise Bomb("boom")
        return super().train_epoch(epoch)


@pytest.mark.parametrize("workers", WORKERS)
def test_an_exception_is_never_brought_back(workers: int | None, path: Path) -> None:
    tuning = tune(Bombing(), 6, path, rounds=[1], workers=workers)
    assert {error.message.rpartition(".")[2] for error in tuning.errors} == {"Bomb: boom"}


def test_passed_through_from_a_worker_it_is_text(path: Path) -> None:
    with pytest.raises(TrainerError, match=r"(?s)in train_epoch.*Bomb: boom"):
        tune(Bombing(), 6, path, rounds=[1], workers=1, passthrough_errors=True)


class BombingEarly(Climb):
    def load_dataset(self, dataset: Any) -> None:
        raise Bomb("boom")


def test_what_load_dataset_raises_in_a_worker_is_text(path: Path) -> None:
    with pytest.raises(WorkerError, match=r"(?s)in load_dataset.*Bomb: boom.*Nothing is lost"):
        tune(BombingEarly(), 6, path, rounds=[1], workers=1)


def test_only_letstunes_errors_travel_and_as_text() -> None:
    class Derived(CheckpointError):
        pass

    error = Derived("gone")
    error.add_note("a note")
    packed = pack(error)
    assert packed == b'["CheckpointError", "gone", ["a note"]]'
    back = unpack(packed)
    assert type(back) is CheckpointError
    assert (str(back), back.__notes__) == ("gone", ["a note"])
    assert pack(ValueError("x")) is pack(Bomb()) is pack(None) is None
    assert unpack(None) is unpack(b'["Any", "", []]') is unpack(b'["no", "", []]') is None


@pytest.mark.parametrize(
    "error",
    [
        e
        for e in vars(letstune.errors).values()
        if isinstance(e, type) and issubclass(e, LetstuneError)
    ],
)
def test_every_error_of_letstunes_comes_back_as_it_was(error: type[LetstuneError]) -> None:
    back = unpack(pack(error("said so")))
    assert type(back) is error
    assert str(back) == "said so"


# The same in this process and in a worker


RAISED: list[type[BaseException]] = [
    asyncio.CancelledError,
    GeneratorExit,
    SystemExit,
    MemoryError,
    StopIteration,
    BaseException,
]


class Quitting(Climb):
    def __init__(self, error: type[BaseException], where: str) -> None:
        self.error = error
        self.where = where

    def quit(self, where: str) -> None:
        if where == self.where:
            raise self.error("said so")

    def load_dataset(self, dataset: Any) -> None:
        self.quit("load_dataset")

    def create_model(self, params: Point) -> None:
        super().create_model(params)
        if params.x > 0:
            self.quit("create_model")

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if self.model[0] > 0:
            self.quit("train_epoch")
        return super().train_epoch(epoch)

    def save(self, checkpoint: Any) -> None:
        super().save(checkpoint)
        if self.model[0] > 0:
            self.quit("save")


@pytest.mark.parametrize("error", RAISED)
@pytest.mark.parametrize("where", ["create_model", "train_epoch", "save"])
def test_whatever_is_raised_is_the_trials_failure(
    where: str, error: type[BaseException], path: Path
) -> None:
    tuning = tune(Quitting(error, where), 6, path, rounds=[1])
    assert tuning.finished
    assert 0 < len(tuning.errors) < 6
    assert all(e.message.endswith(f"{error.__name__}: said so") for e in tuning.errors)


@pytest.mark.slow
@pytest.mark.parametrize("error", RAISED)
def test_it_is_in_a_worker_too(error: type[BaseException], path: Path) -> None:
    other = path.with_name("other.db")
    tune(Quitting(error, "train_epoch"), 6, path, rounds=[1], workers=1)
    tune(Quitting(error, "train_epoch"), 6, other, rounds=[1])
    assert facts(path) == facts(other)
    assert letstune.load(path).errors


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, SystemExit])
def test_of_load_dataset_it_ends_the_run_with_an_error(
    error: type[BaseException], workers: int | None, path: Path
) -> None:
    with pytest.raises(TrainerError, match=rf"load_dataset raised .*{error.__name__}: said so"):
        tune(Quitting(error, "load_dataset"), 2, path, rounds=[1], workers=workers)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, letstune.Interrupted])
@pytest.mark.parametrize("where", ["load_dataset", "train_epoch"])
def test_an_interruption_by_the_trainer_keeps_its_meaning(
    where: str, error: type[BaseException], workers: int | None, path: Path
) -> None:
    with pytest.raises(error):
        tune(Quitting(error, where), 6, path, rounds=[1], workers=workers)
    assert letstune.load(path).errors == query(path, "SELECT * FROM deaths") == []


@pytest.mark.parametrize("workers", WORKERS)
def test_an_iteration_that_stops_in_load_dataset_is_told_as_such(
    workers: int | None, path: Path
) -> None:
    with pytest.raises(TrainerError, match="load_dataset raised StopIteration: said so"):
        tune(Quitting(StopIteration, "load_dataset"), 2, path, rounds=[1], workers=workers)


def test_more_metric_values_than_anybody_reads_are_told(path: Path) -> None:
    class Many(Climb):
        def train_epoch(self, epoch: int) -> dict[str, float]:
            return {str(number): 0.0 for number in range(10_001)} | super().train_epoch(epoch)

    with pytest.raises(TrainerError, match=r"returned 10003 metric values; expected at most 10000"):
        tune(Many(), 1, path, rounds=[1])


def test_of_an_error_that_nobody_can_read_the_middle_is_left_out(path: Path) -> None:
    class Wordy(Climb):
        def train_epoch(self, epoch: int) -> dict[str, float]:
            raise ValueError("first " + "x" * 20_000_000 + " last")

    tune(Wordy(), 1, path, rounds=[1])
    ((message, traceback),) = query(path, "SELECT message, traceback FROM failures")
    for text in (message, traceback):
        assert len(text) < 1_001_000
        assert "ValueError: first xx" in text
        assert text.strip().endswith("xx last")
        assert re.search(r"x\n\.\.\. 19\d{6} characters are left out \.\.\.\nx", text)
