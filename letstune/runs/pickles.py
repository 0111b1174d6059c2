"""The user's trainer and dataset: kept in the journal as pickles, and brought back."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import metadata
from itertools import chain
from pathlib import Path, PurePath
from types import FunctionType, ModuleType
from typing import Any, Final

from letstune._version import __version__
from letstune.errors import PickleError
from letstune.journal.journal import Journal
from letstune.plugins.harmless import is_plain, is_plain_data, redacted
from letstune.rounds.pickles import Pickle
from letstune.rounds.plan import Plan
from letstune.training import pickling

_LONG: Final = 1000  # characters: no path, no address


def keep(name: str, value: object) -> Pickle:
    """Return an object's pickle, with what tells whether its code or its fields have changed.

    Raises:
        PickleError: it cannot be pickled.
    """
    kept = pickling.dump(name, value)
    return replace(kept, about={**kept.about, "fingerprint": pickling.fingerprint(value)})


def restore(journal: Journal, name: str, help_with: str) -> Any:
    """Bring back what is kept under a name; ``help_with`` says what to do if that fails.

    Raises:
        PickleError: it cannot be brought back.
    """
    kept = journal.pickle(name)
    if kept is None:
        raise PickleError(f"{journal.path}: there is no {name} in it; {help_with}")
    return pickling.load(kept, journal.path, help_with)


def is_new(journal: Journal, kept: Pickle) -> bool:
    """Tell whether a pickle differs from the one that the journal keeps under its name."""
    if journal.pickle_sha256(kept.name) == kept.sha256:
        return False
    before, fingerprint = journal.pickle(kept.name), kept.about.get("fingerprint")
    return before is None or fingerprint is None or fingerprint != before.about.get("fingerprint")


def changed_script(journal: Journal, trainer: object) -> list[str]:
    """Return a line if the script of a trainer that was brought back is not as it was kept."""
    kept, cls = journal.pickle("trainer"), type(trainer)
    own = cls.__module__ == "__main__" or cls.__module__.startswith("_letstune_")
    files = {
        Path(member.__code__.co_filename)
        for member in vars(cls).values()
        if isinstance(member, FunctionType)
    }
    if kept is None or not own or len(files) != 1 or not (file := files.pop()).is_file():
        return []  # it is of a module or a notebook, or the script is not here
    if kept.about.get("fingerprint") == pickling.fingerprint(trainer, file):
        return []
    return [f"{file} has changed since; what the journal holds of it is used"]


# The dataset


def keep_dataset(dataset: object, *, needed: bool = False) -> tuple[Pickle | None, str]:
    """Return the dataset's pickle, or why there is none; ``needed`` if workers cannot do without.

    Raises:
        PickleError: it is needed, and cannot be pickled.
    """
    limit = pickling.dataset_limit()
    try:
        kept = pickling.dump("dataset", dataset, limit)
        if _is_relative(dataset):
            kept = replace(kept, about={**kept.about, "start": str(Path.cwd())})
        if is_plain_data(_as_text(dataset)):
            return kept, ""
        why = (
            "it may hold a password or token, in user information, a query or a field. Leave that "
            "out to have the dataset kept, and let load_dataset take it from the environment"
        )
    except pickling.TooBigError:
        why = f"its pickle is larger than {limit} bytes (LETSTUNE_DATASET_LIMIT)"
    except PickleError as error:
        if needed:
            raise
        why = str(error)
    return None, (
        f"letstune: the dataset is not kept in the journal: {why}. The run can be resumed all the "
        "same: call letstune.resume(journal, dataset=...), or run this script again."
    )


def describe_dataset(dataset: object, *, kept: bool) -> dict[str, Any]:
    """Return the plan's fact about a dataset: its type, and its value if that is simple."""
    # Of a path, the text counts: the classes of paths differ between systems and versions of
    # Python.
    value: object = _as_text(dataset)
    kind = pickling.type_name(type(value))
    simple = isinstance(value, str | int | float | bool | None)
    if not simple or (isinstance(value, str) and len(value) > _LONG):
        value = None
    return {"type": kind, "value": told_of_data(value), "kept": kept}


def told_of_data(value: Any) -> Any:
    """Return the value of a dataset's fact without what may be a secret, as it is recorded now."""
    if not isinstance(value, str) or is_plain(value):
        return value
    shown = redacted(value)
    return shown if is_plain(shown.replace("...@", "").replace("?...", "")) else None


def _as_text(dataset: object) -> object:
    return os.fspath(dataset) if isinstance(dataset, os.PathLike) else dataset


