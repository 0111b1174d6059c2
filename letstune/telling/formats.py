"""Rows as people and programs want them: tables, tab-separated text, JSON, CSV, Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from letstune.errors import MissingPackageError


def _plain(value: object) -> Any:
    """Return a value that JSON can hold; NaN and infinities become text, as in the journal."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def to_json(value: object) -> str:
    """Return a value as a line of JSON."""
    return json.dumps(_plain(value), ensure_ascii=False)


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(_plain(value), ensure_ascii=False, indent=2))


def _columns(rows: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return to_json(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


def to_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as CSV, with a head line of all their columns."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = _columns(rows)
    writer.writerow(columns)
    writer.writerows([_text(row.get(name)) for name in columns] for row in rows)
    return file.getvalue()


def to_parquet(frame: Any) -> bytes:
    """Return a DataFrame as Parquet; columns of several types become text.

    Raises:
        MissingPackageError: pyarrow is not installed.
    """
    file = io.BytesIO()
    for name in [name for name in frame.columns if frame[name].dtype.kind == "O"]:
        if len({type(value) for value in frame[name].dropna()}) > 1:  # Parquet wants one type
            frame[name] = frame[name].map(_text, na_action="ignore")
    try:
        frame.to_parquet(file)
    except ImportError as error:
        raise MissingPackageError(
            "Parquet needs pyarrow, which is not installed:  pip install pandas pyarrow"
        ) from error
    return file.getvalue()


def print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print a table on a terminal, tab-separated values elsewhere."""
    columns = _columns(rows)
    cells = [[_text(row.get(name)) for name in columns] for row in rows]
    if not sys.stdout.isatty():
        for line in [columns, *cells]:
            click.echo("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in line))
        return
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(*[Column(Text(name)) for name in columns])
    for line in cells:
        table.add_row(*map(Text, line))
    print_rich(table)


def print_rich(what: Any) -> None:
    """Print what rich can render, in the width of the terminal."""
    from rich.console import Console

    Console(width=shutil.get_terminal_size().columns, markup=False).print(what)
