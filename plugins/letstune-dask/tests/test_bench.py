"""What trains on a Dask worker, without Dask."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_until
from letstune_dask.bench import Bench
from trainers import Point, Walk

from letstune.training import DirectoryStore
from letstune.workers import (
    Answer,
    Came,
    Cancel,
    EpochFinished,
    Item,
    Job,
    Start,
    Stop,
    Task,
    TaskEnded,
)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    dataset = (str(tmp_path / "loads"), 0.0)
    store = DirectoryStore(tmp_path / "store")
    job = Job.of(Walk(), dataset, store, journal=tmp_path / "run.db", seed=1)
    made = Bench(job.spool(), secrets.token_hex(4), 1, None, None)
    yield made
    made.close()
    made.join(60)
    assert made.closed


def task(trial: int) -> Task:
    params = Point(x=0.5, n=3).to_json()
    return Task(trial, f"a{trial}", params, epochs=0, seconds=0.0, limit=2, timed=False)


def heard(bench: Bench, after: int) -> list[Item]:
    """Wait until there is more than that, and return it."""
    told = threading.Event()
    bench.listen(after, told.set)
    assert told.wait(60)
    return bench.items()


def test_commands_and_items_may_be_sent_again(bench: Bench, tmp_path: Path) -> None:
    bench.tell(0, [Start(task(0))])
    bench.tell(0, [Start(task(0))])  # the answer to the first call got lost
    (first,) = heard(bench, 0)
    assert isinstance(first, Came)
    assert [type(event) for event in first.events] == [EpochFinished]
    assert heard(bench, 0) == [first]
    bench.tell(0, [Start(task(0)), Answer("a0", True)])
    (second,) = heard(bench, 1)
    assert isinstance(second, Came)
    assert [event.epoch for event in second.events if isinstance(event, EpochFinished)] == [1]
    bench.tell(2, [Answer("a0", True)])
    (third,) = heard(bench, 2)
    assert isinstance(third, Came)
    assert third.events == [TaskEnded(0)]
    assert len((tmp_path / "loads").read_text().splitlines()) == 1


def test_what_is_cancelled_tells_no_more(bench: Bench) -> None:
    bench.tell(0, [Start(task(0))])
    heard(bench, 0)
    bench.tell(1, [Cancel("a0"), Start(task(1))])
    (item,) = heard(bench, 1)
    assert isinstance(item, Came)
    assert item.attempt == "a1"


def test_a_stop_ends_what_has_not_begun(bench: Bench) -> None:
    bench.tell(0, [Start(task(0)), Stop()])
    (item,) = heard(bench, 0)
    assert item == Came(0, "a0", [TaskEnded(0)], None)


def test_a_bench_that_hears_nothing_of_its_owner_closes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("letstune_dask.bench.LEASE", 0.1)
    bench.tell(0, [Start(task(0))])
    bench.join(60)
    assert bench.closed


class Unswept(DirectoryStore):
    """A directory that this process cannot tidy up."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._owner = os.getpid()

    def stage(self, name: str) -> Path:
        if os.getpid() == self._owner:
            raise RuntimeError("the store is gone")
        return super().stage(name)


def test_what_cannot_be_swept_keeps_nobody_from_closing(tmp_path: Path, capfd: Any) -> None:
    dataset, store = (str(tmp_path / "loads"), 60.0), Unswept(tmp_path / "store")
    job = Job.of(Walk(), dataset, store, journal=tmp_path / "run.db", seed=1)
    made = Bench(job.spool(), secrets.token_hex(4), 1, None, None)
    made.tell(0, [Start(task(0))])
    wait_until(lambda: (tmp_path / "loads").exists())
    made.close()
    made.join(60)
    assert made.closed  # its thread has raised nothing: that would be a warning
    assert "the store is gone" in capfd.readouterr().err
