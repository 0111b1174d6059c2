"""The versions of what a run imports are recorded, and nothing is imported for it."""

import json
import sys
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest
from small_trainers import Hill, tune


def versions(path: Path) -> dict[str, str]:
    with closing(connect(path)) as db:
        ((text,),) = db.execute("SELECT value FROM plan WHERE fact = 'versions'")
    found: dict[str, str] = json.loads(text)
    return found


class OfModule(Hill):
    """Belongs to a module that the test makes."""


@pytest.mark.parametrize("how", ["module", "class", "function"])
def test_versions_of_what_the_trainers_module_imports_are_recorded(
    how: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = ModuleType("apackage")
    package.__version__ = "1.2.3"  # type: ignore[attr-defined]
    user = ModuleType("auser")
    user.imported = {  # type: ignore[attr-defined]
        "module": package,
        "class": type("Made", (), {"__module__": "apackage.sub"}),
        "function": FunctionType((lambda: None).__code__, {"__name__": "apackage"}),
    }[how]
    user.OfModule = OfModule  # type: ignore[attr-defined]
    for module in (package, user):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(OfModule, "__module__", "auser")
    tune(OfModule(), 1, path)
    assert versions(path)["apackage"] == "1.2.3"
    assert versions(path)["numpy"] == np.__version__
    assert "auser" not in versions(path)


def test_asking_for_versions_imports_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    lazy, user = ModuleType("alazy"), ModuleType("auser")

    def fail(name: str) -> Any:
        asked.append(name)
        raise ImportError(name)

    lazy.__getattr__ = fail  # type: ignore[method-assign]
    user.lazy, user.OfModule = lazy, OfModule  # type: ignore[attr-defined]
    for module in (lazy, user):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(OfModule, "__module__", "auser")
    tune(OfModule(), 1, path)
    assert asked == []
    assert "alazy" not in versions(path)
