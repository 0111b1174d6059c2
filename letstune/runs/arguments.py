"""What the arguments of `tune` and `resume` mean: checked, and described for the plan."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal

from letstune.errors import JournalError, PlanError, PluginError
from letstune.plugins import installed as plugins
from letstune.rounds.plan import SIMPLE_ROUNDS, Plan, Rounds
from letstune.samplers.sampler import Sampler
from letstune.space.params import Space
from letstune.telling.observers import Observer
from letstune.training.pickling import identity, type_name
from letstune.training.stores import Store, make_durably
from letstune.training.trainer import SimpleTrainer

SamplerLike = str | tuple[str, Mapping[str, Any]] | Sampler
"""A sampler: its name, its name with options, or an object."""
StoreLike = str | os.PathLike[str] | tuple[str, Mapping[str, Any]] | Store
"""A store: a directory, a URI, a URI with options, or an object."""
ObserverLike = str | tuple[str, Mapping[str, Any]] | Observer
"""An observer: its name, its name with options, or an object."""
WorkersLike = int | str | tuple[str, Mapping[str, Any]] | object | None
"""Who trains: a number of processes, "auto", or a cluster by its URI, or by an object."""
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
    if not isinstance(journal, str | os.PathLike):
        raise PlanError(f"journal={journal!r}: expected a path of a file, such as run.db.")
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
        make_durably(path.parent)
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


def choose_sampler(sampler: Any) -> tuple[Sampler, dict[str, Any]]:
    """Return the sampler that is asked for, and the plan's fact about it.

    Raises:
        PlanError: there is none of that name, or it does not take these options.
        PluginError: its plugin cannot be loaded.
    """
    if isinstance(sampler, Sampler):
        return sampler, _describe_object(sampler)
    name, options = named(
        f"sampler={sampler!r}",
        sampler,
        "a name such as 'random', a name with a dict of options, or an object of a class derived "
        "from letstune.Sampler",
    )
    plugged = plugins.find("sampler", name)
    return make_sampler(plugged, options), {"name": name, "options": options, "by": plugged.by}


def make_sampler(plugged: plugins.Plugged, options: Mapping[str, Any]) -> Sampler:
    """Return the sampler that a plugin makes.

    Raises:
        PlanError: it does not take these options.
        PluginError: the plugin cannot be loaded, or makes something else.
    """
    sampler: Sampler = checked(Sampler, plugged, plugins.make(plugged, **options))
    return sampler


def checked(cls: Any, plugged: plugins.Plugged, made: Any) -> Any:
    """Return what a plugin made, if it is of the class that it should be of.

    Raises:
        PluginError: it is not.
    """
    if isinstance(made, cls):
        return made
    raise PluginError(
        f"{plugged} is {made!r:.200}; expected an object of a class derived from "
        f"letstune.{cls.__name__}. Mend the plugin."
    )


def named(what: str, given: Any, expected: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of something that can be given with or without options."""
    match given:
        case str():
            return given, {}
        case (str() as name, Mapping() as options):
            return name, _recordable(what, options)
    raise PlanError(f"{what}: expected {expected}.")


