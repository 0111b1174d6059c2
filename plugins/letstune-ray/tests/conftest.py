"""A real Ray cluster on this machine, with GPUs that are only numbers."""

from __future__ import annotations

import os
import secrets
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from letstune import Store
from letstune.training import DirectoryStore
from letstune.workers import Job

# Journals sync after every epoch: in memory, that takes no time.
if os.access("/dev/shm", os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")

# The key that signs runs is not that of whoever runs these tests.
_OWN = tempfile.TemporaryDirectory(prefix="letstune-tests-")
# Processes that these tests start may import this file, too, and have that one.
os.environ["LETSTUNE_KEY_FILE"] = os.environ.setdefault("LETSTUNE_TESTS_KEY", f"{_OWN.name}/key")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Let clusters of these tests tell nobody of themselves, and leave the user's token alone."""
    token = tmp_path_factory.mktemp("ray") / "token"
    token.write_text(secrets.token_hex(32))
    variables = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN_PATH": str(token)}
    before = {name: os.environ.get(name) for name in variables}
    os.environ |= variables
    yield variables
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


@pytest.fixture(scope="session")
def ray(environment: dict[str, str]) -> Iterator[Any]:
    """Return the module `ray`, connected to a cluster with 2 CPUs and 2 GPUs."""
    module = pytest.importorskip("ray", reason="Ray is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Ray says of its own future
        module.init(
            num_cpus=2,
            num_gpus=2,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",  # nobody else's network
            object_store_memory=100 * 2**20,
            logging_level="warning",
            log_to_driver=False,
        )
    yield module
    module.shutdown()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return DirectoryStore(tmp_path / "checkpoints")


@pytest.fixture
def make_job(tmp_path: Path, store: Store) -> Callable[..., Job]:
    def make(trainer: Any, dataset: object = None, store: Store = store) -> Job:
        return Job.of(trainer, dataset, store, journal=tmp_path / "run.db", seed=1)

    return make
