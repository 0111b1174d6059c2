"""The command line. Data goes to stdout, progress and errors to stderr.

Exit codes: 0 done, 1 error, 2 usage, 75 interrupted and resumable, 130 stopped at once.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from letstune._version import __version__
from letstune.cli.options import (
    ACCEPT,
    JOURNAL,
    JSON,
    OPTIONS,
    PASSTHROUGH,
    QUIET,
    ROUNDS,
    carried_out,
    number_or_all,
    sizes,
)
from letstune.telling.formats import (
    print_json,
    print_rich,
    print_table,
    to_csv,
    to_json,
    to_parquet,
)

# Only click is imported here: `letstune --help` and shell completion must be quick.
if TYPE_CHECKING:
    from letstune.results.results import Trial, TuningResults


_FORMATS: Final = ("csv", "json", "parquet")


class _Group(click.Group):
    """Shows errors of letstune as a line, and ends with letstune's exit codes.

    Has the commands of plugins, too, each of them imported only when it is called.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *sorted(_plugged_commands() - set(self.commands))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in _plugged_commands():
            return own
        from letstune.errors import PluginError
        from letstune.plugins.installed import find, make

        try:
            plugged = find("command", cmd_name)
            made = make(plugged)
            if isinstance(made, click.Command):
                return made
            error = PluginError(f"{plugged} is {made!r:.200}; expected a click.Command.")
        except PluginError as raised:
            error = raised
        # For `letstune --help`, which asks for each: one that is broken must not hide the rest.
        return click.Command(cmd_name, callback=_raiser(error), help=f"(Not to be had: {error})")

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception as error:
            from letstune.errors import LetstuneError, PlanChangedError, PlanError

            if isinstance(error, LetstuneError):
                click.echo(f"Error: {error}", err=True)
                usage = isinstance(error, PlanError) and not isinstance(error, PlanChangedError)
                sys.exit(2 if usage else 1)
            raise


def _plugged_commands() -> set[str]:
    # Not by letstune.plugins.installed, which is slower to import than all that `--help` needs.
    from importlib.metadata import entry_points

    names = (entry.name.partition(".") for entry in entry_points(group="letstune"))
    return {name for kind, _, name in names if kind == "command"}


def _raiser(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="letstune")
def main() -> None:
    """Tune hyperparameters, and resume exactly after any crash.

    \b
    Examples:
      letstune tune digits.py:DigitsTrainer -n 64 --journal digits.db
      letstune resume digits.db
      letstune best digits.db

    Exit codes: 0 done, 1 error, 2 usage, 75 interrupted and resumable, 130 stopped at once.
    """


