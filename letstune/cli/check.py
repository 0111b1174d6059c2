"""Commands that look for what is wrong, and exit with 1 if they find it: check and rehearse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from letstune.cli.options import JOURNAL, JSON, TRAINER
from letstune.telling.formats import print_json, print_table

commands: Final = click.Group()


@commands.command()
@JOURNAL
@click.option("--fix", is_flag=True, help="Mend what can be mended; see above.")
@JSON
def check(journal: Path, fix: bool, as_json: bool) -> None:
    """Check a journal and its checkpoints; exit with 1 if anything is wrong.

    A crash leaves checkpoints behind to which no row points; --fix deletes them. If checkpoints
    are missing or damaged, --fix writes them off: the run trains the epochs since the one before
    again when it needs them.

    \b
    Examples:
      letstune check digits.db
      letstune check digits.db --fix
    """
    from letstune.runs.check import check_run

    findings = check_run(journal, fix=fix)
    rows = [
        {"what": found.what, "where": found.where, "mended": found.mended} for found in findings
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows)
    else:
        click.echo(f"{journal}: nothing is wrong.")
    if any(not found.mended for found in findings):
        click.echo("`letstune check --fix` mends what can be mended; see --help.", err=True)
        sys.exit(1)


@commands.command()
@TRAINER
@click.option("--dataset", help="Passed to the trainer's load_dataset, as text.")
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
def rehearse(trainer: str, as_json: bool, **options: Any) -> None:
    """Train a little, straight on and in pieces; exit with 1 if that makes a difference.

    If it does, the trainer's next epoch depends on more than what it saves and loads, and an
    interrupted run comes out differently.

    \b
    Examples:
      letstune rehearse mlp.py:MLPTrainer
      letstune rehearse mlp.py:MLPTrainer --dataset small.csv -n 5 --epochs 2
    """
    import letstune
    from letstune.training.pickling import load_object

    found = [
        difference._asdict() for difference in letstune.rehearse(load_object(trainer), **options)
    ]
    if as_json:
        print_json(found)
    elif found:
        print_table(found)
    else:
        click.echo(f"{trainer} comes out the same in pieces.")
    if found:
        click.echo(
            "A trial came out differently after it had been interrupted. An epoch must depend on "
            "nothing but the params, the dataset, its seeds, and what `load` brings back.",
            err=True,
        )
        sys.exit(1)
