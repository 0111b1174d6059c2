"""The best epochs of the best trials are kept, and little more."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import kept
from small_trainers import Climb, Folders, Hill, tune

import letstune
from letstune.errors import CheckpointNotKeptError
from letstune.training.checkpoints import Checkpoint


def deleted(path: Path) -> dict[tuple[int, int], str]:
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT trial, epoch, why FROM deletions").fetchall()
    return {(trial, epoch): why for trial, epoch, why in rows}


@pytest.mark.parametrize("trainer", [Climb(), Folders()])
@pytest.mark.parametrize("n", [0, 1, 3, 10])
def test_the_best_epochs_of_the_best_trials_are_kept(n: int, trainer: Any, path: Path) -> None:
    tuning = tune(trainer, 12, path, rounds=[1, 2, 2], keep_checkpoints=n)
    best = {(trial.trial_id, trial.best_epoch.epoch) for trial in tuning[:n] if trial.best_epoch}
    assert kept(path) == best
    epochs = {(trial.trial_id, epoch.epoch) for trial in tuning for epoch in trial.epochs}
    assert deleted(path).keys() == epochs - best


def test_ten_are_kept_by_default(path: Path) -> None:
    tune(Hill(), 12, path)
    assert len(kept(path)) == 10


def test_all_are_kept_if_asked_for(path: Path) -> None:
    tuning = tune(Climb(), 12, path, rounds=[1, 2], keep_checkpoints="all")
    assert kept(path) == {(t.trial_id, epoch.epoch) for t in tuning for epoch in t.epochs}
    assert deleted(path) == {}


def test_every_epoch_that_is_kept_is_the_model_after_it(path: Path) -> None:
    tuning = tune(Folders(), 4, path, rounds=[2, 2], keep_checkpoints="all")
    for trial in tuning:
        for epoch in trial.epochs:
            trainer = Folders()
            trainer.load(epoch.checkpoint, trial.params)
            assert trainer.model[-1] == epoch.metric_value


class Watching(Climb):
    """Notes, as the dataset's file, what is in the store when an epoch begins."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        names = [file.name for file in Path(self.dataset).glob("[!.]*")]
        return super().train_epoch(epoch) | {"kept": len(names)}


def test_while_it_runs_little_more_is_kept_than_what_may_be_needed(path: Path) -> None:
    store = path.with_name("run.checkpoints")
    store.mkdir()
    tuning = tune(Watching(), 1, path, rounds=[30], dataset=str(store), keep_checkpoints=1)
    # The best and the last epoch, and the one before, until the next one is recorded.
    assert max(epoch.metric_values["kept"] for epoch in tuning[0].epochs) <= 3


class Failing(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 2:
            raise ValueError
        return super().train_epoch(epoch)


def test_of_failed_trials_only_the_last_checkpoint_is_kept(path: Path) -> None:
    tuning = tune(Failing(), 2, path, rounds=[4])
    assert tuning.errors
    last = [(t.trial_id, len(t.epochs) - 1) for t in tuning if t.status == "failed" and t.epochs]
    assert kept(path) == {*last}


@pytest.mark.parametrize("read", [lambda tuning, path: tuning, lambda t, path: letstune.load(path)])
def test_a_checkpoint_that_was_let_go_says_so_and_how_to_keep_it(read: Any, path: Path) -> None:
    trial = read(tune(Climb(), 4, path, rounds=[2], keep_checkpoints=1), path)[-1]
    with pytest.raises(CheckpointNotKeptError) as caught:
        trial.checkpoint.load_pickle()
    told = str(caught.value)
    assert f"{path}: the checkpoint of epoch {trial.best_epoch.epoch} of trial" in told
    assert "let go (outranked)" in told
    assert "keep_checkpoints='all'" in told


def test_a_checkpoint_shows_which_one_it_is(path: Path) -> None:
    tuning = tune(Climb(), 4, path, rounds=[2], keep_checkpoints=1)
    winner, last = tuning[0], tuning[-1]
    epoch = winner.best_epoch.epoch if winner.best_epoch else None
    shown = repr(winner.checkpoint)
    assert shown.startswith(f"<Checkpoint of epoch {epoch} of trial {winner.trial_id}: t0")
    assert repr(last.checkpoint).endswith(f"of trial {last.trial_id}: not kept>")


def test_a_checkpoint_that_was_never_made_says_so(path: Path) -> None:
    class Silent(Hill):
        def save(self, checkpoint: Checkpoint, model: Any) -> None:
            pass

    with pytest.raises(CheckpointNotKeptError, match=r"never there.*save"):
        _ = tune(Silent(), 1, path)[0].checkpoint.path
