"""The promise: kill a run anywhere, any number of times, and its journal comes out the same.

Runs are killed with ``os._exit`` in forked processes, so that nothing tidies up, at each boundary
of what the program does: between any two steps of writing a checkpoint, of a transaction, of a
deletion, of making the journal, and in the middle of an epoch.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils  # noqa: F401 (once here, rather than in hundreds of forked processes)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_facts import facts, recorded_epochs
from stateful_trainer import NearBest, StrideTrainer, WalkTrainer

import letstune
from letstune import Rounds
from letstune.journal import create, journal
from letstune.runs import loop
from letstune.runs.check import check_run
from letstune.training import checkpoints, stores

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes"),
    # NumPy's thread pool makes any fork suspicious to Python 3.12; the child uses none of it.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

PLANS: dict[str, Callable[[Path, Any], Any]] = {
    "one cohort": lambda path, witness: letstune.tune(
        WalkTrainer(), 12, journal=path, dataset=witness, seed=5, rounds=[2, 3, 4], progress=False
    ),
    "cohorts and a sampler that learns": lambda path, witness: letstune.tune(
        WalkTrainer(),
        14,
        journal=path,
        dataset=witness,
        seed=6,
        sampler=NearBest(),
        rounds=Rounds([1, 2, 3], keep=0.4, cohort=[5, 3]),
        lag=1,
        keep_checkpoints=3,
        progress=False,
    ),
    "keep everything": lambda path, witness: letstune.tune(
        WalkTrainer(),
        6,
        journal=path,
        dataset=witness,
        seed=11,
        rounds=[2, 3],
        keep_checkpoints="all",
        progress=False,
    ),
    "simple trainer": lambda path, witness: letstune.tune(
        StrideTrainer(), 15, journal=path, seed=7, keep_checkpoints=2, progress=False
    ),
}


class Steps:
    """Counts boundaries, and ends the process at one of them as SIGKILL would."""

    def __init__(self, until: int) -> None:
        self.left = until

    def tick(self) -> None:
        self.left -= 1
        if self.left == 0:
            os._exit(9)

    def around(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def stepping(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            returned = original(*args, **kwargs)
            self.tick()
            return returned

        setattr(owner, name, stepping)


BOUNDARIES = [
    (WalkTrainer, "load_dataset"),
    (WalkTrainer, "train_epoch"),
    (WalkTrainer, "save"),
    (StrideTrainer, "train"),
    (stores.os, "rename"),
    (stores, "_sync"),
    (checkpoints.Keeper, "save"),
    (stores.DirectoryStore, "delete"),
    (stores.shutil, "rmtree"),
    (journal.Journal, "append"),
    (journal.Journal, "_insert"),
    (journal.Journal, "_insert_session"),
    (journal.Journal, "end_session"),
    (create, "migrate"),
    (create, "insert_plan"),
    (journal, "insert_plan"),
    (journal.Path, "replace"),
]


def in_child(plan: Callable[[Path, Any], Any], path: Path, witness: Any, until: int) -> bool:
    """Run a plan in a forked process that dies at a boundary; tell whether it got to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        loop.MOMENT = 0.0  # no signal comes, and there are thousands of these runs
        try:
            steps = Steps(until)
            for owner, name in BOUNDARIES:
                steps.around(owner, name)
            plan(path, witness)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9)
    return code == 0


class Straight(dict[str, Any]):
    """Facts of runs that were never interrupted; too many to be printed."""

    def __repr__(self) -> str:
        return "Straight()"


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Straight:
    found = Straight()
    for name, plan in PLANS.items():
        path = tmp_path_factory.mktemp("straight") / "run.db"
        assert in_child(plan, path, None, -1)
        found[name] = facts(path)
    return found


def assert_nothing_lost(path: Path) -> None:
    """At any moment, every checkpoint is there to which the journal points."""
    if path.exists():
        lost = [finding for finding in check_run(path) if not finding.what.startswith("no row")]
        assert lost == []


def assert_same(path: Path, wanted: dict[str, list[str]]) -> None:
    found = facts(path)
    for table, rows in wanted.items():
        if table != "pickles" and table != "plan":
            assert found[table] == rows, table
    assert {row for row in found["plan"] if "dataset" not in row} == {
        row for row in wanted["plan"] if "dataset" not in row
    }
    # What the kills left behind is swept; nothing that the journal points to is missing.
    assert all(finding.mended for finding in check_run(path, fix=True))
    assert check_run(path) == []


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(sorted(PLANS)),
    kills=st.lists(st.integers(1, 150), min_size=1, max_size=8),
)
def test_interrupted_equals_uninterrupted(
    name: str, kills: list[int], straight: Straight, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    path, witness = folder / "run.db", folder / "witness"
    witness.touch()
    killed = 0
    for until in kills:
        killed += not in_child(PLANS[name], path, str(witness), until)
        assert_nothing_lost(path)
    assert in_child(PLANS[name], path, str(witness), -1)
    assert_same(path, straight[name])
    trained = len(witness.read_text().splitlines())
    ended = len(facts(path)["failures"]) + len(facts(path)["stops"])
    rehearsed = killed + 1  # in each session at most once
    assert trained <= recorded_epochs(path) + killed + ended + rehearsed
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PLANS))
def test_killed_at_every_single_boundary(name: str, straight: Straight, tmp_path: Path) -> None:
    until = 0
    ended = False
    while not ended:
        until += 1
        path = tmp_path / f"{until}.db"
        ended = in_child(PLANS[name], path, None, until)
        assert_nothing_lost(path)
        assert in_child(PLANS[name], path, None, -1)
        assert_same(path, straight[name])
    assert until > 100


@pytest.mark.parametrize("name", sorted(PLANS))
def test_always_killed_at_the_same_step_gets_there_all_the_same(
    name: str, straight: Straight, tmp_path: Path
) -> None:
    # Far enough for one epoch to be recorded each time: progress, however small, is never lost.
    path, runs = tmp_path / "run.db", 0
    while not in_child(PLANS[name], path, None, 40):
        runs += 1
    assert runs > 3
    assert_same(path, straight[name])
