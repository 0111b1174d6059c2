"""Any trial can be trained again, and whether it comes out as recorded is told to the last bit."""

import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from checkpoint_files import damage
from click.testing import CliRunner
from files import in_all
from processes import TESTS, command, python
from small_trainers import Climb, Folders, Hill, Point, tune

import letstune
from letstune import StopTraining
from letstune.cli.main import main
from letstune.errors import CheckpointError, PlanError, SpaceError, TrialNotFoundError
from letstune.results.retrained import Comparison, RetrainedEpoch
from letstune.rounds.events import TrialFailed
from letstune.runs.check import check_run
from letstune.training import stores
from letstune.training.checkpoints import Checkpoint
from letstune.training.stores import DirectoryStore

needs_processes = pytest.mark.skipif(sys.platform == "win32", reason="they need POSIX")


def run(*arguments: object, code: int = 0) -> Any:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result


def store_of(path: Path) -> DirectoryStore:
    return DirectoryStore(path.with_name("run.checkpoints"))


class Marked(Climb):
    """Climbs by all that is seeded; what it trains and loads is noted."""

    done: ClassVar[list[object]] = []

    def create_model(self, params: Point) -> None:
        Marked.done.append("create")
        super().create_model(params)

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        Marked.done.append("load")
        super().load(checkpoint, params)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        Marked.done.append(epoch)
        values = super().train_epoch(epoch)
        self.model[-1] += random.random() + float(np.random.rand()) + self.seed / 2**31
        return {**values, "height": self.model[-1], "nan": float("nan"), "inf": float("-inf")}


@pytest.fixture(autouse=True)
def unmarked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(stores, "_temporary_folder", tmp_path)  # where a sync takes no time
    Marked.done, Breaks.whole = [], False
    yield
    Breaks.whole = False


# As recorded


def test_whatever_a_trial_came_to_it_comes_to_again(walked: Path) -> None:
    before = in_all(walked.parent)
    ends = set()
    for trial in letstune.load(walked):
        again = trial.retrain(from_start=True)
        begun = len(trial.epochs) + (trial.status == "failed")
        if trial.status == "failed" and trial.params.kind == "load":  # it is never called
            assert again.difference.startswith(f"epoch {begun - 1} failed, and now it does not")
            continue
        assert again.same, again
        assert again.start == 0
        assert [epoch.metric_values.keys() for epoch in again.epochs] == [
            epoch.metric_values.keys() for epoch in trial.epochs
        ]
        assert (again.failure is not None) == (trial.status == "failed")
        if trial.epochs:
            assert f"{len(trial.epochs)} of {len(trial.epochs)} epoch" in again.verdict
        ends.add(trial.status)
    assert ends == {"trained", "stopped", "failed"}
    assert in_all(walked.parent) == before


def test_the_model_of_a_lost_winner_is_the_same(path: Path) -> None:
    tuning = tune(Marked(), 6, path, rounds=[2, 3])
    model = tuning.best.checkpoint.load_pickle()
    shutil.rmtree(path.with_name("run.checkpoints"))
    again = letstune.load(path).best.retrain(tuning.best.best_epoch.epoch + 1)
    assert again.same
    assert again.checkpoint.load_pickle() == model


def test_it_begins_with_the_nearest_checkpoint_before_the_last_epoch(path: Path) -> None:
    tuning = tune(Marked(), 1, path, rounds=[5], keep_checkpoints="all")
    Marked.done.clear()
    again = tuning[0].retrain()
    assert Marked.done == ["load", 4]
    assert again.start == 4
    assert again.verdict == "1 of 1 epoch as recorded, from the checkpoint of epoch 3 on"
    stored = tuning._run.state.trials[0].kept
    damage(store_of(path), stored[3], "altered")
    damage(store_of(path), stored[2], "missing")
    Marked.done.clear()
    assert tuning[0].retrain().same
    assert Marked.done == ["load", 2, 3, 4]
    Marked.done.clear()
    assert tuning[0].retrain(2).same
    assert tuning[0].retrain(from_start=True).same
    assert Marked.done == ["load", 1, "create", *range(5)]


