"""What no other trial could do better at ends the run, is raised in its process, and is told."""

import sys
from pathlib import Path
from typing import Any

import pytest
from failing_trainer import KINDS, LyingAtOnce, Refusing
from journal_facts import query
from live_processes import gone, pids
from small_trainers import Climb, tune

import letstune
from letstune.errors import CheckpointError, PickleError, TrainerError, WorkerError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def quarrel(trainer: Any, path: Path, **options: Any) -> None:
    tune(
        trainer,
        len(KINDS),
        path,
        dataset=str(path.parent),
        sampler="grid",
        rounds=letstune.Rounds([2], keep=1),
        **{"workers": 2, **options},
    )


def test_what_load_dataset_raises_is_told_here(path: Path) -> None:
    with pytest.raises(WorkerError, match=r"A worker process raised:\n") as caught:
        quarrel(Refusing(), path)
    told = str(caught.value)
    assert f"LookupError: ('no dataset here', {str(path.parent)!r})" in told
    assert "Refusing.load_dataset raised this, so no trial was trained" in told
    assert "in load_dataset" in told
    assert gone(pids(path.parent / "pids"), within=0)
    assert query(path, "SELECT count(*) FROM epochs") == [(0,)]
    assert letstune.load(path).errors == []


@pytest.mark.slow
def test_workers_that_die_in_load_dataset_are_nobodys_failure(path: Path) -> None:
    (path.parent / "die").touch()
    with pytest.raises(WorkerError, match=r"3 worker processes in a row died .* \(SIGSEGV\)") as e:
        quarrel(Refusing(), path, workers=1)
    assert "in load_dataset" in str(e.value)
    assert len(pids(path.parent / "pids")) == 3 * 2
    assert query(path, "SELECT count(*) FROM failures") == [(0,)]


def test_a_broken_trainer_ends_the_run_as_it_does_in_this_process(path: Path) -> None:
    with pytest.raises(TrainerError, match="expected metric values"):
        quarrel(LyingAtOnce(), path, workers=1)
    assert query(path, "SELECT ended FROM sessions WHERE ended IS NOT NULL") == [("error",)]
    assert gone(pids(path.parent / "pids"), within=0)


def test_errors_are_passed_through(path: Path) -> None:
    with pytest.raises(TrainerError, match=r"(?s)in train_epoch.*ZeroDivisionError: division"):
        tune(Failing(), 3, path, rounds=[1], workers=1, passthrough_errors=True)
    assert query(path, "SELECT kind, message FROM failures") == [
        ("raised", "ZeroDivisionError: division by zero")
    ]


class Unplugging(Climb):
    """Takes the disk of the store away in its second epoch. ``dataset`` is where that is."""

    def load_dataset(self, dataset: Any) -> None:
        self.root = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            self.root.rename(self.root.with_name("unplugged"))
            self.root.write_text("no folder")
        return super().train_epoch(epoch)


def test_what_cannot_be_tidied_up_does_not_hide_why_the_run_ended(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(path.with_name("store"))
    # Told by the worker, which cannot store, or by the owner, which has looked.
    with pytest.raises(CheckpointError, match=r"cannot be stored|was removed or moved"):
        tune(Unplugging(), 1, path, rounds=[3], store=store, dataset=store, workers=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"letstune: {path}: what workers that were killed left in its store")


class Failing(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        return {"height": 1 / 0}


class PickyError(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("picky")


class Picky(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        raise PickyError(1, 2)


class PickyAtLoading(Climb):
    def load_dataset(self, dataset: Any) -> None:
        raise PickyError(1, 2)


@pytest.mark.slow
def test_errors_that_cannot_be_sent_are_told(path: Path) -> None:
    with pytest.raises(TrainerError, match="raise PickyError"):
        tune(Picky(), 3, path, rounds=[1], workers=1, passthrough_errors=True)
    with pytest.raises(WorkerError, match="raise PickyError"):
        tune(PickyAtLoading(), 3, path.with_name("other.db"), rounds=[1], workers=1)


def test_a_dataset_that_cannot_be_pickled_is_refused_before_anything_is_written(
    path: Path,
) -> None:
    with pytest.raises(PickleError, match="dataset, a generator, cannot be pickled"):
        tune(Climb(), 3, path, rounds=[1], workers=2, dataset=(n for n in range(3)))
    assert list(path.parent.iterdir()) == []
