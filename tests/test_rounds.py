"""Laws of rounds, cohorts, lag and retention, over values only."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letstune import Rounds
from letstune.errors import IllegalEventError, PlanError
from letstune.rounds.cohorts import Cohort, Queue, rank_key
from letstune.rounds.decisions import (
    default_lag,
    doomed,
    next_proposal,
    next_tasks,
    on_podium,
    planned_epochs,
    useless,
    visible,
)
from letstune.rounds.events import (
    CheckpointDeleted,
    EpochFinished,
    Event,
    SpaceExhausted,
    Stored,
    TrialFailed,
    TrialProposed,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.plan import Plan
from letstune.rounds.state import TRANSITIONS, State

World = Callable[[int, int], Any]
"""What comes of an epoch of a trial: a value, "fail", "stop", or ("stop", a value)."""


def make_plan(**changes: Any) -> Plan:
    plan = Plan(
        metric="m",
        n_trials=8,
        rounds=Rounds([1, 2, 3]),
        simple=False,
        seed=0,
        space="{}",
        sampler={"name": "random", "options": {}},
        adaptive=False,
        store={},
        lag=0,
        keep_checkpoints=2,
        trainer="t",
    )
    return replace(plan, **changes)


def random_world(seed: int, trouble: float) -> World:
    def outcome(trial: int, epoch: int) -> Any:
        rng = random.Random(f"{seed} {trial} {epoch}")
        # Few values, so that ties are common.
        value = rng.choice([0.0, 0.5, 1.0, 1.5, math.nan, math.inf, -math.inf, -1.0])
        if rng.random() < trouble:
            return rng.choice(["fail", "stop", ("stop", value)])
        return value

    return outcome


class Run:
    """A run of a plan in a world, by any number of workers whose results come in any order.

    Workers die with a chance of ``deadly``, in an epoch or between two.
    """

    def __init__(
        self,
        plan: Plan,
        world: World,
        workers: int,
        order: random.Random,
        deadly: float = 0.0,
    ) -> None:
        self.plan, self.state = plan, State(plan)
        self.order, self.deadly = order, deadly
        self.events: list[Event] = []
        self.sights: dict[int, list[tuple[int, int, str]]] = {}
        self.due: dict[tuple[int, int], str] = {}
        self.busy = 0
        running: dict[int, Any] = {}
        while True:
            for task in self.assign(running, workers):
                running[task.trial] = task
            if not running:
                break
            self.busy = max(self.busy, len(running))
            number = order.choice(sorted(running))
            self.step(number, running, world)

    def assign(self, running: dict[int, Any], workers: int) -> list[Any]:
        slots = workers - len(running)
        tasks = next_tasks(self.plan, self.state, running, slots)
        while (wanted := slots - len(tasks)) > 0:
            proposal = next_proposal(self.plan, self.state, wanted)
            if proposal is None:
                break
            sights = [tuple(s) for s in visible(self.plan, self.state, proposal.cohort)]
            for trial in range(proposal.first, proposal.first + proposal.size):
                self.apply(TrialProposed(trial, "{}", "random"))
                self.sights[self.state.trials[trial].cohort] = sights
            tasks = next_tasks(self.plan, self.state, running, slots)
        return tasks

    def step(self, number: int, running: dict[int, Any], world: World) -> None:
        if self.order.random() < self.deadly:
            del running[number]
            self.die(number)
            return
        task, epoch = running[number], self.state.trials[number].epochs
        outcome = world(number, epoch)
        if outcome == "fail":
            self.apply(TrialFailed(number, epoch, "raised", "", ""))
        elif outcome == "stop":
            self.apply(TrialStopped(number, epoch - 1))
        else:
            stops = isinstance(outcome, tuple)
            value = outcome[1] if stops else outcome
            self.apply(EpochFinished(number, epoch, value, {}, "", 1.0, Stored("", 0, "")))
            if stops:
                self.apply(TrialStopped(number, epoch))
        trial = self.state.trials[number]
        if trial.status in ("failed", "stopped") or trial.epochs >= task.limit:
            del running[number]
        for deletion in useless(self.plan, self.state):
            assert (deletion.trial, deletion.epoch) not in self.due
            self.due[deletion.trial, deletion.epoch] = deletion.why
            self.apply(deletion)
        self.state.changed.clear()
        if number not in running and self.order.random() < self.deadly:
            self.die(number)

    def die(self, number: int) -> None:
        """Lose a worker, and record that as the runner does."""
        epochs = self.state.trials[number].epochs
        death = WorkerDied(number, epochs, "a", -9, None, "", "")
        if self.state.counts(death):
            self.apply(death)
        for failed in doomed(self.plan, self.state):
            self.apply(failed)

    def apply(self, event: Event) -> None:
        self.events.append(event)
        self.state.apply(event)

    @property
    def trained(self) -> set[tuple[int, int]]:
        return {(e.trial, e.epoch) for e in self.events if isinstance(e, EpochFinished)}


plans = st.builds(
    make_plan,
    n_trials=st.integers(1, 20),
    rounds=st.builds(
        Rounds,
        st.lists(st.integers(1, 4), min_size=1, max_size=4),
        keep=st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 1.0]),
        cohort=st.none() | st.integers(1, 9) | st.lists(st.integers(1, 6), min_size=1, max_size=3),
    ),
    adaptive=st.booleans(),
    lag=st.integers(0, 3),
    keep_checkpoints=st.sampled_from([0, 1, 3]),
)
worlds = st.builds(random_world, st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5]))


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
