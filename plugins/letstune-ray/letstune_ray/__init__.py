"""Trains letstune's trials on a Ray cluster: ``workers="ray://auto"``."""

from typing import Final

from letstune import Executor, hookimpl
from letstune.plugins import Register
from letstune_ray.executor import RayExecutor

__all__ = ["RayExecutor"]

LETSTUNE_API: Final = 1


@hookimpl
def register_executors(register: Register[Executor]) -> None:
    """Register the executor for addresses such as ``ray://auto``."""
    register("ray", RayExecutor)
