"""Trains letstune's trials on a Dask cluster: ``workers="dask://scheduler:8786"``."""

from typing import Final

from letstune import Executor, hookimpl
from letstune.plugins import Register
from letstune_dask.executor import DaskExecutor

__all__ = ["DaskExecutor"]

LETSTUNE_API: Final = 1

NAMES: Final = ("dask", "tcp", "tls", "distributed")


@hookimpl
def register_executors(register: Register[Executor]) -> None:
    """Register the executor for addresses of schedulers, and for a `distributed.Client`."""
    for name in NAMES:
        register(name, DaskExecutor)
