"""The sampler that learns finds good params in few trials, and learns from all that it is shown."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from journal_facts import assert_same
from small_trainers import tune
from uneven_trainer import UNEVEN, Uneven

from letstune import Observation, Params, rand
from letstune.errors import LetstuneError
from letstune.rounds.seeding import Purpose, generator
from letstune.samplers.bayes import BayesSampler
from letstune.samplers.proposer import Proposer
from letstune.samplers.sampler import RandomSampler
from letstune.testing import SamplerSuite
from letstune.testing.samplers import make_history, propose
from letstune.testing.spaces import Itself


@pytest.mark.slow
class TestBayesSampler(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> BayesSampler:
        return BayesSampler()


class Bowl(Params):
    x: float = rand.uniform(-1, 1)
    y: float = rand.uniform(1e-3, 1e3, log=True)
    count: int = rand.ints(1, 30)
    kind: str = rand.oneof(["a", "b", "c"])


def depth(params: Any) -> float:
    apart = (params.x - 0.3) ** 2 + (math.log10(params.y) - 1) ** 2 + abs(params.count - 7) / 30
    return -(apart + 0.1 * (params.kind != "b"))


class Table(Params):
    row: int = rand.ints(0, 9)
    column: str = rand.oneof(["a", "b", "c", "d", "e", "f"])


def sequence(sampler: Any, space: Any, value: Any, trials: int, seed: int) -> list[Observation]:
    proposer, found = Proposer(sampler, space, seed, attempts=3), list[Observation]()
    for trial in range(trials):
        params = proposer.propose(found, trial)
        assert params is not None
        found.append(Observation(trial, params, "trained", (value(params),)))
    return found


@pytest.mark.slow
def test_a_bowl_is_found_in_few_trials() -> None:
    learned, drawn = (
        [max(o.values[0] for o in sequence(sampler, Bowl.space(), depth, 32, s)) for s in range(2)]
        for sampler in (BayesSampler(), RandomSampler())
    )
    assert np.mean(learned) > np.mean(drawn) / 10
    assert min(learned) > max(drawn)


@pytest.mark.slow
def test_all_points_of_a_finite_space_are_proposed_the_best_ones_early() -> None:
    def value(params: Any) -> float:
        return -abs(params.row - 6) - 3.0 * (params.column != "d")

    found = sequence(BayesSampler(), Table.space(), value, 60, 1)
    assert len({seen.params.to_json() for seen in found}) == 60
    values = [seen.values[0] for seen in found]
    assert values.index(0.0) < 24


@pytest.mark.parametrize("length", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_a_proposal_is_a_function_of_a_long_history(length: int) -> None:
    space = Bowl.space()
    history = make_history(BayesSampler(), space, 3, length)
    wanted = propose(BayesSampler(), space, history, 1, len(history))
    propose(BayesSampler(), space, history[: length // 2], 2, length)
    assert propose(BayesSampler(), space, history, 1, len(history)) == wanted
    assert space.contains(space.decode(wanted))


def test_what_failed_is_kept_away_from() -> None:
    history = []
    rng = np.random.default_rng(0)
    for trial in range(30):
        params: Any = Bowl.space().sample(rng)
        status = "failed" if params.x > 0 else "trained"
        history.append(Observation(trial, params, status, (depth(params),)))
    tried: list[Any] = [
        BayesSampler().propose(Bowl.space(), history, generator(s, Purpose.PROPOSE, 30, 0), 30)
        for s in range(3)
    ]
    assert all(params.x < 0.2 for params in tried)


def test_what_was_refused_is_not_proposed_again() -> None:
    history = sequence(BayesSampler(), Bowl.space(), depth, 12, 1)
    for _ in range(3):
        params = BayesSampler().propose(
            Bowl.space(), history, generator(1, Purpose.PROPOSE, 12, 0), 12
        )
        assert params not in [seen.params for seen in history]
        history.append(Observation(12, params, "pending"))


def test_a_space_that_samples_itself_is_refused() -> None:
    with pytest.raises(LetstuneError, match="sampler='random'"):
        BayesSampler().check(Itself.space())


def test_scipy_is_not_imported_before_it_is_needed() -> None:
    script = (
        "import letstune.plugins.builtin, sys; print(*map(sys.modules.get, ['scipy', 'numpy']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["None", "None"]


@pytest.mark.slow
def test_a_run_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    options: dict[str, Any] = {**UNEVEN["learning"], "sampler": "bayes"}
    tune(Uneven(), 20, tmp_path / "straight.db", **options)
    tune(Uneven(), 20, tmp_path / "three.db", workers=3, **options)
    assert_same(tmp_path / "three.db", tmp_path / "straight.db")
