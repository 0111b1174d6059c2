"""The command that says that a journal is to be trusted."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import click

from letstune.cli.options import JOURNAL
from letstune.telling.lines import put, say

commands: Final = click.Group()


@commands.command()
@JOURNAL
@click.option("--yes", is_flag=True, help="Trust it without being asked; for scripts.")
def trust(journal: Path, yes: bool) -> None:
    """Trust a journal of somebody else, as you would trust a script of theirs.

    It shows what the journal would run and whom it would reach, and asks. What is agreed to is
    remembered beside your key, by its content: copies are trusted, too, and what somebody changes
    is not. The journal is only read; once you resume it, it is signed as your own runs are.

    \b
    Examples:
      letstune trust theirs.db
      letstune trust theirs.db --yes
    """
    from letstune.runs.trust import question

    asked = question(journal)
    if not asked.why:
        put(f"{journal} is yours, or trusted already.")
        return
    say(f"{journal} {asked.why}.")
    for line in asked.lines:
        put(f"  {line}")
    if not yes and not _agreed():
        say("It is not trusted. Nothing was changed.")
        sys.exit(1)
    asked.agree()
    put(f"{journal} is trusted, as it is now.")


def _agreed() -> bool:
    """Ask on a terminal; elsewhere, nobody can be asked."""
    if not sys.stdin.isatty():
        say("Nobody can be asked here: --yes says that you have looked at it.")
        return False
    return click.confirm("Do you trust whoever wrote it with all of that?", err=True)