@main.command()
@click.argument("trainer", metavar="MODULE_OR_FILE:TRAINER")
@click.option("-n", "--n-trials", type=click.IntRange(1), required=True, help="Trials in all.")
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path), help="The run's file.")
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
    help="Who proposes params; `letstune plugins` lists them.",
)
@click.option("--sampler-option", **OPTIONS, help="Such as a=1; repeatable.")
@click.option("--store", help="Directory or URI for checkpoints.  [default: next to the journal]")
@click.option("--store-option", **OPTIONS, help="Such as a=1; repeatable.")
@click.option("--observer", "observers", multiple=True, help="Who is told; repeatable.")
@carried_out
@click.option("--lag", type=click.IntRange(0), help="Lag of a sampler that learns.")
@click.option("--seed", type=click.IntRange(0), help="Of all randomness.  [default: a new one]")
@click.option(
    "--keep-checkpoints",
    type=number_or_all,
    metavar="N|all",
    default="10",
    show_default=True,
    help="Of how many of the best trials, or all.",
)
@ACCEPT
@PASSTHROUGH
@QUIET
def tune(
    trainer: str,
    n_trials: int,
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
    """
    import letstune
    from letstune.rounds.plan import DEFAULT_LENGTHS
    from letstune.training.pickling import load_object

    wanted: Any = rounds
    if keep is not None or cohort is not None:
        wanted = letstune.Rounds(
            rounds or DEFAULT_LENGTHS, keep=0.25 if keep is None else keep, cohort=cohort
        )
    if store_option and store is None:
        raise click.UsageError("--store-option needs a --store.")
    tuning = letstune.tune(
        load_object(trainer),
        n_trials,
        rounds=wanted,
        sampler=(sampler, dict(sampler_option)),
        store=None if store is None else (store, dict(store_option)),
        progress=not quiet,
        **options,
    )
    _print_summary(tuning)


@main.command()
@JOURNAL
@click.option("-n", "--n-trials", type=click.IntRange(1), help="More trials in all.")
@click.option("--rounds", **ROUNDS, help="Longer rounds, or more of them.")
@click.option("--trainer", metavar="MODULE_OR_FILE:TRAINER", help="Instead of the recorded one.")
@click.option("--dataset", help="Instead of the recorded one, as text.")
@carried_out
@ACCEPT
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
    _print_summary(letstune.resume(journal, progress=not quiet, **options))


def _print_summary(tuning: TuningResults[Any]) -> None:
    print_rich(tuning) if sys.stdout.isatty() else click.echo(repr(tuning))
    if len(tuning) and all(trial.status == "failed" for trial in tuning):
        sys.exit(1)  # there is no winner, so what comes next in a shell script must not begin


@main.command()
@JOURNAL
@JSON
def status(journal: Path, as_json: bool) -> None:
    """Print how far a run is. It may be running.

    \b
    Examples:
      letstune status digits.db
      letstune status digits.db --json
    """
    from letstune.journal.journal import Journal
    from letstune.journal.lock import is_locked
    from letstune.journal.paths import journal_path

    source = Journal(journal_path(journal))
    try:
        plan, state = source.load()
        sessions = source.sessions()
        failed = len(source.failures())
    finally:
        source.close()
    last = sessions[-1] if sessions else None
    best, trial = state.leader
    facts = {
        "journal": str(journal),
        "finished": state.finished,
        "running": is_locked(journal_path(journal)),
        "trainer": plan.trainer,
        "metric": plan.metric,
        "n_trials": state.n_trials,
        "proposed": len(state.trials),
        "left": state.unsettled + state.n_trials - len(state.trials),
        "failed": failed,
        "epochs": state.total_epochs,
        "seconds": state.total_seconds,
        "best": best if math.isfinite(best) else None,
        "best_trial": trial if trial >= 0 else None,
        "sampler": plan.sampler["name"],
        "rounds": plan.rounds.to_dict(),
        "seed": plan.seed,
        "sessions": len(sessions),
        "last_session": last,
        "resume": None if state.finished else f"letstune resume {shlex.quote(str(journal))}",
    }
    if as_json:
        print_json(facts)
    else:
        facts["rounds"] = json.dumps(facts["rounds"])
        facts["last_session"] = json.dumps(last)
        print_table([{"fact": name, "value": value} for name, value in facts.items()])


@main.command()
@JOURNAL
@click.option("--limit", type=click.IntRange(1), help="Print at most so many.")
@JSON
def trials(journal: Path, limit: int | None, as_json: bool) -> None:
    """Print the trials of a run, best first.

    \b
    Examples:
      letstune trials digits.db --limit 10
      letstune trials digits.db | column -t -s "$(printf '\\t')"
    """
    rows = list(_load(journal).rows())[:limit]
    if sys.stdout.isatty() and not as_json:  # what fits there; the rest is in `show` and `export`
        rows = [
            {
                name.removeprefix("params."): f"{value:.6g}" if isinstance(value, float) else value
                for name, value in row.items()
                if not name.startswith(("best", "last."))
            }
            for row in rows
        ]
    print_json(rows) if as_json else print_table(rows)


@main.command()
@JOURNAL
@click.argument("trial", type=click.IntRange(0))
@JSON
def show(journal: Path, trial: int, as_json: bool) -> None:
    """Print one trial: its params, all its epochs, and how it failed if it did.

    \b
    Example:
      letstune show digits.db 12
    """
    _show(_load(journal), trial, as_json)


@main.command()
@JOURNAL
@JSON
def best(journal: Path, as_json: bool) -> None:
    """Print the best trial, as show does.

    \b
    Example:
      letstune best digits.db --json
    """
    tuning = _load(journal)
    _show(tuning, tuning.best.trial_id, as_json)


@main.command()
@JOURNAL
@click.option(
    "--format",
    "kind",
    metavar="csv|json|parquet|...",
    help="By default that of the file's name, or csv. Parquet needs pandas and pyarrow; "
    "`letstune plugins` lists others.",
)
@click.option("--epochs", is_flag=True, help="A row an epoch, instead of a row a trial.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file, not stdout."
)
def export(journal: Path, kind: str | None, epochs: bool, output: Path | None) -> None:
    """Write all trials, or all epochs, in another format.

    \b
    Examples:
      letstune export digits.db > digits.csv
      letstune export digits.db --format parquet --epochs -o epochs.parquet
    """
    tuning = _load(journal)
    if kind is None:
        suffix = "" if output is None else output.suffix.removeprefix(".")
        kind = suffix if suffix in _FORMATS else "csv"
        if suffix and suffix not in (*_FORMATS, "txt", "tsv"):
            raise click.UsageError(f"-o {output}: in which --format? Give csv, json, parquet, ...")
    if kind not in _FORMATS:
        from letstune.errors import PlanError
        from letstune.plugins.installed import find

        try:
            write = find("export", kind).factory()
        except PlanError as error:
            raise click.UsageError(f"{error} letstune itself has {', '.join(_FORMATS)}.") from error
        if output is None or epochs:
            raise click.UsageError(f"--format {kind} needs -o FILE, and takes no --epochs.")
        write(tuning, output)
        return
    if kind == "parquet":
        data = to_parquet(tuning.epochs_df() if epochs else tuning.to_df())
    else:
        rows = list(tuning.epoch_rows() if epochs else tuning.rows())
        data = (to_csv(rows) if kind == "csv" else to_json(rows) + "\n").encode()
    if output is None:
        sys.stdout.buffer.write(data)
    else:
        try:
            output.write_bytes(data)
        except OSError as error:
            raise click.ClickException(f"{output} cannot be written: {error.strerror}.") from error


@main.command()
@JOURNAL
@click.option("--fix", is_flag=True, help="Mend what can be mended; see above.")
@JSON
def check(journal: Path, fix: bool, as_json: bool) -> None:
    """Check a journal and its checkpoints; exit with 1 if anything is wrong.

    Checkpoints to which no row points are what a crash left behind, and are swept by --fix.
    Checkpoints that are missing or damaged are written off by --fix: the epochs since the one
    before are trained again when the run needs them.

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


@main.group(invoke_without_command=True)
@JSON
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """Print what is plugged in: samplers, stores, executors, observers, formats and commands.

    Each plugin is imported, to see whether it can be.

    \b
    Examples:
      letstune plugins
      letstune plugins --json
    """
    if ctx.invoked_subcommand is not None:
        return
    from letstune.plugins.installed import installed, problem

    rows = []
    for plugged in installed():
        facts = vars(plugged) | {"problem": problem(plugged)}
        rows.append({name: fact for name, fact in facts.items() if name != "module"})
    print_json(rows) if as_json else print_table(rows)


@plugins.command("check")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["sampler", "store", "executor"]),
    help="If several have the name.",
)
@click.option("--option", "options", **OPTIONS, help="Of the plugin; repeatable.")
@click.option("--uri", help="Where a store may keep what the laws put there, or an executor is.")
@click.option("--slow", is_flag=True, help="Try the laws that take long, too.")
@JSON
def check_plugin(
    name: str,
    kind: str | None,
    options: tuple[tuple[str, Any], ...],
    uri: str | None,
    slow: bool,
    as_json: bool,
) -> None:
    """Try the laws on an installed sampler, store or executor, and print a verdict a line.

    A store is tried at NAME:// and a temporary folder, an executor at NAME://, or at what --uri
    says.

    \b
    Examples:
      letstune plugins check tpe --option multivariate=true
      letstune plugins check s3 --uri s3://bucket/laws
      letstune plugins check dask --uri dask://scheduler:8786
    """
    from letstune.testing.conformance import verdicts

    rows, failed = [], False
    for verdict in verdicts(name, kind, dict(options), uri, slow=slow):
        failed |= verdict.verdict == "failed"
        rows.append(verdict._asdict())
        if not as_json:
            why = f": {verdict.why}" if verdict.why else ""
            click.echo(f"{verdict.verdict}  {verdict.law}{why}")
    if as_json:
        print_json(rows)
    if failed:
        sys.exit(1)


