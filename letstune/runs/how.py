"""How a run is carried out: by whom, and within which limits.

All of this may change at any time. It decides when things happen, never what.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from letstune.errors import PlanError
from letstune.plugins.harmless import told
from letstune.rounds.decisions import default_lag
from letstune.rounds.numbers import whole_number
from letstune.rounds.plan import How, Plan
from letstune.runs.backend import Backend
from letstune.telling.lines import counted
from letstune.workers.machine import usable_cores, visible_devices


def asked_how(given: Mapping[str, Any], executor: Backend | None) -> dict[str, Any]:
    """Return those fields of `How` that are asked for.

    Args:
        given: the arguments of `tune` of these names; None for what is not asked for.
        executor: a plugin's executor, if one is asked for.

    Raises:
        PlanError: an argument is not what it must be.
    """
    asked = _asked_workers(given["workers"], executor)
    gpus = given["gpus"]
    if gpus is not None and executor is not None:
        raise PlanError(
            f"gpus={gpus!r}: gpus are devices of this machine, but "
            f"workers={told(given['workers'])} "
            "trains elsewhere. Leave gpus out, and ask the cluster for devices with options of "
            "workers."
        )
    if gpus is not None:
        devices = tuple(visible_devices(gpus, os.environ))
        asked["gpus"] = "auto" if gpus == "auto" else devices
    for name in ("epoch_timeout", "trial_timeout"):
        if given[name] is not None:
            asked[name] = _seconds(name, given[name])
    if given["max_deaths"] is not None:
        asked["max_deaths"] = whole_number("max_deaths", given["max_deaths"], 1)
    return asked


def _asked_workers(workers: Any, executor: Backend | None) -> dict[str, Any]:
    if workers is None:
        return {}
    if executor is not None:
        # An object cannot be recorded: whoever resumes must give it, or another one.
        recordable = isinstance(workers, str | list | tuple)
        return {
            "workers": workers if recordable else None,
            "executor": executor.fact() if recordable else None,
        }
    if workers == "auto":
        return {"workers": "auto", "executor": None}
    if isinstance(workers, str):
        raise PlanError(
            f"workers={told(workers)}: expected a number of processes, 0 for this one, 'auto' for "
            "one a usable core, or the URI of a cluster such as 'dask://scheduler:8786'."
        )
    return {"workers": whole_number("workers", workers, 0), "executor": None}


def _seconds(name: str, value: Any) -> float | None:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not number or not 0 <= seconds < math.inf:
        raise PlanError(f"{name}={value!r}: expected seconds, or a timedelta; 0 for no limit.")
    return float(seconds) or None


def how_many_workers(how: How) -> int:
    """Return how many worker processes train on this machine; 0 if this process does.

    Raises:
        PlanError: all devices are wanted, and there are none; or this process is to train, and
            something is asked for that it cannot do.
    """
    if how.gpus is not None and how.workers in (None, "auto"):
        return len(visible_devices(how.gpus, os.environ))
    if how.workers == "auto":
        return usable_cores()
    # Only from outside can a process be stopped that hangs.
    names = ("epoch_timeout", "trial_timeout", "gpus")
    limits = [name for name in names if getattr(how, name) is not None]
    if how.workers is None:
        return int(bool(limits))
    count = whole_number("workers", how.workers, 0)
    if limits and not count:
        raise PlanError(
            f"workers=0 trains in this process, so there can be no {' and no '.join(limits)}: "
            "these need a process that another one starts, and can end. Give workers=1, or more."
        )
    return count


def first_lag(plan: Plan, executor: Backend | None) -> int:
    """Return the lag that a new run gets by default: what keeps its workers busy.

    Args:
        plan: the run's plan, in which only the lag is missing.
        executor: a plugin's executor, if one trains.

    Raises:
        PlanError: see `how_many_workers`.
        LetstuneError: the executor cannot be reached.
    """
    if not plan.adaptive:
        return 0
    count = how_many_workers(plan) if executor is None else executor.count()
    return default_lag(max(1, count), plan.cohort_sizes[-1], plan.n_trials)


def own_executor(plan: Plan) -> Backend:
    """Return letstune's own executor, as a plan asks for it.

    Raises:
        PlanError: see `how_many_workers`.
    """
    count = how_many_workers(plan)
    if not count:
        return Backend.own("executor", "in-process", None)
    devices = [] if plan.gpus is None else visible_devices(plan.gpus, os.environ)
    return Backend.own("executor", "processes", count, devices=devices, threads=plan.threads)


def crowded(plan: Plan) -> str:
    """Return a warning if the workers have more threads than there are cores, else nothing."""
    count, cores = how_many_workers(plan), usable_cores()
    if not count or not plan.threads or "OMP_NUM_THREADS" in os.environ:
        return ""
    if count * plan.threads <= max(cores, count):
        return ""
    return (
        f"letstune: each of {count} workers has {counted(plan.threads, 'thread')}, on "
        f"{counted(cores, 'core')}: as many "
        "as when the run began, so that nothing comes out differently. With OMP_NUM_THREADS=1 in "
        "the environment, the run is faster, but may differ in the last bits."
    )
