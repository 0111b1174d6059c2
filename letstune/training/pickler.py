"""The pickler: cloudpickle's, but code that is kept by value remembers which file it is from.

This is a module of its own, so that cloudpickle is imported only when something is pickled.
"""

from __future__ import annotations

from collections import ChainMap
from types import CodeType, FunctionType
from typing import Any, ClassVar, Final

import cloudpickle

from letstune.training.script import is_here, is_script

_NOWHERE: Final = "<dynamic-code>"


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Put back the name of the file, which cloudpickle leaves out to write the same bytes anywhere.

    letstune compares code by its fingerprint, not by its pickle, and a traceback without file and
    line is of no use to whoever reads in the morning that a trial failed.
    """
    make, parts = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return make, tuple(code.co_filename if part == _NOWHERE else part for part in parts)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles as cloudpickle does; tracebacks of what comes back name files and lines."""

    dispatch_table: ClassVar[ChainMap[type, Any]] = ChainMap(
        {CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
    )


class Sharing(Pickler):
    """Pickles for this process: what a script defines is shared, and not made a second time.

    A copy of a class of the script is not that class, for `pickle` and for `isinstance`.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is reduced; see `pickle.Pickler.reducer_override`."""
        if isinstance(obj, type | FunctionType) and is_script(obj.__module__) and is_here(obj):
            return NotImplemented  # by its name
        return super().reducer_override(obj)
