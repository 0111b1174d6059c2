"""The recipe for Slurm, run as it stands in the docs, is put back until its run is finished."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from journal_facts import facts, query
from live_processes import wait_for
from night_family import descendants
from processes import ROOT, environment

import letstune

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

NET = """
import subprocess, time
from pathlib import Path
import letstune
from letstune import Params, rand

class Net(Params):
    x: float = rand.uniform(0, 1)

class NetTrainer(letstune.EpochTrainer[Net]):
    metric = "m"

    def load_dataset(self, dataset):
        pass

    def create_model(self, params):
        self.model = [params.x]

    def train_epoch(self, epoch):
        if len(self.model) == 3 and not Path("go").exists():
            child = subprocess.Popen(["sleep", "1000"])
            Path("here").touch()
            while child.poll() is None and not Path("go").exists():
                time.sleep(0.01)
            if child.poll() is not None:
                raise RuntimeError("a child exited unexpectedly")
            child.kill()
            child.wait()
        self.model.append(float(self.rng.normal()))
        return {"m": sum(self.model)}
"""


class Slurm:
    """Starts a job whenever it is put back.

    Args:
        folder: where the job runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        page = (ROOT / "docs" / "night.md").read_text()
        (script,) = re.findall(r"^```bash\n(#!/bin/bash\n#SBATCH .*?)^```", page, re.DOTALL | re.M)
        (folder / "job.sh").write_text(script)
        (folder / "net.py").write_text(NET)
        shims = folder / "bin"
        shims.mkdir()
        commands = {
            "scontrol": f'echo "$@" >> {folder}/requeued',
            "letstune": f'exec {sys.executable} -m letstune "$@" --seed 1',
        }
        for name, line in commands.items():
            (shims / name).write_text(f"#!/bin/bash\n{line}\n")
            (shims / name).chmod(0o755)

    @property
    def requeued(self) -> int:
        file = self.folder / "requeued"
        lines = file.read_text().splitlines() if file.exists() else []
        assert set(lines) <= {"requeue 7"}
        return len(lines)

    @contextmanager
    def job(self, end: float | None = None) -> Iterator["subprocess.Popen[str]"]:
        """Start the job, whose time is up at some moment, and wait for its end."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        up = str(int(end or time.time() + 3600))
        with subprocess.Popen(
            ["bash", "job.sh"],
            cwd=self.folder,
            env=environment(PATH=path, SLURM_JOB_ID="7", SLURM_JOB_END_TIME=up),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            yield process
            process.communicate(timeout=120)

    @contextmanager
    def training(self, end: float | None = None) -> Iterator["subprocess.Popen[str]"]:
        """Start the job, wait until an epoch is in flight, and then for the job's end."""
        (self.folder / "here").unlink(missing_ok=True)
        with self.job(end) as process:
            wait_for((self.folder / "here").exists)
            yield process

    def finish(self) -> None:
        (self.folder / "go").touch()
        with self.job() as process:
            pass
        assert process.returncode == 0


def to_all(process: "subprocess.Popen[str]", which: int) -> None:
    for pid in descendants(process.pid):
        with suppress(ProcessLookupError):  # the death of another has ended it
            os.kill(pid, which)


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    return Slurm(tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    slurm = Slurm(tmp_path_factory.mktemp("uninterrupted"))
    slurm.finish()
    assert not slurm.requeued
    return training(slurm)


def training(slurm: Slurm) -> dict[str, list[str]]:
    path = slurm.folder / "run.db"
    assert letstune.load(path).finished
    assert query(path, "SELECT * FROM failures") == query(path, "SELECT * FROM deaths") == []
    return {name: rows for name, rows in facts(path).items() if name not in ("plan", "pickles")}


def test_a_warning_to_the_shell_lets_the_epoch_end(
    slurm: Slurm, uninterrupted: dict[str, list[str]]
) -> None:
    with slurm.training() as job:
        job.send_signal(signal.SIGUSR1)
        time.sleep(0.2)
        (slurm.folder / "go").touch()
    assert (job.returncode, slurm.requeued) == (75, 1)
    slurm.finish()
    assert training(slurm) == uninterrupted


@pytest.mark.parametrize("times", [1, 2])
def test_an_epoch_that_takes_too_long_is_given_up(
    slurm: Slurm, uninterrupted: dict[str, list[str]], times: int
) -> None:
    """A warning, then the end of its time: TERM to all processes, and KILL to what is left."""
    for number in range(1, times + 1):
        with slurm.training() as job:
            job.send_signal(signal.SIGUSR1)
            time.sleep(0.3)
            to_all(job, signal.SIGTERM)
            wait_for(lambda: slurm.requeued == number)  # noqa: B023
            to_all(job, signal.SIGKILL)
        assert job.returncode in (75, 130, -signal.SIGKILL)
    slurm.finish()
    assert training(slurm) == uninterrupted


def test_a_preemption_puts_it_back(slurm: Slurm, uninterrupted: dict[str, list[str]]) -> None:
    with slurm.training() as job:
        to_all(job, signal.SIGTERM)
    assert (job.returncode, slurm.requeued) == (75, 1)
    slurm.finish()
    assert training(slurm) == uninterrupted


def test_a_node_that_fails_leaves_a_run_that_goes_on(
    slurm: Slurm, uninterrupted: dict[str, list[str]]
) -> None:
    with slurm.training() as job:
        to_all(job, signal.SIGKILL)
    assert not slurm.requeued  # Slurm does that itself
    slurm.finish()
    assert training(slurm) == uninterrupted


def test_a_time_that_is_up_puts_it_back(slurm: Slurm, uninterrupted: dict[str, list[str]]) -> None:
    end = time.time() + 6
    with slurm.training(end) as job:
        time.sleep(max(0.0, end - time.time()))
        (slurm.folder / "go").touch()
    assert (job.returncode, slurm.requeued) == (75, 1)
    slurm.finish()
    assert training(slurm) == uninterrupted


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_that_is_done_or_broken_is_not_put_back(slurm: Slurm, code: int) -> None:
    (slurm.folder / "bin" / "letstune").write_text(f"#!/bin/bash\nexit {code}\n")
    with slurm.job() as job:
        pass
    assert (job.returncode, slurm.requeued) == (code, 0)