def test_without_its_store_it_begins_with_the_seeds_and_says_why(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = tune(Climb(), 1, path, rounds=[5], keep_checkpoints="all")
    shutil.rmtree(path.with_name("run.checkpoints"))
    capsys.readouterr()
    again = tuning[0].retrain()
    assert again.verdict == "5 of 5 epochs as recorded"
    told = capsys.readouterr().err
    assert told.count("training from the start") == 1
    assert "There is no folder" in told


def test_further_epochs_are_those_that_a_longer_run_has(path: Path) -> None:
    tuning = tune(Marked(), 2, path, rounds=[3])
    again = tuning.trial(1).retrain(7, from_start=True)
    assert again.verdict == "3 of 3 epochs as recorded, 4 more"
    assert again.same
    longer = tune(Marked(), 2, path.with_name("longer.db"), rounds=[7]).trial(1)
    values = [epoch.metric_values for epoch in longer.epochs][again.start :]
    assert repr([dict(epoch.metric_values) for epoch in again.epochs]) == repr(values)
    (trial,) = tune(Marked(), 1, path.with_name("one.db"), rounds=[3], keep_checkpoints="all")
    further = trial.retrain(5)
    assert further.verdict == "2 epochs more than recorded, from the checkpoint of epoch 2 on"
    assert (
        further.checkpoint.load_pickle()
        == trial.retrain(5, from_start=True).checkpoint.load_pickle()
    )


@pytest.mark.parametrize("rounds", [[3], [timedelta(microseconds=1), timedelta(seconds=0.01)]])
def test_rounds_in_time_make_no_difference(rounds: Any, path: Path) -> None:
    for trial in tune(Marked(), 2, path, rounds=rounds):
        again = trial.retrain(from_start=True)
        assert again.same
        assert len(again.epochs) == len(trial.epochs)


def test_who_trains_in_one_go_is_trained_in_one_go(path: Path) -> None:
    tuning = tune(Hill(), 3, path)
    again = tuning[2].retrain()
    assert again.verdict == "1 of 1 epoch as recorded"
    assert again.checkpoint.load_pickle() == tuning[2].params
    with pytest.raises(PlanError, match="a SimpleTrainer trains in one go"):
        tuning[2].retrain(2)


class StopsAt2(Marked):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        values = super().train_epoch(epoch)
        if epoch == 2:
            raise StopTraining(values)
        return values


def test_who_stops_stops_again(path: Path) -> None:
    (trial,) = tune(StopsAt2(), 1, path, rounds=[9])
    again = trial.retrain(8, from_start=True)
    assert again.verdict == "3 of 3 epochs as recorded; then its trainer stops"
    assert again.same


# Not as recorded


class Forgets(Climb):
    """Has a pace that slows down, which it does not save."""

    def create_model(self, params: Point) -> None:
        self.model, self.pace = [params.x], 1.0

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        super().load(checkpoint, params)
        self.pace = 1.0

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.pace /= 2
        self.model.append(self.model[-1] + self.pace)
        return {"height": self.model[-1]}


def test_who_saves_too_little_differs_from_a_checkpoint_on_and_not_from_the_start(
    path: Path,
) -> None:
    (trial,) = tune(Forgets(), 1, path, rounds=[4], keep_checkpoints="all")
    again = trial.retrain()
    assert not again.same
    was, is_ = trial.epochs[3].metric_value, trial.epochs[2].metric_value + 0.5
    assert again.verdict == (
        "0 of 1 epoch as recorded, from the checkpoint of epoch 2 on; epoch 3 differs first: "
        f"height was {was!r}, is {is_!r} (0.438 more)"
    )
    assert trial.retrain(from_start=True).same


class Steeper(Climb):
    """Is as Climb was, but for what comes after epoch 1."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        values = super().train_epoch(epoch)
        return values if epoch < 2 else {**values, "height": values["height"] - 0.25}


def test_which_epoch_differs_first_and_by_how_much_is_told(path: Path) -> None:
    (trial,) = tune(Climb(), 1, path, rounds=[4])
    again = trial.retrain(trainer=Steeper(), from_start=True)
    height = trial.epochs[2].metric_value
    assert again.verdict == (
        f"2 of 4 epochs as recorded; epoch 2 differs first: height was {height!r}, "
        f"is {height - 0.25!r} (0.25 less)"
    )
    assert [bool(epoch.difference) for epoch in again.epochs] == [False, False, True, True]


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ({"a": float("nan")}, {"a": float("nan")}, ""),
        ({"a": 0.0}, {"a": -0.0}, "a was 0.0, is -0.0"),
        ({"a": 0.1 + 0.2}, {"a": 0.3}, "a was 0.30000000000000004, is 0.3 (5.55e-17 less)"),
        ({"a": 1.0}, {"a": float("nan")}, "a was 1.0, is nan"),
        ({"a": 1.0}, {"a": float("inf")}, "a was 1.0, is inf"),
        ({"a": 1.0, "b": 2.0}, {"b": 2.0}, "a was 1.0, and is missing"),
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, "b was missing, and is 2.0"),
        ({"a": 1.0, "b": 2.0}, {"b": 2.5, "a": 2.0}, "a was 1.0, is 2.0 (1 more), b was 2.0,"),
        (None, {"a": 1.0}, ""),
    ],
)
def test_values_are_compared_to_the_last_bit(was: Any, now: Any, told: str) -> None:
    difference = RetrainedEpoch(0, was, now).difference
    assert difference.startswith(told)
    assert bool(difference) == bool(told)


def failed(epoch: int, message: str, kind: str = "raised") -> TrialFailed:
    return TrialFailed(0, epoch, kind, message, "")


@pytest.mark.parametrize(
    ("recorded", "asked", "trained", "was", "now", "stopped", "verdict", "same"),
    [
        (2, 2, 2, None, None, False, "2 of 2 epochs as recorded", True),
        (2, 4, 4, None, None, False, "2 of 2 epochs as recorded, 2 more", True),
        (3, 3, 1, None, None, True, "1 of 3 epochs as recorded; epoch 1 differs first: it was "
         "trained, and now the trainer stops before it", False),
        (3, 3, 1, None, "ValueError: x", False, "1 of 3 epochs as recorded; epoch 1 differs first: "
         "it was trained, and now fails: ValueError: x", False),
        (2, 5, 3, None, "ValueError: x", False, "2 of 2 epochs as recorded, 1 more; epoch 3, which "
         "is not recorded, fails: ValueError: x", False),
        (0, 1, 0, "ValueError: 1", "ValueError: 2", False, "0 epochs more than recorded; epoch 0 "
         "fails, as recorded: ValueError: 2", True),
        (1, 2, 1, "ValueError: a", "TypeError: a", False, "1 of 1 epoch as recorded; epoch 1 fails "
         "as it did, but with TypeError: a; was ValueError: a", False),
        (1, 2, 2, "ValueError: a", None, False, "1 of 1 epoch as recorded, 1 more; epoch 1 failed, "
         "and now it does not: ValueError: a", False),
        (1, 4, 2, "ValueError: a", "ValueError: a", False, "1 of 1 epoch as recorded, 1 more; "
         "epoch 1 failed, and now it does not: ValueError: a", False),
        (1, 1, 1, "ValueError: a", None, False, "1 of 1 epoch as recorded", True),
    ],
)  # fmt: skip
def test_a_verdict_says_how_the_trial_ended(
    recorded: int,
    asked: int,
    trained: int,
    was: str | None,
    now: str | None,
    stopped: bool,
    verdict: str,
    same: bool,
) -> None:
    compared = Comparison(
        start=0,
        asked=asked,
        epochs=[
            RetrainedEpoch(epoch, {"a": 1.0} if epoch < recorded else None, {"a": 1.0})
            for epoch in range(trained)
        ],
        recorded=recorded,
        was=None if was is None else failed(recorded, was),
        failed=None if now is None else failed(trained, now),
        stopped=stopped,
    )
    assert compared.verdict == verdict
    assert (not compared.difference) == same


# Failures


class Breaks(Climb):
    """Fails in epoch 2, until it is mended."""

    whole = False

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 2 and not Breaks.whole:
            raise ValueError(f"no way on from {id(self)}")
        return super().train_epoch(epoch)


def test_a_failure_is_no_exception_but_part_of_the_verdict(path: Path) -> None:
    (trial,) = tune(Breaks(), 1, path, rounds=[4])
    again = trial.retrain(from_start=True)
    assert again.verdict.startswith("2 of 2 epochs as recorded; epoch 2 fails, as recorded: Val")
    assert (again.failure.trial_id, again.failure.epoch, again.failure.kind) == (0, 2, "raised")
    assert "in train_epoch" in again.failure.traceback
    assert len(again.checkpoint.load_pickle()) == 3  # the model before the failure
    Breaks.whole = True
    again = trial.retrain(4, from_start=True)
    assert "2 of 2 epochs as recorded, 2 more; epoch 2 failed, and now it does" in again.verdict
    assert again.failure is None
    assert not again.same


# What cannot be


def test_a_trial_that_is_not_there_or_was_not_begun_is_refused(path: Path) -> None:
    class Fails(Climb):
        def load_dataset(self, dataset: Any) -> None:
            raise OSError("no dataset")

    with pytest.raises(OSError, match="no dataset"):
        tune(Fails(), 2, path, rounds=[1])
    tuning = letstune.load(path)
    with pytest.raises(PlanError, match=r"trial 0 has no epoch to compare.*epochs=1"):
        tuning.trial(0).retrain()
    with pytest.raises(PlanError, match="expected a whole number"):
        tuning.trial(0).retrain(0)
    assert tuning.trial(0).retrain(2, trainer=Climb()).verdict == "2 epochs more than recorded"
    with pytest.raises(OSError, match="no dataset"):
        tuning.trial(0).retrain(2)
    assert "has no trial 9" in run("retrain", path, 9, code=1).output
    with pytest.raises(TrialNotFoundError):
        tuning._run.retrain(9)


class Other(Climb):
    class Space(letstune.Params):
        y: float = letstune.rand.uniform(0, 1)

    params_cls: Any = Space

    def load_dataset(self, dataset: Any) -> None:
        raise MemoryError("a large dataset, which nobody needs")


def test_a_trainer_of_another_space_is_refused(path: Path) -> None:
    (trial,) = tune(Climb(), 1, path, rounds=[1])
    with pytest.raises(SpaceError, match=r"trial 0 of .*run\.db"):
        trial.retrain(trainer=Other())


def test_a_dataset_that_was_not_kept_must_be_given(path: Path) -> None:
    class Added(Climb):
        def train_epoch(self, epoch: int) -> dict[str, float]:
            return {"height": super().train_epoch(epoch)["height"] + next(iter(self.dataset))}

    lock: Any = type("Unpickleable", (list,), {"__reduce__": None})([1])
    (trial,) = tune(Added(), 1, path, rounds=[1], dataset=lock)
    with pytest.raises(letstune.LetstuneError, match=r"was not kept. Give it with dataset="):
        trial.retrain()
    assert trial.retrain(dataset=[1]).same
    assert "(1 more)" in trial.retrain(dataset=[2]).verdict


# The model


@pytest.mark.parametrize("trainer", [Climb(), Folders()])
def test_the_files_of_the_last_epoch_are_put_into_a_folder(
    trainer: Any, path: Path, tmp_path: Path
) -> None:
    tuning = tune(trainer, 3, path, rounds=[2], keep_checkpoints="all")
    trial, folder = tuning[2], tmp_path / "new" / "model"
    again = trial.retrain(folder=folder)
    assert in_all(folder) == in_all(trial.epochs[1].checkpoint.path)
    assert again.checkpoint.path == folder
    assert [entry.name for entry in folder.parent.iterdir()] == ["model"]
    (tmp_path / "empty").mkdir()
    trial.retrain(folder=tmp_path / "empty", from_start=True)
    assert in_all(tmp_path / "empty") == in_all(folder)


def test_a_folder_that_holds_something_is_refused_before_anything_is_trained(
    path: Path, tmp_path: Path
) -> None:
    (trial,) = tune(Marked(), 1, path, rounds=[2])
    Marked.done.clear()
    (tmp_path / "file").touch()
    for folder in (path.parent, tmp_path / "file"):
        with pytest.raises(PlanError, match="expected a new folder, or an empty one"):
            trial.retrain(folder=folder)
    with pytest.raises(PlanError, match="cannot be made"):
        trial.retrain(folder=tmp_path / "file" / "below")
    assert Marked.done == []


class SavesNothing(Climb):
    def save(self, checkpoint: Checkpoint) -> None:
        pass


def test_who_saves_nothing_has_no_model_and_that_is_told(path: Path, tmp_path: Path) -> None:
    (trial,) = tune(SavesNothing(), 1, path, rounds=[2])
    again = trial.retrain(folder=tmp_path / "model")
    assert again.same
    assert not (tmp_path / "model").exists()
    with pytest.raises(CheckpointError, match=r"epoch 1 of trial 0 .*save\(\) wrote nothing"):
        again.checkpoint.load_pickle()


# In another process


class Elsewhere(Climb):
    """Its model is where it was trained."""

    def save(self, checkpoint: Checkpoint) -> None:
        checkpoint.save_pickle(os.getpid())


class Exits(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            os._exit(3)
        return super().train_epoch(epoch)


@pytest.mark.slow
@needs_processes
def test_it_is_trained_where_the_run_was_or_where_one_wants(path: Path) -> None:
    here = os.getpid()
    (trial,) = tune(Elsewhere(), 1, path, rounds=[1])
    assert trial.retrain().checkpoint.load_pickle() == here
    assert trial.retrain(workers=1).checkpoint.load_pickle() != here
    (trial,) = tune(Elsewhere(), 1, path.with_name("other.db"), rounds=[1], workers=1)
    assert trial.retrain().checkpoint.load_pickle() != here
    assert trial.retrain(workers=0).checkpoint.load_pickle() == here


@pytest.mark.slow
@needs_processes
def test_who_kills_its_process_kills_it_again_and_nobody_else(path: Path) -> None:
    (trial,) = tune(Exits(), 1, path, rounds=[2], workers=1, max_deaths=1)
    again = trial.retrain(from_start=True)
    assert again.verdict == (
        "1 of 1 epoch as recorded; epoch 1 fails, as recorded: "
        "The worker died in this epoch: exit code 3."
    )
    assert again.failure.kind == "worker died"


# The command


def test_the_command_says_the_verdict_and_ends_with_its_code(path: Path, tmp_path: Path) -> None:
    (trial,) = tune(Forgets(), 1, path, rounds=[4], keep_checkpoints="all")
    before = in_all(path.parent)
    done = run("retrain", path, 0, "--from-start", "-o", tmp_path / "model")
    assert done.stdout == "Trial 0: 4 of 4 epochs as recorded.\n"
    assert done.stderr == "".join(f"Epoch {epoch}: as recorded.\n" for epoch in range(4))
    assert in_all(tmp_path / "model") == in_all(trial.checkpoint.path)
    done = run("retrain", path, 0, "--json", "--epochs", 2, code=1)
    assert done.stderr == "With --from-start, it may come out as recorded.\n"
    told = json.loads(done.stdout)
    assert (told["trial_id"], told["same"], told["start"], told["folder"]) == (0, False, 1, None)
    assert told["epochs"][0]["recorded"] == dict(trial.epochs[1].metric_values)
    assert "height was" in told["verdict"]
    assert run("retrain", path, 0, "-o", tmp_path / "model", code=2).stdout == ""
    assert in_all(path.parent) == before


SCRIPT = """
from small_trainers import Climb, tune
from pathlib import Path

class Mine(Climb):
    def train_epoch(self, epoch):
        self.model.append(self.model[-1] + 1)
        return {"height": self.model[-1]}

if __name__ == "__main__":
    tune(Mine(), 2, Path("run.db"), rounds=[2])
"""


@pytest.mark.slow
@needs_processes
def test_the_code_is_that_of_the_journal_and_a_script_that_changed_since_is_told(
    tmp_path: Path,
) -> None:
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    assert python(script, cwd=tmp_path).returncode == 0
    done = command("retrain", "run.db", 1, "--from-start", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    script.write_text(SCRIPT.replace("+ 1)", "+ 2)"))
    done = command("retrain", "run.db", 1, "--from-start", "--quiet", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == (
        f"letstune: {script} has changed since; what the journal holds of it is used\n"
    )
    options = ("--trainer", "mine.py:Mine", "--from-start", "--quiet")
    done = command("retrain", "run.db", 1, *options, cwd=tmp_path, paths=(TESTS,))
    assert done.returncode == 1
    assert "0 of 2 epochs as recorded; epoch 0 differs first" in done.stdout
    assert "(1 more)" in done.stdout
    script.unlink()
    assert command("retrain", "run.db", 1, "--quiet", cwd=tmp_path).stderr == ""


def test_another_version_of_a_package_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = "letstune.runs.request.versions"
    monkeypatch.setattr(recorded, lambda trainer: {"numpy": "0.9", "nowhere": "1", "python": "2.7"})
    (trial,) = tune(Climb(), 1, path, rounds=[1])
    python_was, numpy_was = sorted(trial.retrain().changes, reverse=True)
    assert python_was.startswith("python was 2.7, is 3.")
    assert numpy_was == f"numpy was 0.9, is {np.__version__}"


# Where it is offered


def test_it_is_offered_where_a_checkpoint_is_not_there(path: Path) -> None:
    tuning = tune(Climb(), 4, path, rounds=[2], keep_checkpoints=1)
    last, epoch = tuning[3], tuning[3].best_epoch.epoch
    offered = f"letstune retrain {path} {last.trial_id} --epochs {epoch + 1} -o FOLDER"
    with pytest.raises(CheckpointError, match=f"was let go .*Train it again: `{offered}`"):
        last.checkpoint.load_pickle()
    assert json.loads(run("show", path, last.trial_id, "--json").stdout)["retrain"] == offered
    assert json.loads(run("best", path, "--json").stdout)["retrain"] is None
    best, epoch = tuning.best, tuning.best.best_epoch.epoch
    damage(store_of(path), tuning._run.state.trials[best.trial_id].kept[epoch], "missing")
    offered = f"letstune retrain {path} {best.trial_id} --epochs {epoch + 1} -o FOLDER"
    with pytest.raises(CheckpointError, match=f"is missing.*Train it again: `{offered}`"):
        tuning.best.checkpoint.load_pickle()
    assert offered in run("check", path, code=1).stdout
    run(*offered.replace("FOLDER", str(path.parent / "model")).split()[1:])
    run("check", path, "--fix", "--no-retrain")
    assert "nothing is wrong" in run("check", path).stdout
    assert json.loads(run("best", path, "--json").stdout)["retrain"] == offered
    with pytest.raises(CheckpointError, match=f"written off by .*Train it again: `{offered}`"):
        tuning.best.checkpoint.load_pickle()


@pytest.mark.parametrize("how", ["missing", "altered"])
@pytest.mark.parametrize("trainer", [Climb(), Folders()])
def test_a_fix_brings_back_the_winner_and_writes_off_the_others(
    how: str, trainer: Any, path: Path
) -> None:
    tuning = tune(trainer, 4, path, rounds=[2])
    files = in_all(tuning.best.checkpoint.path)
    state = tuning._run.state
    for trial in tuning[:2]:
        damage(store_of(path), next(iter(state.trials[trial.trial_id].kept.values())), how)
    found = {finding.where: finding for finding in check_run(path, fix=True, trust=True)}
    place = f"trial {tuning.best.trial_id}, epoch {tuning.best.best_epoch.epoch}"
    assert "epochs as recorded, and its checkpoint is back." in found[place].what or (
        "1 of 1 epoch as recorded, and its checkpoint is back." in found[place].what
    )
    assert all(finding.mended for finding in found.values())
    assert check_run(path) == []
    assert in_all(letstune.load(path).best.checkpoint.path) == files
    with pytest.raises(CheckpointError, match="written off"):
        letstune.load(path)[1].checkpoint.path  # noqa: B018


class Stamped(Climb):
    """Saves the time of day along with its model."""

    def save(self, checkpoint: Checkpoint) -> None:
        super().save(checkpoint)
        (checkpoint.path / "stamp").write_bytes(os.urandom(8))


class Changed(Climb):
    """Is trained otherwise as soon as a file is there."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        values = super().train_epoch(epoch)
        return {**values, "epoch": epoch + Path(self.dataset).exists()}


@pytest.mark.parametrize(
    ("trainer", "why"),
    [
        (Stamped(), "as recorded, but the files of its checkpoint differ."),
        (Changed(), "epoch was 0.0, is 1.0 (1 more)."),
    ],
)
def test_what_does_not_come_out_the_same_is_not_put_back(
    trainer: Any, why: str, path: Path, tmp_path: Path
) -> None:
    tuning = tune(trainer, 2, path, rounds=[2], dataset=str(tmp_path / "changed"))
    (tmp_path / "changed").touch()
    best, epoch = tuning.best.trial_id, tuning.best.best_epoch.epoch
    damage(store_of(path), tuning._run.state.trials[best].kept[epoch], "missing")
    (found,) = check_run(path, fix=True, trust=True)
    assert why in found.what
    assert f"letstune retrain {path} {best} --epochs {epoch + 1} -o FOLDER" in found.what
    assert check_run(path) == []
    with pytest.raises(CheckpointError, match="written off"):
        letstune.load(path).best.checkpoint.load_pickle()


class Gone(Climb):
    """Needs a file of which nothing is left."""

    def load_dataset(self, dataset: Any) -> None:
        Path(dataset).read_text()


def test_a_winner_that_cannot_be_trained_is_written_off_as_others_are(
    path: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.touch()
    tuning = tune(Gone(), 1, path, rounds=[1], dataset=str(data))
    data.unlink()
    damage(store_of(path), tuning._run.state.trials[0].kept[0], "missing")
    (found,) = check_run(path, fix=True, trust=True)
    assert found.mended
    assert "It cannot be brought back: " in found.what
    assert "No such file" in found.what
    assert check_run(path) == []
