"""A sampler sees what the lag rule shows, and what it proposes is of the space."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_trainers import Hill, tune
from stateful_trainer import WalkTrainer

from letstune import Params, Rounds, Sampler
from letstune.errors import (
    SpaceError,
)
from letstune.samplers.sampler import Observation


class Witness(Sampler):
    """Notes the history that it is shown, by trial."""

    adaptive = True

    def propose(
        self, space: Any, history: Sequence[Observation], rng: Any, trial: int
    ) -> Params | Any:
        SHOWN[trial] = [(o.trial, o.params, o.status, o.values, o.metrics) for o in history]
        return space.sample(rng)


SHOWN: dict[int, list[Any]] = {}


@pytest.mark.parametrize("lag", [0, 1, 2])
@pytest.mark.parametrize("sizes", [[4, 2], [3], [1]])
def test_a_sampler_sees_exactly_what_the_lag_rule_shows(
    lag: int, sizes: list[int], path: Path
) -> None:
    SHOWN.clear()
    lengths, limits = [1, 2, 2], [1, 3, 5]
    tuning = tune(
        WalkTrainer(),
        13,
        path,
        rounds=Rounds(lengths, keep=0.5, cohort=sizes),
        sampler=Witness(),
        lag=lag,
    )
    cohorts: list[int] = []
    while len(cohorts) < 13:
        number = cohorts[-1] + 1 if cohorts else 0
        cohorts += [number] * sizes[min(number, len(sizes) - 1)]
    for number, shown in SHOWN.items():
        cohort = cohorts[number]
        wanted = []
        for other in range(number):
            trial = tuning.trial(other)
            # Round k of the cohorts up to c - 1 - lag (k + 1), of those that took part in it.
            seen = [k for k in range(3) if cohorts[other] <= cohort - 1 - lag * (k + 1)]
            epochs: tuple[Any, ...] = ()
            if seen:
                epochs = trial.epochs[: limits[min(max(seen), trial.round)]]
            values = tuple(epoch.metric_value for epoch in epochs)
            status = "pending"
            if seen:
                cut = limits[min(max(seen), trial.round)]
                status = "trained" if len(trial.epochs) >= cut else trial.status
            wanted.append(
                (other, trial.params, status, values, tuple(e.metric_values for e in epochs))
            )
        assert repr(shown) == repr(wanted)
    assert len(SHOWN) == 13


def test_by_default_a_sampler_that_learns_has_a_simple_trainers_every_result(path: Path) -> None:
    SHOWN.clear()
    tune(Hill(), 5, path, sampler=Witness())
    assert [[status for _, _, status, _, _ in SHOWN[i]] for i in range(5)] == [
        ["trained"] * i for i in range(5)
    ]


def test_a_sampler_that_does_not_learn_is_shown_nothing(path: Path) -> None:
    class Blind(Witness):
        adaptive = False

    SHOWN.clear()
    tune(Hill(), 3, path, sampler=Blind())
    assert SHOWN == {0: [], 1: [], 2: []}


def test_a_sampler_that_proposes_something_else_is_told(path: Path) -> None:
    class Lost(Sampler):
        def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
            return {"x": 1}

    with pytest.raises(SpaceError, match=r"Lost proposed \{'x': 1\} for trial 0; expected params"):
        tune(Hill(), 3, path, sampler=Lost())
