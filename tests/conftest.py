import os
from pathlib import Path

import pytest

from letstune.plugins import installed as plugins

# Journals sync after every epoch: in memory, that takes no time.
if os.access("/dev/shm", os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")


@pytest.fixture(autouse=True)
def no_plugins_but_those_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever plugins are installed where the tests run, they are not to be seen here."""
    installed = plugins.installed
    theirs = {plugged.distribution for plugged in installed()} - {"letstune"}
    monkeypatch.setattr(
        plugins, "installed", lambda: (p for p in installed() if p.distribution not in theirs)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal may come to be, in a folder that holds nothing else."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder / "run.db"
