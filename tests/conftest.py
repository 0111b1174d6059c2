from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal may come to be, in a folder that holds nothing else."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder / "run.db"
