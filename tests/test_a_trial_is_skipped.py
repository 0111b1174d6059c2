"""A trial is skipped when that is asked for from elsewhere, whoever works on the run."""

import sys
from pathlib import Path
from typing import Any

import pytest
from journal_facts import query
from live_processes import gone, pids, wait_for
from processes import command
from small_trainers import Climb, tune
from waiting_run import waiting

import letstune
from letstune.runs.check import check_run
from letstune.runs.skip import requests, skip_trial

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.mark.slow
def test_a_trial_of_a_live_run_is_skipped(path: Path) -> None:
    with waiting(path) as process:
        ((trial,), *_) = query(path, "SELECT trial FROM epochs ORDER BY seq DESC")
        (params,) = query(path, f"SELECT params FROM trials WHERE trial = {trial}")[0]
        skipped = pids(path.with_name("witness") / f"{params} here")
        done = command("skip", path, trial, cwd=path.parent)
        assert done.returncode == 0, done.stderr
        assert "is asked to skip" in done.stdout
        assert gone(skipped)
        wait_for(lambda: query(path, "SELECT trial, epoch FROM stops") == [(trial, 0)])
        for number, why in [(trial, "stopped, so there is nothing to skip"), (6, "no trial 6")]:
            done = command("skip", path, number, cwd=path.parent)
            assert done.returncode == 1
            assert why in done.stderr
        path.with_name("witness").joinpath("go").touch()
        process.communicate()
        assert process.returncode == 0
    assert query(path, f"SELECT count(*) FROM epochs WHERE trial = {trial}") == [(1,)]
    assert letstune.load(path).finished
    assert not path.with_name("run.db.skip").exists()
    assert check_run(path) == []


@pytest.mark.slow
def test_a_trial_of_a_run_that_nobody_works_on_is_skipped(path: Path) -> None:
    with waiting(path) as process:
        process.kill()
    (trial,) = query(path, "SELECT trial FROM epochs ORDER BY seq DESC")[0]
    done = command("skip", path, trial, cwd=path.parent)
    assert (done.returncode, done.stdout) == (0, f"Trial {trial} is skipped.\n")
    assert query(path, "SELECT trial, epoch FROM stops") == [(trial, 0)]
    assert letstune.resume(path, progress=False).finished
    assert command("skip", path, 0, cwd=path.parent).returncode == 1


class Asking(Climb):
    """Asks for the end of its own trial, and of others, in its second epoch."""

    trials: tuple[int, ...] = (0, 0, 1)

    def load_dataset(self, dataset: Any) -> None:
        self.path = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            for trial in self.trials:
                assert not skip_trial(self.path, trial)
        return super().train_epoch(epoch)


def test_a_run_in_its_own_process_is_asked_between_two_epochs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("letstune.runs.loop.LOOK", 0)
    tune(Asking(), 2, path, rounds=[4], dataset=str(path))
    assert query(path, "SELECT trial, epoch FROM stops") == [(0, 1), (1, -1)]
    assert not path.with_name("run.db.skip").exists()


class AskingAtTheEnd(Asking):
    """Asks for the end of its own trial in its last epoch."""

    trials = (0,)


def test_what_is_asked_for_as_a_run_ends_is_not_left_to_whoever_extends_it(path: Path) -> None:
    tune(AskingAtTheEnd(), 1, path, rounds=[2], dataset=str(path))
    assert not path.with_name("run.db.skip").exists()
    assert letstune.resume(path, rounds=[4], progress=False).finished
    assert query(path, "SELECT * FROM stops") == []


def test_requests_to_a_run_that_is_gone_are_not_for_one_of_the_same_name(path: Path) -> None:
    path.with_name("run.db.skip").write_text("0\n")
    tune(Climb(), 2, path, rounds=[2])
    assert query(path, "SELECT * FROM stops") == []
    assert [file.name for file in path.parent.glob("*.skip")] == []


def test_requests_that_cannot_be_read_are_told_of_once_and_the_run_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("letstune.runs.loop.LOOK", 0)
    path.with_name("run.db.skip").mkdir()
    assert tune(Climb(), 2, path, rounds=[4], progress=True).finished
    assert capsys.readouterr().err.count("run.db.skip is a directory; expected") == 1


def test_requests_of_somebody_else_are_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    told: list[str] = []
    monkeypatch.setattr("letstune.runs.skip.open_beside", refuse)
    with requests(path, told.append) as asked:
        assert asked == ([], False)
    assert "Permission denied" in told[0]
