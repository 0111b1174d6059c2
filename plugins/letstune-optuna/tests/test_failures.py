"""A sampler that learns keeps away from what fails, and a run goes on as it was begun."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import letstune
import numpy as np
import pytest
from letstune import Observation, Params, SimpleTrainer, rand
from letstune.errors import PlanChangedError
from letstune.samplers import Purpose, generator

import letstune_optuna
from letstune_optuna import CMAES, NSGAII, TPE, OptunaSampler
from letstune_optuna.samplers import factory


class Net(Params):
    batch: int = rand.ints(8, 4096, log=True)
    rate: float = rand.uniform(1e-4, 1, log=True)


def edge(params: Net) -> float:
    """The best is next to what does not fit: a third of the space."""
    if params.batch > 512:
        raise MemoryError("out of memory")
    return params.batch / 512 - params.rate


def corner(params: Net) -> float:
    """Nineteen twentieths of the space fail."""
    if params.batch > 32 or params.rate > 1e-3:
        raise MemoryError("out of memory")
    return params.batch / 32 - params.rate


def failures(
    sampler: OptunaSampler, function: Callable[[Net], float], seed: int, bad: str = "failed"
) -> int:
    """Return how many of 60 trials fail."""
    history: list[Observation] = []
    for trial in range(60):
        rng = generator(seed, Purpose.PROPOSE, trial, 0)
        params = sampler.propose(Net.space(), history, rng, trial)
        try:
            history.append(Observation(trial, params, "trained", (function(params),)))
        except MemoryError:
            values = (math.nan,) if bad == "trained" else ()
            history.append(Observation(trial, params, bad, values))
    return sum(not o.values or math.isnan(o.values[0]) for o in history)


@pytest.mark.parametrize("multivariate", [False, True])
@pytest.mark.parametrize("function", [edge, corner])
def test_tpe_keeps_away_from_what_fails(function: Any, multivariate: bool) -> None:
    worst, ignore = (
        sum(failures(TPE(multivariate=multivariate, failures=told), function, s) for s in range(2))
        for told in ("worst", "ignore")
    )
    assert worst < (0.35 if function is edge else 0.6) * ignore


def test_what_is_not_finite_is_as_bad_as_a_failure() -> None:
    for sampler in (TPE(), NSGAII(population_size=5), CMAES()):
        assert failures(sampler, edge, 1) == failures(sampler, edge, 1, bad="trained")


def test_cmaes_keeps_away_from_what_fails() -> None:
    worst, ignore = (
        sum(failures(CMAES(failures=told), edge, seed) for seed in range(12))
        for told in ("worst", "ignore")
    )
    assert worst < 0.9 * ignore


@pytest.mark.parametrize("kind", [CMAES, NSGAII])
def test_the_order_of_failures_is_no_rank(kind: Any) -> None:
    history = [Observation(i, Net(batch=2048 + i, rate=0.5), "failed") for i in range(60)]
    new, old = (
        kind(failures=told).propose(Net.space(), history, np.random.default_rng(1), 60)
        for told in ("worst", "ignore")
    )
    assert new == old


def test_while_all_fail_it_goes_where_none_has_failed() -> None:
    sampler = TPE()
    history = [
        Observation(i, Net(batch=2048 + i, rate=0.5), "failed", (float(i),)) for i in range(30)
    ]
    rngs = map(np.random.default_rng, range(20))
    found = [sampler.propose(Net.space(), history, rng, 30) for rng in rngs]
    assert all(params.batch < 1024 and params.rate < 0.3 for params in found)


def test_of_dropped_trials_those_that_failed_are_the_last() -> None:
    # One got through all rounds, others were dropped early, and where batches are large, all fail.
    def seen(trial: int, batch: int) -> Observation:
        if batch > 100:
            return Observation(trial, Net(batch=batch, rate=0.1), "failed", (9.0, 9.0))
        values = (float(batch),) * (1 if trial else 5)
        return Observation(trial, Net(batch=batch, rate=0.1), "trained", values)

    batches = np.geomspace(8, 4096, 40).astype(int).tolist()
    history = [seen(trial, batch) for trial, batch in enumerate(batches)]
    rngs = map(np.random.default_rng, range(20))
    found = [TPE().propose(Net.space(), history, rng, 40).batch for rng in rngs]
    assert sum(batch <= 100 for batch in found) >= 18


# A run


class Edge(SimpleTrainer[Net]):
    metric = "score"

    def load_dataset(self, dataset: Any) -> None: ...

    def train(self, params: Net) -> Any:
        return None, {"score": edge(params)}


def run(path: Path, n: int, sampler: Any) -> None:
    options: dict[str, Any] = {"journal": path, "sampler": sampler, "seed": 3, "max_failures": 0}
    letstune.tune(Edge(), n, progress=False, **options)


def facts(path: Path) -> Any:
    with closing(connect(path)) as db:
        return db.execute("SELECT trial, params FROM trials ORDER BY trial").fetchall()


def recorded(path: Path) -> Any:
    with closing(connect(path)) as db:
        ((fact,),) = db.execute("SELECT value FROM plan WHERE fact = 'sampler'")
        return json.loads(fact)


def before(monkeypatch: pytest.MonkeyPatch, path: Path, n: int, kind: str) -> None:
    """Begin a run as it was before there was the option."""
    if kind == "object":
        sampler = TPE(n_startup_trials=4, failures="ignore")
        assert "failures" not in vars(sampler)
        assert "_given" not in vars(sampler)
        return run(path, n, sampler)

    def old(name: str) -> Any:
        make = factory(name)
        return lambda **options: make(**options)

    with monkeypatch.context() as patch:
        patch.setattr(letstune_optuna, "factory", old)
        run(path, n, ("tpe", {"n_startup_trials": 4}))
    assert recorded(path)["options"] == {"n_startup_trials": 4}


GIVEN: dict[str, Callable[..., Any]] = {
    "name": lambda **options: ("tpe", {"n_startup_trials": 4, **options}),
    "object": lambda **options: TPE(n_startup_trials=4, **options),
}


@pytest.mark.parametrize("kind", sorted(GIVEN))
def test_a_run_from_before_the_option_goes_on_as_it_began(
    kind: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, straight = GIVEN[kind], tmp_path / "straight.db"
    run(straight, 30, make(failures="ignore"))
    before(monkeypatch, path, 12, kind)
    fact = recorded(path)
    letstune.resume(path, n_trials=18, progress=False, max_failures=0)
    run(path, 24, make())  # the same script again
    letstune.resume(path, n_trials=30, progress=False, max_failures=0)
    assert facts(path) == facts(straight)
    assert recorded(path) == fact
    with pytest.raises(PlanChangedError, match=r"sampler: was .* is .*failures.*worst"):
        run(path, 31, make(failures="worst"))


@pytest.mark.parametrize("kind", sorted(GIVEN))
def test_a_new_run_records_that_it_learns_from_failures(
    kind: str, path: Path, tmp_path: Path
) -> None:
    make, straight = GIVEN[kind], tmp_path / "straight.db"
    run(straight, 30, make(failures="worst"))
    run(path, 12, make())
    found = recorded(path)
    assert (found["options"] or found["fields"])["failures"] == "worst"
    letstune.resume(path, n_trials=20, progress=False, max_failures=0)
    run(path, 30, make(failures="worst"))
    assert facts(path) == facts(straight)
    ignoring = tmp_path / "ignoring.db"
    run(ignoring, 30, make(failures="ignore"))
    assert facts(ignoring) != facts(path)
