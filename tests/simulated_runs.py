"""Runs over values only: worlds that know what each trial would reach, and who trains in them."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from letstune import Rounds
from letstune.rounds.decisions import (
    doomed,
    next_proposal,
    next_tasks,
    useless,
    visible,
)
from letstune.rounds.events import (
    EpochFinished,
    Event,
    Stored,
    TrialFailed,
    TrialProposed,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.plan import Plan
from letstune.rounds.state import State

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
