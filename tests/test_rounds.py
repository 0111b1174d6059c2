"""Laws of rounds, cohorts and retention, over values only."""

import math
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_runs import Run, World, make_plan, plans, random_world, worlds

from letstune import Rounds
from letstune.errors import IllegalEventError, PlanError
from letstune.rounds.cohorts import rank_key
from letstune.rounds.decisions import (
    doomed,
    next_proposal,
    next_tasks,
    on_podium,
    planned_epochs,
    useless,
)
from letstune.rounds.events import (
    CheckpointDeleted,
    EpochFinished,
    TrialFailed,
    TrialProposed,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.plan import Plan
from letstune.rounds.state import TRANSITIONS, State


@given(plans, worlds, st.integers(2, 12), st.randoms(use_true_random=False))
def test_the_outcome_depends_neither_on_workers_nor_on_the_order_of_results(
    plan: Plan, world: World, workers: int, order: random.Random
) -> None:
    one, many = Run(plan, world, 1, order), Run(plan, world, workers, order)
    assert many.trained == one.trained
    assert many.due == one.due
    assert many.sights == one.sights
    assert many.state.finished
    assert one.state.finished
    assert [t.round for t in many.state.trials] == [t.round for t in one.state.trials]
    kept = [sorted(trial.kept) for trial in many.state.trials]
    assert kept == [sorted(trial.kept) for trial in one.state.trials]


def by_hand(plan: Plan, world: World) -> set[tuple[int, int]]:
    """Train cohort by cohort, round by round, as the definition says: slowly and simply."""
    trained, first, cohort = set(), 0, 0
    limits = plan.rounds.limits
    while first < plan.n_trials:
        size = min(plan.cohort_size(cohort), plan.n_trials - first)
        alive, places = list(range(first, first + size)), size
        values: dict[int, list[float]] = {t: [] for t in alive}
        ended: dict[int, str] = {}
        for limit in limits:
            for t in alive:
                while t not in ended and len(values[t]) < limit:
                    outcome = world(t, len(values[t]))
                    if outcome in ("fail", "stop"):
                        ended[t] = outcome
                    else:
                        stops = isinstance(outcome, tuple)
                        trained.add((t, len(values[t])))
                        values[t].append(outcome[1] if stops else outcome)
                        if stops:
                            ended[t] = "stop"
            places = min(places, math.ceil(plan.rounds.keep * places - 1e-9))
            standing = [t for t in alive if ended.get(t) != "fail"]
            finite = {t: [v for v in values[t] if math.isfinite(v)] for t in alive}
            standing.sort(key=lambda t: (not finite[t], -max(finite[t], default=0.0), t))
            alive = standing[:places]
        first, cohort = first + size, cohort + 1
    return trained


@given(plans, worlds)
def test_what_is_trained_is_what_the_definition_says(plan: Plan, world: World) -> None:
    assert Run(plan, world, 1, random.Random(0)).trained == by_hand(plan, world)


@given(
    plans,
    worlds,
    st.integers(1, 5),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.3]),
    st.integers(1, 3),
)
def test_replaying_a_journal_gives_the_state_that_the_run_had(
    plan: Plan,
    world: World,
    workers: int,
    order: random.Random,
    deadly: float,
    max_deaths: int,
) -> None:
    run = Run(replace(plan, max_deaths=max_deaths), world, workers, order, deadly)
    for stop in range(0, len(run.events) + 1, max(1, len(run.events) // 5)):
        events = run.events[:stop]
        live, replayed = State(plan), State(plan)
        for event in events:
            live.apply(event)
        for event in events:
            if isinstance(event, TrialProposed):
                replayed.apply(event)
        deleted = {(e.trial, e.epoch) for e in events if isinstance(e, CheckpointDeleted)}
        epochs = [e for e in events if isinstance(e, EpochFinished)]
        replayed.replay(
            [(e.trial, e.epoch, e.value, e.seconds) for e in epochs],
            [
                *(e for e in events if isinstance(e, TrialStopped | TrialFailed)),
                *(e for e in events if isinstance(e, WorkerDied)),
            ],
            [
                (e.trial, e.epoch, e.checkpoint)
                for e in epochs
                if e.checkpoint and (e.trial, e.epoch) not in deleted
            ],
        )
        assert summary(replayed) == summary(live)
        assert next_proposal(plan, replayed) == next_proposal(plan, live)
        assert sorted(next_tasks(plan, replayed, (), 99)) == sorted(next_tasks(plan, live, (), 99))
        assert {*useless(plan, replayed)} >= {*useless(plan, live)}


def summary(state: State) -> list[Any]:
    trials = [
        (t.status, t.epochs, t.best, t.best_epoch, t.marks, t.round, t.waiting, t.settled, t.kept)
        for t in state.trials
    ]
    counts = (state.unsettled, state.total_epochs, state.podium, state.frontier, state.leader[0])
    return [*trials, counts, state.deaths]


def test_a_death_after_the_last_epoch_is_not_laid_to_the_trial() -> None:
    plan = make_plan(n_trials=4, rounds=Rounds([1, 1], keep=0.5), max_deaths=1)
    state = State(plan)
    for trial in range(4):
        state.apply(TrialProposed(trial, "{}", "random"))
    deaths = [WorkerDied(trial, 1, "a", -9, None, "", "") for trial in range(4)]
    for trial in (0, 1):
        state.apply(EpochFinished(trial, 0, -trial, {}, "", 1.0))
        assert state.trials[trial].waiting
    state.apply(EpochFinished(2, 0, -2.0, {}, "", 1.0))  # now 0 is certain to advance, 2 is out
    assert (state.trials[0].round, state.trials[2].settled) == (1, True)
    assert list(map(state.counts, deaths)) == [True, False, False, False]
    for death in deaths:
        state.apply(death)
    assert [failure.trial for failure in doomed(plan, state)] == [0]


def test_a_trial_that_has_come_to_its_end_does_not_fail_any_more() -> None:
    state = State(make_plan(n_trials=2, rounds=Rounds([1])))
    for trial in (0, 1):
        state.apply(TrialProposed(trial, "{}", "random"))
        state.apply(EpochFinished(trial, 0, trial, {}, "", 1.0))
    with pytest.raises(IllegalEventError, match="Trial 1 has come to its end"):
        state.apply(TrialFailed(1, 1, "worker died", "It died.", ""))


@given(plans, worlds, st.integers(0, 20), st.integers(0, 3))
def test_a_run_that_grows_contains_the_larger_run(
    plan: Plan, world: World, trials: int, epochs: int
) -> None:
    *lengths, last = plan.rounds.lengths
    rounds = Rounds([*lengths, last + epochs], keep=plan.rounds.keep, cohort=plan.rounds.cohort)
    larger = replace(plan, n_trials=plan.n_trials + trials, rounds=rounds)
    fresh = Run(larger, world, 1, random.Random(0))
    grown = grow(Run(plan, world, 1, random.Random(0)), larger, world)
    assert grown.trained >= fresh.trained
    for cohort, sights in fresh.sights.items():
        # Those of a cohort that was begun before see their own cohort's trials as well.
        seen = grown.sights.get(cohort, sights)
        assert [s for s in seen if grown.state.trials[s[0]].cohort < cohort] == sights


def grow(small: Run, larger: Plan, world: World) -> Run:
    """Replay a run under a larger plan, and go on with it."""
    run = Run(replace(larger, n_trials=1), world, 0, random.Random(0))  # does nothing
    run.plan, run.state = larger, State(larger)
    for event in small.events:
        run.apply(event)
    run.state.changed.clear()
    running: dict[int, Any] = {}
    while True:
        for task in run.assign(running, 1):
            running[task.trial] = task
        if not running:
            return run
        run.step(next(iter(running)), running, world)


@pytest.mark.parametrize("status", [None, "proposed", "trained", "stopped", "failed"])
@pytest.mark.parametrize("kind", [EpochFinished, TrialStopped, TrialFailed])
def test_illegal_moves_are_refused(status: str | None, kind: type) -> None:
    state = State(make_plan())
    if status:
        state.apply(TrialProposed(0, "{}", "random"))
    if status == "trained":
        state.apply(EpochFinished(0, 0, 0.5, {}, "", 1.0))
    if status == "stopped":
        state.apply(TrialStopped(0, -1))
    if status == "failed":
        state.apply(TrialFailed(0, 0, "raised", "", ""))
    epoch = 1 if status == "trained" else 0
    event: Any = {
        EpochFinished: EpochFinished(0, epoch, 0.5, {}, "", 1.0),
        TrialStopped: TrialStopped(0, epoch),
        TrialFailed: TrialFailed(0, epoch, "raised", "", ""),
    }[kind]
    if (status, kind) in TRANSITIONS:
        state.apply(event)
        assert state.trials[0].status == TRANSITIONS[status, kind]
    else:
        with pytest.raises(IllegalEventError, match="Trial 0"):
            state.apply(event)


def test_epochs_out_of_order_are_refused() -> None:
    state = State(make_plan())
    state.apply(TrialProposed(0, "{}", "random"))
    with pytest.raises(IllegalEventError, match="epoch 1 is recorded, but epoch 0 comes next"):
        state.apply(EpochFinished(0, 1, 0.5, {}, "", 1.0))


@given(plans, worlds)
def test_the_best_epochs_of_the_best_trials_are_kept(plan: Plan, world: World) -> None:
    state = Run(plan, world, 3, random.Random(2)).state
    ranked = sorted(
        (n for n, t in enumerate(state.trials) if t.status != "failed"),
        key=lambda n: rank_key(state.trials[n].best, n),
    )
    best = set(ranked[: plan.keep_checkpoints])  # type: ignore[misc]
    for number, trial in enumerate(state.trials):
        wanted = [trial.best_epoch] if number in best and trial.epochs else []
        if trial.status == "failed" and trial.epochs:
            wanted = [trial.epochs - 1]  # from which it goes on if it is retried
        assert sorted(trial.kept) == wanted
        assert on_podium(state, number) == (number in best)


def test_all_checkpoints_can_be_kept() -> None:
    run = Run(make_plan(keep_checkpoints="all"), random_world(1, 0.1), 1, random.Random(0))
    assert run.due == {}


@given(plans, worlds)
def test_the_plan_is_at_least_what_is_trained(plan: Plan, world: World) -> None:
    run = Run(plan, world, 1, random.Random(0))
    assert planned_epochs(plan, run.state) >= len(run.trained)


@given(plans)
def test_the_plan_is_what_is_trained_when_all_goes_well(plan: Plan) -> None:
    run = Run(plan, lambda trial, epoch: trial / 7, 1, random.Random(0))
    assert planned_epochs(plan, run.state) == len(run.trained)


@given(plans)
def test_a_plan_survives_json(plan: Plan) -> None:
    assert Plan.from_facts(plan.to_facts()) == plan


@pytest.mark.parametrize(
    "wrong",
    [
        {"lengths": []},
        {"lengths": [0]},
        {"lengths": [1.5]},
        {"lengths": [True]},
        {"lengths": [1, timedelta(seconds=1)]},
        {"lengths": [timedelta(0)]},
        {"lengths": 5},
        {"lengths": "3,9"},
        {"keep": 0},
        {"keep": 1.1},
        {"keep": math.nan},
        {"keep": "half"},
        {"cohort": 0},
        {"cohort": []},
        {"cohort": 1.5},
    ],
)
def test_wrong_rounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=r"rounds=|keep=|cohort="):
        Rounds(**wrong)
