import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT, TESTS, environment
from small_trainers import Climb, Hill, tune

from letstune.journal.journal import Journal
from letstune.rounds.events import EpochFinished, Event, TrialFailed, TrialProposed
from letstune.rounds.plan import Plan, Rounds
from letstune.rounds.state import State
from letstune.telling.progress import LOG_EVERY, Progress, describe, duration
from letstune.training.stores import DirectoryStore

PLAN = Plan(
    metric="height",
    n_trials=4,
    rounds=Rounds([1, 2], keep=0.25),
    simple=False,
    seed=1,
    space="{}",
    sampler={"name": "random", "options": {}},
    adaptive=False,
    store={"name": "directory", "options": {}},
    lag=0,
    keep_checkpoints=10,
    trainer="small_trainers:Climb",
)


def state(*events: Event) -> State:
    found = State(PLAN)
    for event in [*(TrialProposed(i, "{}", "random") for i in range(4)), *events]:
        found.apply(event)
    return found


def epoch(trial: int, number: int, value: float) -> EpochFinished:
    return EpochFinished(trial, number, value, {"height": value}, "2026-01-01T00:00:00+00:00", 2.0)


FIRST_ROUND = [epoch(i, 0, i / 10) for i in range(4)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (59.6, "1 min 0 s"),
        (75, "1 min 15 s"),
        (3599.9, "1 h 0 min"),
        (7260, "2 h 1 min"),
        (360000, "100 h 0 min"),
    ],
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_at_the_beginning_nothing_is_known() -> None:
    assert describe(state(), 0.0, 0) == "round 1/2, 4 of 4 trials left, 0 epochs, no result yet"


def test_it_tells_round_trials_left_best_and_time_left() -> None:
    # 2 of 4 + 2 epochs took 10 s.
    assert describe(state(*FIRST_ROUND[:2]), 10.0, 0) == (
        "round 1/2, 3 of 4 trials left, 2 epochs, best 0.1 (trial 1), about 20 s left"
    )


def test_the_round_is_the_latest_one_with_something_to_train() -> None:
    assert describe(state(*FIRST_ROUND), 4.0, 0) == (
        "round 2/2, 1 of 4 trials left, 4 epochs, best 0.3 (trial 3), about 2 s left"
    )


def test_only_this_sessions_epochs_tell_the_pace() -> None:
    assert "about 60 s" not in (told := describe(state(*FIRST_ROUND), 30.0, 3))
    assert told.endswith("about 1 min 0 s left")


def test_without_epochs_in_this_session_the_time_left_is_not_told() -> None:
    assert "about" not in describe(state(*FIRST_ROUND), 30.0, 4)


def test_in_the_end_it_is_finished() -> None:
    done = state(*FIRST_ROUND, epoch(3, 1, 0.5), epoch(3, 2, 0.7))
    assert describe(done, 9.0, 0) == "finished, 0 of 4 trials left, 6 epochs, best 0.7 (trial 3)"


def test_one_of_a_thing_has_no_s() -> None:
    alone = State(replace(PLAN, n_trials=1))
    alone.apply(TrialProposed(0, "{}", "random"))
    alone.apply(epoch(0, 0, 0.5))
    assert describe(alone, 0.0, 0) == ("round 2/2, 1 of 1 trial left, 1 epoch, best 0.5 (trial 0)")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_in_a_log_there_is_a_line_every_half_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = state()
    shown = Progress(begun, clock=clock)
    lines = []
    for step in range(8):
        clock.now += 10
        begun.apply(FIRST_ROUND[0]) if step == 0 else None
        shown.recorded([], begun)
        lines.append(capsys.readouterr().err.count("\n"))
    assert LOG_EVERY == 30
    assert lines == [0, 0, 1, 0, 0, 1, 0, 0]


