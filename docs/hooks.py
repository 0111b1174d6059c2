"""What MkDocs runs at build time: the parts of the pages that are made from the code itself.

A page says ``<!-- letstune: NAME -->`` where the result of the function of `PARTS` goes. So the
command line, the schema, the errors, and the rows of a real run cannot differ from the code.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import io
import json
import re
import runpy
import socket
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import click

import letstune.errors
from letstune import rand
from letstune.cli.main import main
from letstune.cli.options import Argument
from letstune.journal import schema

DOCS: Final = Path(__file__).parent
EXAMPLE: Final = DOCS / "example.py"
_MARK: Final = re.compile(r"<!-- letstune: ([\w-]+) -->")

QUERIES: Final[Mapping[str, tuple[str, str]]] = {
    "leaderboard": (
        "One row for each trial, best first, with its best value. Failed trials are last.",
        "SELECT place, trial, value, best_epoch, epochs, failure, params FROM leaderboard",
    ),
    "learning_curves": (
        "One row for each epoch, by trial and epoch.",
        "SELECT trial, epoch, value, metrics ->> 'tired' AS tired\n"
        "FROM learning_curves WHERE trial IN (SELECT trial FROM leaderboard LIMIT 2)",
    ),
    "checkpoints": (
        "One row for each checkpoint that was ever saved; `deleted` says why it is gone.",
        "SELECT trial, epoch, value, bytes, deleted FROM checkpoints",
    ),
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the parts of a page; what MkDocs calls."""
    return _MARK.sub(lambda mark: PARTS[mark[1]](), markdown)


# The distributions


def declaring() -> list[str]:
    """Return the names of the functions that declare a distribution, as the source has them."""
    return [
        name
        for name, found in vars(rand).items()
        if inspect.isfunction(found) and found.__module__ == rand.__name__
    ]


def distributions() -> str:
    """Return rows of a table: how each distribution is declared, and what is sampled."""
    rows = []
    for name in declaring():
        function = getattr(rand, name)
        arguments = [
            argument if parameter.default is parameter.empty else f"{argument}="
            for argument, parameter in inspect.signature(function).parameters.items()
        ]
        meaning = str(inspect.getdoc(function)).splitlines()[0].removesuffix(".")
        meaning = re.sub("^Return the distribution of |^Return ", "", meaning)
        rows.append(f"| `rand.{name}({', '.join(arguments)})` | {meaning} |")
    return "\n".join(rows)


# The command line


def commands() -> str:
    """Return the reference of all commands."""
    return "\n\n".join(_command(command, path) for path, command in walk(main, "letstune"))


def walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and all of its subcommands, each with how it is called."""
    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from walk(command.commands[name], f"{path} {name}")


def _command(command: click.Command, path: str) -> str:
    context = click.Context(command, info_name=path, **main.context_settings)
    usage = f"{path} {' '.join(command.collect_usage_pieces(context))}"
    rows = []
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is not None:
            meaning = param.meaning if isinstance(param, Argument) else record[1]
            rows.append((f"`{record[0].strip()}`", meaning.replace("[", "\\[")))
    if isinstance(command, click.Group):
        names = [
            (f"[`{name}`](#{path.replace(' ', '-')}-{name})", found)
            for name, found in command.commands.items()
        ]
        rows += [(link, found.get_short_help_str(200)) for link, found in sorted(names)]
    title = f"## `{path}` {{ #{path.replace(' ', '-')} }}"
    parts = [title, f"```text\n{usage}\n```", _help(command.help or "")]
    return "\n\n".join([*parts, _table(("Option", "Meaning"), rows)])


def _help(text: str) -> str:
    """Return a help text as Markdown: what click is not to wrap is an example."""
    parts = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            head, *lines = paragraph.removeprefix("\b").strip("\n").splitlines()
            code = "\n".join(line.removeprefix("  ") for line in lines)
            parts.append(f"{head}\n\n```text\n{code}\n```")
        else:
            parts.append(paragraph)
    return "\n\n".join(parts)


# The journal


@cache
def example_run() -> Mapping[str, list[tuple[Any, ...]]]:
    """Run the example, and return the tables and the results of the queries, with column names.

    What names the machine that builds the documentation is replaced.
    """
    found: dict[str, list[tuple[Any, ...]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.chdir(folder), contextlib.redirect_stderr(io.StringIO()):
            runpy.run_path(str(EXAMPLE), run_name="__main__")
        db = sqlite3.connect(Path(folder, "walk.db"))
        queries = {table: f"SELECT * FROM {table} ORDER BY seq" for table in schema.TABLES}
        for name, query in queries.items() | {n: q for n, (_, q) in QUERIES.items()}.items():
            cursor = db.execute(query)
            found[name] = [tuple(column[0] for column in cursor.description), *cursor]
        db.close()
    for row in found["pickles"][1:]:
        about = json.loads(row[-1])
        found["pickles"][found["pickles"].index(row)] = (
            *row[:-1],
            json.dumps(about | {"folders": ["..."]}),
        )
    for table, rows in found.items():
        found[table] = [tuple(_anonymous(table, value) for value in row) for row in rows]
    return found


def _anonymous(table: str, value: Any) -> Any:
    if isinstance(value, str):
        value = "night" if table == "sessions" and value == socket.gethostname() else value
        value = re.sub(r'File "[^"]*/', 'File ".../', value)
    return value


def example_code() -> str:
    """Return the code of the example run."""
    code = re.sub("# ruff: .*\n", "", EXAMPLE.read_text())
    return f'```python title="walk.py"\n{code}```'


def tables() -> str:
    """Return all tables of the schema: columns, what they hold, and rows of the example run."""
    db = new_journal()
    parts = []
    for name, table in schema.TABLES.items():
        rows = [
            (f"`{column}`", kind + (" NOT NULL" if not_null else ""), table.columns[column].holds)
            for _, column, kind, not_null, *_ in db.execute(f"PRAGMA table_info({name})")
        ]
        head, *found = example_run()[name]
        shown = found[:6] if len(found) > 8 and name != "plan" else found
        count = "Rows" if shown == found else f"The first {len(shown)} of {len(found)} rows"
        explained = _table(("Column", "Type", "Holds"), rows)
        parts.append(
            f"### `{name}` {{ #{name} }}\n\n{table.holds}\n\n{explained}\n\n"
            f"{count} of the example:\n\n{_data(head, shown)}"
        )
    db.close()
    return "\n\n".join(parts)


def views() -> str:
    """Return all views: columns, a query, and what it gives in the example run."""
    db = new_journal()
    names = [n for (n,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'view'")]
    if set(names) != set(QUERIES):
        raise ValueError(f"views {names} are there, but {list(QUERIES)} are explained")
    parts = []
    for name in names:
        about, query = QUERIES[name]
        columns = ", ".join(f"`{row[1]}`" for row in db.execute(f"PRAGMA table_info({name})"))
        head, *found = example_run()[name]
        parts.append(
            f"### `{name}` {{ #{name} }}\n\n{about}\n\nColumns: {columns}.\n\n"
            f"```sql\n{query}\n```\n\n{_data(head, found)}"
        )
    db.close()
    return "\n\n".join(parts)


def new_journal() -> sqlite3.Connection:
    """Return an empty journal in memory, made by the migrations."""
    db = sqlite3.connect(":memory:")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "empty.db")
        schema.migrate(path)
        source = sqlite3.connect(path)
        source.backup(db)
        source.close()
    return db


# Errors and changes


def errors() -> str:
    """Return a table of all exceptions: name, what else it is, meaning."""
    rows = []
    for name, found in vars(letstune.errors).items():
        if isinstance(found, type) and issubclass(found, BaseException):
            bases = [base for base in found.__mro__[1:] if base is not object]
            also = ", ".join(f"`{base.__name__}`" for base in bases if _worth_catching(base))
            rows.append((f"`{name}`", also, str(inspect.getdoc(found)).splitlines()[0]))
    return _table(("Exception", "Is also", "Meaning"), rows)


def _worth_catching(base: type) -> bool:
    return base not in (Exception, BaseException, letstune.errors.LetstuneError)


def changelog() -> str:
    """Return CHANGELOG.md, if there is one."""
    path = DOCS.parent / "CHANGELOG.md"
    if not path.is_file():
        return "# Changelog\n\nThere is no release yet."
    return path.read_text(encoding="utf-8")


# The architecture


def picture(name: str) -> str:
    """Return a picture of `pictures`, as a figure."""
    # Not by its name: the folder is on the import path for some of those who load this file.
    spec = importlib.util.spec_from_file_location("docs_pictures", DOCS / "pictures.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{DOCS / 'pictures.py'} is not there")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    return f"<figure>\n{getattr(pictures, name)()}\n</figure>"


def _data(head: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
    return _table(head, [tuple(map(_datum, row)) for row in rows])


def _datum(value: Any) -> str:
    """Return a value of a row as Markdown, shortened."""
    if value is None:
        return "*NULL*"
    if isinstance(value, bytes):
        return f"*{len(value)} bytes*"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = " ".join(str(value).replace("`", "'").split())
    if re.fullmatch("[0-9a-f]{64}", text):
        text = text[:12] + "..."
    text = text if len(text) <= 160 else text[:150] + " ..."
    return f"`{text}`" if isinstance(value, str) else text


def _table(head: Sequence[str], rows: Sequence[tuple[str, ...]]) -> str:
    lines: list[Sequence[str]] = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Return Markdown for a cell: on one line, and its bars escaped but in code."""
    found = re.compile(r"`[^`]*`|[|]")
    return found.sub(lambda m: "\\|" if m[0] == "|" else m[0], " ".join(text.split()))


PARTS: Final[Mapping[str, Callable[[], str]]] = {
    "distributions": distributions,
    "commands": commands,
    "example-code": example_code,
    "tables": tables,
    "views": views,
    "errors": errors,
    "changelog": changelog,
    "wings": lambda: picture("wings"),
    "loop": lambda: picture("loop"),
}
