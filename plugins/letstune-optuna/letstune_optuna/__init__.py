"""Optuna's samplers for letstune, exactly resumable, and export of runs to Optuna.

``letstune tune --sampler tpe``, ``letstune.tune(..., sampler=("tpe", {"group": True}))``,
``letstune.tune(..., sampler=TPE(group=True))`` or
``letstune.tune(..., sampler=OptunaSampler(optuna.samplers.BruteForceSampler()))``.
"""

from letstune import Sampler, hookimpl
from letstune.plugins import Register

from letstune_optuna.export import export
from letstune_optuna.samplers import (
    BY_NAME,
    CMAES,
    GP,
    NSGAII,
    QMC,
    TPE,
    OptunaSampler,
    factory,
)

__all__ = ["CMAES", "GP", "NSGAII", "QMC", "TPE", "OptunaSampler", "export"]

LETSTUNE_API = 1


@hookimpl
def register_samplers(register: Register[Sampler]) -> None:
    """Register the samplers."""
    for name in BY_NAME:
        register(name, factory(name))


@hookimpl
def register_exports(register: Register[None]) -> None:
    """Register the export to Optuna's SQLite."""
    register("optuna", export)
