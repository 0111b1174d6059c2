"""The order of imports: a worker takes each module from where its owner has it.

The folder of a trainer comes first on the import path, so a ``random.py`` in it would take the
place of Python's own. In the owner it does not, where that was imported before the folder came
onto the path; and what is true of the owner must be true of its workers.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.machinery import BuiltinImporter, FrozenImporter, all_suffixes
from typing import Final

MAIN: Final = "letstune.workers.worker_main"

NEEDED: Final = ("letstune", "cloudpickle", "numpy", "numpy.random", "letstune.training.pickler")
"""What any worker imports sooner or later, so that it had better be sooner."""

# Python's own modules first, and before each of the others the folder that the owner has it from.
_CODE: Final = """
import sys
standard, others = {standard!r}, {others!r}
for name, folder in {first!r}:
    sys.path[:] = [*standard, *folder, *others]
    __import__(name)
sys.path[:] = {paths!r}
for name in list(sys.modules):
    if name.partition(".")[0] in {theirs!r}:
        del sys.modules[name]
sys.modules[{main!r}].main(*{arguments!r})
"""


def code(arguments: tuple[object, ...], main: str = MAIN) -> str:
    """Return the code of a worker that imports as this process does, and calls a `main`.

    Args:
        arguments: for it.
        main: its module.
    """
    paths = [entry for entry in sys.path if isinstance(entry, str)]
    standard = [entry for entry in paths if _is_standard(entry)]
    before = paths[: paths.index(standard[-1])] if standard else []
    shadowed = set(_shadowed(entry for entry in before if entry not in standard))
    mine = {name for name in shadowed if _has_standard(name, standard)}
    needed = [*((name, _folder(name)) for name in NEEDED), (main, [])]
    return _CODE.format(
        standard=standard,
        others=[entry for entry in paths if entry not in standard],
        first=[*((name, []) for name in sorted(mine)), *needed],
        paths=paths,
        theirs=sorted(shadowed - mine),
        main=main,
        arguments=arguments,
    )


def _is_standard(entry: str) -> bool:
    """Tell whether an entry of the import path is where Python keeps its own modules."""
    roots = {os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    found = os.path.realpath(entry)
    return found in roots or (
        os.path.basename(found) == "lib-dynload" and os.path.dirname(found) in roots  # noqa: PTH119, PTH120
    )


def _shadowed(entries: Iterable[str]) -> Iterator[str]:
    """Yield the names of Python's own modules that are in folders, too."""
    suffixes = tuple(all_suffixes())
    for entry in entries:
        with suppress(OSError), os.scandir(entry or ".") as found:
            for file in found:
                name, dot, rest = file.name.partition(".")
                if name not in sys.stdlib_module_names:
                    continue
                if BuiltinImporter.find_spec(name) or FrozenImporter.find_spec(name):
                    continue  # which no file takes the place of
                if dot + rest in suffixes or (not dot and _is_package(file.path, suffixes)):
                    yield name


def _is_package(folder: str, suffixes: Iterable[str]) -> bool:
    return any(os.path.exists(f"{folder}/__init__{suffix}") for suffix in suffixes)  # noqa: PTH110


def _has_standard(name: str, standard: list[str]) -> bool:
    """Tell whether this process has imported Python's own module of a name."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return file is not None and os.path.realpath(file).startswith(
        tuple(os.path.realpath(entry) + os.sep for entry in standard)
    )


def _folder(name: str) -> list[str]:
    """Return the folder from which this process has a package, if it has it."""
    spec = getattr(sys.modules.get(name.partition(".")[0]), "__spec__", None)
    if spec is None or spec.origin is None:
        return []
    folder = os.path.dirname(spec.origin)  # noqa: PTH120
    return [folder if spec.submodule_search_locations is None else os.path.dirname(folder)]  # noqa: PTH120
