"""Workers and owner killed at random moments change nothing."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from journal_facts import assert_same, query, recorded_epochs
from live_processes import alive, wait_for
from processes import EXAMPLES, TESTS, environment, python
from stateful_trainer import NearBest, WalkTrainer

import letstune
from letstune.runs.check import check_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


DEADLY = """
import sys, letstune
from test_killed_at_random import DEADLY_OPTIONS, Witnessed
letstune.tune(
    Witnessed(), int(sys.argv[4]), dataset=sys.argv[2], journal=sys.argv[1],
    workers=int(sys.argv[3]) or None, progress=False, **DEADLY_OPTIONS[{name!r}],
)
"""

DEADLY_OPTIONS: dict[str, dict[str, Any]] = {
    "random": {"rounds": [2, 3, 4], "seed": 3, "max_deaths": 1000},
    "learning": {
        "rounds": letstune.Rounds([1, 2, 3], keep=0.4, cohort=[5, 3]),
        "sampler": NearBest(),
        "lag": 2,
        "seed": 5,
        "max_deaths": 1000,
    },
}

DEADLY_EXAMPLE = """
import os, sys, letstune
from pathlib import Path
from letstune.training.pickling import load_object

Trainer = type(load_object({trainer!r}))
begin = "train" if issubclass(Trainer, letstune.SimpleTrainer) else "train_epoch"

class Witnessed(Trainer):
    def load_dataset(self, dataset):
        self.folder = Path(dataset)
        (self.folder / f"{{os.getpid()}} {{os.getppid()}}").touch()
        super().load_dataset(None)

    def begin(self, what):
        with (self.folder / "epochs").open("a") as file:
            file.write(f"{{what}}\\n")
        return getattr(super(), begin)(what)

setattr(Witnessed, begin, Witnessed.begin)
letstune.tune(
    Witnessed(), int(sys.argv[4]), dataset=sys.argv[2], journal=sys.argv[1], seed=2,
    workers=int(sys.argv[3]) or None, progress=False, max_deaths=1000, **{options!r},
)
"""


class Witnessed(WalkTrainer):
    """Leaves its number in ``dataset``, a folder, which gets a line for each epoch begun."""

    def load_dataset(self, dataset: Any) -> None:
        (Path(dataset) / f"{os.getpid()} {os.getppid()}").touch()
        super().load_dataset(Path(dataset) / "epochs")

    def train_epoch(self, epoch: int) -> dict[str, float]:
        values = super().train_epoch(epoch)
        time.sleep(random.Random(f"{self.params} {epoch}").random() * 0.02)
        return values


def witnesses(folder: Path) -> list[int]:
    """Workers and supervisors of a run that still run, and nobody else."""
    found = [int(word) for file in folder.glob("* *") for word in file.name.split()]
    return [pid for pid in found if alive(pid, f"WITNESSES={folder}")]


def kill_at_random(
    script: str, path: Path, folder: Path, n_trials: int, kills: int, most: int
) -> None:
    """Run to the end, killing the owner and its workers at random; check that nothing is left."""
    rng, left, finished = random.Random(kills), kills, False
    while not finished:
        workers = rng.choice([n for n in (1, 2, 3, 5) if n <= most])
        owner = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, (path, folder, workers, n_trials))],
            env=environment(TESTS, WITNESSES=str(folder)),
            stderr=subprocess.PIPE,
            text=True,
        )
        while left and owner.poll() is None:
            begun = lines(folder)
            # So few that the epochs of a run suffice for all kills.
            target = begun + rng.randint(1, max(1, n_trials // kills))
            wait_for(lambda: lines(folder) >= target or owner.poll() is not None)  # noqa: B023
            if owner.poll() is None:
                owners = [owner.pid]
                found = owners if rng.random() < 0.25 else [*witnesses(folder), *owners]
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(found), signal.SIGKILL)
                    left -= 1
        told = owner.communicate()[1]
        assert owner.returncode in (0, -signal.SIGKILL), told
        finished = owner.returncode == 0
        wait_for(lambda: not witnesses(folder))
    assert left == 0


def lines(folder: Path) -> int:
    file = folder / "epochs"
    return file.read_text().count("\n") if file.exists() else 0


@pytest.mark.parametrize(
    ("name", "n_trials", "kills"),
    [
        ("random", 16, 5),
        pytest.param("learning", 12, 4, marks=pytest.mark.slow),
        pytest.param("random", 80, 40, marks=pytest.mark.slow),
        pytest.param("learning", 60, 30, marks=pytest.mark.slow),
    ],
)
def test_workers_and_owner_killed_at_random_change_nothing(
    name: str, n_trials: int, kills: int, tmp_path: Path
) -> None:
    deadly_run(DEADLY.format(name=name), n_trials, kills, 5, tmp_path)


EXAMPLE_TRAINERS = {"digits": "DigitsTrainer", "digits_mlp": "DigitsMLPTrainer"}


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLE_TRAINERS)
@pytest.mark.parametrize(
    ("n_trials", "kills"), [(6, 3), pytest.param(40, 30, marks=pytest.mark.slow)]
)
def test_examples_come_out_the_same_whoever_is_killed(
    example: str, n_trials: int, kills: int, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    trainer = f"{EXAMPLES / example}.py:{EXAMPLE_TRAINERS[example]}"
    options: dict[str, Any] = {} if example == "digits" else {"rounds": [1, 2]}
    script = DEADLY_EXAMPLE.format(trainer=trainer, options=options)
    deadly_run(script, n_trials, kills, 2, tmp_path)  # each process imports scikit-learn


def deadly_run(script: str, n_trials: int, kills: int, most: int, tmp_path: Path) -> None:
    """Run with and without kills, with up to so many workers, and compare."""
    folder, path, straight = tmp_path / "pids", tmp_path / "run.db", tmp_path / "straight.db"
    folder.mkdir()
    kill_at_random(script, path, folder, n_trials, kills, most)
    trained = lines(folder)
    done = python("-c", script, straight, folder, 0, n_trials, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same(path, straight)
    assert all(finding.mended for finding in check_run(path, fix=True))
    assert check_run(path) == []
    # A death costs the epoch in flight; that of the owner, those of its workers.
    ended = len(query(path, "SELECT 1 FROM failures UNION ALL SELECT 1 FROM stops"))
    assert recorded_epochs(path) <= trained <= recorded_epochs(path) + ended + 5 * kills