@plugins.command("new")
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(["sampler", "store"]), default="sampler", show_default=True
)
def new_plugin(name: str, kind: str) -> None:
    """Write a new plugin into a folder letstune-NAME: one that works, to be changed.

    \b
    Examples:
      letstune plugins new my-sampler
      letstune plugins new my-store --kind store
    """
    from letstune.plugins.template import write_plugin

    click.echo(write_plugin(Path.cwd(), name, kind))


@main.command()
@click.argument("trainer", metavar="MODULE_OR_FILE:TRAINER")
@click.option("--dataset", help="Passed to the trainer's load_dataset, as text.")
@click.option(
    "-n", "--n-trials", type=click.IntRange(1), default=3, show_default=True, help="Trials in all."
)
@click.option(
    "--epochs", type=click.IntRange(2), default=3, show_default=True, help="Of each trial."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all randomness."
)
@JSON
def rehearse(trainer: str, as_json: bool, **options: Any) -> None:
    """Train a little, straight on and in pieces; exit with 1 if that makes a difference.

    Then what the trainer saves, and loads, is not all that its next epoch depends on, and a run
    that is interrupted comes out differently.

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
            "A trial came out differently once it had been interrupted. An epoch must depend on "
            "nothing but the params, the dataset, its seeds, and what `load` brings back.",
            err=True,
        )
        sys.exit(1)


@main.command()
@JOURNAL
@click.argument("trial", type=click.IntRange(0))
def skip(journal: Path, trial: int) -> None:
    """End a trial of a run, which may be running, as if its trainer had stopped it.

    It keeps the place that its epochs so far deserve.

    \b
    Example:
      letstune skip digits.db 12
    """
    from letstune.runs.skip import skip_trial

    if skip_trial(journal, trial):
        click.echo(f"Trial {trial} is skipped.")
    else:
        click.echo(f"Whoever works on {journal} is asked to skip trial {trial}.")


def _load(journal: Path) -> TuningResults[Any]:
    from letstune.runs.tuning import load

    return load(journal)


def _show(tuning: TuningResults[Any], number: int, as_json: bool) -> None:
    trial: Trial[Any] = tuning.trial(number)
    failures = [error for error in tuning.errors if error.trial_id == number]
    facts = {
        "trial_id": number,
        "place": tuning.index(trial) + 1,
        "metric": tuning.metric,
        "metric_value": trial.metric_value,
        "status": trial.status,
        "round": trial.round,
        "duration": trial.duration,
        "params": trial.params.to_dict(),
        "metric_values": dict(trial.metric_values),
        "best_epoch": trial.best_epoch.epoch if trial.best_epoch else None,
    }
    rows = [
        {
            "epoch": epoch.epoch,
            **{f"metrics.{name}": value for name, value in epoch.metric_values.items()},
            "started_at": epoch.started_at,
            "duration": epoch.duration,
        }
        for epoch in trial.epochs
    ]
    if as_json:
        told = [{"epoch": e.epoch, "kind": e.kind, "traceback": e.traceback} for e in failures]
        print_json({**facts, "epochs": rows, "failures": told})
        return
    print_table(
        [{"fact": n, "value": to_json(v) if isinstance(v, dict) else v} for n, v in facts.items()]
    )
    if rows:
        click.echo()
        print_table(rows)
    for failure in failures:
        click.echo(f"\n{failure.kind} in epoch {failure.epoch}:\n{failure.traceback}")
