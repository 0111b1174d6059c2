"""Who advances is certain, and what is trained next is decided from values."""

import math
import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_runs import Run, World, make_plan, plans, worlds

from letstune import Rounds
from letstune.rounds.cohorts import Cohort, Queue, rank_key
from letstune.rounds.decisions import (
    next_proposal,
    next_tasks,
)
from letstune.rounds.events import (
    EpochFinished,
    SpaceExhausted,
    Stored,
    TrialProposed,
)
from letstune.rounds.plan import Plan
from letstune.rounds.state import State


@pytest.mark.parametrize(
    ("size", "keep", "quotas"),
    [
        (64, 0.25, (64, 16, 4)),
        (5, 0.25, (5, 2, 1)),
        (1, 0.25, (1, 1, 1)),
        (100, 0.07, (100, 7, 1)),  # 0.07 * 100 is 7.000000000000001
        (10, 1.0, (10, 10, 10)),
    ],
)
def test_quotas_are_rounded_up(size: int, keep: float, quotas: tuple[int, ...]) -> None:
    assert Rounds([3, 9, 36], keep=keep).quotas(size) == quotas


def test_standing_in_a_round_ignores_what_was_done_with_more() -> None:
    state = State(make_plan(n_trials=2, rounds=Rounds([1, 1], keep=0.5)))
    for trial in (0, 1):
        state.apply(TrialProposed(trial, "{}", "random"))
    # Trial 0 went on in an earlier part of the run, and got better there.
    state.apply(EpochFinished(0, 0, 0.1, {}, "", 1.0))
    state.apply(EpochFinished(0, 1, 0.9, {}, "", 1.0))
    state.apply(EpochFinished(1, 0, 0.5, {}, "", 1.0))
    assert [task.trial for task in next_tasks(state.plan, state, (), 9)] == [1]


def test_ties_go_to_the_lower_trial() -> None:
    assert sorted([(1.0, 2), (1.0, 1)], key=lambda pair: rank_key(*pair)) == [(1.0, 1), (1.0, 2)]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_ranks_below_everything_finite(bad: float) -> None:
    assert rank_key(bad, 0) > rank_key(-1e300, 99)


def test_a_trial_advances_as_soon_as_it_is_certain_to() -> None:
    cohort = Cohort([4, 2])
    assert cohort.finish(0, 0, 0.9) == []
    assert cohort.finish(0, 1, 0.8) == []
    assert cohort.finish(0, 2, 0.1) == [(2, -1), (0, 1)]  # one result is missing, two places
    assert cohort.finish(0, 3, 0.95) == [(1, -1), (3, 1)]


def test_rounds_in_time_are_decided_by_recorded_seconds() -> None:
    rounds = Rounds([timedelta(seconds=2), timedelta(seconds=3)], keep=0.5)
    plan = make_plan(n_trials=2, rounds=rounds)
    state = State(plan)
    for trial in (0, 1):
        state.apply(TrialProposed(trial, "{}", "random"))
    for epoch in range(3):
        state.apply(EpochFinished(0, epoch, 1.0, {}, "", 0.75))
    assert [task.trial for task in next_tasks(plan, state, (), 9)] == [1]
    state.apply(EpochFinished(1, 0, 0.5, {}, "", 60.0))
    (task,) = next_tasks(plan, state, (), 9)
    assert (task.trial, task.epochs, task.seconds, task.limit) == (0, 3, 2.25, 5.0)


def test_earlier_rounds_are_trained_first() -> None:
    plan = make_plan(n_trials=3, rounds=Rounds([1, 1], keep=1))
    state = State(plan)
    for trial in range(3):
        state.apply(TrialProposed(trial, "{}", "random"))
    state.apply(EpochFinished(0, 0, 1.0, {}, "", 1.0))
    assert [task.trial for task in next_tasks(plan, state, (), 2)] == [1, 2]
    assert [task.trial for task in next_tasks(plan, state, {1, 2}, 2)] == [0]


def test_of_one_round_the_slowest_are_trained_first() -> None:
    plan = make_plan(n_trials=4, rounds=Rounds([2, 1], keep=1))
    state = State(plan)
    for trial, seconds in enumerate([1.0, 1.5, 10.0, 0.1]):
        state.apply(TrialProposed(trial, "{}", "random"))
        for epoch in range(2):
            state.apply(EpochFinished(trial, epoch, 1.0, {}, "", seconds))
    assert [task.trial for task in next_tasks(plan, state, (), 9)] == [2, 0, 1, 3]


@given(plans, worlds, st.integers(1, 5), st.data())
def test_who_asks_for_fewer_tasks_gets_the_first_of_those_not_in_training(
    plan: Plan, world: World, workers: int, data: st.DataObject
) -> None:
    events = Run(plan, world, workers, random.Random(0)).events
    state = State(plan)
    for event in events[: data.draw(st.integers(0, len(events)))]:
        state.apply(event)
    every = next_tasks(plan, state, (), 99)
    assert len({task.trial for task in every}) == len(every) == sum(map(len, state.ready))
    running = data.draw(st.sets(st.sampled_from([task.trial for task in every] or [0])))
    slots = data.draw(st.integers(0, 5))
    left = [task for task in every if task.trial not in running]
    assert next_tasks(plan, state, running, slots) == left[:slots]


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 1e9) | st.none())))
def test_a_queue_is_sorted_by_powers_of_two_and_then_by_arrival(
    steps: list[tuple[int, float | None]],
) -> None:
    queue, expected = Queue(), dict[int, int]()
    for trial, seconds in steps:
        if seconds is None:
            queue.remove(trial)
            expected.pop(trial, None)
        else:
            queue.put(trial, seconds)
            expected.setdefault(trial, math.frexp(seconds)[1])
        assert list(queue) == sorted(expected, key=lambda trial: -expected[trial])
        assert len(queue) == len(expected)


def test_a_task_starts_from_the_last_checkpoint_that_is_kept() -> None:
    plan = make_plan(n_trials=1, rounds=Rounds([3]))
    state = State(plan)
    state.apply(TrialProposed(0, "{}", "random"))
    state.apply(EpochFinished(0, 0, 1.0, {}, "", 1.0, Stored("a", 1, "x")))
    state.apply(EpochFinished(0, 1, 1.0, {}, "", 1.0))
    (task,) = next_tasks(plan, state, (), 1)
    assert (task.epochs, task.loaded, task.checkpoint) == (2, 0, Stored("a", 1, "x"))


def test_an_exhausted_space_makes_the_run_smaller() -> None:
    state = State(make_plan(n_trials=100))
    state.apply(SpaceExhausted(2))
    for trial in range(2):
        state.apply(TrialProposed(trial, "{}", "random"))
    assert next_proposal(state.plan, state) is None
    assert state.cohorts[0].quotas == (2, 1, 1)
