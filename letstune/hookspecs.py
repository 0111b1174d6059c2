"""What can be plugged in: one hook for each kind of thing.

A plugin is a module that implements some of these hooks, marked with `letstune.hookimpl`, says
``LETSTUNE_API = 1``, and is named by entry points of its distribution, in the group ``letstune``,
one for each thing that it registers::

    [project.entry-points.letstune]
    "sampler.tpe" = "letstune_optuna"
    "store.s3" = "letstune_fsspec"

So what is there can be listed, and a run can load just what it names, without importing the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import pluggy

PROJECT: Final = "letstune"
"""The name of the entry-point group, and pluggy's name for all of this."""

API_VERSION: Final = 1
"""What a plugin's ``LETSTUNE_API`` must be: it changes when a hook or an ABC does."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Register(Protocol):
    """What a hook calls, once for each thing that it registers."""

    def __call__(self, name: str, factory: Callable[..., Any], /) -> None:
        """Register a factory under the name that the entry point has behind the dot."""


@hookspec
def register_samplers(register: Register) -> None:
    """Register samplers by name; ``factory(**options)`` returns a `Sampler`."""


@hookspec
def register_stores(register: Register) -> None:
    """Register stores by URI scheme; ``factory(uri, **options)`` returns a `Store`.

    Each run has its own uri, below the one that its user gave. The scheme ``*`` stands for every
    scheme that no other plugin registers.
    """


@hookspec
def register_executors(register: Register) -> None:
    """Register executors by URI scheme; ``factory(address, job, **options)`` returns an `Executor`.

    The address is what the user gave as ``workers``: a URI of that scheme, or an object of a class
    from the package of that name.
    """


@hookspec
def register_observers(register: Register) -> None:
    """Register observers by name; ``factory(**options)`` returns an `Observer`."""


@hookspec
def register_exports(register: Register) -> None:
    """Register formats of ``letstune export`` by name; ``factory(tuning, path)`` writes one.

    It gets the `TuningResults` that `letstune.load` returns, and the path of a file to be made.
    """


@hookspec
def register_commands(register: Register) -> None:
    """Register commands of ``letstune`` by name; ``factory()`` returns a `click.Command`."""
