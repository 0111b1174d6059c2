"""A run whose trainer starts processes, to be ended by signals in the middle of an epoch."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from live_processes import wait_for
from small_trainers import Climb

import letstune


class Family(Climb):
    """Fails when a child does. ``dataset`` is a folder: its epochs wait until there is a "go"."""

    def load_dataset(self, dataset: Any) -> None:
        self.folder = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        child = subprocess.Popen(["sleep", "1000"], stderr=subprocess.DEVNULL)
        (self.folder / f"here {child.pid}").touch()
        while child.poll() is None and not (self.folder / "go").exists():
            time.sleep(0.01)
        if child.poll() is not None:
            raise RuntimeError("a child exited unexpectedly")
        child.kill()
        child.wait()
        return super().train_epoch(epoch)


def start(path: Path, workers: int, epoch_timeout: float = 0) -> "subprocess.Popen[str]":
    """Begin the run, or go on with it, until as many epochs as can be are in flight."""
    from processes import TESTS, environment

    folder = path.with_name("witness")
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    arguments = [path, folder, workers, epoch_timeout]
    process = subprocess.Popen(
        [sys.executable, "-m", "night_family", *map(str, arguments)],
        env=environment(TESTS),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: len(list(folder.glob("here *"))) == max(1, workers))
    return process


def descendants(pid: int) -> list[int]:
    """Return a process and all below it, parents first."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
        below.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for each in found:
        found += below.get(each, [])
    return found


if __name__ == "__main__":
    # As in a terminal, and not as under the nohup in which the tests may run.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    letstune.tune(
        Family(),
        8,
        rounds=[2, 1],
        seed=1,
        journal=sys.argv[1],
        dataset=sys.argv[2],
        workers=int(sys.argv[3]) or None,
        max_deaths=2,
        epoch_timeout=float(sys.argv[4]) or None,
    )
