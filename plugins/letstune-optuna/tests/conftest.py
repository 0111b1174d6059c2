import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("letstune", deadline=None)
settings.load_profile("letstune")

# Journals sync after every epoch: in memory, that takes no time.
if os.access("/dev/shm", os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")

# The key that signs runs is not that of whoever runs these tests.
_OWN = tempfile.TemporaryDirectory(prefix="letstune-tests-")
# Processes that these tests start may import this file, too, and have that one.
os.environ["LETSTUNE_KEY_FILE"] = os.environ.setdefault("LETSTUNE_TESTS_KEY", f"{_OWN.name}/key")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal may come to be, in a folder that holds nothing else."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder / "run.db"
