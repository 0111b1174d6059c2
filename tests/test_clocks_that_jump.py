"""A wall clock that is set back and forth by hours changes no run, and no time that it is given."""

from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest
from disk import library
from journal_facts import assert_same, query
from processes import python
from small_trainers import tune
from stateful_trainer import WalkTrainer

HOURS: Final = 7

OPTIONS: Final[dict[str, Any]] = {
    "rounds": [2, 1],
    "seed": 3,
    "keep_checkpoints": 2,
    "epoch_timeout": 600,
    "trial_timeout": 3000,
    "rehearse": True,
}

JUMPING = """
import sys
from pathlib import Path
from small_trainers import tune
from stateful_trainer import WalkTrainer
from test_clocks_that_jump import OPTIONS
workers, for_ = int(sys.argv[2]) or None, float(sys.argv[3]) or None
tuning = tune(WalkTrainer(), 10, Path(sys.argv[1]), workers=workers, for_=for_, **OPTIONS)
"""


def jumping(tmp_path: Path, path: Path, workers: int, for_: float = 0) -> None:
    """Tune in processes whose wall clock jumps again and again, by more than all timeouts."""
    done = python(
        *["-c", JUMPING, path, workers, for_],
        cwd=tmp_path,
        LD_PRELOAD=str(library(tmp_path)),
        DISK_JUMP=str(HOURS * 3600),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_wall_clock_that_jumps_changes_nothing(workers: int, tmp_path: Path) -> None:
    straight, path = tmp_path / "straight.db", tmp_path / "run.db"
    tune(WalkTrainer(), 10, straight, **OPTIONS)
    jumping(tmp_path, path, workers, for_=1800)
    assert_same(path, straight)
    times = query(path, "SELECT started, seconds FROM epochs ORDER BY seq")
    assert all(0 <= seconds < 60 for _, seconds in times)
    # It did jump.
    moments = [datetime.fromisoformat(started).timestamp() for started, _ in times]
    assert max(moments) - min(moments) > HOURS * 3600 - 60
