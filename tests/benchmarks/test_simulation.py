"""What the benchmarks' simulated runs are worth: small ones, worked out by hand."""

from statistics import mean

import numpy as np
import pytest
from simulation import Clock, World, asha, letstune, make_plan

from letstune import Rounds
from letstune.rounds.decisions import default_lag

HALF = Rounds([1, 1], keep=0.5)


def world(times: list[list[float]], values: list[float]) -> World:
    return World(np.array(times), np.repeat(np.array(values)[:, None], 2, axis=1))


# The best two of four advance; the last one is slow in its first epoch, the best in its second.
STRAGGLER = world([[1, 10], [1, 1], [1, 1], [10, 1]], [4.0, 3.0, 2.0, 1.0])


def test_one_worker_is_always_busy() -> None:
    outcome = letstune(make_plan(4, None, None, HALF), 1, STRAGGLER)
    assert outcome == (1.0, 24.0, 6)


def test_synchronous_rounds_wait_for_the_slowest() -> None:
    plan = make_plan(4, None, None, HALF)
    outcome = letstune(plan, 4, STRAGGLER, synchronous=True)
    assert outcome == (24 / 20 / 4, 20.0, 6)


def test_what_is_certain_does_not_wait() -> None:
    # After 1, trial 0 is certain to advance, and trains until 11; trial 1 has to wait until 10.
    outcome = letstune(make_plan(4, None, None, HALF), 4, STRAGGLER)
    assert outcome == (24 / 11 / 4, 11.0, 6)


def test_asha_waits_for_nobody() -> None:
    # After 1, three are done, and the best one of them advances; trial 1 when the fourth is done.
    assert asha(HALF, 4, STRAGGLER) == (24 / 11 / 4, 11.0, 6)
    # With the best first, two workers promote trial 0 after two results, at 1, until 11.
    assert asha(HALF, 2, STRAGGLER).makespan == 13.0


def test_asha_promotes_more_trials() -> None:
    rising = world([[1, 1]] * 4, [1.0, 2.0, 3.0, 4.0])
    assert asha(HALF, 1, rising).epochs == 7
    assert letstune(make_plan(4, None, None, HALF), 1, rising).epochs == 6


def test_a_clock_goes_from_end_to_end() -> None:
    clock = Clock(2)
    clock.start(7, 3.0)
    clock.start(8, 1.0)
    assert (clock.idle, clock.wait(), clock.now) == (0, 8, 1.0)
    assert (clock.idle, clock.wait(), clock.now) == (1, 7, 3.0)
    assert clock.wait() is None
    assert clock.outcome(2) == (4 / 3 / 2, 3.0, 2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_the_default_lag_is_the_smallest_that_keeps_workers_busy(workers: int) -> None:
    rounds, lag = Rounds([3, 9, 36]), default_lag(workers)
    worlds = [World.make(seed, 2_048, rounds) for seed in range(6)]

    def busy(lag: int) -> float:
        plan = make_plan(2_048, 16, lag, rounds)
        return mean(letstune(plan, workers, each).busy for each in worlds)

    assert busy(lag) >= 0.9 > busy(lag - 1)
