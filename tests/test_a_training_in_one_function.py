"""A training may be one function that yields; it resumes as exactly as one in pieces."""

import json
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from journal_facts import facts
from processes import TESTS, environment
from small_trainers import tune

import letstune
from letstune import GeneratorTrainer, Params, StopTraining, TrialRun, rand
from letstune.errors import TrainerError
from letstune.runs.check import check_run
from letstune.training.stores import temporary


class Start(Params):
    x: float = rand.uniform(0, 1)
    kind: str = rand.oneof(["walk", "return", "stop", "raise"], weights=[12, 1, 1, 1])


class Walking(GeneratorTrainer[Start]):
    """Walks at random, with randomness of every kind, before the loop as well."""

    metric = "at"

    def load_dataset(self, dataset: Any) -> None:
        self.draws = dataset or 0

    def train(self, params: Start, run: TrialRun) -> Iterator[dict[str, float]]:
        for _ in range(self.draws):  # which must change nothing in the loop
            random.random(), np.random.random(), self.rng.random()
        state = {"at": params.x, "epochs": []}
        if run.saved:
            state = json.loads((run.saved / "state.json").read_text())
        for epoch in run.epochs():
            if epoch == 3 and params.kind == "return":
                return
            if epoch == 3 and params.kind == "stop":
                raise StopTraining
            if epoch == 3 and params.kind == "raise":
                raise ValueError("no way on")
            state["epochs"].append(epoch)
            state["at"] += self.rng.normal() + np.random.normal() + random.gauss(0, 1)
            state["at"] += self.seed / 2**31
            assert state["epochs"] == list(range(epoch + 1))
            (run.path / "state.json").write_text(json.dumps(state))
            yield {"at": state["at"]}


def events(path: Path) -> dict[str, Any]:
    return {k: facts(path)[k] for k in ("trials", "epochs", "failures", "stops")}


def test_what_is_drawn_before_the_loop_changes_nothing_in_it(path: Path) -> None:
    one = tune(Walking(), 8, path, rounds=[2, 4])
    other = tune(Walking(), 8, path.with_name("other.db"), rounds=[2, 4], dataset=5)
    assert [trial.epochs[-1].metric_values for trial in one] == [
        trial.epochs[-1].metric_values for trial in other
    ]


@pytest.mark.slow
def test_it_comes_out_in_pieces_as_straight_on() -> None:
    assert letstune.rehearse(Walking(), n_trials=6, epochs=5) == []


def test_any_number_of_workers_gives_the_same(path: Path) -> None:
    other = path.with_name("other.db")
    tune(Walking(), 12, other, rounds=[2, 4])
    tune(Walking(), 12, path, rounds=[2, 4], workers=2)
    assert events(path) == events(other)


def test_a_trial_ends_by_a_return_and_fails_by_an_exception(path: Path) -> None:
    tuning = tune(Walking(), 60, path, rounds=letstune.Rounds([5], keep=1))
    kinds = {"return": "stopped", "stop": "stopped", "raise": "failed", "walk": "trained"}
    assert {trial.params.kind for trial in tuning} == set(kinds)
    for trial in tuning:
        assert trial.status == kinds[trial.params.kind], trial
        assert len(trial.epochs) == (5 if trial.status == "trained" else 3)


SCRIPT = """
import os, random, signal, sys
import letstune
from test_a_training_in_one_function import Walking

dice = random.Random(int(sys.argv[2]))

class Dying(Walking):
    def train(self, params, run):
        self.die(0.1)
        for values in super().train(params, run):
            self.die(0.2)
            yield values

    def die(self, share):
        if dice.random() < share:
            os.kill(os.getpid(), signal.SIGKILL)

letstune.tune(Dying(), 8, journal=sys.argv[1], rounds=[2, 4], seed=1, progress=False)
"""


@pytest.mark.slow
def test_killed_in_the_loop_and_before_it_it_comes_out_the_same(path: Path) -> None:
    other = path.with_name("other.db")
    tune(Walking(), 8, other, rounds=[2, 4])
    codes = []
    while codes[-1:] != [0]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(path), str(len(codes))],
            env=environment(TESTS),
            timeout=60,
            check=False,
        )
        codes.append(done.returncode)
        assert done.returncode in (0, -signal.SIGKILL)
    assert len(codes) > 2
    assert events(path) == events(other)
    assert all(finding.mended for finding in check_run(path, fix=True))


