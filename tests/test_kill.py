"""Real processes, real SIGKILL, at random times."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from journal_facts import facts, recorded_epochs

from letstune.runs.check import check_run

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")

KILLS = 20

SCRIPT = """
import sys, time
import letstune
from stateful_trainer import WalkTrainer

class SlowWalkTrainer(WalkTrainer):
    def train_epoch(self, epoch):
        values = super().train_epoch(epoch)
        time.sleep(0.002)
        return values

if __name__ == "__main__":
    letstune.tune(
        SlowWalkTrainer(), 60, dataset=sys.argv[2], journal=sys.argv[1], seed=3, rounds=[3, 6, 9]
    )
"""


def start(script: Path, path: Path, witness: Path, hash_seed: int) -> "subprocess.Popen[bytes]":
    again = [sys.executable, str(script), str(path), str(witness)]
    # In turn: the same script again, and the command that needs the journal only.
    resume = [sys.executable, "-m", "letstune", "resume", str(path), "--quiet"]
    tests = str(Path(__file__).parent)
    return subprocess.Popen(
        resume if path.exists() and hash_seed % 2 else again,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": tests},
        cwd=script.parent,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def lines(witness: Path) -> int:
    return witness.read_text().count("\n") if witness.exists() else 0


@pytest.mark.slow
def test_killed_twenty_times_the_journal_is_that_of_a_run_never_interrupted(
    tmp_path: Path,
) -> None:
    script = tmp_path / "walk.py"
    script.write_text(SCRIPT)
    straight, witness = tmp_path / "straight.db", tmp_path / "witness"
    process = start(script, straight, witness, 0)
    assert process.communicate()[1] is not None
    assert process.returncode == 0
    witness.unlink()

    path, rng, kills, hash_seed = tmp_path / "run.db", random.Random(1), 0, 0
    finished = False
    while not finished:
        hash_seed += 1
        process = start(script, path, witness, hash_seed)
        before = lines(witness)
        # Wait until it trains, so that every kill hits work; then for a random number of epochs.
        target = before + rng.randint(1, 30)
        while process.poll() is None and lines(witness) < target:
            pass
        if kills < KILLS and process.poll() is None:
            for _ in range(rng.randrange(4000)):  # some way into the epoch, or its recording
                pass
            process.kill()
            kills += 1
        errors = process.communicate()[1].decode()
        assert process.returncode in (0, -signal.SIGKILL), errors
        finished = process.returncode == 0

    assert kills == KILLS
    wanted, found = facts(straight), facts(path)
    for table in wanted:
        rows = found[table]
        if table == "plan":
            rows = [row.replace(str(path), str(straight)) for row in rows]
        assert rows == wanted[table], table
    ended = len(found["failures"]) + len(found["stops"])
    trained = lines(witness)
    # The command trains in a worker, where what fails may be tried once more in a fresh one.
    opinions = len(found["failures"])
    rehearsals = kills + 1  # one a session at most, until a trial is in its second round
    assert trained <= recorded_epochs(path) + ended + kills + opinions + rehearsals
    assert all(finding.mended for finding in check_run(path, fix=True))
    assert check_run(path) == []
