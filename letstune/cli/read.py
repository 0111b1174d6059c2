"""Commands that read a journal, and change nothing: status, trials, show, best, export, log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from letstune.cli.options import JOURNAL, JSON, TRIAL
from letstune.results.export import FORMATS
from letstune.telling.formats import print_json, print_table
from letstune.telling.lines import on_terminal, put, put_bytes, say

if TYPE_CHECKING:
    from letstune.results.results import TuningResults

commands: Final = click.Group()


@commands.command()
@JOURNAL
@JSON
def status(journal: Path, as_json: bool) -> None:
    """Print how far a run is. It may be running.

    \b
    Examples:
      letstune status digits.db
      letstune status digits.db --json
    """
    from letstune.results.facts import status_of

    facts = status_of(journal)
    if facts["note"]:
        say(facts["note"])
    if as_json:
        print_json(facts)
    else:
        as_text = {name: json.dumps(facts[name]) for name in ("rounds", "last_session")}
        as_text["verdicts"] = "\n".join(facts["verdicts"])
        print_table(_as_rows(facts | as_text))


@commands.command()
@JOURNAL
@click.option("--limit", type=click.IntRange(1), help="Print at most this many trials.")
@JSON
def trials(journal: Path, limit: int | None, as_json: bool) -> None:
    """Print the trials of a run, best first.

    \b
    Examples:
      letstune trials digits.db --limit 10
      letstune trials digits.db | column -t -s "$(printf '\\t')"
    """
    rows = list(_load(journal).rows())[:limit]
    if on_terminal() and not as_json:  # `show` and `export` tell what does not fit
        rows = [
            {
                name.removeprefix("params."): f"{value:.6g}" if isinstance(value, float) else value
                for name, value in row.items()
                if not name.startswith(("best", "last."))
            }
            for row in rows
        ]
    print_json(rows) if as_json else print_table(rows)


@commands.command()
@JOURNAL
@TRIAL
@JSON
def show(journal: Path, trial: int, as_json: bool) -> None:
    """Print one trial: its params, all its epochs, and how it failed if it did.

    \b
    Example:
      letstune show digits.db 12
    """
    _print_trial(_load(journal), trial, as_json)


@commands.command()
@JOURNAL
@JSON
def best(journal: Path, as_json: bool) -> None:
    """Print the best trial, as show does.

    \b
    Example:
      letstune best digits.db --json
    """
    tuning = _load(journal)
    _print_trial(tuning, tuning.best.trial_id, as_json)


@commands.command()
@JOURNAL
@click.option(
    "--format",
    "kind",
    metavar="|".join([*FORMATS, "..."]),
    help="The format; by default that of the file's name, or csv. Parquet needs pandas and "
    "pyarrow; `letstune plugins` lists other formats.",
)
@click.option("--epochs", is_flag=True, help="Write a row for each epoch, not for each trial.")
@click.option("--raw", is_flag=True, help="Leave text in CSV as it is; see above.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, not to stdout.",
)
def export(journal: Path, kind: str | None, epochs: bool, raw: bool, output: Path | None) -> None:
    """Write all trials, or all epochs, in another format.

    In CSV, control characters are written as symbols, and text that a spreadsheet would take for a
    formula begins with an apostrophe.

    \b
    Examples:
      letstune export digits.db > digits.csv
      letstune export digits.db --format parquet --epochs -o epochs.parquet
    """
    from letstune.results.export import exported

    tuning = _load(journal)
    kind = kind or _format_of(output)
    if kind not in FORMATS:
        _export_by_plugin(tuning, kind, epochs, output)
        return
    data = exported(tuning, kind, epochs=epochs, raw=raw)
    if output is None:
        put_bytes(data)
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}.") from error


@commands.command()
@JOURNAL
@TRIAL
@click.option("-f", "--follow", is_flag=True, help="Wait for more, while the run goes on.")
@click.option("--raw", is_flag=True, help="Print its bytes as they are; see above.")
def log(journal: Path, trial: int, follow: bool, raw: bool) -> None:
    """Print what a trial has printed, in a worker on this machine.

    Control characters are printed as symbols, and of a line that was written over, as by a progress
    bar, what it was in the end.

    \b
    Examples:
      letstune log digits.db 12
      letstune log digits.db 12 --follow
    """
    from letstune.results.logs import read_log
    from letstune.telling.echo import last_state

    _load(journal).trial(trial)  # it may be that there is none
    rest = b""
    for data in read_log(journal, trial, follow=follow):
        if raw:
            put_bytes(data)
            continue
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            put(last_state(line.decode(errors="replace")))
    if rest:
        put(last_state(rest.decode(errors="replace")))


def _format_of(output: Path | None) -> str:
    suffix = "" if output is None else output.suffix.removeprefix(".")
    if suffix in FORMATS:
        return suffix
    if suffix not in ("", "txt", "tsv"):
        raise click.UsageError(f"-o {output}: in which --format? Give {', '.join(FORMATS)}, ...")
    return "csv"


def _export_by_plugin(
    tuning: TuningResults[Any], kind: str, epochs: bool, output: Path | None
) -> None:
    from letstune.errors import PlanError
    from letstune.plugins.installed import find

    try:
        write = find("export", kind).factory()
    except PlanError as error:
        raise click.UsageError(f"{error} letstune itself has {', '.join(FORMATS)}.") from error
    if output is None or epochs:
        raise click.UsageError(f"--format {kind} needs -o FILE, and takes no --epochs.")
    write(tuning, output)


def _load(journal: Path) -> TuningResults[Any]:
    from letstune.runs.tuning import load

    return load(journal)


def _print_trial(tuning: TuningResults[Any], number: int, as_json: bool) -> None:
    from letstune.results.facts import facts_of_trial

    facts = facts_of_trial(tuning, number)
    if as_json:
        print_json(facts)
        return
    epochs, failures = facts.pop("epochs"), facts.pop("failures")
    print_table(_as_rows(facts))
    if epochs:
        put()
        print_table(epochs)
    for failure in failures:
        put(f"\n{failure['kind']} in epoch {failure['epoch']}:\n{failure['traceback']}")


def _as_rows(facts: Mapping[str, object]) -> list[dict[str, object]]:
    return [{"fact": name, "value": value} for name, value in facts.items()]
