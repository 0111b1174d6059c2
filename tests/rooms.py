"""The modules of letstune ("rooms"), read and not imported: their trees, wings and imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

from processes import ROOT

PUBLIC = [
    "letstune",
    "letstune.errors",
    "letstune.rand",
    "letstune.trainer",
    "letstune.torch",
    "letstune.testing",
] + [f"letstune.{wing}" for wing in ("space", "samplers", "training", "workers", "plugins")]
"""The modules that others may import from: each lists its names in ``__all__``."""

FOLDER = ROOT / "letstune"


def room(file: Path) -> str:
    """Return the dotted name of a module, without that of letstune."""
    parts = file.relative_to(FOLDER).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


ROOMS = {room(file): ast.parse(file.read_text()) for file in FOLDER.rglob("*.py")}


def wing(room: str) -> str:
    """Return the wing of a room; some rooms are what users see of a wing."""
    faces = {"rand": "space", "trainer": "training", "torch": "training"}
    return faces.get(room, room.partition(".")[0])


def imported(tree: ast.AST, *, typing: bool) -> Iterator[str]:
    """Yield the dotted names of all imports, those inside functions included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not typing:
            for child in node.orelse:
                yield from imported(child, typing=typing)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imported(node, typing=typing)


def rooms_imported(name: str) -> set[str]:
    """Return the rooms that a room imports as it runs."""
    found = set()
    for dotted in imported(ROOMS[name], typing=False):
        top, *rest = dotted.split(".")
        while top == "letstune" and ".".join(rest) not in ROOMS:
            rest = rest[:-1] or ["__init__"]
        found |= {".".join(rest)} if top == "letstune" else set()
    return found
