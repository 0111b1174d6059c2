"""The pictures of the page "Architecture", drawn from the code as SVG when the pages are built.

No plotting library: boxes, lines and text. They have the colour of the text around them, so they
can be read in a light and in a dark theme; and say in words what they show, for who cannot see
them. ``python docs/pictures.py wings`` prints one, to be looked at by itself.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Final, NamedTuple

PACKAGE: Final = Path(__file__).parents[1] / "letstune"
WIDTH: Final = 690  # what a page has for its text, so that the letters are as large as they say
_LETTER: Final = 0.56  # the width of a letter, of its size: on the safe side for usual fonts


# What there is to draw


class Wing(NamedTuple):
    """A part of letstune: a package, or a module that stands for itself.

    ``imports`` are the wings that it imports from as it runs, not only for type checkers.
    """

    name: str
    about: str
    modules: int
    lines: int
    imports: frozenset[str]


@cache
def read_wings(package: Path = PACKAGE) -> dict[str, Wing]:
    """Return the wings by name, each before those that it imports: top-down.

    Raises:
        ValueError: some of them import each other in a circle, so there is no order of them.
    """
    files: dict[str, list[Path]] = {}
    for file in sorted(package.rglob("*.py")):
        files.setdefault(_wing(file.relative_to(package).with_suffix("").parts), []).append(file)
    ground = [name for name in files if name.startswith("_")]
    names = files.keys() - ground
    found = {}
    for name in names:
        texts = [file.read_text(encoding="utf-8") for file in files[name]]
        trees = [ast.parse(text) for text in texts]
        first = package / name / "__init__.py"
        face = trees[files[name].index(first)] if first in files[name] else trees[0]
        about = (ast.get_docstring(face) or "").partition("\n")[0]
        met = {_wing(tuple(path.split(".")[1:])) for tree in trees for path in _imported(tree)}
        lines = sum(text.count("\n") for text in texts)
        found[name] = Wing(name, about, len(texts), lines, frozenset(met & names - {name}))
    floors: dict[str, int] = {}
    for _ in found:
        floors |= {
            name: 1 + max((floors[other] for other in wing.imports), default=0)
            for name, wing in found.items()
            if wing.imports <= floors.keys()
        }
    if floors.keys() != found.keys():
        raise ValueError(f"{sorted(found.keys() - floors.keys())} import each other in a circle")
    return {name: found[name] for name in sorted(found, key=lambda name: (-floors[name], name))}


def _wing(parts: Sequence[str]) -> str:
    """Return the wing of a module; some modules are what users see of a wing."""
    top = parts[0] if parts else "__init__"
    return {"rand": "space", "torch": "training", "trainer": "training"}.get(top, top)


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names that are imported from letstune, but for those for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from _imported(child)
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name for name in names if name.split(".")[0] == "letstune")
        yield from _imported(node)


LOOP: Final = "letstune.runs.loop"
"""The module that goes round."""

LOAD: Final = "letstune.journal.journal:Journal.load"
"""What the loop begins with."""

ROUND: Final = (
    "letstune.rounds.decisions:next_tasks",
    "letstune.workers.executor:Executor.start",
    "letstune.workers.executor:Executor.deliveries",
    "letstune.journal.journal:Journal.append",
    "letstune.rounds.state:State.apply",
    "letstune.workers.executor:Executor.recorded",
)
"""What the loop calls, one after the other."""


class Part(NamedTuple):
    """A function that the picture of the loop names: of a wing, what it does, what it returns."""

    name: str
    wing: str
    about: str
    returns: str


def read_part(path: str) -> Part:
    """Return what is to be said of a function.

    Raises:
        ImportError: its module is not there.
        AttributeError: it is not in its module.
        ValueError: it has no docstring.
    """
    function = pkgutil.resolve_name(path)
    about = inspect.getdoc(function)
    if not about:
        raise ValueError(f"{path} does not say what it does")
    module, _, name = path.partition(":")
    returns = str(function.__annotations__.get("return", "None"))
    return Part(name, module.split(".")[1], about.partition("\n")[0], returns)


def called_by_the_loop() -> set[str]:
    """Return the names of all functions and methods that the loop's module calls."""
    tree = ast.parse((PACKAGE.parent / f"{LOOP.replace('.', '/')}.py").read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    attributes = {call.attr for call in calls if isinstance(call, ast.Attribute)}
    return attributes | {call.id for call in calls if isinstance(call, ast.Name)}


# Drawing


class Line(NamedTuple):
    """A line of text: where it begins, on what it stands, and how large it is."""

    x: float
    y: float
    text: str
    size: float
    bold: bool = False
    mono: bool = False
    end: bool = False
    """Whether it ends at x, rather than to begin there."""

    @property
    def width(self) -> float:
        """How wide it is at most, in usual fonts."""
        return len(self.text) * self.size * (0.62 if self.mono else _LETTER)

    def svg(self) -> str:
        """Return it as SVG."""
        style = ' font-weight="bold"' if self.bold else ""
        style += ' font-family="monospace"' if self.mono else ""
        style += ' text-anchor="end"' if self.end else ""
        place = f'x="{self.x:g}" y="{self.y:g}" font-size="{self.size:g}"'
        return f'<text {place} fill="currentColor"{style}>{escape(self.text)}</text>'


def wings() -> str:
    """Return the picture of the wings: each a box, with arrows to those that it imports.

    All arrows to a wing share a line, on which each wing that imports it has a dot.
    """
    found = read_wings()
    rows, lane_at, height = _rows(found)
    parts = []
    for name, wing in found.items():
        parts += [f"<g><title>{escape(_sentence(wing))}</title>", *_wing_box(wing, rows[name])]
        users = [user for user in found if name in found[user].imports]
        if users:
            parts += _lane(lane_at[name], rows[name], [rows[user] for user in users])
        parts.append("</g>")
    told = " ".join(map(_sentence, found.values()))
    about = f"From the top of letstune to its ground, each wing imports only wings below it. {told}"
    return _picture("wings", "The wings of letstune and their imports", about, height, parts)


class _Row(NamedTuple):
    """Where the box of a wing is, and what it says."""

    y: float
    height: float
    about: list[str]
    reach: float  # how far right the line goes that leads to what it imports

    @property
    def into(self) -> float:
        return self.y + self.height / 2 - 9

    @property
    def out(self) -> float:
        return self.y + self.height / 2 + 9


_BOX: Final = 446.0  # the width of a wing's box; the lanes are beside it


def _rows(wings: Mapping[str, Wing]) -> tuple[dict[str, _Row], dict[str, float], float]:
    """Return where the boxes are, where the lanes are, and how high all of it is.

    A wing further down has a lane further right, so that no arrow crosses a lane on its way in.
    """
    used = [name for name in wings if any(name in wing.imports for wing in wings.values())]
    step = (WIDTH - _BOX - 8) / max(1, len(used))
    lanes = {name: _BOX + step * (place + 1) for place, name in enumerate(used)}
    rows, y = {}, 1.0
    for name, wing in wings.items():
        about = wrap(wing.about.replace("`", ""), int((_BOX - 24) / (13 * _LETTER)))
        height = 34.0 + 17 * len(about)
        reach = max((lanes[other] for other in wing.imports), default=_BOX)
        rows[name] = _Row(y, height, about, reach)
        y += height + 12
    return rows, lanes, y - 11


def _wing_box(wing: Wing, row: _Row) -> Iterator[str]:
    size = f"{wing.modules} module{'s' * (wing.modules != 1)}, {wing.lines:,} lines"
    yield _box(1, row.y, _BOX - 1, row.height)
    yield Line(12, row.y + 21, wing.name, 15, bold=True).svg()
    yield Line(_BOX - 12, row.y + 21, size, 12, end=True).svg()
    for place, text in enumerate(row.about):
        yield Line(12, row.y + 40 + 17 * place, text, 13).svg()
    if row.reach > _BOX:
        yield _path(f"M{_BOX:g} {row.out:g}H{row.reach:g}", faint=True)


def _lane(x: float, row: _Row, users: Sequence[_Row]) -> Iterator[str]:
    yield _path(f"M{x:g} {min(user.out for user in users):g}V{row.into:g}H{_BOX + 7:g}")
    yield _head(_BOX, row.into, -1, 0)
    for user in users:
        yield f'<circle cx="{x:g}" cy="{user.out:g}" r="4" fill="currentColor"/>'


def _sentence(wing: Wing) -> str:
    """Return what a wing is and imports, in words."""
    met = ", ".join(sorted(wing.imports)) or "nothing"
    return f"{wing.name} ({wing.lines:,} lines) imports {met}."


def loop() -> str:
    """Return the picture of the loop: what it calls, one after the other, and round again.

    Raises:
        ValueError: a part of it is not called by the module of the loop.
    """
    first, parts = read_part(LOAD), [read_part(path) for path in ROUND]
    missing = [p.name for p in parts if p.name.split(".")[-1] not in called_by_the_loop()]
    if missing:
        raise ValueError(f"{LOOP} does not call {missing}, which the picture of the loop names")
    width, gap = 206.0, 36.0
    texts = {part: wrap(part.about.replace("`", ""), int((width - 20) / (12.5 * _LETTER)))
             for part in (first, *parts)}  # fmt: skip
    height = 66.0 + 16 * max(map(len, texts.values()))
    xs = [0.0, width + gap, 2 * (width + gap)]
    ys = [1.0, height + gap + 1, 2 * (height + gap) + 1]
    # Clockwise, from the middle of the row below that of the journal that is loaded.
    places = [(1, 1), (2, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    drawn = _part_box(first, 1, texts[first], xs[1], ys[0], width, height)
    for place, (part, (column, row)) in enumerate(zip(parts, places, strict=True)):
        drawn += _part_box(part, place + 2, texts[part], xs[column], ys[row], width, height)
    middle = ys[0] + height
    drawn += [_arrow(xs[1] + width / 2, middle, 0, gap)]
    for row, (dx, start) in {1: (1, 0.0), 2: (-1, gap)}.items():
        y = ys[row] + height / 2
        drawn += [_arrow(xs[column] + width + start, y, dx * gap, 0) for column in (0, 1)]
    drawn += [_arrow(xs[2] + width / 2, ys[1] + height, 0, gap)]
    drawn += [_arrow(xs[0] + width / 2, ys[2], 0, -gap)]
    told = " ".join(
        f"{place + 1}. {part.name}, of the wing {part.wing}: {part.about}"
        for place, part in enumerate((first, *parts))
    )
    about = f"{told} Then again from {parts[0].name}, until there are no tasks left."
    return _picture("loop", "The loop of a run", about, ys[2] + height + 1, drawn)


def _part_box(
    part: Part, number: int, about: Sequence[str], x: float, y: float, width: float, height: float
) -> list[str]:
    lines = [
        Line(x + 10, y + 22, f"{number}. {part.name}", 13, bold=True, mono=True),
        Line(x + 10, y + 40, part.wing, 12),
    ]
    if part.returns != "None":
        lines.append(Line(x + width - 10, y + 40, part.returns, 12, mono=True, end=True))
    lines += [Line(x + 10, y + 61 + 16 * place, text, 12.5) for place, text in enumerate(about)]
    return [_box(x + 1, y, width - 2, height), *(line.svg() for line in lines)]


def _box(x: float, y: float, width: float, height: float) -> str:
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"'
    return (
        f'<rect {place} fill="currentColor" fill-opacity="0.06" stroke="currentColor" '
        'stroke-opacity="0.6"/>'
    )


def _path(path: str, *, faint: bool = False) -> str:
    opacity = 0.35 if faint else 0.75
    return f'<path d="{path}" fill="none" stroke="currentColor" stroke-opacity="{opacity}"/>'


def _arrow(x: float, y: float, dx: float, dy: float) -> str:
    """Return a straight arrow, along the x axis or the y axis."""
    along_x, along_y = (dx > 0) - (dx < 0), (dy > 0) - (dy < 0)
    end = f"{x + dx - 7 * along_x:g} {y + dy - 7 * along_y:g}"
    return _path(f"M{x:g} {y:g}L{end}") + _head(x + dx, y + dy, along_x, along_y)


def _head(x: float, y: float, along_x: int, along_y: int) -> str:
    """Return the head of an arrow that ends at (x, y)."""
    back_x, back_y = x - 8 * along_x, y - 8 * along_y
    corners = [
        (x, y),
        (back_x + 4 * along_y, back_y + 4 * along_x),
        (back_x - 4 * along_y, back_y - 4 * along_x),
    ]
    path = "L".join(f"{a:g} {b:g}" for a, b in corners)
    return f'<path d="M{path}Z" fill="currentColor"/>'


def _picture(name: str, title: str, about: str, height: float, parts: Iterable[str]) -> str:
    """Return a whole picture. No line of it is empty, so that Markdown leaves it as it is."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
        f'width="{WIDTH}" role="img" aria-labelledby="{name}-title {name}-about" '
        'font-family="system-ui, sans-serif" style="max-width: 100%; height: auto">'
    )
    told = f'<title id="{name}-title">{escape(title)}</title>'
    described = f'<desc id="{name}-about">{escape(about)}</desc>'
    return "\n".join([head, told, described, *parts, "</svg>"])


if __name__ == "__main__":
    print({"wings": wings, "loop": loop}[sys.argv[1]]())
