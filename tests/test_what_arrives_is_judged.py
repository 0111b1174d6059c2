"""What an executor delivers is judged before it is recorded; what cannot be is named."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from journal_facts import facts
from small_trainers import Climb, tune

import letstune
from letstune.errors import PluginError
from letstune.rounds.arriving import refused
from letstune.rounds.events import (
    EpochFinished,
    Stored,
    Task,
    TaskEnded,
    TrialFailed,
    TrialProposed,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.plan import Plan, Rounds
from letstune.rounds.state import State
from letstune.workers.executor import Delivery
from letstune.workers.in_process import InProcessExecutor

STORED = Stored("0/1-a", 3, "00")
RIGHT = EpochFinished(0, 1, -0.5, {"loss": 0.5, "other": 1.0}, "2026", 1.5, STORED)
TASK = Task(0, "a-1", "{}", 1, 1.0, 4, False)
FAILED = TrialFailed(0, 1, "raised", "ValueError: no", "")
DIED = WorkerDied(0, 1, "a-1", -9, None, "", "2026")
ENDED = TaskEnded(0)
PLAN = Plan(
    metric="-loss",
    n_trials=2,
    rounds=Rounds([4, 4]),
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


def trial(*more: Any) -> Any:
    state = State(PLAN)
    for event in (TrialProposed(0, "{}", "random"), RIGHT._replace(epoch=0), *more):
        state.apply(event)
    return state.trials[0]


@pytest.mark.parametrize(
    "events",
    [
        [],
        [RIGHT],
        [RIGHT, RIGHT._replace(epoch=2), RIGHT._replace(epoch=3, checkpoint=None), ENDED],
        [RIGHT._replace(value=math.nan, metrics={}), ENDED],
        [RIGHT._replace(value=math.nan, metrics={"loss": math.nan})],
        [RIGHT._replace(value=math.inf, metrics={"loss": -math.inf})],
        [RIGHT, TrialStopped(0, 1), ENDED],
        [TrialStopped(0, 0)],
        [FAILED, ENDED],
        [FAILED._replace(epoch=-1)],  # in load_dataset
        [DIED, ENDED],
        [RIGHT, DIED, ENDED],
        [FAILED, DIED, ENDED],
    ],
)
def test_what_follows_is_taken(events: list[Any]) -> None:
    assert refused("-loss", TASK, trial(), events) == ""


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([RIGHT._replace(epoch=2)], "epoch 2, where epoch 1 comes next"),
        ([RIGHT._replace(epoch=0)], "epoch 0, where epoch 1 comes next"),
        ([RIGHT, RIGHT], "epoch 1, where epoch 2 comes next"),
        ([RIGHT._replace(epoch=True)], "epoch True, where epoch 1 comes next"),
        ([RIGHT._replace(epoch=1.0)], "epoch 1.0, where epoch 1 comes next"),  # type: ignore[arg-type]
        ([RIGHT._replace(trial=1)], "an EpochFinished of trial 1"),
        (
            [RIGHT._replace(epoch=1 + k) for k in range(4)],
            "epoch 4, though the task was to end before it",
        ),
        ([RIGHT._replace(value=0.5)], "whose value is 0.5, with 'loss' 0.5 among its metrics"),
        ([RIGHT._replace(value=math.nan)], "whose value is nan, with 'loss' 0.5 among its"),
        ([RIGHT._replace(metrics={})], "whose value is -0.5, with 'loss' lacking among its"),
        ([RIGHT._replace(metrics={"loss": 1})], "whose metrics have 'loss': 1; expected a float"),
        ([RIGHT._replace(metrics=None)], "an epoch 1 whose metrics are None"),  # type: ignore[arg-type]
        ([RIGHT._replace(value="x")], "an epoch 1 whose value is 'x'; expected a float"),  # type: ignore[arg-type]
        ([RIGHT._replace(seconds=-1.0)], "an epoch 1 that took -1.0 seconds"),
        ([RIGHT._replace(seconds=math.nan)], "an epoch 1 that took nan seconds"),
        ([RIGHT._replace(started=None)], "an epoch 1 that started at None"),  # type: ignore[arg-type]
        ([RIGHT._replace(checkpoint="a")], "whose checkpoint is 'a'; expected a Stored or"),  # type: ignore[arg-type]
        ([RIGHT._replace(checkpoint=STORED._replace(size=None))], "a Stored whose size is None"),  # type: ignore[arg-type]
        ([TrialStopped(0, 1)], "a TrialStopped after epoch 1; the last was 0"),
        ([TrialStopped(0, 0), RIGHT], "an EpochFinished, though the trial has ended"),
        ([FAILED, FAILED], "a TrialFailed, though the trial has ended"),
        ([FAILED._replace(message=None)], "a TrialFailed whose message is None"),  # type: ignore[arg-type]
        ([DIED._replace(code="9")], "a WorkerDied whose code is '9'"),  # type: ignore[arg-type]
        ([ENDED, RIGHT], "an EpochFinished after its TaskEnded"),
        ([{"epoch": 1}], "{'epoch': 1}, which is none of EpochFinished, TrialStopped, Tr"),
        ([TrialProposed(0, "{}", "x")], "which is none of EpochFinished, TrialStopped, Trial"),
    ],
)
def test_what_does_not_follow_is_named(events: list[Any], why: str) -> None:
    assert why in refused("-loss", TASK, trial(), events)


def test_nothing_follows_the_end_of_a_trial() -> None:
    why = refused("-loss", TASK, trial(TrialStopped(0, 0)), [RIGHT])
    assert why == "an EpochFinished, though the trial has ended"


def test_a_task_that_is_bounded_by_time_ends_in_time() -> None:
    task = TASK._replace(timed=True, limit=2.0)
    again = RIGHT._replace(epoch=2)
    assert refused("-loss", task, trial(), [RIGHT]) == ""  # of 1.5 s, the first
    assert "epoch 2, though the task was to end" in refused("-loss", task, trial(), [RIGHT, again])


Change = Callable[[Delivery], Any]


def lost(delivery: Delivery) -> Any:
    first = delivery.events[0]
    if isinstance(first, EpochFinished) and first.epoch == 1:
        return [delivery._replace(events=delivery.events[1:])]
    return [delivery]


BROKEN: dict[str, tuple[Change, str]] = {
    "lost": (lost, "epoch 2, where epoch 1 comes next"),
    "doubled": (lambda d: [d, d], "after its TaskEnded|where epoch 1 comes next"),
    "other numbers": (
        lambda d: [d._replace(events=[e._replace(trial=5) for e in d.events])],
        "of trial 5",
    ),
    "dicts": (lambda d: [d._replace(events=[e._asdict() for e in d.events])], "which is none of"),
    "a dict": (lambda d: [d._asdict()], "where a Delivery with a list of events belongs"),
    "None": (lambda d: None, "None, where a list of deliveries was expected"),
    "no events": (lambda d: [d._replace(events=None)], "a Delivery with a list of events"),
    "another value": (
        lambda d: [
            d._replace(
                events=[e._replace(value=9.0) if hasattr(e, "value") else e for e in d.events]
            )
        ],
        "an epoch 0 whose value is 9.0, with 'height'",
    ),
    "nothing but ends": (
        lambda d: [d._replace(events=[TaskEnded(d.trial)])],
        "the end of 5 tasks of trial 0, one after another, without an epoch",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_executor_leaves_a_journal_that_is_read_and_resumed(
    how: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, why = BROKEN[how]
    deliveries = InProcessExecutor.deliveries
    options: dict[str, Any] = {"rounds": [3, 3]}
    with monkeypatch.context() as patch:
        patch.setattr(
            InProcessExecutor,
            "deliveries",
            lambda self: (found := deliveries(self)) and change(found[0]),
        )
        with pytest.raises(PluginError, match=rf"executor 'in-process' delivered .*({why})"):
            tune(Climb(), 4, path, **options)
    if path.exists():
        letstune.load(path)
    tune(Climb(), 4, path, **options)
    tune(Climb(), 4, path.with_name("b.db"), **options)
    assert facts(path) == facts(path.with_name("b.db"))


def test_deliveries_of_other_attempts_are_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("letstune.runs.arrivals.SILENT", 0.0)
    deliveries = InProcessExecutor.deliveries
    told: list[int] = []

    def with_ghosts(self: InProcessExecutor) -> list[Delivery]:
        if len(told) < 3:
            told.append(1)
            return [Delivery(0, "another", [RIGHT])]
        return deliveries(self)

    monkeypatch.setattr(InProcessExecutor, "deliveries", with_ghosts)
    tune(Climb(), 2, path, rounds=[2], progress=None)
    line = "Nothing from letstune's own executor 'in-process' for 0 s but 1 stale deliveries"
    assert capsys.readouterr().err.count(line) == 1
