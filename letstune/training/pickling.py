"""Trainers and datasets as bytes that another process, on another day, can bring back.

cloudpickle keeps classes of ``__main__`` (scripts, notebooks), and of files given to the command
line, by value: their code is included. It keeps classes of modules by reference; for these, the
folders from which modules were imported are kept, too.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import io
import os
import sys
import sysconfig
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, Final

from letstune.errors import PickleError, PlanError
from letstune.rounds.pickles import Pickle
from letstune.training.trainer import FOLDER, Trainer
from letstune.training.unpickler import loads

DATASET_LIMIT: Final = 64 * 2**20
"""The largest dataset that is kept in a journal, in bytes, unless LETSTUNE_DATASET_LIMIT is set."""


class TooBigError(Exception):
    """A pickle is larger than the limit."""


class _Bounded(io.BytesIO):
    """Stops a pickle that gets too big, rather than making gigabytes to measure them."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        written = super().write(data)
        if self.tell() > self._limit:
            raise TooBigError
        return written


def dataset_limit() -> int:
    """Return the size in bytes above which a dataset is not kept.

    Raises:
        PlanError: the environment variable LETSTUNE_DATASET_LIMIT is not a number.
    """
    return limit_of("LETSTUNE_DATASET_LIMIT", DATASET_LIMIT)


def limit_of(variable: str, default: int) -> int:
    """Return a number of bytes that the user may set in the environment.

    Raises:
        PlanError: the variable is not a number.
    """
    text = os.environ.get(variable, str(default))
    if not text.isdecimal():
        raise PlanError(f"{variable} is {text!r}; expected a number of bytes, such as {default}.")
    return int(text)


def dump(name: str, value: object, limit: int | None = None) -> Pickle:
    """Return a pickled object with what is needed to bring it back.

    Raises:
        TooBigError: the pickle is larger than ``limit`` bytes.
        PickleError: the object cannot be pickled.
    """
    data = _dumps(name, value, limit)
    python = ".".join(map(str, sys.version_info[:2]))
    about = {"type": type_name(type(value)), "python": python, "folders": _folders()}
    return Pickle(name=name, data=data, about=about)


def _dumps(name: str, value: object, limit: int | None = None, *, shared: bool = False) -> bytes:
    from letstune.training.pickler import Pickler, Sharing

    file = io.BytesIO() if limit is None else _Bounded(limit)
    try:
        (Sharing if shared else Pickler)(file).dump(value)
    except TooBigError:
        raise
    except Exception as error:
        culprit = _culprit(value)
        raise PickleError(
            f"The {name}, a {type(value).__qualname__}, cannot be pickled{culprit}: {error}. "
            "Make what holds files, locks, connections or generators in load_dataset, not before."
        ) from error
    return file.getvalue()


def _culprit(value: object) -> str:
    """Name the attribute that cannot be pickled, if one is to blame."""
    import cloudpickle

    for name, field in getattr(value, "__dict__", {}).items():
        try:
            cloudpickle.dumps(field)
        except Exception:  # noqa: BLE001 (any exception is the answer)
            return f" because of its attribute {name!r}"
    return ""


def clone(value: Any) -> Any:
    """Return a copy made by pickling. What a script defines is shared, and not copied."""
    return loads(_dumps("trainer", value, shared=True))


def fingerprint(trainer: object, script: Path | None = None) -> str:
    """Return a digest that changes when a trainer's fields, or its code kept by value, change.

    The pickle itself will not do: cloudpickle writes the same class differently in each process.

    Args:
        trainer: the trainer.
        script: what its code is from, if it was brought back in another process.
    """
    import cloudpickle

    by_value = {"__main__", *cloudpickle.list_registry_pickle_by_value()}
    module = sys.modules.get(type(trainer).__module__)
    file = script or getattr(module, "__file__", None)
    fields = getattr(trainer, "__dict__", {})
    parts: list[object] = [_plain({k: v for k, v in fields.items() if k != FOLDER})]
    own = script is not None or type(trainer).__module__ in by_value
    if own and file is not None and Path(file).is_file():
        parts.append(Path(file).read_bytes())
    else:  # in a notebook or a function, what of the code is at hand
        for cls in type(trainer).__mro__:
            if cls.__module__ in by_value or "<locals>" in cls.__qualname__:
                parts.append([(name, _member(value)) for name, value in vars(cls).items()])
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def identity(value: object) -> str:
    """Return a text that is the same for equal values, and differs for others, in any process.

    If a part is neither a plain value, nor an array, nor made of these, only its class counts.
    """
    return hashlib.sha256(repr(_plain(value)).encode()).hexdigest()


def _plain(value: Any, seen: dict[int, object] | None = None) -> object:
    """Return the part of a value that is written the same in each process."""
    if isinstance(value, str | int | float | bool | bytes | None):
        return value
    seen = {} if seen is None else seen
    kind = type(value).__qualname__
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, type | ModuleType | BuiltinFunctionType):
        return (kind, value.__name__)
    if isinstance(value, FunctionType):
        return _member(value)
    if type(value).__module__ == "numpy" and hasattr(value, "tobytes"):
        text = repr(value) if value.dtype.hasobject else hashlib.sha256(value.tobytes()).hexdigest()
        return (kind, str(value.dtype), value.shape, text)
    if id(value) in seen:  # it has itself among its parts, or two of them share it
        return kind
    seen[id(value)] = value  # kept alive, so that no later value gets its id
    if isinstance(value, list | tuple):
        return [_plain(item, seen) for item in value]
    if isinstance(value, dict):
        return [(_plain(name, seen), _plain(item, seen)) for name, item in value.items()]
    if isinstance(value, set | frozenset):
        return sorted(repr(_plain(item, {})) for item in value)
    return (kind, _plain(getattr(value, "__dict__", None), seen))


