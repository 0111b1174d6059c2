"""What fails in a process that others were trained in is tried once more in a fresh one."""

import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from journal_facts import assert_same, query
from small_trainers import Climb, Point, tune

from letstune.rounds.events import EpochFinished, Task, TaskEnded, TrialFailed
from letstune.runs.check import check_run
from letstune.training.stores import DirectoryStore
from letstune.workers import slot as slots
from letstune.workers.commands import Answer, Came, Start
from letstune.workers.experience import ENOUGH
from letstune.workers.job import Job
from letstune.workers.remote_slots import RemoteSlots

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers here")

POISON: list[int] = []
"""Not empty in a process that a trial has broken."""


class Fragile(Climb):
    """Notes each epoch. ``dataset`` is a folder."""

    breaks = 10**6
    """So many epochs of a process are well."""

    def load_dataset(self, dataset: Any) -> None:
        self.folder = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        POISON.append(epoch)
        with (self.folder / "epochs").open("a") as file:
            file.write(f"{os.getpid()} {epoch}\n")
        self.check(epoch)
        return super().train_epoch(epoch)

    def check(self, epoch: int) -> None:
        if len(POISON) > self.breaks:
            raise RuntimeError("CUDA error: device-side assert triggered")


def noted(path: Path) -> list[tuple[int, int]]:
    """Return the processes that trained, and which epochs."""
    lines = path.with_name("epochs").read_text().splitlines()
    return [(int(pid), int(epoch)) for pid, epoch in map(str.split, lines)]


class Breaking(Fragile):
    """After four epochs, nothing works in a process any more."""

    breaks = 4


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_no_trial_fails_for_what_another_has_done_to_its_process(
    workers: int, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tune(Breaking(), 8, path, rounds=[3], workers=workers, dataset=str(path.parent))
    assert query(path, "SELECT * FROM failures") == []
    assert "failed in a process that had trained others" in capfd.readouterr().err
    other = path.with_name("other.db")
    tune(Fragile(), 8, other, rounds=[3], dataset=str(path.parent))
    for table in ("SELECT trial, epoch, metrics FROM epochs", "SELECT trial FROM deletions"):
        assert sorted(query(path, table)) == sorted(query(other, table))
    assert check_run(path) == []


def test_only_the_epoch_that_failed_is_trained_again(path: Path) -> None:
    tune(Breaking(), 2, path, rounds=[3], workers=1, dataset=str(path.parent))
    first, second = dict.fromkeys(pid for pid, _ in noted(path))
    # The fifth epoch of the first process fails, which is the second one of trial 1.
    assert noted(path) == [
        *((first, epoch) for epoch in (0, 1, 2, 0, 1)),
        *((second, epoch) for epoch in (1, 2)),
    ]


class Half(Fragile):
    """Fails in its second epoch, for one half of the params."""

    def create_model(self, params: Point) -> None:
        super().create_model(params)
        self.half = params.n > 4

    def load(self, checkpoint: Any, params: Point) -> None:
        super().load(checkpoint, params)
        self.half = params.n > 4

    def check(self, epoch: int) -> None:
        if epoch == 1 and self.half:
            raise ValueError(f"n is too large {self.model[0]}")


@pytest.mark.slow
def test_what_fails_in_a_fresh_process_too_is_the_trials_failure(path: Path) -> None:
    tune(Half(), 8, path, rounds=[3], workers=1, dataset=str(path.parent))
    failed = [trial for (trial,) in query(path, "SELECT trial FROM failures")]
    assert 2 < len(failed) < 8
    other = path.with_name("other.db")
    tune(Half(), 8, other, rounds=[3], dataset=str(path.parent))
    assert_same(path, other)


class Failing(Fragile):
    """Fails in the second epoch of each trial."""

    def check(self, epoch: int) -> None:
        if epoch == 1:
            raise ValueError(f"{os.getpid()} is no good")


@pytest.mark.slow
def test_no_process_is_used_again_after_a_failure(path: Path) -> None:
    tune(Failing(), 4, path, rounds=[2], workers=1, dataset=str(path.parent))
    assert len(query(path, "SELECT * FROM failures")) == 4
    pids = [pid for pid, _ in noted(path)]
    # Each is fresh, so nothing has to be tried again.
    assert pids == [pid for pid in dict.fromkeys(pids) for _ in (0, 1)]
    assert len(set(pids)) == 4


class Alternating(Fragile):
    """Every other trial fails, all alike."""

    def create_model(self, params: Point) -> None:
        super().create_model(params)
        file = self.folder / f"{params.x}"
        self.fails = len(list(self.folder.glob("seen *"))) % 2 == 1 or file.exists()
        (self.folder / f"seen {params.x}").touch()
        if self.fails:
            file.touch()

    def check(self, epoch: int) -> None:
        if self.fails:
            raise ValueError(f"{os.getpid()} {time.monotonic_ns()} is no good")


@pytest.mark.slow
def test_what_was_confirmed_twice_is_believed(path: Path) -> None:
    tune(Alternating(), 10, path, rounds=[1], workers=1, dataset=str(path.parent))
    assert len(query(path, "SELECT * FROM failures")) == 5
    # Five are well, five fail, and two of these are tried again.
    assert len(noted(path)) == 5 + 5 + ENOUGH


class Unending(Fragile):
    """Fails, and does not end then."""

    def check(self, epoch: int) -> None:
        if len(POISON) > 1:
            import atexit

            atexit.register(time.sleep, 1000)
            raise RuntimeError("this process is broken")


@pytest.mark.slow
def test_a_process_that_fails_and_does_not_end_is_killed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "GRACE", 0.2)
    tune(Unending(), 3, path, rounds=[1], workers=1, dataset=str(path.parent))
    assert query(path, "SELECT * FROM failures") == []


def test_it_is_so_on_other_machines_too(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    job = Job.of(Breaking(), str(tmp_path), store, journal=tmp_path / "run.db", seed=1)
    params = Point(x=0.5, n=1).to_json()
    events: list[Any] = []
    with job.spool() as file, closing(RemoteSlots(file, ["token"])) as far:
        for trial in (0, 1):
            assert far.obey(Start(Task(trial, f"a{trial}", params, 0, 0.0, 3, False))) == []
            while not (events and isinstance(events[-1], TaskEnded) and events[-1].trial == trial):
                for item in far.poll(1):
                    assert isinstance(item, Came), item
                    events += item.events
                    far.obey(Answer(item.attempt, True))
    found = [event for event in events if isinstance(event, EpochFinished)]
    assert [(event.trial, event.epoch) for event in found] == [
        (trial, epoch) for trial in (0, 1) for epoch in range(3)
    ]
    assert not any(isinstance(event, TrialFailed) for event in events)
