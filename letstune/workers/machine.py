"""What this machine has for workers: cores, devices, and the environment that shares them out."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from letstune.errors import PlanError

THREADS: Final = (
    "OMP_NUM_THREADS",  # OpenMP: scikit-learn, XGBoost, LightGBM, PyTorch
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "LOKY_MAX_CPU_COUNT",  # joblib's n_jobs=-1
)
"""What the libraries that train ask for the number of their threads.

Variables, and not threadpoolctl: they are there before any library is loaded, and hold for all
that a trainer starts. threadpoolctl limits what is loaded already, in one process.
"""


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, and its control group's share."""
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        cores: int = os.process_cpu_count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(Path("/sys/fs/cgroup")))))


def _quota(root: Path) -> float:
    """Return how many cores' time a container may use, as Docker and Kubernetes limit it."""
    try:
        limit, period = (root / "cpu.max").read_text().split()
    except OSError:
        try:
            limit = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return math.inf
    return math.inf if limit in ("max", "-1") else int(limit) / int(period)


def thread_limits(
    workers: int, environment: Mapping[str, str], threads: int | None = None
) -> dict[str, str]:
    """Return the variables that tell each of ``workers`` processes how many threads it may have.

    What the user has set stays; OMP_NUM_THREADS, if set, stands for all that are not.

    Args:
        workers: how many share the cores.
        environment: the user's.
        threads: how many each may have; by default its share of the cores.

    >>> thread_limits(1, {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "2"})["OPENBLAS_NUM_THREADS"]
    '3'
    """
    given = str(threads or max(1, usable_cores() // workers))
    share = environment.get("OMP_NUM_THREADS", given)
    return {name: share for name in THREADS if name not in environment}


def own_threads(workers: int, environment: Mapping[str, str]) -> int:
    """Return how many threads the libraries that train have, as it is to be recorded of a run.

    Args:
        workers: how many processes share the cores; 0 for this process alone.
        environment: the user's.

    >>> own_threads(1, {"OMP_NUM_THREADS": "3"})
    3
    """
    asked = environment.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    return max(1, usable_cores() // max(1, workers))


def visible_devices(gpus: object, environment: Mapping[str, str]) -> list[str]:
    """Return the devices that are asked for, as CUDA_VISIBLE_DEVICES names them.

    Args:
        gpus: ``"auto"`` for all that are there, or names or numbers of devices.
        environment: its CUDA_VISIBLE_DEVICES says which are there; else, the driver does.

    Raises:
        PlanError: there are none, or that is no list of devices.

    >>> visible_devices("auto", {"CUDA_VISIBLE_DEVICES": "2,5"})
    ['2', '5']
    >>> visible_devices([0, 1], {})
    ['0', '1']
    """
    if gpus != "auto":
        words = gpus.split(",") if isinstance(gpus, str) else gpus
        if not isinstance(words, list | tuple) or not words or not all(map(_device, words)):
            raise PlanError(
                f"gpus={gpus!r}: expected 'auto', or devices as CUDA_VISIBLE_DEVICES names them, "
                "such as [0, 1]."
            )
        return [str(word).strip() for word in words]
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        found = [word.strip() for word in listed.split(",") if _device(word.strip())]
    else:
        folder = Path("/proc/driver/nvidia/gpus")
        there = list(folder.iterdir()) if folder.is_dir() else []
        found = [str(number) for number in range(len(there))]
    if not found:
        raise PlanError(
            f"gpus='auto': no device is visible, CUDA_VISIBLE_DEVICES is {listed!r}. Name the "
            "devices, such as gpus=[0, 1], or leave gpus out."
        )
    return found


def _device(word: object) -> bool:
    if isinstance(word, str):
        return bool(word.strip()) and not word.strip().startswith("-")
    return isinstance(word, int) and not isinstance(word, bool) and word >= 0