def is_the_same_dataset(journal: Journal, given: Pickle | None) -> bool:
    """Tell whether a dataset is the one that is kept, byte for byte."""
    return given is not None and journal.pickle_sha256("dataset") == given.sha256


def compare_dataset(journal: Journal, given: Pickle | None) -> list[str]:
    """Return what to tell if a dataset is not the one that is kept, byte for byte.

    It is not an error: the same data may be pickled in different ways.
    """
    if given is None or journal.pickle_sha256("dataset") in (None, given.sha256):
        return []
    return [
        "letstune: the dataset is pickled differently from the one with which the run was started; "
        "if it is not the same data, give another journal."
    ]


def _is_relative(dataset: object) -> bool:
    """Tell whether a dataset may be a path whose meaning depends on the current folder."""
    text = _as_text(dataset)
    return isinstance(text, str) and text != "" and not Path(text).is_absolute()


def restore_dataset(journal: Journal, plan: Plan) -> tuple[Any, list[str]]:
    """Bring the dataset back, and what to tell about it.

    A relative path that is in the folder where the run was started is made absolute: it is what
    the trials so far were trained on. A file of that name in the current folder may be another.

    Raises:
        PickleError: it was not kept, or cannot be brought back.
    """
    if not plan.dataset["kept"]:
        raise PickleError(
            f"{journal.path}: its dataset, a {plan.dataset['type']}, was not kept. Give it with "
            "dataset=... or, if it is text, with --dataset; or run the script that started the run "
            "again."
        )
    dataset = restore(journal, "dataset", "give the dataset with dataset=... or --dataset TEXT.")
    kept = journal.pickle("dataset")
    start = kept.about.get("start") if kept is not None else None
    if not isinstance(start, str) or Path(start) == Path.cwd() or not _is_relative(dataset):
        return dataset, []
    there = os.path.normpath(os.path.join(start, dataset))  # noqa: PTH118 (text stays text)
    # os.path, since a name such as "digits" may be too long or odd for a path, and then is none.
    if not os.path.lexists(there):
        return dataset, []
    note = f"letstune: the dataset is {there}, from the folder in which the run was started."
    return (type(dataset)(there) if isinstance(dataset, PurePath) else there), [note]


# The packages in use


def versions(trainer: object) -> dict[str, str]:
    """Return the versions of Python, letstune, NumPy, and the distributions that a trainer uses.

    These are what the trainer's module has imported, by the names by which they are installed;
    a package that is not from a distribution, but has a ``__version__``, goes by its own name.
    """
    import numpy

    packages = set(_imported(sys.modules.get(type(trainer).__module__)))
    found = {"letstune": __version__, "python": platform.python_version()}
    found["numpy"] = numpy.__version__
    for package in packages - {"__main__", "letstune", *sys.stdlib_module_names}:
        installed = _distribution(package)
        version = vars(sys.modules[package]).get("__version__")
        if installed is not None:
            found |= dict([installed])
        elif isinstance(version, str):
            found[package] = version
    return dict(sorted(found.items()))


def changed_versions(recorded: Mapping[str, str]) -> list[str]:
    """Return a line for each package that is installed here in another version than recorded."""
    own = {"letstune": __version__, "python": platform.python_version()}
    found = []
    for name, was in recorded.items():
        try:
            version = own.get(name) or metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # it goes by another name, or whatever needs it will say so
        if version != was:
            found.append(f"{name} was {was}, is {version}")
    return found


@cache
def _distribution(package: str) -> tuple[str, str] | None:
    """Return the distribution of an imported package and its version: scikit-learn for sklearn.

    `importlib.metadata.packages_distributions` is not used: it reads the list of files of every
    distribution, which takes a second where large ones are installed.
    """
    path = vars(sys.modules[package]).get("__path__", ())
    folders = [str(Path(folder).parent) for folder in path]
    if not folders:
        return None
    likely = metadata.distributions(name=package, path=folders)
    file = f"\n{package}/__init__.py,"
    for one in chain(likely, metadata.distributions(path=folders)):
        if file in f"\n{one.read_text('RECORD')}":
            return one.name, one.version
    return None


def _imported(module: ModuleType | None) -> Iterator[str]:
    """Yield the packages from which a module has its names, without importing any."""
    for value in vars(module).values() if module else ():
        # Not getattr, since a module may import something when it is asked for a name.
        is_module = isinstance(value, ModuleType)
        name = vars(value).get("__name__") if is_module else getattr(value, "__module__", None)
        package = str(name).partition(".")[0]
        if package in sys.modules:
            yield package
