"""What a script has set up in its process, so that its workers have it, too.

That is what `logging.basicConfig`, `Logger.setLevel` and the functions of `warnings` set: levels,
handlers that write to a stream or a file, and filters. Handlers of other kinds stay where they are,
since two processes may not share what they hold.
"""

from __future__ import annotations

import logging
import pickle
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from letstune.telling.lines import say

_STREAMS: Final = ("stderr", "stdout")


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A handler of the root logger.

    Attributes:
        target: a file, or the name of a stream of `sys`.
        is_file: which of them it is.
        level: its level.
        formatter: its formatter; None for the usual one.
    """

    target: str
    is_file: bool
    level: int
    formatter: logging.Formatter | None

    @staticmethod
    def of(handler: logging.Handler) -> Handler | None:
        """Return what there is to know of a handler; None if another process cannot have it."""
        kind, target = type(handler), ""
        if kind is logging.FileHandler:
            target = getattr(handler, "baseFilename", "")
        elif kind is logging.StreamHandler:
            stream = getattr(handler, "stream", None)
            target = next((name for name in _STREAMS if getattr(sys, name) is stream), "")
        is_file = kind is logging.FileHandler
        found = Handler(
            target=target, is_file=is_file, level=handler.level, formatter=handler.formatter
        )
        return found if target else None

    def is_like(self, handler: logging.Handler) -> bool:
        """Tell whether a handler writes the same to the same place."""
        other = Handler.of(handler)
        if other is None or (self.target, self.level) != (other.target, other.level):
            return False
        form, another = (getattr(one.formatter, "_fmt", None) for one in (self, other))
        return bool(form == another)

    def make(self) -> logging.Handler:
        """Return a handler like it."""
        stream: Any = getattr(sys, self.target, None)
        made = logging.FileHandler(self.target) if self.is_file else logging.StreamHandler(stream)
        made.setLevel(self.level)
        made.setFormatter(self.formatter)
        return made


class Filter(NamedTuple):
    """A filter of warnings, with patterns as text; see `warnings.filterwarnings`."""

    action: Any
    message: str
    category: type[Warning]
    module: str
    lineno: int

    @staticmethod
    def of(entry: Any) -> Filter:
        """Return the filter that an entry of `warnings.filters` is."""
        action, message, category, module, lineno = entry
        return Filter(action, _pattern(message), category, _pattern(module), lineno)


def _pattern(regex: Any) -> str:
    pattern: str = getattr(regex, "pattern", regex) or ""
    return pattern


@dataclass(frozen=True, kw_only=True)
class SetUp:
    """What a process has set up.

    Attributes:
        levels: those of loggers that have one, by name; the root's is ``""``.
        handlers: the root logger's, each as a pickle.
        filters: of warnings, each as a pickle, the first to be asked first.
    """

    levels: Mapping[str, int]
    handlers: list[bytes]
    filters: list[bytes]

    @staticmethod
    def here() -> SetUp:
        """Return what this process has set up, as far as another one can have it."""
        loggers = {"": logging.root, **logging.Logger.manager.loggerDict}
        handlers = map(Handler.of, logging.root.handlers)
        return SetUp(
            levels={
                name: logger.level
                for name, logger in loggers.items()
                if isinstance(logger, logging.Logger) and logger.level
            },
            handlers=list(_pickled(handler for handler in handlers if handler)),
            filters=list(_pickled(map(Filter.of, warnings.filters))),
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Set the same up in this process; in the block, what the trainer needs is imported.

        Meanwhile no warning is an error, since the script may have imported it before it said so.
        And a module may add a handler of its own, as it has done in the script's process.
        """
        for name, level in self.levels.items():
            logging.getLogger(name or None).setLevel(level)
        added = self._add_handlers()
        filters = list(_unpickled(self.filters))
        _filter(one for one in filters if one.action != "error")
        yield
        _filter(filters)
        for handler, made in added:
            if any(handler.is_like(one) for one in logging.root.handlers if one is not made):
                logging.root.removeHandler(made)
                made.close()

    def _add_handlers(self) -> list[tuple[Handler, logging.Handler]]:
        added = []
        for handler in _unpickled(self.handlers):
            try:
                added.append((handler, handler.make()))
                logging.root.addHandler(added[-1][1])
            except OSError as error:
                say(f"letstune: a worker cannot log to {handler.target}: {error}.")
        return added


def _filter(filters: Iterable[Filter]) -> None:
    """Put filters in the place of all that are there."""
    warnings.resetwarnings()
    for one in reversed(list(filters)):
        warnings.filterwarnings(*one)


def _pickled(values: Iterable[Any]) -> Iterator[bytes]:
    for value in values:
        # What another process cannot have, such as a category that was made in a function, stays.
        with suppress(Exception):
            yield pickle.dumps(value)


def _unpickled(pickles: Iterable[bytes]) -> Iterator[Any]:
    for one in pickles:
        with suppress(ImportError, AttributeError):  # a category of a package that is not there
            yield pickle.loads(one)
