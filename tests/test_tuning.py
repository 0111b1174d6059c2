"""A run has a journal, results and progress, whoever starts it and wherever."""

import pickle
import re
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from sqlite3 import connect

import pytest
from processes import python
from small_trainers import Climb, Hill, tune

import letstune
from letstune.errors import (
    LetstuneError,
    PlanChangedError,
    TrainerError,
)

# Rounds in time


def test_rounds_may_be_times(path: Path) -> None:
    tuning = tune(Climb(), 4, path, rounds=[timedelta(microseconds=1), timedelta(microseconds=1)])
    assert tuning.finished
    for trial in tuning:
        short = sum(epoch.duration for epoch in trial.epochs[:-1])
        assert short < 1e-6 * (trial.round + 1) <= trial.duration
    assert len(letstune.resume(path, n_trials=8, progress=False)) == 8


# Journals


def test_a_journal_is_always_written_and_named_in_the_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tuning = letstune.tune(Hill(), 2)
    (path,) = Path("letstune-runs").glob("*.db")
    assert tuning.journal.resolve() == path.resolve()
    first = capsys.readouterr().err.splitlines()[0]
    named = re.fullmatch(r"letstune: (.*); resume with: letstune resume (.*)", first)
    assert named is not None
    assert named[1] == named[2]
    assert Path(named[1]).resolve() == path.resolve()
    assert "Hill" in path.name


def test_every_run_without_a_journal_is_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        letstune.tune(Hill(), 1, progress=False)
    assert len(list(Path("letstune-runs").glob("*.db"))) == 3


def test_the_journals_folder_is_made(path: Path) -> None:
    assert len(tune(Hill(), 1, path.parent / "a" / "b" / "run.db")) == 1


def test_a_path_may_be_text(path: Path) -> None:
    tune(Hill(), 1, str(path))  # type: ignore[arg-type]
    letstune.resume(str(path), n_trials=2, progress=False)
    assert len(letstune.load(str(path))) == 2


def test_without_a_seed_runs_differ_and_their_seed_is_recorded(path: Path) -> None:
    other = path.with_name("other.db")
    first, second = (tune(Hill(), 2, p, seed=None) for p in (path, other))
    assert first[0].params != second[0].params
    with closing(connect(path)) as db:
        ((seed,),) = db.execute("SELECT value FROM plan WHERE fact = 'seed'")
    third = tune(Hill(), 2, path.with_name("third.db"), seed=int(seed))
    assert [t.params for t in third] == [t.params for t in first]


def test_a_run_may_be_in_another_thread(path: Path) -> None:
    thread = threading.Thread(target=tune, args=(Climb(), 4, path))
    thread.start()
    thread.join()
    assert letstune.load(path).finished


def test_progress_goes_to_stderr_and_can_be_silenced(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(Hill(), 2, path)
    assert capsys.readouterr() == ("", "")
    tune(Hill(), 3, path, progress=None)
    out, err = capsys.readouterr()
    assert out == ""
    assert "finished" in err


def test_a_plan_without_an_epoch_may_be_deleted(path: Path) -> None:
    class Misspelt(Hill):
        metric = "hight"

    with pytest.raises(TrainerError, match="'hight'"):
        tune(Misspelt(), 3, path)
    with pytest.raises(PlanChangedError, match="No epoch is recorded in it yet: delete it"):
        tune(Hill(), 3, path)


def test_a_journal_without_a_name_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tuning = letstune.tune(Hill(), 1, progress=False)
    monkeypatch.chdir("/")
    assert tuning[0].epochs[0].epoch == 0


def test_without_a_result_there_is_no_best(path: Path) -> None:
    class LateHopeless(Climb):
        def train_epoch(self, epoch: int) -> dict[str, float]:
            return {"height": 1 / (1 - epoch)}

    tuning = tune(LateHopeless(), 2, path, rounds=[2])
    assert [len(trial.epochs) for trial in tuning] == [1, 1]
    with pytest.raises(LetstuneError, match="all that had one have failed"):
        _ = tuning.best


def test_results_can_be_pickled_and_epochs_compared(path: Path) -> None:
    tuning = tune(Climb(), 2, path, rounds=[2])
    again = pickle.loads(pickle.dumps(tuning))
    assert [trial.metric_value for trial in again] == [trial.metric_value for trial in tuning]
    assert set(again[0].epochs) == set(tuning[0].epochs)


def test_a_new_journal_needs_no_pandas(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from small_trainers import Hill, tune; "
        "tune(Hill(), 1, pathlib.Path('a.db')); "
        "print('pandas' in sys.modules); import pandas"
    )
    done = python("-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