def _recordable(what: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the journal gives them back: a first run sees what a resume sees."""
    try:
        recorded: dict[str, Any] = json.loads(json.dumps(dict(options), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise PlanError(
            f"{what}: {error}. Options are recorded as JSON; what is "
            "none can be given to an object: make it, and give it instead of its name."
        ) from error
    return recorded


def _describe_object(plugged: object) -> dict[str, Any]:
    """Describe a sampler or store that is kept as a pickle, by its class and its public fields.

    Not by the private ones: they hold caches and connections, which come and go.
    """
    fields = {
        name: _recorded_field(value)
        for name, value in getattr(plugged, "__dict__", {}).items()
        if not name.startswith("_")
    }
    by = plugins.supplier(type(plugged))
    return {"name": type_name(type(plugged)), "options": None, "fields": fields, "by": by}


def _recorded_field(value: object) -> object:
    """Return a field of an object as JSON has it, or what tells it from others if it has not."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = ""
    return (
        json.loads(text)
        if 0 < len(text) <= _LONG
        else f"{type_name(type(value))} {identity(value)}"
    )


def choose_store(store: Any, journal: Path) -> tuple[Store, dict[str, Any]]:
    """Return the store that is asked for, and the plan's fact about it.

    Each run has a folder of its own in it, so that sweeping one cannot touch another. A directory
    below that of the journal is described relative to that, so that both can move.

    Raises:
        PlanError: there is none of that kind, or it does not take these options.
        PluginError: its plugin cannot be loaded.
    """
    if isinstance(store, Store):
        return store, _describe_object(store)
    uri: Any = store
    options: dict[str, Any] = {}
    if store is not None and not isinstance(store, os.PathLike):
        uri, options = named(
            f"store={store!r}",
            store,
            "a directory, a URI such as 's3://bucket/runs', one of these with a dict of options, "
            "or an object of a class derived from letstune.Store",
        )
    scheme, separator, _ = uri.partition("://") if isinstance(uri, str) else ("", "", "")
    if not separator:
        scheme, uri = "directory", None if uri is None else _relative(Path.cwd() / uri, journal)
    plugged = plugins.find("store", scheme)
    fact = {"name": scheme, "uri": uri, "run": secrets.token_hex(8), "options": options}
    return make_store(plugged, fact, journal), {**fact, "by": plugged.by}


def _relative(folder: Path, journal: Path) -> str:
    below = folder.is_relative_to(journal.parent)
    return str(folder.relative_to(journal.parent) if below else folder)


def make_store(plugged: plugins.Plugged, fact: Mapping[str, Any], journal: Path) -> Store:
    """Return the store that a plugin makes of the plan's fact about it.

    Raises:
        PlanError: it does not take these options.
        PluginError: the plugin cannot be loaded, or makes something else.
    """
    uri, run = fact["uri"], fact["run"]
    if fact["name"] != "directory":
        scheme, _, place = uri.partition("://")  # the place may be empty, as in memory://
        uri = f"{scheme}://{place.rstrip('/')}/{run}" if place else f"{scheme}://{run}"
    elif uri is not None:
        uri = str(journal.parent / uri / run)
    else:
        # Of its own for each journal: "run" and "run.db" must not share one.
        stem = journal.name.removesuffix(".db")
        joint = "." if journal.name.endswith(".db") else "-"
        uri = str(journal.with_name(f"{stem}{joint}checkpoints"))
    store: Store = checked(Store, plugged, plugins.make(plugged, uri, **fact["options"]))
    return store


def recorded_plugin(journal: Path, kind: str, fact: Mapping[str, Any]) -> plugins.Plugged:
    """Return what supplies a sampler, store or executor with which a run was started.

    Raises:
        PluginError: it is not installed.
    """
    by = fact["by"]
    try:
        return plugins.find(kind, fact["name"], of=by["distribution"])
    except PlanError as error:
        raise PluginError(
            f"{journal} was started with {kind} {fact['name']!r} ({by['distribution']} "
            f"{by['version']}), which is not installed. Install it and resume again:  "
            f"pip install {by['distribution']}"
        ) from error


def describe_dataset(dataset: object, kept: bool) -> dict[str, Any]:
    """Return the plan's fact about a dataset: its type, its value if that is simple."""
    # A path is its text: the classes of paths differ between systems and versions of Python.
    value: object = os.fspath(dataset) if isinstance(dataset, os.PathLike) else dataset
    kind = type_name(type(value))
    simple = isinstance(value, str | int | float | bool | None)
    if not simple or (isinstance(value, str) and len(value) > _LONG):
        value = None
    return {"type": kind, "value": value, "kept": kept}


def differences(recorded: Plan, plan: Plan, *, accept_changes: bool = False) -> list[str]:
    """Return how a plan differs from a recorded one, other than by growing, a line each.

    Args:
        recorded: the one in the journal.
        plan: the one that is asked for.
        accept_changes: whether another version of a plugin is no difference.
    """
    lines: list[str] = []
    # By its name only: a script's trainer is of __main__, or of the file on the command line.
    if recorded.trainer.split(":")[1] != plan.trainer.split(":")[1]:
        lines.append(f"trainer: was {recorded.trainer}, is {plan.trainer}")
    for kind in () if accept_changes else ("sampler", "store", "executor"):
        lines.extend(another_supplier(kind, getattr(recorded, kind), getattr(plan, kind)))
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


def choose_observers(
    observers: Sequence[ObserverLike],
) -> tuple[list[Observer], list[list[Any]]]:
    """Return the observers that are asked for, and what to record of those that are named.

    Raises:
        PlanError: there is none of that name, or it does not take these options.
        PluginError: its plugin cannot be loaded.
    """
    if isinstance(observers, str) or not isinstance(observers, Iterable):
        raise PlanError(f"observers={observers!r}: expected a list of names or Observer objects.")
    told: list[Observer] = []
    recorded = []
    for observer in observers:
        if isinstance(observer, Observer):
            told.append(observer)
            continue
        name, options = named(
            f"observers=[{observer!r}]",
            observer,
            "a name, a name with a dict of options, or an object of a class derived from "
            "letstune.Observer",
        )
        plugged = plugins.find("observer", name)
        told.append(checked(Observer, plugged, plugins.make(plugged, **options)))
        recorded.append([name, options])
    return told, recorded


def another_supplier(
    kind: str, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> Iterator[str]:
    """Tell whether what has the same name is of another plugin, or another major version of it."""
    if was is None or now is None:
        return
    before, after = was["by"], now["by"]
    # letstune itself resumes what any version of it has started.
    if was["name"] == now["name"] and before and after and before["distribution"] != "letstune":
        first, second = (by["version"].split(".")[0] for by in (before, after))
        if (before["distribution"], first) != (after["distribution"], second):
            yield (
                f"{kind} {was['name']!r}: was of {before['distribution']} {before['version']}, is "
                f"of {after['distribution']} {after['version']}; to go on with that, "
                "accept_changes=True or --accept-changes"
            )


def _comparable(value: object) -> object:
    """Leave out of a fact what differs by nature: a store's own folder, whether data is kept."""
    if isinstance(value, Mapping):
        return {k: _comparable(v) for k, v in value.items() if k not in ("run", "kept", "by")}
    return value


def _show(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
