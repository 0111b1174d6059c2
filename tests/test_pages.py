"""The plugins that the pages show in full keep the laws of their kind."""

from __future__ import annotations

import secrets
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from folder_store_suite import FolderStoreSuite, on_disk
from test_docs import blocks

from letstune.samplers.sampler import Sampler
from letstune.testing import ExecutorSuite, SamplerSuite
from letstune.testing.runs import MakeExecutor
from letstune.training.stores import Store


def shown(page: str) -> SimpleNamespace:
    """Return what the Python blocks of a page define."""
    # No module of that name can be imported, so what is of it is pickled as a script's own.
    module = {"__name__": f"{page}_page"}
    for language, _, code in blocks(page):
        if language == "python":
            exec(compile(code, f"{page}.md", "exec"), module)
    return SimpleNamespace(**module)


@pytest.mark.slow
class TestStorePage(FolderStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        store: Store = shown("store").ZipStore(tmp_path / "zips")
        return store

    @pytest.fixture
    def damage(self) -> Callable[[Store, str], None]:
        def alter(store: Store, uri: str) -> None:
            # Its contents: not all that is in a zip file matters.
            file = on_disk(store) / uri
            file.write_bytes(file.read_bytes().replace(b"11", b"12").replace(b"12", b"13"))

        return alter


class TestExecutorPage(ExecutorSuite):
    @pytest.fixture
    def make_executor(self) -> MakeExecutor:
        factory = shown("executor").ThreadExecutor
        return lambda job: factory("thread://here", job.packed(), token=secrets.token_hex(4))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="worker processes need POSIX")
class TestRemotePage(ExecutorSuite):
    @pytest.fixture
    def make_executor(self, tmp_path: Path) -> MakeExecutor:
        (code,) = (code for _, title, code in blocks("executor") if title == "letstune_ssh.py")
        script = tmp_path / "letstune_ssh.py"
        script.write_text(code)
        factory = shown("executor").SSHExecutor
        command = shlex.join([sys.executable, str(script)])  # and not over there
        return lambda job: factory(
            "ssh://one,two", job.packed(), token=secrets.token_hex(4), command=command
        )


@pytest.mark.slow
class TestSamplerPage(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        sampler: Sampler = shown("sampler").HillSampler()
        return sampler
