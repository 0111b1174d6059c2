"""The laws for an executor, on a real cluster."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import psutil
import pytest
from conftest import LocalCluster
from letstune_dask import DaskExecutor

from letstune.testing import ExecutorSuite, Preemption, Victim, by_signals


class TestDaskExecutor(ExecutorSuite):
    @pytest.fixture
    def make_executor(self, cluster: LocalCluster) -> Any:
        return lambda job: DaskExecutor(cluster.address, job.packed(), token=secrets.token_hex(4))

    @pytest.fixture
    def preemptions(self, cluster: LocalCluster) -> Sequence[Preemption]:
        """Nodes are ended, more of them in a row than a trial may lose before that counts."""

        def end_the_node(victim: Victim) -> None:
            name = below(cluster, victim)
            cluster.start_worker(nanny=True)
            cluster.workers.pop(name).terminate()

        return [*by_signals(), *[end_the_node] * 6]


def below(cluster: LocalCluster, victim: Victim) -> str:
    """Return the name of the Dask worker below which a process trains."""
    above = {process.pid for process in psutil.Process(victim.trains).parents()}
    (name,) = (name for name, process in cluster.workers.items() if process.pid in above)
    return name
