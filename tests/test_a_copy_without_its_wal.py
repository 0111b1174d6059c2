"""A journal that was copied without its -wal file says that its last rows may be missing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import command, environment
from small_trainers import Climb, tune

import letstune

SCRIPT = """
import letstune, time
from letstune import Params, rand
class P(Params):
    x: float = rand.uniform(0, 1)
class T(letstune.SimpleTrainer[P]):
    metric = "m"
    def load_dataset(self, dataset): pass
    def train(self, params):
        time.sleep(0.01)
        return None, {"m": params.x}
if __name__ == "__main__":
    letstune.tune(T(), 1000, journal="run.db", seed=1, progress=False)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_copy_of_a_killed_runs_journal_alone_says_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.py").write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, "s.py"], cwd=tmp_path, env=environment())
    path = tmp_path / "run.db"
    while not path.exists() or len(letstune.load(path)) < 10 or not letstune.load(path)[0].epochs:
        assert process.poll() is None
        time.sleep(0.05)
    capsys.readouterr()
    letstune.load(path)
    assert capsys.readouterr().err == ""  # it is running
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    letstune.load(path)
    assert capsys.readouterr().err == ""  # the -wal file is there
    copy = tmp_path / "laptop" / "run.db"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    letstune.load(copy)
    told = capsys.readouterr().err
    assert "may lack its last rows: they are in run.db-wal, which is not beside it" in told
    done = command("status", copy, "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert "run.db-wal" in done.stderr


def test_a_run_that_ended_well_lacks_nothing(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(Climb(), 2, path, rounds=[1])
    capsys.readouterr()
    letstune.load(shutil.copy(path, tmp_path / "copy.db"))
    assert capsys.readouterr().err == ""
