"""A run both of whose workers wait in the middle of an epoch."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from journal_facts import facts
from live_processes import pids, wait_for
from processes import TESTS, environment
from small_trainers import Climb, Point, tune

import letstune


class Waiting(Climb):
    """In its second epoch, each trial waits until there is a file "go". ``dataset`` is a folder."""

    def load_dataset(self, dataset: Any) -> None:
        self.folder = Path(dataset)

    def create_model(self, params: Point) -> None:
        super().create_model(params)
        self.name = params.to_json()

    def load(self, checkpoint: Any, params: Point) -> None:
        super().load(checkpoint, params)
        self.name = params.to_json()

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            (self.folder / f"{self.name} here").write_text(
                f"{os.getpid()} {os.getppid()} {child.pid}"
            )
            wait_for(lambda: (self.folder / "go").exists())
            child.kill()
            child.wait()
        return super().train_epoch(epoch)


WAIT = """
import sys, letstune, waiting_run
letstune.tune(
    waiting_run.Waiting(), 6, rounds=[2, 1], seed=1, workers=2, dataset=sys.argv[2],
    journal=sys.argv[1],
)
"""
"""No guard: worker processes do not run the script again."""


def here(folder: Path) -> list[Path]:
    """Where the trials have left that they wait, and it is all written."""
    return [file for file in folder.glob("* here") if len(file.read_text().split()) == 3]


@contextmanager
def waiting(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """An owner both of whose workers are in the middle of an epoch."""
    folder = path.with_name("witness")
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", WAIT, str(path), str(folder)],
        env=environment(TESTS),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            wait_for(lambda: len(here(folder)) == 2 or process.poll() is not None)
            yield process
        finally:
            process.kill()
            (folder / "go").touch()


def processes(path: Path) -> list[int]:
    """Workers, supervisors, and what the trainers started."""
    return [pid for file in here(path.with_name("witness")) for pid in pids(file)]


def told(process: "subprocess.Popen[str]") -> str:
    """What the owner says next, once it has heard of a signal."""
    assert process.stderr is not None
    assert process.stderr.readline() == "\n"
    return process.stderr.readline()


def assert_resumes_exactly(path: Path) -> None:
    path.with_name("witness").joinpath("go").touch()
    assert letstune.resume(path, progress=False).finished
    other = path.with_name("other.db")
    tune(Waiting(), 6, other, rounds=[2, 1], dataset=str(path.with_name("witness")))
    found, wanted = facts(path), facts(other)
    for table in ("trials", "epochs", "failures", "stops", "deletions"):
        assert found[table] == wanted[table], table
