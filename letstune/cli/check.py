"""Commands that exit with 1 if something is not as it should be: check, retrain and rehearse."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from letstune.cli.options import (
    ANOTHER_DATASET,
    ANOTHER_TRAINER,
    JOURNAL,
    JSON,
    QUIET,
    TRAINER,
    TRIAL,
    path_or_value,
)
from letstune.telling.formats import print_json, print_table
from letstune.telling.lines import put, say

if TYPE_CHECKING:
    from letstune.results.retrained import Retrained, RetrainedEpoch

commands: Final = click.Group()


@commands.command()
@JOURNAL
@click.option("--fix", is_flag=True, help="Mend what can be mended; see above.")
@click.option("--no-retrain", is_flag=True, help="With --fix: train nothing again.")
@click.option("--trust", is_flag=True, help="Trust whoever wrote the journal, this once.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Of a journal with a row that does not follow: write the rows before it to a new one.",
)
@JSON
def check(
    journal: Path, fix: bool, no_retrain: bool, trust: bool, output: Path | None, as_json: bool
) -> None:
    """Check a journal and its checkpoints; exit with 1 if anything is wrong.

    A crash leaves checkpoints behind to which no row points; --fix deletes them. If checkpoints
    are missing or damaged, --fix writes them off: the run trains the epochs since the one before
    again when it needs them. Of a finished run, it trains the winner again, as retrain does, and
    brings its checkpoint back if that comes out the same to the last byte.

    That runs code of the journal; and checkpoints may be beyond the journal's folder, wherever it
    says. So --fix, and to look there, is for runs of your own, or those that you trust: see trust.

    \b
    Examples:
      letstune check digits.db
      letstune check digits.db --fix
      letstune check on-s3.db --trust
    """
    from letstune.runs.check import check_run, write_legal

    if output is not None:
        put(write_legal(journal, output))
        return
    findings = check_run(journal, fix=fix, train=not no_retrain, trust=trust)
    rows = [
        {"what": found.what, "where": found.where, "mended": found.mended} for found in findings
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows)
    else:
        put(f"{journal}: nothing is wrong.")
    if any(not found.mended for found in findings):
        say("`letstune check --fix` mends what can be mended; see --help.")
        sys.exit(1)


@commands.command()
@JOURNAL
@TRIAL
@click.option(
    "--epochs",
    type=click.IntRange(1),
    metavar="N",
    help="Epochs in all.  [default: as many as the trial has begun]",
)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Put the checkpoint of the last epoch there: a new folder.",
)
@click.option("--from-start", is_flag=True, help="Begin with the seeds, not with a checkpoint.")
@ANOTHER_TRAINER
@ANOTHER_DATASET
@QUIET
@JSON
def retrain(
    journal: Path,
    trial: int,
    folder: Path | None,
    trainer: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a trial again, and exit with 1 if it does not come out as recorded, to the last bit.

    It begins with the nearest checkpoint before the last epoch, if there is one, else with the
    seeds. The trainer, the dataset and the seeds are those of the journal, to which nothing is
    added. Of somebody else's, none is trained: see trust.

    \b
    Examples:
      letstune retrain digits.db 12                            is it what the journal says?
      letstune retrain digits.db 12 --from-start               from the first epoch on
      letstune retrain digits.db 12 --epochs 7 -o model        the model after 7 epochs
    """
    from letstune.runs.retrain import retrain
    from letstune.training.pickling import load_object

    again = retrain(
        journal,
        trial,
        folder=folder,
        trainer=None if trainer is None else load_object(trainer),
        workers=None if os.name == "nt" else 1,  # what exits there does not end the command
        told=None if quiet or as_json else _tell_epoch,
        **options,
    )
    there = folder is not None and folder.is_dir()
    if as_json:
        print_json(_facts(again) | {"folder": str(folder) if there else None})
    else:
        put(f"Trial {trial}: {again.verdict}.")
    if folder is not None and not there:
        say(f"There is no {folder}: nothing was trained, or saved.")
    if not again.same:
        if again.start:
            say("With --from-start, it may come out as recorded.")
        sys.exit(1)


def _tell_epoch(epoch: RetrainedEpoch) -> None:
    what = "not recorded" if epoch.recorded is None else epoch.difference or "as recorded"
    say(f"Epoch {epoch.epoch}: {what}.")


def _facts(again: Retrained) -> dict[str, Any]:
    return {
        "trial_id": again.trial_id,
        "same": again.same,
        "verdict": again.verdict,
        "start": again.start,
        "epochs": [epoch._asdict() for epoch in again.epochs],
        "failure": again.failure and again.failure.message,
        "changes": again.changes,
    }


@commands.command()
@TRAINER
@click.option(
    "--dataset",
    metavar="PATH|VALUE|TEXT",
    help="Passed to the trainer's load_dataset: a path, a Python value such as 600, or else text.",
)
@click.option(
    "-n", "--n-trials", type=click.IntRange(1), default=3, show_default=True, help="Trials in all."
)
@click.option(
    "--epochs", type=click.IntRange(2), default=3, show_default=True, help="Epochs of each trial."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the runs."
)
@JSON
def rehearse(trainer: str, dataset: str | None, as_json: bool, **options: Any) -> None:
    """Train a little, straight on and in pieces; exit with 1 if that makes a difference.

    If it does, the trainer's next epoch depends on more than what it saves and loads, and an
    interrupted run comes out differently. So it does if a field of the trainer is not the same
    once it was saved and loaded, though that has no effect yet; then that field is listed.

    \b
    Examples:
      letstune rehearse mlp.py:MLPTrainer
      letstune rehearse mlp.py:MLPTrainer --dataset small.csv -n 5 --epochs 2
      letstune rehearse sgd.py:SGDTrainer --dataset 600
    """
    import letstune
    from letstune.training.pickling import load_object

    given: object = None
    if dataset is not None:
        given, how = path_or_value(dataset)
        say(f"--dataset: taken as {how}.")
    rehearsal = letstune.rehearse(load_object(trainer), dataset=given, **options)
    found = [difference._asdict() for difference in rehearsal]
    if as_json:
        print_json(found)
    elif found:
        print_table(found)
    else:
        put(f"{trainer} comes out the same in pieces.")
    for remark in rehearsal.remarks:
        say(remark)
    if found:
        say(
            "An epoch must depend on nothing but the params, the dataset, its seeds, and what "
            "`load` brings back."
        )
        sys.exit(1)
