"""A run is stopped when that is asked for from another shell, whoever works on it."""

import sys
from pathlib import Path
from typing import Any

import pytest
from journal_facts import query, recorded_epochs
from live_processes import gone
from processes import command
from small_trainers import Climb, tune
from waiting_run import assert_resumes_exactly, processes, waiting

import letstune
from letstune.runs.skip import stop_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.mark.slow
def test_a_live_run_is_stopped_and_what_is_in_flight_is_recorded(path: Path) -> None:
    with waiting(path) as process:
        before = recorded_epochs(path)
        done = command("stop", path, cwd=path.parent)
        assert done.returncode == 0, done.stderr
        assert "is asked to stop" in done.stdout
        assert process.stderr is not None
        assert "Asked to stop" in process.stderr.readline()
        path.with_name("witness").joinpath("go").touch()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "letstune resume" in err
    assert recorded_epochs(path) == before + 2
    assert gone(processes(path))
    assert not path.with_name("run.db.skip").exists()
    assert_resumes_exactly(path)


def test_a_run_that_nobody_works_on_has_nothing_to_stop(path: Path) -> None:
    tune(Climb(), 1, path, rounds=[1])
    done = command("stop", path, cwd=path.parent)
    assert (done.returncode, "nothing to stop" in done.stdout) == (0, True)
    assert letstune.resume(path, n_trials=2, progress=False).finished
    assert command("stop", "nowhere.db", cwd=path.parent).returncode == 1


class Asking(Climb):
    """Asks for a stop in its second epoch, and then fails. ``dataset`` is the journal."""

    def load_dataset(self, dataset: Any) -> None:
        self.path = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            assert stop_run(self.path)
            raise RuntimeError("not its fault")
        return super().train_epoch(epoch)


@pytest.mark.parametrize("workers", [None, 1])
def test_what_fails_after_that_is_no_failure(workers: int | None, path: Path) -> None:
    with pytest.raises(letstune.Interrupted):
        tune(Asking(), 2, path, rounds=[3], dataset=str(path), workers=workers)
    assert query(path, "SELECT trial FROM failures") == []
    assert recorded_epochs(path) in (1, 2)  # when it is heard, trial 1 may have begun


def test_what_was_asked_of_a_session_that_is_over_does_not_stop_the_next(path: Path) -> None:
    tune(Climb(), 2, path, rounds=[2])
    path.with_name("run.db.skip").write_text("stop\n0\n")
    assert letstune.resume(path, n_trials=3, progress=False).finished
    assert query(path, "SELECT * FROM stops") == []
