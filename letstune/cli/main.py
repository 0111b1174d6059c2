"""The command line: the group that has all commands, and ends with their exit codes.

Data goes to stdout, progress and errors to stderr.

Exit codes: 0 done, 1 error, 2 usage, 75 interrupted and resumable, 130 stopped at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

import click

from letstune._version import __version__
from letstune._visible import visible
from letstune.cli import check, plugins, read, run, trust
from letstune.telling.lines import say

# Only click is imported here, and by the files of the commands: `letstune --help` and shell
# completion must be quick.


class _Group(click.Group):
    """The group of all commands: it prints letstune's errors as a line, and sets the exit codes.

    It has the commands of plugins, too, and imports each of them only when it is called.
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
        # `letstune --help` asks for every command: a broken one must not hide the rest.
        return click.Command(cmd_name, callback=_raiser(error), help=f"(Cannot be loaded: {error})")

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception as error:
            from letstune.errors import LetstuneError, PlanChangedError, PlanError

            if isinstance(error, LetstuneError):
                say(f"Error: {error}")
                usage = isinstance(error, PlanError) and not isinstance(error, PlanChangedError)
                sys.exit(2 if usage else 1)
            if isinstance(error, click.ClickException):  # which click prints by itself
                vars(error)["message"] = visible(error.message)
            raise

    def main(self, *args: Any, **kwargs: Any) -> Any:
        # What is not foreseen ends with a traceback, whose error may repeat what was read.
        if sys.excepthook is sys.__excepthook__:
            sys.excepthook = _tell_traceback
        return super().main(*args, **kwargs)


def _tell_traceback(
    kind: type[BaseException], error: BaseException, where: TracebackType | None
) -> None:
    from traceback import format_exception

    say("".join(format_exception(kind, error, where)).rstrip())


def _plugged_commands() -> set[str]:
    # To import letstune.plugins.installed would take longer than all that `--help` needs.
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


for _part in (run, read, check, trust, plugins):
    for _command in _part.commands.commands.values():
        main.add_command(_command)
