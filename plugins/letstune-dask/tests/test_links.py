"""Hosts of their own, as far as the network goes: network namespaces, whose links are cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TESTS, recorded_epochs, training, wait_until
from test_run import wanted

from letstune.testing import facts

pytestmark = pytest.mark.slow

# So that a link that stays cut is noticed within this test
QUICKLY = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "15s",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "20s",
    "OMP_NUM_THREADS": "1",
}
PORT = 8786


class Hosts:
    """A head with the scheduler and the owner, and two nodes with a link each to the head."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.head = f"letstune-{os.getpid()}-head"
        self.nodes = {n: f"letstune-{os.getpid()}-{n}" for n in (1, 2)}
        self.processes: list[subprocess.Popen[bytes]] = []

    def build(self) -> None:
        """Make namespaces and links."""
        for name in (self.head, *self.nodes.values()):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        for n, name in self.nodes.items():
            ip(
                "-n",
                self.head,
                "link",
                "add",
                f"to{n}",
                "type",
                "veth",
                "peer",
                "up0",
                "netns",
                name,
            )
            for host, device, last in ((self.head, f"to{n}", 1), (name, "up0", 2)):
                ip("-n", host, "address", "add", f"10.99.{n}.{last}/24", "dev", device)
                ip("-n", host, "link", "set", device, "up")

    def link(self, n: int, state: str) -> None:
        """Cut a node's link ("down"), or restore it ("up")."""
        ip("-n", self.head, "link", "set", f"to{n}", state)

    def run(self, host: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a program on a host."""
        log = self.folder / f"log-{len(self.processes)}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", host, sys.executable, *command],
                cwd=self.folder,
                env={**os.environ, **QUICKLY, "PYTHONPATH": str(TESTS)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start_cluster(self) -> None:
        """Start a scheduler on the head, and a worker on each node."""
        common = ["--no-dashboard"]
        scheduler = ["--host", "0.0.0.0", "--port", str(PORT)]  # of a namespace of its own
        self.run(self.head, "-m", "distributed.cli.dask_scheduler", *scheduler, *common)
        for n, name in self.nodes.items():
            worker = [f"tcp://10.99.{n}.1:{PORT}", "--host", f"10.99.{n}.2", "--nthreads", "1"]
            place = ["--local-directory", str(self.folder / str(n))]
            self.run(name, "-m", "distributed.cli.dask_worker", *worker, *common, *place)

    def close(self) -> None:
        """End all processes, and remove the namespaces."""
        for name in (self.head, *self.nodes.values()):
            found = subprocess.run(
                ["ip", "netns", "pids", name], capture_output=True, text=True, check=False
            )
            for pid in found.stdout.split():
                subprocess.run(["kill", "-9", pid], check=False, capture_output=True)
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        for process in self.processes:
            process.wait()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    if shutil.which("ip") is None:
        pytest.skip("there is no `ip`, of iproute2")
    found = Hosts(tmp_path)
    try:
        try:
            found.build()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not allowed: {error.stderr.decode().strip()}")
        yield found
    finally:
        found.close()


def owner(hosts: Hosts, path: Path, seconds: float) -> subprocess.Popen[bytes]:
    call = f"tune(Path({str(path)!r}), {seconds}, workers='dask://127.0.0.1:{PORT}')"
    return hosts.run(hosts.head, "-c", f"from test_run import Path, tune; {call}")


def told(hosts: Hosts) -> str:
    """Return what the owner, the last to be started, has said."""
    return (hosts.folder / f"log-{len(hosts.processes) - 1}").read_text()


def test_a_link_that_is_cut_for_a_moment_costs_nothing(hosts: Hosts, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    hosts.start_cluster()
    running = owner(hosts, path, 0.3)
    wait_until(lambda: recorded_epochs(path) >= 4)
    hosts.link(1, "down")
    before = recorded_epochs(path)
    wait_until(lambda: recorded_epochs(path) >= before + 3)  # of the other node
    hosts.link(1, "up")
    assert running.wait(120) == 0, told(hosts)
    assert "is gone" not in told(hosts)
    assert facts(path) == wanted(tmp_path)


def test_a_link_that_stays_cut_costs_the_node(hosts: Hosts, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    hosts.start_cluster()
    running = owner(hosts, path, 1.0)
    wait_until(lambda: recorded_epochs(path) >= 4)
    hosts.link(1, "down")
    wait_until(lambda: "is gone" in told(hosts))
    hosts.link(1, "up")
    assert running.wait(240) == 0, told(hosts)
    assert facts(path) == wanted(tmp_path)
    wait_until(lambda: not training())
