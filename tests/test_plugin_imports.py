"""The plugins of this repository are third parties: they and their tests use public names only."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ROOT
from test_architecture import PUBLIC, imported

FOLDER = ROOT / "plugins"
FILES = sorted(FOLDER.glob("*/letstune_*/**/*.py")) + sorted(FOLDER.glob("*/tests/**/*.py"))


def is_public(dotted: str) -> bool:
    """Tell whether a dotted name is a public module, or is in one's list of names."""
    module, _, name = dotted.rpartition(".")
    if dotted in PUBLIC:
        return True
    if module == "letstune.errors":  # all of it
        return hasattr(importlib.import_module(module), name)
    names = getattr(importlib.import_module(module), "__all__", []) if module in PUBLIC else []
    return name in names or dotted == "letstune.__version__"


def taken(tree: ast.AST) -> Iterator[str]:
    """Yield what is imported of letstune, and what text names of it, as for a monkeypatch."""
    for dotted in imported(tree, typing=True):
        if dotted.partition(".")[0] == "letstune":
            yield dotted
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            top, *others = node.value.split(".")
            if top == "letstune" and others and all(map(str.isidentifier, others)):
                yield node.value


def test_there_are_plugins_to_read() -> None:
    assert {file.relative_to(FOLDER).parts[0] for file in FILES} >= {
        f"letstune-{name}" for name in ("dask", "fsspec", "optuna", "ray")
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_a_plugin_takes_only_what_is_public(file: Path) -> None:
    private = [name for name in taken(ast.parse(file.read_text())) if not is_public(name)]
    assert not private


@pytest.mark.parametrize(
    "line",
    [
        "from letstune.workers.slot import Slot",
        "from letstune.runs import skip",
        "import letstune.workers.slot",
        "def late():\n    from letstune.workers import slot",
        "monkeypatch.setattr('letstune.runs.loop.LOOK', 0.0)",
    ],
)
def test_what_is_private_is_noticed(line: str) -> None:
    assert [name for name in taken(ast.parse(line)) if not is_public(name)]
