"""What letstune itself plugs in, through the same hooks as any other plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from letstune.plugins.hookspecs import API_VERSION, Register, hookimpl
from letstune.samplers.bayes import BayesSampler
from letstune.samplers.sampler import GridSampler, RandomSampler, Sampler, SobolSampler
from letstune.training.places import Mark
from letstune.training.stores import DirectoryStore, Store
from letstune.workers.executor import Executor
from letstune.workers.in_process import InProcessExecutor

LETSTUNE_API: Final = API_VERSION

NAMES: Final = (
    *("sampler.random", "sampler.grid", "sampler.sobol", "sampler.bayes", "store.directory"),
    *("executor.in-process", "executor.processes"),
)
"""What the entry points of a distribution would say."""


@hookimpl
def register_samplers(register: Register[Sampler]) -> None:
    """Register the samplers that need nothing but NumPy and SciPy."""
    register("random", RandomSampler)
    register("grid", GridSampler)
    register("sobol", SobolSampler)
    register("bayes", BayesSampler)


@hookimpl
def register_stores(register: Register[Store]) -> None:
    """Register the store for every path that is not a URI."""
    register("directory", _directory)


def _directory(uri: str, mark: Mark | None = None) -> DirectoryStore:
    return DirectoryStore(Path(uri), mark=mark)


@hookimpl
def register_executors(register: Register[Executor]) -> None:
    """Register this process, and processes of this machine. Neither goes by an address."""
    register("in-process", _in_process)
    register("processes", _processes)


def _in_process(address: None, job: Any, *, token: str, **limits: Any) -> Executor:
    return InProcessExecutor(job.worker(token))


def _processes(workers: int, job: Any, *, token: str, **options: Any) -> Executor:
    # Imported late: a run in this process does without it.
    from letstune.workers.process_executor import ProcessExecutor

    return ProcessExecutor(job, workers, token, **options)
