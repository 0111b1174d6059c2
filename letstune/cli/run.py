"""Commands that carry out a run: tune, resume, skip and stop."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from letstune.cli.options import (
    ACCEPT,
    ANOTHER_DATASET,
    ANOTHER_TRAINER,
    JOURNAL,
    OPTIONS,
    PASSTHROUGH,
    QUIET,
    RETRY,
    ROUNDS,
    TRAINER,
    TRIAL,
    TRIALS,
    carried_out,
    in_time,
    number_or_all,
    sizes,
)
from letstune.telling.formats import print_rich
from letstune.telling.lines import on_terminal, put

if TYPE_CHECKING:
    from letstune.results.results import TuningResults

commands: Final = click.Group()


@commands.command()
@TRAINER
@click.option("-n", "--n-trials", type=click.IntRange(1), help="Trials in all.")
@click.option(
    "--journal", type=click.Path(dir_okay=False, path_type=Path), help="The file of the run."
)
@click.option("--dataset", help="Passed to the trainer's load_dataset, as text.")
@click.option("--rounds", **ROUNDS, help="Lengths: 3,9,36 epochs, or 30s,5m,2h.")
@click.option("--keep", type=float, help="Share that advances to the next round.  [default: 0.25]")
@click.option(
    "--cohort", type=sizes, metavar="SIZES", help="How many compete, or several sizes: 16,8,4."
)
@click.option(
    "--sampler",
    default="random",
    show_default=True,
    help="The sampler that proposes params; `letstune plugins` lists them.",
)
@click.option("--sampler-option", **OPTIONS, help="Option of the sampler, such as a=1; repeatable.")
@click.option("--store", help="Directory or URI for checkpoints.  [default: next to the journal]")
@click.option("--store-option", **OPTIONS, help="Option of the store, such as a=1; repeatable.")
@click.option("--observer", "observers", multiple=True, help="Observer of the run; repeatable.")
@carried_out
@click.option("--lag", type=click.IntRange(0), help="Lag of a sampler that learns.")
@click.option("--seed", type=click.IntRange(0), help="Seed of the run.  [default: a new one]")
@click.option(
    "--keep-checkpoints",
    type=number_or_all,
    metavar="N|all",
    default="10",
    show_default=True,
    help="Keep checkpoints of this many of the best trials, or of all.",
)
@in_time
@ACCEPT
@RETRY
@PASSTHROUGH
@QUIET
def tune(
    trainer: str,
    n_trials: int | None,
    rounds: list[int] | None,
    keep: float | None,
    cohort: list[int] | None,
    sampler: str,
    sampler_option: tuple[tuple[str, Any], ...],
    store: str | None,
    store_option: tuple[tuple[str, Any], ...],
    quiet: bool,
    **options: Any,
) -> None:
    """Start a run, or go on with it, and print its best trials.

    TRAINER is a trainer class in a file or module, or an object of such a class.

    \b
    Examples:
      letstune tune digits.py:DigitsTrainer -n 64 --journal digits.db
      letstune tune mlp.py:MLPTrainer -n 64 --rounds 3,9,36 --keep 0.25 --seed 1
      letstune tune mlp.py:MLPTrainer -n 64 --sampler tpe --sampler-option multivariate=true
      letstune tune mlp.py:MLPTrainer --until 07:00 --journal night.db
    """
    import letstune
    from letstune.training.pickling import load_object

    if store_option and store is None:
        raise click.UsageError("--store-option needs a --store.")
    if n_trials is None and not (options["until"] or options["for_"]):
        raise click.UsageError("Missing option '-n' / '--n-trials', or --until or --for.")
    options["workers"] = _who_trains(options["journal"], options["workers"], options["gpus"])
    tuning = letstune.tune(
        load_object(trainer),
        n_trials,
        rounds=_rounds(rounds, keep, cohort),
        sampler=(sampler, dict(sampler_option)),
        store=None if store is None else (store, dict(store_option)),
        progress=not quiet,
        **options,
    )
    _print_summary(tuning)


def _who_trains(journal: Path | None, workers: Any, gpus: str | None) -> Any:
    """Return who is to train: one process, unless other is asked for or recorded.

    Not the command's own: there, a trainer that exits would end the command as if all were well,
    and what a trial does to its process cannot be undone.
    """
    if workers is not None or gpus is not None or os.name == "nt":
        return workers
    if journal is None or not journal.exists():
        return 1
    from letstune.journal.journal import Journal

    with closing(Journal(journal)) as source:
        facts = source.facts()
    return 1 if facts["workers"] is None and facts["gpus"] is None else None


def _rounds(lengths: Any, keep: float | None, cohort: list[int] | None) -> Any:
    from letstune.rounds.plan import DEFAULT_LENGTHS, Rounds

    if keep is None and cohort is None:
        return lengths
    return Rounds(lengths or DEFAULT_LENGTHS, keep=0.25 if keep is None else keep, cohort=cohort)


@commands.command()
@JOURNAL
@click.option("-n", "--n-trials", type=click.IntRange(1), help="A larger number of trials in all.")
@click.option("--rounds", **ROUNDS, help="Longer rounds, or more of them.")
@ANOTHER_TRAINER
@ANOTHER_DATASET
@carried_out
@in_time
@ACCEPT
@RETRY
@PASSTHROUGH
@QUIET
def resume(
    journal: Path, trainer: str | None, dataset: str | None, quiet: bool, **options: Any
) -> None:
    """Go on with a run where it stopped, and print its best trials.

    The journal holds all that is needed: the trainer, the dataset and the plan.

    \b
    Examples:
      letstune resume digits.db
      letstune resume digits.db -n 128      more trials
    """
    import letstune
    from letstune.training.pickling import load_object

    if trainer is not None:
        options["trainer"] = load_object(trainer)
    if dataset is not None:
        options["dataset"] = dataset
    options["workers"] = _who_trains(journal, options["workers"], options["gpus"])
    _print_summary(letstune.resume(journal, progress=not quiet, **options))


@commands.command()
@JOURNAL
@TRIAL
def skip(journal: Path, trial: int) -> None:
    """End a trial of a run, as if its trainer had stopped it. The run may be going on.

    The trial keeps the place that its epochs so far deserve.

    \b
    Example:
      letstune skip digits.db 12
    """
    from letstune.runs.skip import skip_trial

    if skip_trial(journal, trial):
        put(f"Trial {trial} is skipped.")
    else:
        put(f"The process that works on {journal} is asked to skip trial {trial}.")


@commands.command()
@JOURNAL
def stop(journal: Path) -> None:
    """Ask the process that works on a run to stop, as Ctrl-C there does.

    It records the epochs in flight, and ends with exit code 75. The run can be resumed.

    \b
    Example:
      letstune stop digits.db
    """
    from letstune.runs.skip import stop_run

    if stop_run(journal):
        put(f"The process that works on {journal} is asked to stop.")
    else:
        put(f"No process works on {journal}, so there is nothing to stop.")


@commands.command()
@JOURNAL
@TRIALS
@click.option(
    "--alike", type=click.IntRange(0), metavar="TRIAL", help="Only trials that failed as it did."
)
def retry(journal: Path, trials: tuple[int, ...], alike: int | None) -> None:
    """Open failed trials again: all of them, or those named. Resume the run to train them.

    A trial goes on from its last recorded epoch, and advances if it would have, had it not failed.
    A trial that advanced in its place keeps its epochs. If the trainer was mended, run its script,
    or resume with --trainer: the journal holds the code as it was.

    \b
    Examples:
      letstune retry digits.db              all that failed
      letstune retry digits.db 3 7
      letstune retry digits.db --alike 3    all that failed as trial 3 did
    """
    from letstune.runs.request import to_resume
    from letstune.runs.retry import retry_trials
    from letstune.telling.lines import counted

    opened = retry_trials(journal, trials, alike=alike)
    if not opened:
        put(f"No trial of {journal} has failed, so there is nothing to retry.")
        return
    put(f"{counted(len(opened), 'failed trial')} opened again. Train with the recorded code:")
    put(f"  {to_resume(journal)}")
    put("If the trainer was mended, run its script, or add --trainer FILE:CLASS.")


def _print_summary(tuning: TuningResults[Any]) -> None:
    from letstune.results.verdicts import in_vain

    print_rich(tuning) if on_terminal() else put(repr(tuning))
    if tuning.stopped or in_vain(tuning._run.state):
        sys.exit(1)  # there is no winner, so a shell script must not go on to its next line
