"""What the arguments of `tune` and `resume` mean: checked, and described for the plan."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

from letstune.errors import JournalError, PlanError
from letstune.params import Space
from letstune.pickling import type_name
from letstune.records import SIMPLE_ROUNDS, Plan, Rounds
from letstune.samplers import Sampler, make_sampler
from letstune.stores import Store
from letstune.trainer import SimpleTrainer

SamplerLike = str | tuple[str, Mapping[str, Any]] | Sampler
"""A sampler: its name, its name with options, or an object."""
RoundsLike = Rounds | Sequence[int] | Sequence[timedelta]
"""Rounds, or just their lengths, in epochs or as times."""


_LONG: Final = 1000  # no path, no address

_FIXED: Final = (
    "metric",
    "simple",
    "sampler",
    "store",
    "dataset",
    "keep_checkpoints",
    "seed",
    "lag",
)


def journal_path(journal: str | os.PathLike[str]) -> Path:
    """Return the path of a journal, through a symbolic link to it.

    Its lock and its checkpoints are beside the file itself, by whatever name it goes.

    Raises:
        PlanError: it is not the path of a file.
    """
    path = Path(journal)
    if not os.fspath(journal) or path.is_dir():
        found = "is a directory" if os.fspath(journal) else "is empty"
        raise PlanError(
            f"journal={os.fspath(journal)!r} {found}; expected a path of a file, such as run.db."
        )
    # Absolute, since a trainer or script may go to another folder meanwhile.
    return path.resolve() if path.is_symlink() else Path.cwd() / path


def make_folder(path: Path) -> None:
    """Make the folder of a journal, if it is not there.

    Raises:
        JournalError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JournalError(
            f"{path}: its folder cannot be made: {error}. Give a path in a folder that is there."
        ) from error


def at_least(least: int, name: str, value: Any) -> int:
    """Return a whole number, ``least`` or more; ``name`` is that of the argument, for an error."""
    try:
        number = value.__index__() if not isinstance(value, bool) else None
    except AttributeError:
        number = None
    if number is None or number < least:
        raise PlanError(f"{name}={value!r}: expected a whole number, {least} or more.")
    return int(number)


def how_many_kept(keep_checkpoints: object) -> int | Literal["all"]:
    """Return of how many trials to keep the best epoch."""
    if keep_checkpoints == "all":
        return "all"
    if isinstance(keep_checkpoints, str):
        raise PlanError(
            f"keep_checkpoints={keep_checkpoints!r}: expected 'all', or of how many of the best "
            "trials to keep the best epoch."
        )
    return at_least(0, "keep_checkpoints", keep_checkpoints)


def make_rounds(rounds: RoundsLike | None, trainer: object, recorded: Plan | None = None) -> Rounds:
    """Return the rounds asked for; a bare list keeps all else as recorded, or as is default."""
    if isinstance(trainer, SimpleTrainer) or (recorded is not None and recorded.simple):
        if rounds is not None:
            raise PlanError(
                f"rounds={rounds!r}: a SimpleTrainer trains each trial in one go, so it takes no "
                "rounds. Leave them out, or derive the trainer from letstune.EpochTrainer."
            )
        return Rounds(SIMPLE_ROUNDS)
    if isinstance(rounds, Rounds):
        return rounds
    if isinstance(rounds, str | bytes) or (rounds is not None and not hasattr(rounds, "__iter__")):
        raise PlanError(
            f"rounds={rounds!r}: expected numbers of epochs, such as [3, 9, 36], or timedeltas."
        )
    if recorded is not None:
        return Rounds(rounds or (), keep=recorded.rounds.keep, cohort=recorded.rounds.cohort)
    return Rounds() if rounds is None else Rounds(rounds)


def choose_sampler(sampler: Any) -> Sampler:
    """Return the sampler that is asked for."""
    if isinstance(sampler, Sampler):
        return sampler
    described = describe_sampler(sampler)
    return make_sampler(described["name"], described["options"])


