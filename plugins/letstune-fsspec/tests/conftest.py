import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import s3fs
from proxy import Proxy

from letstune_fsspec import FsspecStore

TESTS = Path(__file__).parent

# Journals sync after every epoch: in memory, that takes no time.
if os.access("/dev/shm", os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")

# The key that signs runs is not that of whoever runs these tests.
_OWN = tempfile.TemporaryDirectory(prefix="letstune-tests-")
# Processes that these tests start may import this file, too, and have that one.
os.environ["LETSTUNE_KEY_FILE"] = os.environ.setdefault("LETSTUNE_TESTS_KEY", f"{_OWN.name}/key")


def serve(**variables: str) -> Iterator[str]:
    """Run an S3 server in a process of its own, and yield its URL."""
    process = subprocess.Popen(
        [sys.executable, str(TESTS / "server.py")],
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        url = process.stdout.readline().decode().strip()
        assert url.startswith("http://127.0.0.1"), "the server did not start"
        yield url
    process.wait()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    yield from serve()


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    with Proxy(server) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the machine's own credentials alone; the server takes any."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


@pytest.fixture
def s3(server: str) -> Any:
    """What a user could do behind the store's back."""
    return s3fs.S3FileSystem(
        endpoint_url=server, key="tests", secret="tests", skip_instance_cache=True
    )


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"bucket-{uuid4().hex[:8]}"
    s3.mkdir(name)
    return name


@pytest.fixture
def store(bucket: str, server: str) -> FsspecStore:
    return FsspecStore(f"s3://{bucket}/runs/1", endpoint_url=server)


@pytest.fixture
def fragile(bucket: str, proxy: Proxy) -> FsspecStore:
    """A store that reaches its server through the proxy."""
    return FsspecStore(
        f"s3://{bucket}/runs/1",
        endpoint_url=proxy.url,
        patience=30,
        config_kwargs={"read_timeout": 2, "connect_timeout": 2},
    )
