"""Whichever operation on its disk fails, a run says so or goes on, and nothing recorded is lost."""

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from disk import counted, fail, refused_by
from journal_facts import assert_same
from processes import python
from small_trainers import tune
from stateful_trainer import WalkTrainer

from letstune.errors import LetstuneError
from letstune.runs.check import check_run

WAYS: Final = {
    "an operation fails": (errno.EIO, False),
    "the disk is full from then on": (errno.ENOSPC, True),
    "the disk is full for a moment": (errno.ENOSPC, False),
}

TRIALS: Final = 10
OPTIONS: Final[dict[str, Any]] = {"rounds": [2, 1], "seed": 3, "keep_checkpoints": 2}


def tuned(path: Path, workers: int = 0) -> None:
    tune(WalkTrainer(), TRIALS, path, workers=workers or None, **OPTIONS)


def in_a_fork(path: Path, workers: int) -> tuple[str, int]:
    """Tune in a fork of this process.

    Returns the error in which that ends, if it does, and how many operations there were.
    """
    faults, told = os.environ["DISK_FAULTS"], path.with_name("told")
    if not (child := os.fork()):
        said = ""
        try:
            tuned(path, workers)
        except LetstuneError as error:
            said = f"{type(error).__name__}: {error}"
        except BaseException as error:  # noqa: BLE001 (told)
            said = f"not an error of letstune: {error!r}"
        finally:
            count = counted(faults)
            fail(faults)
            told.write_text(f"{count} {said}")
            os._exit(0)
    os.waitpid(child, 0)
    count, _, said = told.read_text().partition(" ")
    told.unlink()
    return said, int(count)


def try_all(root: Path, straight: Path, way: str, places: int, workers: int) -> None:
    """Let operations fail that are spread over a run, one a run, and go on after each of these.

    This process has the preloaded library, and tries in forks, which have imported all.
    """
    faults, (error, full) = os.environ["DISK_FAULTS"], WAYS[way]
    total = 0
    tuned(straight)
    fail(faults)
    for place in range(places + 1):
        folder = root / f"{place}"
        folder.mkdir()
        path = folder / "run.db"
        if place:
            fail(faults, 1 + (place - 1) * total // places, error, full=full)
        said, count = in_a_fork(path, workers)
        if not place:
            total = count
            assert (said, total > 300) == ("", True)
        assert "not an error of letstune" not in said, said
        try:
            tuned(path)
            assert_same(path, straight)
            found = check_run(path, fix=True)
            assert {finding.what for finding in found} <= {"no row points to this checkpoint"}
            assert check_run(path) == []
        except BaseException:
            print(f"{way}, at {place} of {places} places; it had said: {said!r}", file=sys.stderr)
            raise
        shutil.rmtree(folder)


TRYING = """
import sys
from pathlib import Path
from test_failing_disks import try_all
try_all(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("places", "workers"), [(40, 0), (6, 2)], ids=["here", "in workers"])
def test_a_run_goes_on_when_its_disk_does(
    places: int, workers: int, way: str, tmp_path: Path
) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    done = python(
        *["-c", TRYING, root, tmp_path / "straight.db", way, places, workers],
        cwd=tmp_path,
        **refused_by(tmp_path, root),
    )
    assert done.returncode == 0, done.stderr
