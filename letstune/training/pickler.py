"""The pickler: cloudpickle's, but code that is kept by value remembers which file it is from.

This is a module of its own, so that cloudpickle is imported only when something is pickled.
"""

from __future__ import annotations

from collections import ChainMap
from functools import _lru_cache_wrapper, lru_cache
from types import CodeType, FunctionType
from typing import Any, ClassVar, Final

import cloudpickle

from letstune.training.definitions import is_here, is_script

_NOWHERE: Final = "<dynamic-code>"


def _reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Put back the name of the file, which cloudpickle leaves out to write the same bytes anywhere.

    letstune compares code by its fingerprint, not by its pickle, and a traceback without file and
    line is of no use to whoever reads in the morning that a trial failed.
    """
    make, parts = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return make, tuple(code.co_filename if part == _NOWHERE else part for part in parts)


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    """Return a function whose results are remembered, with an empty memory."""
    return lru_cache(**parameters)(function)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles as cloudpickle does; tracebacks of what comes back name files and lines."""

    dispatch_table: ClassVar[ChainMap[type, Any]] = ChainMap(
        {CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
    )

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is reduced; see `pickle.Pickler.reducer_override`."""
        if isinstance(obj, _lru_cache_wrapper) and is_script(obj.__module__):
            # cloudpickle keeps its name only, by which it is found nowhere else.
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        return super().reducer_override(obj)


class Sharing(Pickler):
    """Pickles for this process: what a script defines is shared, and not made a second time.

    A copy of a class of the script is not that class, for `pickle` and for `isinstance`.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is reduced; see `pickle.Pickler.reducer_override`."""
        shared = isinstance(obj, type | FunctionType | _lru_cache_wrapper)
        if shared and is_script(obj.__module__) and is_here(obj):
            return NotImplemented  # by its name
        return super().reducer_override(obj)


class _Nowhere:
    """A file that keeps nothing, and takes no more than so many bytes."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def write(self, data: Any) -> int:
        """Take a piece of a pickle."""
        self._left -= len(data)
        if self._left < 0:
            raise OverflowError
        return len(data)


class Noting(Pickler):
    """Writes nothing, and notes which classes and functions of scripts are in a pickle."""

    def __init__(self, limit: int) -> None:
        super().__init__(_Nowhere(limit))
        self.things: list[type | FunctionType] = []

    def reducer_override(self, obj: Any) -> Any:
        """Return how an object is reduced; see `pickle.Pickler.reducer_override`."""
        if isinstance(obj, type | FunctionType) and is_script(obj.__module__):
            self.things.append(obj)
        return super().reducer_override(obj)
