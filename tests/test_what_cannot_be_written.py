"""A journal that cannot be written is told, and a full disk loses nothing."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from files import in_all
from journal_facts import metrics_of
from processes import python
from small_trainers import Climb, made, tune

import letstune
from letstune.runs.check import check_run

NOBODY = 65534


def unprivileged(
    script: str, path: Path, warm: Path, first: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run as a user whom file permissions bind; all modules are imported before."""
    begin = f"""
import os, sys, pathlib, letstune, small_trainers
small_trainers.tune(small_trainers.Climb(), 1, pathlib.Path(sys.argv[2]) / "warm.db", rounds=[1, 1])
letstune.load(sys.argv[2] + "/warm.db")
{first}
from letstune.runs import keys  # of root, whose runs this user trusts
keys._of_this_process += keys.all_keys()
if os.getuid() == 0:
    os.setgid({NOBODY})
    os.setuid({NOBODY})
try:
"""
    end = """
except letstune.LetstuneError as error:
    print(type(error).__name__, error)
"""
    return python("-c", f"{begin}    {script}{end}", path, warm, cwd=path.parent)


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that everybody can get at; pytest's own are private."""
    if os.name == "nt":
        pytest.skip("permissions are others here")
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_a_journal_that_cannot_be_written_is_told_and_can_be_read(
    which: str, shared: Path, tmp_path: Path
) -> None:
    path = shared / "run.db"
    made(path)
    shared.chmod(0o777 if which == "file" else 0o755)
    path.chmod(0o444 if which == "file" else 0o666)
    before = in_all(shared)
    script = (
        "print(len(letstune.load(sys.argv[1])))\n"
        "    letstune.resume(sys.argv[1], rounds=[1, 2], progress=False)"
    )
    done = unprivileged(script, path, tmp_path)
    assert done.returncode == 0, done.stderr
    read, told = done.stdout.splitlines()
    assert read == "6"
    assert told.startswith("JournalError")
    assert str(path) in told
    assert "write" in told or "writable" in told
    assert in_all(shared) == before


class Closing(Climb):
    """Has a folder, its dataset, made read-only in its fifth epoch."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        CALLS.append(epoch)
        if len(CALLS) == 5:
            Path(self.dataset).chmod(0o555)
        return super().train_epoch(epoch)


CALLS: list[int] = []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "told"),
    [
        ("runs", "JournalError .* It is read-only. Make it and its folder writable"),
        ("runs/run.checkpoints", "CheckpointError .* Permission denied.* Mend that and resume"),
    ],
)
def test_a_folder_that_is_made_read_only_during_the_run_stops_it_and_loses_nothing(
    which: str, told: str, shared: Path, tmp_path: Path
) -> None:
    path, closed = shared / "runs" / "run.db", shared / which
    path.parent.mkdir()
    os.chown(path.parent, NOBODY if os.getuid() == 0 else -1, -1)
    script = (
        f"small_trainers.tune(Closing(), 4, pathlib.Path(sys.argv[1]), rounds=[3], "
        f"dataset={str(closed)!r})"
    )
    first = (
        "from importlib import metadata\n"
        "from test_what_cannot_be_written import Closing\n"
        "metadata.version('pytest'), metadata.distribution('pytest').name"
    )
    done = unprivileged(script, path, tmp_path, first)
    assert re.match(told, done.stdout), done.stdout + done.stderr
    closed.chmod(0o755)
    for file in shared.rglob("*"):
        os.chown(file, os.getuid(), -1)
    recorded = metrics_of(path)
    assert len(recorded) >= 4
    assert letstune.resume(path, trainer=Climb(), progress=False).finished
    tune(Climb(), 4, tmp_path / "other.db", rounds=[3])
    assert metrics_of(path) == metrics_of(tmp_path / "other.db")
    assert recorded.items() <= metrics_of(path).items()
    assert check_run(path) == []


def test_a_folder_in_which_no_journal_can_be_made_is_told(shared: Path, tmp_path: Path) -> None:
    script = "small_trainers.tune(small_trainers.Hill(), 1, pathlib.Path(sys.argv[1]))"
    done = unprivileged(script, shared / "run.db", tmp_path)
    assert done.stdout.startswith("JournalError"), done.stdout + done.stderr
    assert list(shared.iterdir()) == []


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import sys, pathlib, letstune, small_trainers
limit = int(sys.argv[2])
class Filling(small_trainers.Climb):
    def train_epoch(self, epoch):
        if LEFT and not LEFT.pop():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return super().train_epoch(epoch)
    def save(self, checkpoint):
        pass
LEFT = [False] + [True] * 9
try:
    small_trainers.tune(Filling(), 12, pathlib.Path(sys.argv[1]), rounds=[3])
except letstune.LetstuneError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of file sizes")
@pytest.mark.parametrize("limit", [0, 60_000])
def test_a_full_disk_loses_nothing(limit: int, path: Path) -> None:
    done = python("-c", FULL, path, limit, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("JournalError"), done.stdout
    assert str(path) in done.stdout
    assert "full" in done.stdout
    assert len(metrics_of(path)) >= 9
    # Not the recorded trainer, which would fill the disk again.
    assert letstune.resume(path, trainer=Climb(), progress=False).finished
    other = path.with_name("other.db")
    tune(Climb(), 12, other, rounds=[3])
    assert metrics_of(path) == metrics_of(other)


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of file sizes")
@pytest.mark.parametrize("limit", [0, 20_000])
def test_a_disk_that_is_full_from_the_beginning_leaves_nothing(limit: int, path: Path) -> None:
    script = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import sys, pathlib, letstune, small_trainers
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    small_trainers.tune(small_trainers.Hill(), 3, pathlib.Path(sys.argv[1]))
except letstune.LetstuneError as error:
    print(type(error).__name__, error)
"""
    done = python("-B", "-c", script, path, limit, cwd=path.parent)
    assert done.stdout.startswith("JournalError"), done.stdout + done.stderr
    assert in_all(path.parent) == {}
