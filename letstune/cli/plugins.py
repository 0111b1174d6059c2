"""`letstune plugins`, and its commands for those who write a plugin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import click

from letstune.cli.options import JSON, OPTIONS, Argument
from letstune.plugins.kinds import WITH_LAWS, WITH_TEMPLATE
from letstune.telling.formats import print_json, print_table
from letstune.telling.lines import put

commands: Final = click.Group()


@commands.group(invoke_without_command=True)
@JSON
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """Print what is plugged in: samplers, stores, executors, observers, formats and commands.

    This imports each plugin, to see whether that works.

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
@click.argument(
    "name",
    cls=Argument,
    meaning="The name of a sampler, or the scheme of a store or an executor.",
)
@click.option(
    "--kind",
    type=click.Choice(WITH_LAWS),
    help="The kind, if several plugins have the name.",
)
@click.option(
    "--option", "options", **OPTIONS, help="Option of the plugin, such as a=1; repeatable."
)
@click.option(
    "--uri", help="Where a store may keep what the laws put into it, or an executor's address."
)
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

    A store is tried at NAME:// with a temporary folder, and an executor at NAME://, unless --uri
    names another place.

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
            put(f"{verdict.verdict}  {verdict.law}{why}")
    if as_json:
        print_json(rows)
    if failed:
        sys.exit(1)


@plugins.command("new")
@click.argument(
    "name", cls=Argument, meaning="The name of the sampler, or the scheme of the store."
)
@click.option(
    "--kind", type=click.Choice(WITH_TEMPLATE), default=WITH_TEMPLATE[0], show_default=True
)
def new_plugin(name: str, kind: str) -> None:
    """Write a plugin that works, for you to change, into a new folder letstune-NAME.

    \b
    Examples:
      letstune plugins new my-sampler
      letstune plugins new my-store --kind store
    """
    from letstune.plugins.template import write_plugin

    put(str(write_plugin(Path.cwd(), name, kind)))
