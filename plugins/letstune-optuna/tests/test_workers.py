"""Runs by worker processes come out the same with any number of them, and after being killed."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from importlib.util import find_spec
from pathlib import Path

import letstune
import pytest
from letstune import Rounds
from letstune.testing import CAN_KILL, Child
from test_resume import SAMPLERS, facts
from trainers import Climb

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CAN_KILL, reason="kills processes"),
]
NAMES = [
    "tpe",
    "group",
    "helper",
    pytest.param("gp", marks=pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")),
]


def run(path: Path, name: str, workers: int | None) -> None:
    letstune.tune(
        Climb(),
        18,
        sampler=SAMPLERS[name](),
        journal=path,
        rounds=Rounds([1, 1, 2], cohort=[4, 2, 1], keep=0.5),
        lag=2,
        workers=workers,
        seed=5,
        progress=False,
    )


def recorded_epochs(path: Path) -> int:
    if not path.exists():
        return 0
    with (
        contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db,
        contextlib.suppress(sqlite3.OperationalError),  # it is just being made
    ):
        count: int = db.execute("SELECT count(*) FROM epochs").fetchone()[0]
        return count
    return 0


def killed(path: Path, name: str, workers: int, epochs: int) -> None:
    """Run in a process that is killed once that many more epochs are recorded."""
    wanted = recorded_epochs(path) + epochs
    child = Child(run, path, name, workers)
    while not child.ended() and recorded_epochs(path) < wanted:
        time.sleep(0.001)
    child.kill()


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_workers_gives_the_same_run(name: str, tmp_path: Path) -> None:
    run(tmp_path / "here.db", name, None)
    wanted = facts(tmp_path / "here.db")
    assert len(wanted[0]) == 18
    for workers in (1, 2, 4):
        path = tmp_path / f"{workers}.db"
        run(path, name, workers)
        assert facts(path) == wanted, f"with {workers} workers"


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_workers_that_is_killed_comes_out_the_same(name: str, tmp_path: Path) -> None:
    run(tmp_path / "here.db", name, None)
    wanted, path = facts(tmp_path / "here.db"), tmp_path / "killed.db"
    for workers, epochs in [(2, 3), (4, 5), (1, 4), (2, 6)]:
        killed(path, name, workers, epochs)
        assert facts(path) != wanted, "it was not killed in between"
    # The sampler is the one that the journal keeps.
    letstune.resume(path, workers=4, progress=False)
    assert facts(path) == wanted
