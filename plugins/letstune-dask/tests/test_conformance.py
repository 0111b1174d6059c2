"""The laws for an executor, on a real cluster."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from conftest import LocalCluster
from letstune_dask import DaskExecutor

from letstune.testing import ExecutorSuite


class TestDaskExecutor(ExecutorSuite):
    @pytest.fixture
    def make_executor(self, cluster: LocalCluster) -> Any:
        return lambda job: DaskExecutor(cluster.address, job.packed(), token=secrets.token_hex(4))
