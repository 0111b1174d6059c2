"""Runs that are killed and resumed come out as if nothing had happened, whatever the sampler."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import letstune
import optuna
import own_samplers as own
import pytest
from letstune import Observer, Rounds
from letstune.testing import Child
from trainers import Climb, Hill

from letstune_optuna import CMAES, GP, NSGAII, QMC, TPE, OptunaSampler

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

SAMPLERS: dict[str, Callable[[], OptunaSampler]] = {
    "tpe": lambda: TPE(n_startup_trials=4),
    "multivariate": lambda: TPE(n_startup_trials=4, multivariate=True),
    "group": lambda: TPE(n_startup_trials=4, group=True),
    "cmaes": lambda: CMAES(popsize=4),
    "nsgaii": lambda: NSGAII(population_size=4),
    "qmc": QMC,
    "instance": lambda: OptunaSampler(optuna.samplers.TPESampler(n_startup_trials=3, seed=4)),
    "helper": lambda: OptunaSampler(own.HELPED["lazy"]()),
    "gp": lambda: GP(n_startup_trials=4),
}
NAMES = [
    pytest.param(
        name,
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(find_spec("torch") is None, reason="needs torch"),
        ]
        if name == "gp"
        else [],
    )
    for name in sorted(SAMPLERS)
]


def simple(path: Path, sampler: OptunaSampler, **options: Any) -> None:
    tune(Hill(), 25, path, sampler, **options)


def cohorts(path: Path, sampler: OptunaSampler, **options: Any) -> None:
    rounds = Rounds([1, 1, 2], cohort=[8, 4, 2], keep=0.5)
    tune(Climb(), 26, path, sampler, rounds=rounds, lag=1, **options)


def tune(trainer: Any, n_trials: int, path: Path, sampler: OptunaSampler, **options: Any) -> None:
    letstune.tune(
        trainer, n_trials, sampler=sampler, journal=path, seed=5, progress=False, **options
    )


Plan = Callable[..., None]


class Killer(Observer):
    """Kills its own process at the n-th event of a session, once that is recorded."""

    def __init__(self, until: int) -> None:
        self.left = until

    def _count(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            os._exit(9)

    trial_proposed = epoch_recorded = trial_failed = _count


def dying(plan: Plan, path: Path, sampler: OptunaSampler, until: int) -> None:
    """Run a plan, and die at its n-th event."""
    plan(path, sampler, observers=[Killer(until)])


def in_fork(plan: Plan, path: Path, sampler: OptunaSampler, until: int) -> bool:
    """Run a plan in a process that dies at its n-th event; tell whether it got to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            dying(plan, path, sampler, until)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 0


def in_new_process(plan: Plan, path: Path, sampler: OptunaSampler, until: int) -> bool:
    """Do as `in_fork`, for a sampler with threads, which a fork would miss: that takes longer."""
    child = Child(dying, plan, path, sampler, until)
    while not child.ended(1):
        pass
    code = child.process.returncode
    child.kill()  # what is left is its folder
    assert code in (0, 9)
    return bool(code == 0)


def facts(path: Path) -> list[Any]:
    """What a run came to: params and metric values, to the last bit."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return [
            db.execute("SELECT trial, params FROM trials ORDER BY trial").fetchall(),
            db.execute(
                "SELECT trial, epoch, quote(value), metrics FROM epochs ORDER BY trial, epoch"
            ).fetchall(),
            db.execute("SELECT trial, epoch, message FROM failures ORDER BY trial").fetchall(),
        ]


@pytest.mark.parametrize("plan", [simple, cohorts])
@pytest.mark.parametrize("name", NAMES)
def test_killed_runs_come_out_the_same(name: str, plan: Plan, tmp_path: Path) -> None:
    straight, killed = tmp_path / "straight.db", tmp_path / "killed.db"
    plan(straight, SAMPLERS[name]())
    wanted = facts(straight)
    assert len(wanted[0]) in (25, 26)
    in_child = in_new_process if name == "gp" else in_fork
    kills = [not in_child(plan, killed, SAMPLERS[name](), until) for until in (4, 9, 2, 13)]
    assert all(kills)
    assert facts(killed) != wanted
    # Not tune: the sampler is the one that the journal keeps.
    letstune.resume(killed, progress=False)
    assert facts(killed) == wanted


def test_a_used_sampler_continues_another_run(path: Path, tmp_path: Path) -> None:
    sampler = TPE(n_startup_trials=4, group=True)
    simple(path, sampler)
    cohorts(tmp_path / "other.db", sampler)
    simple(tmp_path / "again.db", sampler)
    assert facts(tmp_path / "again.db") == facts(path)