def describe_sampler(sampler: Any) -> dict[str, Any]:
    """Return the plan's fact about a sampler; no options if it is kept as a pickle."""
    if isinstance(sampler, Sampler):
        return _describe_object(sampler)
    name, options = (sampler, {}) if isinstance(sampler, str) else _pair(sampler)
    return {"name": name, "options": dict(options)}


def _describe_object(plugged: object) -> dict[str, Any]:
    """Describe a sampler or store that is kept as a pickle, by its class and its plain fields."""
    fields = getattr(plugged, "__dict__", {})
    simple = {n: v for n, v in fields.items() if isinstance(v, str | int | float | bool | None)}
    return {"name": type_name(type(plugged)), "options": None, "fields": simple}


def _pair(sampler: Any) -> tuple[str, Mapping[str, Any]]:
    match sampler:
        case (str() as name, Mapping() as options):
            return name, options
    raise PlanError(
        f"sampler={sampler!r}: expected a name such as 'random', a name with a dict of options, or "
        "an object of a class derived from letstune.Sampler."
    )


def describe_store(store: Any, journal: Path) -> dict[str, Any]:
    """Return the plan's fact about a store; no options if it is kept as a pickle.

    A directory below that of the journal is described relative to that, so that both can move.
    """
    if isinstance(store, Store):
        return _describe_object(store)
    if store is not None and not isinstance(store, str | os.PathLike):
        raise PlanError(f"store={store!r}: expected a directory, or a letstune.Store.")
    if isinstance(store, str) and "://" in store:
        raise PlanError(
            f"store={store!r}: this version of letstune keeps checkpoints in directories. Give a "
            "path, or an object of a class derived from letstune.Store."
        )
    # A folder of its own for each run, so that sweeping one cannot touch another.
    path = None if store is None else Path.cwd() / store
    if path is not None and path.is_relative_to(journal.parent):
        path = path.relative_to(journal.parent)
    described = None if path is None else str(path)
    return {"name": "directory", "options": {"path": described, "run": secrets.token_hex(8)}}


def describe_dataset(dataset: object, kept: bool) -> dict[str, Any]:
    """Return the plan's fact about a dataset: its type, its value if that is simple."""
    # A path is its text: the classes of paths differ between systems and versions of Python.
    value: object = os.fspath(dataset) if isinstance(dataset, os.PathLike) else dataset
    kind = type_name(type(value))
    simple = isinstance(value, str | int | float | bool | None)
    if not simple or (isinstance(value, str) and len(value) > _LONG):
        value = None
    return {"type": kind, "value": value, "kept": kept}


def differences(recorded: Plan, plan: Plan) -> list[str]:
    """Return how a plan differs from a recorded one, other than by growing, a line each."""
    lines = []
    # By its name only: a script's trainer is of __main__, or of the file on the command line.
    if recorded.trainer.split(":")[1] != plan.trainer.split(":")[1]:
        lines.append(f"trainer: was {recorded.trainer}, is {plan.trainer}")
    for name in _FIXED:
        was, now_ = _comparable(getattr(recorded, name)), _comparable(getattr(plan, name))
        if _show(was) != _show(now_):  # as text, in which NaN is the same as NaN
            lines.append(f"{name}: was {_show(was)}, is {_show(now_)}")
    if plan.n_trials < recorded.n_trials:
        lines.append(f"n_trials: was {recorded.n_trials}, is {plan.n_trials}; it can only grow")
    if plan.rounds != recorded.rounds and not recorded.rounds.grows_to(plan.rounds):
        lines.append(
            f"rounds: was {_show(recorded.rounds.to_dict())}, is {_show(plan.rounds.to_dict())}; "
            "only the last round can grow, or rounds be added"
        )
    if recorded.space != plan.space:
        space = Space.from_json(recorded.space).diff(Space.from_json(plan.space))
        lines.extend(f"search space, {line}" for line in space)
    return lines


def _comparable(value: object) -> object:
    """Leave out of a fact what differs by nature: a store's own folder, whether data is kept."""
    if isinstance(value, Mapping):
        return {k: _comparable(v) for k, v in value.items() if k not in ("run", "kept")}
    return value


def _show(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
