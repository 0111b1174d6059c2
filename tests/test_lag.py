"""A proposal sees what the lag rule says, and the default lag keeps workers busy."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_runs import Run, World, make_plan, plans, worlds

from letstune import Rounds
from letstune.rounds.decisions import (
    default_lag,
    next_proposal,
    next_tasks,
)
from letstune.rounds.events import (
    TrialProposed,
)
from letstune.rounds.plan import Plan
from letstune.rounds.state import State


@given(plans.map(lambda plan: replace(plan, adaptive=True)), worlds, st.integers(1, 8))
def test_a_proposal_sees_what_the_lag_rule_says_and_no_more(
    plan: Plan, world: World, workers: int
) -> None:
    run = Run(plan, world, workers, random.Random(1))
    last_round = len(plan.rounds.lengths) - 1
    for cohort, sights in run.sights.items():
        assert len(sights) == len({trial for trial, _, _ in sights})
        for trial, epochs, status in sights:
            of = run.state.trials[trial].cohort
            seen = [k for k in range(last_round + 1) if of <= cohort - 1 - plan.lag * (k + 1)]
            if not seen:
                assert (epochs, status) == (0, "pending")
            else:
                k = min(max(seen), run.state.trials[trial].round)
                assert epochs <= plan.rounds.limits[k]
                assert status != "pending"


def test_a_sampler_that_ignores_history_sees_nothing_and_waits_for_nothing() -> None:
    plan = make_plan(n_trials=40, rounds=Rounds([1, 1], cohort=4))
    run = Run(plan, lambda trial, epoch: 0.0, 40, random.Random(0))
    assert all(sights == [] for sights in run.sights.values())
    assert run.busy == 40


@given(plans, st.integers(1, 30))
def test_only_a_sampler_that_ignores_history_proposes_many_cohorts_at_once(
    plan: Plan, wanted: int
) -> None:
    together, apart = State(plan), State(plan)
    proposal = next_proposal(plan, together, wanted)
    assert proposal is not None
    cohorts = []
    while len(apart.trials) < (1 if plan.adaptive else min(wanted, plan.n_trials)):
        cohorts.append(next_proposal(plan, apart))
        for trial in range(cohorts[-1].first, cohorts[-1].first + cohorts[-1].size):
            apart.apply(TrialProposed(trial, "{}", "random"))
    assert proposal == (0, 0, sum(cohort.size for cohort in cohorts))
    for trial in range(proposal.size):
        together.apply(TrialProposed(trial, "{}", "random"))
    assert [t.cohort for t in together.trials] == [t.cohort for t in apart.trials]


def test_a_sampler_that_learns_waits_for_the_cohort_before() -> None:
    plan = make_plan(n_trials=40, rounds=Rounds([1, 1], cohort=4), adaptive=True)
    assert Run(plan, lambda trial, epoch: 0.0, 40, random.Random(0)).busy == 4


def test_with_a_lag_cohorts_overlap() -> None:
    plan = make_plan(n_trials=40, rounds=Rounds([1, 1], cohort=4), adaptive=True, lag=1)
    assert Run(plan, lambda trial, epoch: 0.0, 40, random.Random(0)).busy > 4


def test_a_simple_trainer_whose_sampler_learns_has_lag_plus_one_trials_in_flight() -> None:
    plan = make_plan(n_trials=12, rounds=Rounds([1]), simple=True, adaptive=True, lag=3)
    assert Run(plan, lambda trial, epoch: 0.0, 40, random.Random(0)).busy == 4


def test_one_worker_needs_no_lag() -> None:
    assert [default_lag(1, cohort) for cohort in (1, 4, 16, 64)] == [0, 0, 0, 0]


@given(st.integers(1, 500), st.integers(1, 99))
def test_more_workers_need_no_less_lag_and_larger_cohorts_no_more(
    workers: int, cohort: int
) -> None:
    assert default_lag(workers, cohort) <= default_lag(workers + 1, cohort)
    assert default_lag(workers, cohort) >= default_lag(workers, cohort + 1)


@pytest.mark.parametrize("workers", [2, 3, 5, 8, 30])
@pytest.mark.parametrize("cohort", [1, 2, 16])
def test_with_the_default_lag_all_workers_have_something_to_do(workers: int, cohort: int) -> None:
    lag = default_lag(workers, cohort)
    plan = make_plan(n_trials=999, rounds=Rounds([1, 1], cohort=cohort), adaptive=True, lag=lag)
    state = State(plan)
    while (proposal := next_proposal(plan, state)) and len(state.trials) < workers:
        for trial in range(proposal.first, proposal.first + proposal.size):
            state.apply(TrialProposed(trial, "{}", "simulated"))
    assert len(next_tasks(plan, state, (), workers)) == workers
