"""A real cluster on this machine: a scheduler and workers, each a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client

from letstune.testing import facts

TESTS = Path(__file__).parent
PATIENCE = 90.0

MARK = "LETSTUNE_WORKER"
"""The variable that all training processes have."""

# Inherited by all that these tests start, and by what that starts
SESSION = "LETSTUNE_DASK_TESTS"
os.environ.setdefault(SESSION, str(os.getpid()))

# The key that signs runs is not that of whoever runs these tests.
_OWN = tempfile.TemporaryDirectory(prefix="letstune-tests-")
# Processes that these tests start may import this file, too, and have that one.
os.environ["LETSTUNE_KEY_FILE"] = os.environ.setdefault("LETSTUNE_TESTS_KEY", f"{_OWN.name}/key")


class LocalCluster:
    """Processes that speak TCP over the loopback interface.

    Args:
        folder: for their logs and their files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._count = 0
        self.start_scheduler()

    def _start(self, name: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        self._count += 1
        folder = self.folder / f"{name}-{self._count}"
        folder.mkdir()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{name}", *arguments],
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start_scheduler(self) -> None:
        """Start a scheduler, at another port each time."""
        self._count += 1
        file = self.folder / f"scheduler-{self._count}.json"
        self.scheduler_file = file
        self.scheduler = self._start(
            "scheduler",
            *("--host", "tcp://127.0.0.1", "--port", "0", "--no-dashboard"),
            # Should these tests be killed, it ends by itself, and its workers with it.
            *("--scheduler-file", str(file), "--idle-timeout", "300s"),
        )
        wait_until(lambda: file.exists() and file.stat().st_size)
        with Client(scheduler_file=str(file), set_as_default=False) as client:
            self.address = client.scheduler.address.replace("tcp://", "dask://")

    def start_worker(self, *arguments: str, nanny: bool = False, **variables: str) -> str:
        """Start a worker, and return its name, without waiting for it."""
        name = f"w{len(self.processes)}"
        self.workers[name] = self._start(
            "worker",
            *(self.address.replace("dask://", "tcp://"), "--host", "127.0.0.1", "--name", name),
            *("--nthreads", "2", "--no-dashboard", "--nanny" if nanny else "--no-nanny"),
            *("--local-directory", str(self.folder / name)),
            *arguments,
            **variables,
        )
        return name

    def wait_for(self, count: int) -> None:
        """Wait until there are so many workers."""
        with self.client() as client:
            wait_until(lambda: len(client.nthreads()) == count)

    def client(self) -> Client:
        return Client(self.address.replace("dask://", "tcp://"), set_as_default=False)

    def kill(self, name: str) -> None:
        """Kill a worker, its nanny included, and nothing else."""
        process = self.workers.pop(name)
        for child in [*psutil.Process(process.pid).children(), process]:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):  # it has just ended
                if child is process or MARK not in psutil.Process(child.pid).environ():
                    os.kill(child.pid, signal.SIGKILL)
        process.wait()

    def kill_scheduler(self) -> None:
        self.scheduler.kill()
        self.scheduler.wait()

    def close(self) -> None:
        """End all of it."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def logs(self) -> str:
        return "\n".join(f"{path}:\n{path.read_text()}" for path in self.folder.glob("*/log"))


def wait_until(true: Any, within: float = PATIENCE) -> None:
    """Wait until something is true."""
    until = time.monotonic() + within
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(f"not true for {within} s")
        time.sleep(0.02)


def recorded_epochs(path: Path) -> int:
    """Return how many epochs are recorded."""
    return len(facts(path)["epochs"]) if path.exists() else 0


def training() -> list[int]:
    """Return the training processes that these tests have started, wherever."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            variables = process.environ()
            if MARK in variables and variables.get(SESSION) == os.environ[SESSION]:
                found.append(process.pid)
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Return a cluster of three workers, one of them with a nanny."""
    found = LocalCluster(tmp_path_factory.mktemp("cluster"))
    try:
        found.start_worker()
        found.start_worker()
        found.start_worker(nanny=True)
        found.wait_for(3)
        yield found
    finally:
        found.close()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """Return a cluster without workers, for a test that breaks it."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    found = LocalCluster(folder)
    try:
        yield found
    finally:
        found.close()
