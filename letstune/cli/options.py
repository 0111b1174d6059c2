"""Options and arguments that commands share, and what the values of options may be."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME: Final = r"\d+(\.\d+)?[smhd]"


class Argument(click.Argument):
    """An argument that says what it is.

    The documentation shows the meaning; `--help` shows the name alone, with any version of click.

    Args:
        names: as click wants them.
        meaning: what it is.
        about: what else click wants to know.
    """

    def __init__(self, names: Sequence[str], *, meaning: str, **about: Any) -> None:
        super().__init__(names, **about)
        self.meaning = meaning


def option(text: str) -> tuple[str, Any]:
    """Read an option of a plugin: a name and a value, which is JSON, or else text."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        # The text is not repeated: it may be a secret.
        raise click.BadParameter("expected KEY=VALUE, such as multivariate=true")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def path_or_value(text: str) -> tuple[object, str]:
    """Read a dataset; return it, and what it was taken as.

    >>> path_or_value("[1, 2]")
    ([1, 2], 'a Python value, [1, 2]')
    """
    if os.path.exists(text):  # noqa: PTH110 (Path.exists() raises if the text is no path at all)
        return text, "a path, which is there"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text, f"text, since there is no such path in {Path.cwd()}, and it is no Python value"
    return value, f"a Python value, {value!r:.200}"


def rounds(text: str) -> list[int] | list[timedelta]:
    """Read lengths of rounds, as numbers of epochs or as times."""
    words = [word.strip() for word in text.split(",")]
    if all(re.fullmatch(r"\d+", word) for word in words):
        return [int(word) for word in words]
    if all(re.fullmatch(_TIME, word) for word in words):
        return [_span(word) for word in words]
    raise click.BadParameter(
        f"{text!r}: expected numbers of epochs, such as 3,9,36, or times, such as 30s,5m,2h"
    )


def sizes(text: str) -> list[int]:
    """Read a number, or several separated by commas."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: expected a number, or several, such as 16,8,4"
        ) from None


def number_or_all(text: str) -> int | str:
    """Read a number, or all."""
    if text != "all" and not text.isdecimal():
        raise click.BadParameter(f"{text!r}: expected a number, or all")
    return text if text == "all" else int(text)


def workers(text: str) -> int | str:
    """Read a number, auto, or the URI of a cluster."""
    if text == "auto" or "://" in text:
        return text
    if text.isdecimal():
        return int(text)
    raise click.BadParameter(
        f"{text!r}: expected a number, auto, or a URI, such as dask://host:8786"
    )


def time_span(text: str) -> timedelta:
    """Read a time with its unit, or a number of seconds."""
    if not re.fullmatch(f"{_TIME}?", text):
        raise click.BadParameter(f"{text!r}: expected a time, such as 30s, 5m or 2h")
    return _span(text)


def _span(text: str) -> timedelta:
    return timedelta(seconds=float(text.rstrip("smhd")) * _UNITS.get(text[-1], 1))


def carried_out(command: F) -> F:
    """Add the options that tell how a plan is carried out."""
    for add in reversed(
        [
            click.option(
                "--workers",
                type=workers,
                metavar="N|auto|URI",
                help="How many processes train, 0 for the command's own, or where a plugin does.  "
                "[default: 1, or as recorded]",
            ),
            click.option("--gpus", help="Devices, such as 0,1, or auto: one worker for each."),
            click.option(
                "--epoch-timeout",
                type=time_span,
                metavar="TIME",
                help="Fail a trial when an epoch takes longer, such as 90s or 2h; 0 for none.",
            ),
            click.option(
                "--trial-timeout",
                type=time_span,
                metavar="TIME",
                help="Stop a trial when all its epochs take longer; it keeps what it has.",
            ),
            click.option(
                "--max-deaths",
                type=click.IntRange(1),
                help="Fail a trial when this many workers died in one epoch of it.  [default: 3]",
            ),
        ]
    ):
        command = add(command)
    return command


JOURNAL: Final = click.argument(
    "journal",
    cls=Argument,
    meaning="The file of the run.",
    type=click.Path(dir_okay=False, path_type=Path),
)
TRAINER: Final = click.argument(
    "trainer",
    cls=Argument,
    meaning="A trainer, or its class, as `digits.py:DigitsTrainer` or "
    "`package.digits:DigitsTrainer`.",
    metavar="MODULE_OR_FILE:TRAINER",
)
TRIAL: Final = click.argument(
    "trial", cls=Argument, meaning="The id of a trial.", type=click.IntRange(0)
)
TRIALS: Final = click.argument(
    "trials",
    cls=Argument,
    meaning="The ids of trials; all, if none are given.",
    type=click.IntRange(0),
    nargs=-1,
)
ANOTHER_TRAINER: Final = click.option(
    "--trainer", metavar="MODULE_OR_FILE:TRAINER", help="A trainer instead of the recorded one."
)
ANOTHER_DATASET: Final = click.option(
    "--dataset", help="A dataset instead of the recorded one, as text."
)
RETRY: Final = click.option(
    "--retry-failed/--no-retry",
    default=None,
    help="Try failed trials again, or never.  [default: if the trainer has changed]",
)
IN_TIME: Final = (
    click.option(
        "--until", metavar="TIME", help="End then: 07:00, 2026-11-28T07:00, or slurm (its job's)."
    ),
    click.option("--for", "for_", type=time_span, metavar="TIME", help="Train that long: 8h."),
    click.option(
        "--max-failures",
        type=click.IntRange(0),
        help="Stop after this many alike failures in a row; 0 for never.",
    ),
    click.option(
        "--no-rehearse",
        "rehearse",
        flag_value=False,
        default=True,
        help="Do not try whether a trial can go on from its checkpoint before one has to.",
    ),
)


def in_time(command: F) -> F:
    """Add the options that tell when a session ends."""
    for add in reversed(IN_TIME):
        command = add(command)
    return command


JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
QUIET: Final = click.option("--quiet", is_flag=True, help="Show no progress.")
ACCEPT: Final = click.option(
    "--accept-changes", is_flag=True, help="Go on with another major version of a plugin."
)
PASSTHROUGH: Final = click.option(
    "--passthrough-errors", is_flag=True, help="Stop at the first error of the trainer."
)
ROUNDS: Final[dict[str, Any]] = {"type": rounds, "metavar": "ROUNDS"}
OPTIONS: Final[dict[str, Any]] = {"type": option, "metavar": "KEY=VALUE", "multiple": True}