def _member(member: Any, depth: int = 2) -> object:
    """Return the code of a method and of functions beside it that it calls, or a plain value."""
    function = getattr(member, "fget", None) or getattr(member, "__func__", member)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        return _plain(member)
    called = [vars(function).get("__wrapped__"), *map(function.__globals__.get, code.co_names)]
    inner = [_member(c, depth - 1) for c in called if depth and isinstance(c, FunctionType)]
    return (_code(code), _plain(function.__defaults__), _plain(function.__kwdefaults__), inner)


def _code(code: CodeType) -> object:
    constants = [_code(c) if isinstance(c, CodeType) else _plain(c) for c in code.co_consts]
    return (code.co_code, code.co_names, constants)


def type_name(cls: type) -> str:
    """Return ``module:QualifiedName`` of a class."""
    return f"{cls.__module__}:{cls.__qualname__}"


def _folders() -> list[str]:
    """Return the folders on the import path that do not come with Python or its packages."""
    paths = sysconfig.get_paths()
    installed = [Path(paths[name]).resolve() for name in ("stdlib", "platstdlib", "purelib")]
    installed.append(Path(paths["platlib"]).resolve())
    found = []
    for entry in sys.path:
        folder = Path(entry or ".").resolve()
        # os.path, since Path.is_dir() raises where a folder above may not be read.
        exists = os.path.isdir(folder)  # noqa: PTH112
        if exists and not any(folder.is_relative_to(base) for base in installed):
            found.append(str(folder))
    return found


def load(kept: Pickle, journal: Path, help_with: str) -> Any:
    """Bring an object back, importing modules from where they were.

    Args:
        kept: the pickle.
        journal: where it was kept; errors name it.
        help_with: what to do when it fails; errors end with it.

    Raises:
        PickleError: this Python, or a module, is not the one that it needs.
    """
    about, here = kept.about, ".".join(map(str, sys.version_info[:2]))
    old = f"It was kept by Python {about['python']}, and this is Python {here}"
    failed = f"{journal}: the {kept.name} ({about['type']}) cannot be brought back."
    advice = f"Resume with the Python and the packages with which it was kept, or {help_with}"
    # Code that is kept by value is bytecode, which another Python may load and then crash on.
    if about["python"] != here and b"_make_function" in kept.data:
        raise PickleError(f"{failed} {old}. {advice}")
    for folder in about["folders"]:
        if folder not in sys.path:
            sys.path.append(folder)
    try:
        return loads(kept.data)
    except Exception as error:
        why = old if about["python"] != here else f"{type(error).__name__}: {error}"
        raise PickleError(f"{failed} {why}. {advice}") from error


def load_object(name: str) -> Any:
    """Return what ``MODULE:NAME`` or ``FILE.py:NAME`` names; a class is called, to make an object.

    A file's classes are kept by value from then on, as those of a script that is run.

    Raises:
        PlanError: there is no such module, file or name.
    """
    source, _, attribute = name.rpartition(":")
    if not source or not attribute.isidentifier():
        raise PlanError(
            f"{name!r}: expected MODULE:NAME or FILE.py:NAME, for instance digits.py:DigitsTrainer."
        )
    module = _load_file(Path(source)) if source.endswith(".py") else _load_module(source)
    if not hasattr(module, attribute):
        trainers = [
            n
            for n, v in vars(module).items()
            if isinstance(v, type) and issubclass(v, Trainer) and v.__module__ == module.__name__
        ]
        there = f"its trainers are {', '.join(trainers)}" if trainers else "it has no trainers"
        raise PlanError(f"{source} has no {attribute!r}; {there}.")
    found = getattr(module, attribute)
    if not isinstance(found, type) or not issubclass(found, Trainer):
        return found  # whatever it is, `tune` says so
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise PlanError(
            f"{name}: {attribute} cannot be made without arguments: {error}. Name an object "
            f"instead, such as TRAINER = {attribute}(...) in {source}."
        ) from error
    return found()


def _load_module(name: str) -> Any:
    _import_from(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name + ".").startswith(error.name + "."):
            raise PlanError(
                f"There is no module {name!r} to import from {Path.cwd()}. For a file, give its "
                "path, ending in .py."
            ) from error
        raise


def _load_file(path: Path) -> Any:
    import cloudpickle

    # A name of its own, lest a file such as random.py take the place of another module.
    name = f"_letstune_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise PlanError(f"There is no file {path} (from {Path.cwd()}).")
    module = importlib.util.module_from_spec(spec)
    _import_from(path.resolve().parent)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    cloudpickle.register_pickle_by_value(module)
    return module


def _import_from(folder: Path) -> None:
    """Let modules be imported from a folder, from now on: what imports late needs it, too."""
    # What letstune itself needs must not be taken from there, nor what that needs in its turn.
    import cloudpickle  # noqa: F401
    import numpy.random  # noqa: F401

    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
