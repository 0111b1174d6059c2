"""The kinds of things that can be plugged in, and what there is for each.

It imports nothing: the command line's ``--help`` lists kinds, and must be quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

HOOKS: Final[Mapping[str, str]] = {
    "sampler": "register_samplers",
    "store": "register_stores",
    "executor": "register_executors",
    "observer": "register_observers",
    "export": "register_exports",
    "command": "register_commands",
}
"""All kinds, and the hook of each."""

EXAMPLES: Final[Mapping[str, str]] = {
    "sampler": "letstune-optuna",
    "store": "letstune-fsspec",
    "executor": "letstune-dask",
}
"""A plugin of each kind, for an error that says what could be installed."""

WITH_LAWS: Final = ("sampler", "store", "executor")
"""The kinds for which `letstune.testing` has a suite of laws."""

WITH_TEMPLATE: Final = ("sampler", "store")
"""The kinds for which `letstune plugins new` writes a plugin."""