def test_a_failure_has_a_line_of_its_own_at_once(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    failure = TrialFailed(2, 7, "raised", "ValueError: [red]oh", "...")
    Progress(state(), clock=clock).recorded([failure], state())
    assert capsys.readouterr().err == "Trial 2 failed in epoch 7: ValueError: [red]oh\n"


def test_it_ends_with_one_line_on_where_the_run_is(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Progress(state(*FIRST_ROUND), clock=clock)
    shown.close()
    shown.close()
    assert capsys.readouterr().err.splitlines() == [
        "round 2/2, 1 of 4 trials left, 4 epochs, best 0.3 (trial 3)"
    ]


def test_silence_is_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(state(), show=False, clock=clock)
    shown.recorded([TrialFailed(2, 7, "raised", "oh", "...")], state())
    clock.now += 100
    shown.recorded([], state())
    shown.tell("oh")
    shown.close()
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_a_line_changes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress(state(), clock=clock)
    shown.recorded([TrialFailed(2, 7, "raised", "[/oh] [bold]no", "...")], state())
    clock.now += 1
    shown.recorded([], state(*FIRST_ROUND))
    shown.close()
    err = capsys.readouterr().err
    assert "Trial 2 failed in epoch 7: [/oh] [bold]no" in err
    assert "best 0.3 (trial 3)" in err


NOTEBOOK = """
import letstune, small_trainers, letstune.telling.progress
letstune.telling.progress.REFRESH = 0.0
small_trainers.tune(small_trainers.Climb(), 3, {journal!r}, rounds=[2], progress=True)
"""


@pytest.mark.slow
def test_in_a_notebook_a_cell_changes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipykernel")
    nbclient = pytest.importorskip("nbclient")
    from nbformat.v4 import new_code_cell, new_notebook

    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{TESTS}")
    cell = new_code_cell(NOTEBOOK.format(journal=str(path)))
    updates = []

    class Client(nbclient.NotebookClient):  # type: ignore[misc]
        def process_message(self, message: Any, *args: Any) -> Any:
            if message["msg_type"] == "update_display_data":
                updates.append(message["content"]["data"]["text/plain"])
            return super().process_message(message, *args)

    Client(new_notebook(cells=[cell])).execute()
    assert any("of 3 trials left" in line and "epochs, best" in line for line in updates)
    shown = "".join(output.get("text", "") for output in cell["outputs"])
    assert "finished, 0 of 3 trials left" in shown
    assert "Warning" not in shown


INTERRUPTED = """
import letstune, os, signal, small_trainers
class Interrupted(small_trainers.Climb):
    def train_epoch(self, epoch):
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return super().train_epoch(epoch)
tuning = letstune.tune(Interrupted(), 3, journal={journal!r}, rounds=[3], progress=False)
"""


@pytest.mark.slow
def test_in_a_notebook_an_interruption_gives_the_results_so_far(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ipykernel")
    nbclient = pytest.importorskip("nbclient")
    from nbformat.v4 import new_code_cell, new_notebook

    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{TESTS}")
    cell = new_code_cell(INTERRUPTED.format(journal=str(path)))
    after = new_code_cell("print(len(tuning[0].epochs), tuning.finished, tuning.stopped)")
    nbclient.NotebookClient(new_notebook(cells=[cell, after])).execute()
    shown = "".join(output.get("text", "") for output in cell["outputs"])
    assert shown.count("Resume with:  letstune resume") == 1
    assert "Traceback" not in shown
    (output,) = after["outputs"]
    assert output["text"].startswith("2 False interrupted; all is recorded. Resume with:")


@pytest.mark.slow
def test_at_a_prompt_an_interruption_ends_no_session(path: Path) -> None:
    code = INTERRUPTED.format(journal=str(path)).replace("\ntuning =", "\n\ntuning =")
    done = subprocess.run(
        [sys.executable, "-i"],
        input=f"{code}print('here', tuning.finished)\n",
        env=environment(TESTS),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "here False" in done.stdout
    assert "SystemExit" not in done.stderr


@pytest.mark.parametrize("trainer", [Climb(), Hill()])
def test_a_run_is_described_at_its_end(
    trainer: Any, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(trainer, 3, path, progress=True)
    *_, last = capsys.readouterr().err.splitlines()
    journal = Journal(path)
    assert last == describe(journal.load()[1], 0.0, 0)
    journal.close()
    assert last.startswith("finished, 0 of 3 trials left, ")


@pytest.mark.parametrize("method", ["recorded", "tell"])
def test_a_display_that_fails_ends_no_run_and_is_told_once(
    method: str,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("no display")

    def undeletable(*_: Any) -> None:
        raise OSError("busy")  # so that there is something to tell

    monkeypatch.setattr(Progress, method, broken)
    monkeypatch.setattr(Progress, "close", lambda _: None)
    monkeypatch.setattr(DirectoryStore, "delete", undeletable)
    tuning = tune(Climb(), 3, path, rounds=[3])
    told = capsys.readouterr().err
    assert told.count("display failed: ValueError('no display'). The run goes on.") == 1
    assert tuning.finished
    assert tuning.errors == []


def test_who_leads_and_then_fails_is_no_leader() -> None:
    failed = TrialFailed(3, 1, "raised", "oh", "...")
    assert state(*FIRST_ROUND).leader == (0.3, 3)
    assert state(*FIRST_ROUND, failed).leader == (0.2, 2)
    replayed = state()
    rows = [(e.trial, e.epoch, e.value, e.seconds) for e in FIRST_ROUND]
    replayed.replay(rows, [failed], [])
    assert replayed.leader == (0.2, 2)
    assert "best 0.2 (trial 2)" in describe(replayed, 0.0, 0)