class Mistaken(GeneratorTrainer[Start]):
    metric = "at"
    kind = ""

    def load_dataset(self, dataset: Any) -> None:
        self.kind = dataset

    def train(self, params: Start, run: TrialRun) -> Iterator[dict[str, float]]:
        if self.kind == "before":
            yield {"at": 1.0}
        for epoch in run.epochs():
            if self.kind == "nothing" and epoch == 1:
                continue
            yield {"at": 1.0}
            if self.kind == "twice":
                yield {"at": 2.0}
            if self.kind == "two loops":
                for _ in run.epochs():
                    yield {"at": 2.0}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("before", "yielded outside of its loop over run.epochs()"),
        ("twice", "or twice in one round: {'at': 2.0}"),
        ("nothing", "Epoch 1 ended without metric values"),
        ("two loops", "run.epochs() was called twice"),
    ],
)
def test_a_loop_of_another_form_is_an_error_that_says_so(
    kind: str, message: str, path: Path
) -> None:
    if kind == "before":  # nothing was recorded, so that the run is as good as new
        with pytest.raises(TrainerError) as caught:
            tune(Mistaken(), 1, path, rounds=[3], dataset=kind)
        assert message in str(caught.value)
    else:
        (error,) = tune(Mistaken(), 1, path, rounds=[3], dataset=kind).errors
        assert message in error.message


class Returning(Mistaken):
    def train(self, params: Start, run: TrialRun) -> Any:
        return {"at": 1.0}


def test_what_is_no_generator_is_refused(path: Path) -> None:
    with pytest.raises(TrainerError, match="expected a generator: a function that yields"):
        tune(Returning(), 1, path, rounds=[3])


class Cleaning(Mistaken):
    def train(self, params: Start, run: TrialRun) -> Iterator[dict[str, float]]:
        try:
            for _ in run.epochs():
                (run.path / "x").touch()
                yield {"at": params.x}
        finally:
            with Path(self.kind).open("a") as file:
                file.write(f"{run.path.parent.is_dir()}\n")


def test_a_finally_runs_before_the_next_trial_begins_and_nothing_is_left(
    path: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    before = set(temporary().iterdir())
    tune(Cleaning(), 3, path, rounds=[2], dataset=str(log))
    assert log.read_text().split() == ["True"] * 3
    assert set(temporary().iterdir()) == before


class Leaving(Mistaken):
    """Raises, or waits for ever, when a training is over."""

    def train(self, params: Start, run: TrialRun) -> Iterator[dict[str, float]]:
        try:
            for _ in run.epochs():
                yield {"at": params.x}
        finally:
            if self.kind == "waits":
                threading.Event().wait()
            raise SystemExit(0)


@pytest.mark.parametrize("workers", [None, pytest.param(1, marks=pytest.mark.slow)])
def test_what_is_raised_when_a_training_is_over_ends_nothing(
    workers: int | None, path: Path, capfd: Any
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        timeout = 60 if workers else None
        tuning = tune(Leaving(), 3, path, rounds=[2], workers=workers, epoch_timeout=timeout)
    assert tuning.finished
    assert not tuning.errors
    error = capfd.readouterr().err
    assert "Leaving raised SystemExit: 0 when a training was over" in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_who_hangs_when_a_training_is_over_holds_up_nothing(path: Path, capfd: Any) -> None:
    tuning = tune(Leaving(), 3, path, rounds=[2], workers=1, dataset="waits", epoch_timeout=0.5)
    assert tuning.finished
    assert not tuning.errors
    assert capfd.readouterr().err.count("took longer than epoch_timeout, 0.5 s. Nothing is") == 2


def test_outside_of_a_run_it_takes_no_files_of_the_users(path: Path) -> None:
    tuning = tune(Walking(), 2, path, rounds=[2])
    again = tuning[0].retrain(folder=path.with_name("best"))
    with pytest.raises(TrainerError, match=r"in a run.* read the files in the folder"):
        Walking().load(again.checkpoint, tuning[0].params)
    assert (path.with_name("best") / "state.json").is_file()
