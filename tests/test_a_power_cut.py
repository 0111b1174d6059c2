"""After a power cut, all that was recorded is there, with its checkpoints, and the run goes on."""

import shutil
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from disk import Operation, operations, recorded_by
from journal_facts import assert_same, query
from power_cuts import HOW, replayed
from processes import python
from small_trainers import tune
from stateful_trainer import WalkTrainer

from letstune.errors import JournalError
from letstune.journal.journal import Journal
from letstune.journal.schema import TABLES
from letstune.runs.check import check_run

CUTS: Final = 400
RESUMED: Final = 32

OPTIONS: Final[dict[str, Any]] = {
    "rounds": [2, 1],
    "seed": 3,
    "keep_checkpoints": 2,
    "rehearse": True,
}

RECORDED = """
import sys
from pathlib import Path
from letstune.journal import journal
from small_trainers import tune
from stateful_trainer import WalkTrainer
from test_a_power_cut import OPTIONS

def told(name):
    method = getattr(journal.Journal, name)
    def telling(self, *args):
        method(self, *args)
        with open(sys.argv[1] + ".told", "ab", buffering=0) as file:
            file.write(b"%d " % self._seq)
    setattr(journal.Journal, name, telling)

for name in ("append", "grow", "end_session"):
    told(name)
tune(WalkTrainer(), 14, Path(sys.argv[1]), workers=2, **OPTIONS)
"""
"""A run that notes, after each commit, how much is recorded: that must last."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> list[Operation]:
    """What the owner and the workers of a run did to its folder."""
    folder, beside = tmp_path_factory.mktemp("recorded"), tmp_path_factory.mktemp("beside")
    preloaded, log = recorded_by(beside, folder)
    ran = python("-c", RECORDED, folder / "run.db", cwd=beside, **preloaded)
    assert ran.returncode == 0, ran.stderr
    return list(operations(log, folder))


def note(operation: Operation, noted: list[int]) -> None:
    """Take a note of how many rows are recorded, after the number of the file that tells it."""
    if operation.kind == "create" and operation.path == "run.db.told":
        noted.append(operation.number)
    elif operation.kind == "write" and operation.number in noted[:1]:
        noted.append(int(operation.data))


def latest(path: Path) -> int:
    """Return the number of the last row."""
    sql = " UNION ALL ".join(f"SELECT max(seq) AS seq FROM {table}" for table in TABLES)
    ((seq,),) = query(path, f"SELECT ifnull(max(seq), 0) FROM ({sql})")
    return int(seq)


def well(path: Path, recorded: int) -> None:
    """Check a run after a power cut, of which so many rows had been recorded."""
    if not path.exists():
        assert recorded == 0
        return
    try:
        found = check_run(path)
    except JournalError as error:
        # As a session begins or ends, SQLite has another kind of journal, which who only reads does
        # not take back. To open it as a resume does is enough.
        assert "in the middle of a change that was killed" in str(error)  # noqa: PT017
        Journal(path, write=True).close()
        found = check_run(path)
    assert {finding.what for finding in found} <= {"no row points to this checkpoint"}
    assert latest(path) >= recorded


@pytest.mark.slow
def test_whenever_the_power_is_cut_nothing_recorded_is_lost(
    done: list[Operation], tmp_path: Path
) -> None:
    straight = tmp_path / "straight.db"
    tune(WalkTrainer(), 14, straight, **OPTIONS)
    assert len(done) > CUTS
    rng = Random(1)
    cuts = {*rng.sample(range(len(done) + 1), CUTS - 1), len(done)}
    resumed = {moment: rng.choice(HOW[2:]) for moment in rng.sample(sorted(cuts), RESUMED)}
    noted: list[int] = []
    for moment, disk in enumerate(replayed(done)):
        for how in HOW if moment in cuts else ():
            folder = tmp_path / f"{moment} {how}"
            folder.mkdir()
            disk.left_by_a_cut(folder, how, moment)
            (folder / "run.db.told").unlink(missing_ok=True)
            path = folder / "run.db"
            well(path, max(noted[1:], default=0))
            if resumed.get(moment) == how:
                tune(WalkTrainer(), 14, path, **OPTIONS)
                assert_same(path, straight)
                check_run(path, fix=True)
                assert check_run(path) == []
            shutil.rmtree(folder)
        if moment < len(done):
            note(done[moment], noted)


AGAIN = """
import os, sys
from pathlib import Path
from small_trainers import Climb, tune

class Ending(Climb):
    def train_epoch(self, epoch):
        if epoch == 1:
            os._exit(0)
        return super().train_epoch(epoch)

path = Path(sys.argv[1])
if not os.fork():
    tune(Ending(), 2, path, rounds=[2])
os.wait()
path.unlink()
os.fsync(os.open(path.parent, os.O_RDONLY))  # that was long ago
tune(Climb(), 2, path, rounds=[1], seed=2)
"""
"""A run whose name is used again, though SQLite's files of another one are still there."""


@pytest.mark.slow
def test_a_power_cut_as_a_run_begins_brings_back_nothing_of_another_one(tmp_path: Path) -> None:
    preloaded, log = recorded_by(tmp_path, tmp_path / "runs")
    (tmp_path / "runs").mkdir()
    ran = python("-c", AGAIN, tmp_path / "runs" / "run.db", cwd=tmp_path, **preloaded)
    assert ran.returncode == 0, ran.stderr
    done = list(operations(log, tmp_path / "runs"))
    made = [n for n, one in enumerate(done) if (one.kind, one.data) == ("rename", b"run.db")]
    assert len(made) == 2
    found = set()
    disk = [*islice(replayed(done), made[1] + 2)][-1]  # the new one has just got its name
    for seed in range(60):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        disk.left_by_a_cut(folder, "any", seed)
        if (path := folder / "run.db").exists():
            well(path, 0)
            found |= {*query(path, "SELECT (SELECT count(*) FROM trials), value FROM plan "
                                   "WHERE fact = 'seed'")}  # fmt: skip
        shutil.rmtree(folder)
    assert found == {(0, "2")}
