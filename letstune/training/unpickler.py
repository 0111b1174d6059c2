"""The unpickler: it also finds what was pickled when letstune's classes had other names.

Before the first release, pickles named the modules in which classes were defined, and these have
moved since. Now they name the modules from which users import, and these stay.
"""

from __future__ import annotations

import io
import pickle
from typing import IO, Any, Final

_MOVED: Final = {
    "letstune.annotations": "letstune.space",
    "letstune.checkpoints": "letstune",
    "letstune.distributions": "letstune.rand",
    "letstune.executors": "letstune",
    "letstune.observers": "letstune",
    "letstune.params": "letstune",
    "letstune.recorded": "letstune",
    "letstune.records": "letstune",
    "letstune.results": "letstune",
    "letstune.stores": "letstune",
    "letstune.trainer": "letstune",
    "letstune.tuning": "letstune",
}
_RENAMED: Final = {
    ("letstune.params", "_Field"): ("letstune.space", "Field"),
    ("letstune.samplers", "Observation"): ("letstune", "Observation"),
    ("letstune.samplers", "Sampler"): ("letstune", "Sampler"),
    ("letstune.space", "Space"): ("letstune", "Space"),
    ("letstune.stores", "DirectoryStore"): ("letstune.training", "DirectoryStore"),
    ("letstune.trainer", "Trainer"): ("letstune.training", "Trainer"),
}


class Unpickler(pickle.Unpickler):
    """Unpickles what letstune has pickled, today or before the first release."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function of a name; see `pickle.Unpickler.find_class`."""
        return super().find_class(*today(module, name))


def today(module: str, name: str) -> tuple[str, str]:
    """Return today's module and name of something that a pickle names."""
    return _RENAMED.get((module, name), (_MOVED.get(module, module), name))


def loads(data: bytes) -> Any:
    """Return what was pickled into bytes."""
    return load(io.BytesIO(data))


def load(file: IO[bytes]) -> Any:
    """Return what was pickled into a file."""
    return Unpickler(file).load()
