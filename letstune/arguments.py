"""What the arguments of `tune` and `resume` mean: checked, and described for the plan."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from letstune import plugins
from letstune.errors import JournalError, PlanError, PluginError
from letstune.executors import Executor
from letstune.hookspecs import PROJECT
from letstune.machine import usable_cores, visible_devices
from letstune.observers import Observer
from letstune.params import Space
from letstune.pickling import identity, type_name
from letstune.records import SIMPLE_ROUNDS, Plan, Rounds
from letstune.samplers import Sampler
from letstune.stores import Store
from letstune.trainer import SimpleTrainer

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


CARRIED_OUT: Final = (
    *("workers", "executor", "gpus", "epoch_timeout", "trial_timeout", "max_deaths"),
)
"""What of a plan tells how it is carried out, and may change at any time."""


def how_carried_out(
    workers: object, gpus: Any, epoch_timeout: object, trial_timeout: object, max_deaths: object
) -> dict[str, Any]:
    """Return those of the plan's fields `CARRIED_OUT` that are asked for.

    Raises:
        PlanError: an argument is not what it must be.
    """
    asked: dict[str, Any] = {}
    if (cluster := elsewhere(workers)) is not None:
        if gpus is not None:
            raise PlanError(
                f"gpus={gpus!r}: these are of this machine, but workers={workers!r} trains "
                "elsewhere. Leave gpus out, and ask the cluster for them, with options of workers."
            )
        # An object cannot be recorded: a resume has to be given it, or another one.
        asked["workers"] = workers if isinstance(workers, str | list | tuple) else None
        asked["executor"] = cluster.fact if asked["workers"] else None
    elif workers == "auto":
        asked["workers"] = "auto"
    elif isinstance(workers, str):
        raise PlanError(
            f"workers={workers!r}: expected a number of processes, 1 or more, 'auto' for one a "
            "usable core, or the URI of a cluster such as 'dask://scheduler:8786'."
        )
    elif workers is not None:
        asked["workers"] = at_least(1, "workers", workers)
    if "workers" in asked:
        asked.setdefault("executor", None)
    if gpus is not None:
        devices = tuple(visible_devices(gpus, os.environ))
        asked["gpus"] = "auto" if gpus == "auto" else devices
    if epoch_timeout is not None:
        asked["epoch_timeout"] = _seconds("epoch_timeout", epoch_timeout)
    if trial_timeout is not None:
        asked["trial_timeout"] = _seconds("trial_timeout", trial_timeout)
    if max_deaths is not None:
        asked["max_deaths"] = at_least(1, "max_deaths", max_deaths)
    return asked


class Workplace(NamedTuple):
    """An executor: who makes it, what is made of its address, and its options."""

    plugged: plugins.Plugged
    address: Any
    options: dict[str, Any]

    @property
    def fact(self) -> dict[str, Any]:
        """The plan's fact about it."""
        return {"name": self.plugged.name, "by": self.plugged.by}


def elsewhere(workers: Any) -> Workplace | None:
    """Return the executor of a plugin that is asked for; None if that is one of letstune's own.

    Raises:
        PlanError: there is none for that address.
        PluginError: its plugin cannot be found.
    """
    options: dict[str, Any] = {}
    if isinstance(workers, list | tuple):
        workers, options = _named(
            f"workers={workers!r}", tuple(workers), "a URI with a dict of options"
        )
    if isinstance(workers, str):
        scheme, separator, _ = workers.partition("://")
        if not separator:
            return None
    elif workers is None or hasattr(workers, "__index__") or isinstance(workers, float):
        return None
    else:
        scheme = type(workers).__module__.partition(".")[0]
    plugged = plugins.find("executor", scheme)
    if plugged.distribution == PROJECT:
        raise PlanError(
            f"workers={workers!r}: {scheme} has no address. Give the number of processes, 1 or "
            "more, or leave workers out to train in this process."
        )
    return Workplace(plugged, workers, options)


