"""Rows as people and programs want them: tables, tab-separated text, JSON, CSV, Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from letstune._visible import escaped, visible
from letstune.errors import MissingPackageError
from letstune.telling.lines import on_terminal, put, shown

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

_FORMULA: Final = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""What a spreadsheet takes for the beginning of a formula, in both widths."""


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
    return escaped(json.dumps(_plain(value), ensure_ascii=False))


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    put(escaped(json.dumps(_plain(value), ensure_ascii=False, indent=2)))


def _columns(rows: Iterable[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return to_json(value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


def to_csv(rows: Sequence[Mapping[str, object]], *, raw: bool = False) -> str:
    """Return rows as CSV, with a head line of all their columns.

    Args:
        rows: by the names of their columns.
        raw: leave text as it is. Else, control characters are shown, and a cell that a spreadsheet
            would take for a formula begins with an apostrophe.
    """
    cell = _text if raw else _cell
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = _columns(rows)
    writer.writerow(map(cell, columns))
    writer.writerows([cell(row.get(name)) for name in columns] for row in rows)
    return file.getvalue()


def _cell(value: object) -> str:
    text = _text(value)
    formula = text.lstrip().startswith(_FORMULA) or text.startswith(("\t", "\r"))
    return visible(f"'{text}" if formula and not _is_number(text) else text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
    if not on_terminal():
        for line in [columns, *cells]:
            put("\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in line))
        return
    from rich.table import Column, Table
    from rich.text import Text

    # Shown before they are laid out, too: a symbol takes a column where its character took none.
    table = Table(*[Column(Text(shown(name))) for name in columns])
    for line in cells:
        table.add_row(*(Text(shown(cell)) for cell in line))
    print_rich(table)


def print_rich(what: Any) -> None:
    """Print what rich can render, in the width of the terminal."""
    from rich.console import Console

    Console(width=shutil.get_terminal_size().columns, markup=False).print(_Shown(what))


class _Shown:
    """What rich can render, without control characters and links but rich's own styles."""

    def __init__(self, what: RenderableType) -> None:
        self._what = what

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        for text, style, control in console.render(self._what, options):
            if not control:
                yield Segment(shown(text), style and style.update_link(None))
