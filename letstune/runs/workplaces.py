"""Workplaces: who trains, and where, and within which limits.

It may change at any time, and changes when things happen, never what.
"""

from __future__ import annotations

import math
import os
from datetime import timedelta
from typing import Any, Final, NamedTuple

from letstune.errors import PlanError
from letstune.plugins import installed as plugins
from letstune.plugins.hookspecs import PROJECT
from letstune.rounds.plan import Plan
from letstune.runs.arguments import at_least, checked, named
from letstune.workers.executor import Executor
from letstune.workers.machine import usable_cores, visible_devices

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
        workers, options = named(
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
        return Workplace(plugins.find("executor", "in-process", of=PROJECT), None, {})
    devices = [] if plan.gpus is None else visible_devices(plan.gpus, os.environ)
    options = {"devices": devices, "threads": plan.threads}
    return Workplace(plugins.find("executor", "processes", of=PROJECT), count, options)


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
    executor: Executor = checked(Executor, plugged, made)
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