def here(plan: Plan) -> Workplace:
    """Return letstune's own executor, as a plan has it.

    Raises:
        PlanError: the plan wants all devices, and there are none.
    """
    count = how_many_workers(plan)
    if not count:
        return Workplace(plugins.find("executor", "in-process"), None, {})
    devices = [] if plan.gpus is None else visible_devices(plan.gpus, os.environ)
    options = {"devices": devices, "threads": plan.threads}
    return Workplace(plugins.find("executor", "processes"), count, options)


def crowded(plan: Plan) -> str:
    """Return what to tell a user whose workers have more threads than there are cores, if so."""
    count, cores = how_many_workers(plan), usable_cores()
    if not count or not plan.threads or "OMP_NUM_THREADS" in os.environ:
        return ""
    if count * plan.threads <= max(cores, count):
        return ""
    return (
        f"letstune: each of {count} workers has {plan.threads} threads, on {cores} cores: as many "
        "as when the run began, so that nothing comes out differently. With OMP_NUM_THREADS=1 in "
        "the environment, it is faster, and may differ in the last bits."
    )


def make_executor(wanted: Workplace, job: object, **given: Any) -> Executor:
    """Return the executor that a plugin makes.

    Args:
        wanted: where tasks are to be trained.
        job: what is trained.
        given: what every executor gets, besides the options of its own.

    Raises:
        PlanError: it does not take these options.
        PluginError: the plugin cannot be loaded, or makes something else.
    """
    plugged, address, options = wanted
    if taken := sorted(given.keys() & options.keys()):
        raise PlanError(
            f"workers={(address, options)!r}: {', '.join(taken)} cannot be given as an option. "
            "Timeouts are arguments of their own: epoch_timeout, trial_timeout."
        )
    made = plugins.make(plugged, address, job, **given, **options)
    executor: Executor = _made(Executor, plugged, made)
    return executor


def how_many_elsewhere(wanted: Workplace) -> int:
    """Return how many tasks can be trained there now; 1 where that is not known."""
    count = getattr(wanted.plugged.factory(), "count", None)
    return int(count(wanted.address, **wanted.options)) if count else 1


def _seconds(name: str, value: Any) -> float | None:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds < math.inf:
        raise PlanError(
            f"{name}={value!r}: expected seconds, or a timedelta; 0 for as long as it takes."
        )
    return float(seconds) or None


def how_many_workers(plan: Plan) -> int:
    """Return how many processes of this machine are to train; 0 for this one.

    Raises:
        PlanError: the plan wants all devices, and there are none.
    """
    if plan.gpus is not None and plan.workers in (None, "auto"):
        return len(visible_devices(plan.gpus, os.environ))
    if plan.workers == "auto":
        return usable_cores()
    # Only from outside can a process be stopped that hangs.
    limited = plan.epoch_timeout is not None or plan.trial_timeout is not None
    return int(limited) if plan.workers is None else at_least(1, "workers", plan.workers)


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
    name, options = _named(
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
    sampler: Sampler = _made(Sampler, plugged, plugins.make(plugged, **options))
    return sampler


def _made(cls: Any, plugged: plugins.Plugged, made: Any) -> Any:
    if isinstance(made, cls):
        return made
    raise PluginError(
        f"{plugged} is {made!r:.200}; expected an object of a class derived from "
        f"letstune.{cls.__name__}. Mend the plugin."
    )


def _named(what: str, given: Any, expected: str) -> tuple[str, dict[str, Any]]:
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
        uri, options = _named(
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
    store: Store = _made(Store, plugged, plugins.make(plugged, uri, **fact["options"]))
    return store


def recorded_plugin(journal: Path, kind: str, fact: Mapping[str, Any]) -> plugins.Plugged:
    """Return what supplies a sampler, store or executor with which a run was started.

    Raises:
        PluginError: it is not installed.
    """
    try:
        return plugins.find(kind, fact["name"])
    except PlanError as error:
        by = fact["by"]
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
        name, options = _named(
            f"observers=[{observer!r}]",
            observer,
            "a name, a name with a dict of options, or an object of a class derived from "
            "letstune.Observer",
        )
        plugged = plugins.find("observer", name)
        told.append(_made(Observer, plugged, plugins.make(plugged, **options)))
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
