"""A run on a virtual clock: how busy many workers would be, without having them.

What is to be done next is asked of letstune itself: `next_proposal`, `next_tasks` and `State` are
the product's own, in the order in which its runner calls them. Only the training is made up.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from letstune.rounds.decisions import next_proposal, next_tasks
from letstune.rounds.events import EpochFinished, TrialProposed
from letstune.rounds.plan import Plan, Rounds
from letstune.rounds.state import State


@dataclass(frozen=True)
class World:
    """How long each epoch of each trial takes, and what value each trial has in each round.

    Epoch times are log-normal, of median 1; one in fifty is a straggler that takes ten times as
    long. ``slow`` tells of what: with "trials", a trial is slow or quick as a whole, since a big
    model is; with "epochs", each epoch by itself, as when machines are shared.
    """

    times: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]

    @staticmethod
    def make(seed: int, n_trials: int, rounds: Rounds, slow: str = "trials") -> World:
        rng = np.random.default_rng(seed)
        epochs = int(rounds.limits[-1])
        shape = (n_trials, 1 if slow == "trials" else epochs)
        times = rng.lognormal(0, 0.5, shape) * np.where(rng.random(shape) < 0.02, 10, 1)
        quality = rng.normal(size=(n_trials, 1))
        values = quality + rng.normal(0, 0.5, (n_trials, len(rounds.limits)))
        return World(np.broadcast_to(times, (n_trials, epochs)), values)


class Outcome(NamedTuple):
    """What a simulated run took: the share of time that workers were busy, until when, for what."""

    busy: float
    makespan: float
    epochs: int


def make_plan(
    n_trials: int, cohort: int | tuple[int, ...] | None, lag: int | None, rounds: Rounds
) -> Plan:
    """Return a plan; ``lag`` is None for a sampler that ignores history."""
    return Plan(
        metric="m",
        n_trials=n_trials,
        rounds=Rounds(rounds.lengths, rounds.keep, cohort or n_trials),
        simple=False,
        seed=0,
        space="{}",
        sampler={"name": "simulated", "options": {}},
        adaptive=lag is not None,
        store={},
        lag=lag or 0,
        keep_checkpoints=1,
        trainer="simulated",
    )


class Clock:
    """Workers on a virtual clock: start a job of a given length, wait for the next one to end."""

    def __init__(self, workers: int) -> None:
        self.now = self.worked = 0.0
        self.idle = self.workers = workers
        self._ends: list[tuple[float, int, int]] = []
        self._started = 0

    def start(self, trial: int, seconds: float) -> None:
        self.idle -= 1
        self._started += 1
        self.worked += seconds
        heapq.heappush(self._ends, (self.now + seconds, self._started, trial))

    def wait(self) -> int | None:
        """Go to the next end of a job; return whose it is, or None if nobody works."""
        if not self._ends:
            return None
        self.now, _, trial = heapq.heappop(self._ends)
        self.idle += 1
        return trial

    def outcome(self, epochs: int) -> Outcome:
        return Outcome(self.worked / self.now / self.workers, self.now, epochs)


class Barrier:
    """The trials in training, and those that plain synchronous rounds would not let go on yet."""

    def __init__(self, state: State, running: Collection[int]) -> None:
        self._state, self._running = state, running

    def __contains__(self, number: object) -> bool:
        trial = self._state.trials[number]  # type: ignore[call-overload]
        before = trial.round - 1
        waits = before >= 0 and not self._state.cohorts[trial.cohort].complete(before)
        return waits or number in self._running

    def __len__(self) -> int:
        return len(self._running)

    def __iter__(self) -> Iterator[int]:
        return iter(self._running)


def letstune(plan: Plan, workers: int, world: World, *, synchronous: bool = False) -> Outcome:
    """Simulate a run of letstune.

    Args:
        plan: of rounds in epochs.
        workers: how many there are.
        world: what training brings.
        synchronous: whether a round begins only when the one before it is over for the whole
            cohort. letstune itself does not wait for that.
    """
    state, clock = State(plan), Clock(workers)
    running: dict[int, int] = {}
    busy = Barrier(state, running) if synchronous else running
    while True:
        tasks = next_tasks(plan, state, busy, clock.idle)
        while (wanted := clock.idle - len(tasks)) > 0:
            proposal = next_proposal(plan, state, wanted)
            if proposal is None:
                break
            for trial in range(proposal.first, proposal.first + proposal.size):
                state.apply(TrialProposed(trial, "{}", "simulated"))
            tasks = next_tasks(plan, state, busy, clock.idle)
        for task in tasks:
            limit = running[task.trial] = int(task.limit)
            clock.start(task.trial, world.times[task.trial, task.epochs : limit].sum())
        number = clock.wait()
        if number is None:
            break
        k = state.trials[number].round
        for epoch in range(state.trials[number].epochs, running.pop(number)):
            value = float(world.values[number, k])
            seconds = float(world.times[number, epoch])
            state.apply(EpochFinished(number, epoch, value, {}, "", seconds))
        state.changed.clear()
    if not state.finished:
        raise RuntimeError("the run came to a standstill")
    return clock.outcome(state.total_epochs)


def asha(rounds: Rounds, workers: int, world: World) -> Outcome:
    """Simulate asynchronous successive halving.

    Li et al., "A System for Massively Parallel Hyperparameter Tuning" (MLSys 2020), algorithm 2:
    an idle worker promotes a trial of the highest rung that has one among its best quarter, or
    else begins a new trial. It begins as many as letstune does, and ends when none is left to
    promote.
    """
    clock, limits = Clock(workers), [int(limit) for limit in rounds.limits]
    n_trials, begun, epochs = len(world.times), 0, 0
    done: list[list[tuple[float, int]]] = [[] for _ in limits]  # by rung, the best first
    gone: list[set[int]] = [set() for _ in limits]
    rung: dict[int, int] = {}

    def promotable() -> int | None:
        for k in reversed(range(len(limits) - 1)):
            for _, number in done[k][: int(len(done[k]) * rounds.keep)]:
                if number not in gone[k]:
                    gone[k].add(number)
                    return number
        return None

    while True:
        while clock.idle:
            number = promotable()
            if number is not None:
                rung[number] += 1
            elif begun < n_trials:
                number, begun = begun, begun + 1
                rung[number] = 0
            else:
                break
            k = rung[number]
            first = limits[k - 1] if k else 0
            epochs += limits[k] - first
            clock.start(number, world.times[number, first : limits[k]].sum())
        number = clock.wait()
        if number is None:
            return clock.outcome(epochs)
        insort(done[rung[number]], (-float(world.values[number, rung[number]]), number))
