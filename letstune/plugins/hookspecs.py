"""What can be plugged in: one hook for each kind of thing.

A plugin is a module that implements some of these hooks, marked with `letstune.hookimpl`, says
``LETSTUNE_API = 1``, and is named by entry points of its distribution, in the group ``letstune``,
one for each thing that it registers::

    [project.entry-points.letstune]
    "sampler.tpe" = "letstune_optuna"
    "store.s3" = "letstune_fsspec"

So plugins can be listed, and a run can load just those that it names, without importing the rest.

What a factory's ``harmless_options`` lists may be recorded, whatever text it is: see
`letstune.plugins.harmless`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

import pluggy

if TYPE_CHECKING:
    import click

    from letstune.samplers.sampler import Sampler
    from letstune.telling.observers import Observer
    from letstune.training.stores import Store
    from letstune.workers.executor import Executor

PROJECT: Final = "letstune"
"""The name of the entry-point group, and pluggy's name for all of this."""

API_VERSION: Final = 1
"""What a plugin's ``LETSTUNE_API`` must be: it changes when a hook or an ABC does."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


Made = TypeVar("Made", contravariant=True)


class Register(Protocol, Generic[Made]):
    """What a hook calls, once for each thing that it registers."""

    def __call__(self, name: str, factory: Callable[..., Made], /) -> None:
        """Register a factory under the name that the entry point has after the dot."""


@hookspec
def register_samplers(register: Register[Sampler]) -> None:
    """Register samplers by name; ``factory(**options)`` returns a `Sampler`."""


@hookspec
def register_stores(register: Register[Store]) -> None:
    """Register stores by URI scheme; ``factory(uri, **options)`` returns a `Store`.

    Each run has its own uri, below the one that its user gave. The scheme ``*`` stands for every
    scheme that no other plugin registers.
    """


@hookspec
def register_executors(register: Register[Executor]) -> None:
    """Register executors by URI scheme; ``factory(address, job, **options)`` returns an `Executor`.

    The address is what the user gave as ``workers``: a URI of that scheme, or an object of a class
    from the package of that name.
    """


@hookspec
def register_observers(register: Register[Observer]) -> None:
    """Register observers by name; ``factory(**options)`` returns an `Observer`."""


@hookspec
def register_exports(register: Register[None]) -> None:
    """Register formats of ``letstune export`` by name; ``factory(tuning, path)`` writes one.

    It gets the `TuningResults` that `letstune.load` returns, and the path of a file to be made.
    """


@hookspec
def register_commands(register: Register[click.Command]) -> None:
    """Register commands of ``letstune`` by name; ``factory()`` returns a `click.Command`."""
