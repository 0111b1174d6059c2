"""The benchmark of workers still runs: next to nothing of each of its parts."""

import subprocess
import sys
from pathlib import Path

import pytest
from workers import PARTS

SCRIPT = Path(__file__).with_name("workers.py")


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_every_part_runs(part: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--tiny", "--only", part],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 4
