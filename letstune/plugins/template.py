"""A new plugin, written out: a distribution with one module, and a test file of a few lines."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template
from typing import Final

from letstune._version import __version__
from letstune.errors import PluginError
from letstune.plugins.builtin import NAMES
from letstune.plugins.hookspecs import API_VERSION
from letstune.plugins.kinds import WITH_TEMPLATE

_PYPROJECT: Final = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "letstune-$name"
version = "0.1.0"
description = "The $kind '$name' for letstune."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["letstune>=$version"]

[project.optional-dependencies]
test = ["letstune[testing]"]

# One entry point for each thing that the plugin registers: its kind, a dot, its name.
[project.entry-points.letstune]
"$kind.$name" = "$module"

[tool.hatch.build.targets.wheel]
only-include = ["$module.py"]

[tool.pytest.ini_options]
testpaths = ["tests"]
markers = ["slow: takes more than a few seconds"]
"""

_README: Final = """\
# letstune-$name

The $kind `$name` for letstune.

```console
$$ pip install -e '.[test]'
$$ pytest
$$ letstune plugins check $name
```

$use
"""

_SAMPLER: Final = '''\
"""The sampler '$name' for letstune."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import letstune
from letstune import Observation, ParamsLike, Sampler, Space
from letstune.plugins import Register

LETSTUNE_API = $api


class $cls(Sampler):
    """Draws near the best params so far, or anywhere.

    Args:
        change: the share of the params that are drawn anew.
    """

    adaptive = True

    def __init__(self, change: float = 0.5) -> None:
        self.change = change

    def check(self, space: Space) -> None:
        """Refuse a space that a class samples by itself."""
        space.require_structure("sampler '$name'")

    def propose(
        self, space: Space, history: Sequence[Observation], rng: np.random.Generator, trial: int
    ) -> ParamsLike:
        """Return params: a function of what is given, and of nothing else."""
        seen = [o for o in history if o.values and o.values[-1] == o.values[-1]]
        if len(seen) < 5:
            return space.sample(rng)
        best = space.choices(max(seen, key=lambda o: o.values[-1]).params)

        def choose(path: str, distribution: Any) -> Any:
            if path in best and rng.random() > self.change:
                return best[path]
            return distribution.sample(rng)

        return space.build(choose)


@letstune.hookimpl
def register_samplers(register: Register[Sampler]) -> None:
    """Register it under its name; its options are the arguments of the class."""
    register("$name", $cls)
'''

_STORE: Final = '''\
"""The store '$name' for letstune."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import letstune
from letstune import Store
from letstune.errors import StoreError
from letstune.plugins import Register

LETSTUNE_API = $api


class $cls(Store):
    """Keeps every checkpoint as a folder.

    Args:
        uri: such as ``$name:///folder``; each run gets one of its own.
    """

    def __init__(self, uri: str) -> None:
        self.root = Path(uri.partition("://")[2]).absolute()

    def put(self, name: str, folder: Path) -> str:
        """Copy beside, sync, and move into place: all or nothing."""
        target, beside = self.root / name, self.root / f"{name}.new"
        if target.exists():
            raise FileExistsError(f"{target} exists already")
        self.root.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, beside)
        for path in [*beside.rglob("*"), beside]:
            _sync(path)
        beside.rename(target)
        _sync(self.root)
        return name

    def get(self, uri: str, folder: Path) -> None:
        """Copy all files into a folder."""
        if not self.root.is_dir():  # not FileNotFoundError: a disk that is away has lost nothing
            raise StoreError(f"There is no folder {self.root}: mount its disk, or bring it back.")
        shutil.copytree(self._path(uri), folder, dirs_exist_ok=True)

    def list(self) -> Iterator[str]:
        """Yield the names of all that is there, incomplete ones included."""
        if self.root.is_dir():
            yield from sorted(path.name for path in self.root.iterdir())

    def delete(self, uri: str) -> None:
        """Delete one, if it is there."""
        if self._path(uri).exists():
            shutil.rmtree(self._path(uri))

    def _path(self, uri: str) -> Path:
        if uri in ("", "..") or uri != Path(uri).name:
            raise ValueError(f"{uri!r} is not in this store")
        return self.root / uri


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@letstune.hookimpl
def register_stores(register: Register[Store]) -> None:
    """Register it under its scheme; it gets a uri of that scheme, and its options."""
    register("$name", $cls)
'''

_TESTS: Final = {
    "sampler": """\
import pytest
from letstune import Sampler
from letstune.testing import SamplerSuite

from $module import $cls


class Test$cls(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return $cls()
""",
    "store": """\
from pathlib import Path

import pytest
from letstune import Store
from letstune.testing import StoreSuite

from $module import $cls


class Test$cls(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return $cls(f"$name://{tmp_path}/store")
""",
}

_USE: Final = {
    "sampler": '`letstune.tune(..., sampler="$name")` uses it, or `letstune tune --sampler $name`.',
    "store": '`letstune.tune(..., store="$name:///folder")` uses it, or `letstune tune --store`.',
}


def write_plugin(folder: Path, name: str, kind: str) -> Path:
    """Write a new plugin that works, for its author to change.

    Args:
        folder: where its folder, ``letstune-NAME``, is made.
        name: the sampler's name, or the store's scheme, as users give it.
        kind: sampler or store.

    Returns:
        The folder: with a ``pyproject.toml``, a module, a README and a test file.

    Raises:
        PluginError: the name is not allowed, the kind has no template, or the folder exists.
    """
    if kind not in WITH_TEMPLATE:
        there = ", ".join(WITH_TEMPLATE)
        raise PluginError(f"There is no template for a {kind!r}; there are {there}.")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise PluginError(
            f"{name!r} is no name for a plugin; give one of small letters, digits and single "
            "dashes, such as 'my-tpe'."
        )
    if f"{kind}.{name}" in NAMES:
        raise PluginError(f"The {kind} {name!r} is letstune's own; give another name.")
    root = folder / f"letstune-{name}"
    if root.exists():
        raise PluginError(f"{root} exists already; give another name, or remove it.")
    words = {
        "name": name,
        "kind": kind,
        "module": f"letstune_{name.replace('-', '_')}",
        "cls": "".join(part.capitalize() for part in [*name.split("-"), kind]),
        "api": str(API_VERSION),
        "version": __version__,
    }
    words["use"] = Template(_USE[kind]).substitute(words)
    files = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        f"{words['module']}.py": _SAMPLER if kind == "sampler" else _STORE,
        f"tests/test_{name.replace('-', '_')}.py": _TESTS[kind],
    }
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(text).substitute(words), encoding="utf-8")
    return root
