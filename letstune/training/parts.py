"""The parts of an object, by depth, as a value that outlives it and that another process can have.

A trainer trains on while it is compared with another one, perhaps in another process; so what is
compared is not the objects, but what is noted of them here. Of an array there is a digest.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from types import ModuleType
from typing import Any, Final, NamedTuple

STATE: Final = "state_dict()"
"""The one part of an object that tells itself what its state is."""

_DEEP: Final = 40
"""So deep is what is looked at; what is below is taken for the same."""
_MANY: Final = 200_000
"""So many parts are looked at."""
_LONG: Final = 100
"""So many plain numbers in a row are told as an array."""
_SAMPLED: Final = 2**28
"""Of an array with more bytes, only a part is looked at."""

# What belongs to the process rather than to the model, and has a __dict__ all the same.
_NOT_OURS: Final = {
    *("_io", "_thread", "asyncio", "concurrent", "ctypes", "io", "itertools", "letstune"),
    *("logging", "multiprocessing", "queue", "socket", "sqlite3", "subprocess", "tempfile"),
    *("threading", "weakref"),
}

Step = tuple[str, Any]
"""From an object to a part of it: what kind of step, and the name, key or place."""
Path = tuple[Step, ...]


class Part(NamedTuple):
    """What is noted of an object.

    Attributes:
        kind: value, array, generator, mapping, sequence, object, or opaque for what cannot be
            compared.
        key: equal if that is the same, its parts aside.
        shown: what it is, for people.
        parts: its parts.
        identity: which object it was, among those that are noted at the same time.
    """

    kind: str
    key: Any
    shown: str
    parts: Mapping[Step, Part]
    identity: int


class Anatomy:
    """Notes what objects are made of.

    Args:
        alive: takes what must live as long as the identities of parts are compared.
    """

    def __init__(self, alive: list[object]) -> None:
        self._alive = alive
        self._seen: dict[int, Part | None] = {}
        self._left = _MANY

    def of(self, value: object, depth: int = 0) -> Part:
        """Return what there is to note of a value."""
        if (plain := _plain(value)) is not None:
            return plain
        if id(value) in self._seen:
            # None: it is being noted, and so among its own parts.
            return self._seen[id(value)] or _part("opaque", None, "", value)
        self._left -= 1
        if depth > _DEEP or self._left < 0:
            return _part("opaque", None, "", value)
        self._seen[id(value)] = None
        self._alive.append(value)
        try:
            part = self._noted(value, depth)
        except Exception:  # noqa: BLE001 (of whatever the object's class does when it is asked)
            part = _part("opaque", None, "", value)
        self._seen[id(value)] = part
        return part

    def _noted(self, value: Any, depth: int) -> Part:
        for note in (_generator, _array):
            if (part := note(value)) is not None:
                return part
        if isinstance(value, Mapping):
            keys = [_key(n, key) for n, key in enumerate(value)]
            parts = self._parts(zip(keys, value.values(), strict=True), depth)
            return _part("mapping", frozenset(keys), _counted(len(value), "key"), value, parts)
        if isinstance(value, AbstractSet):
            plain = frozenset(repr(item) for item in value if _plain(item) is not None)
            return _part("value", plain, _counted(len(value), "item"), value)
        if _is_sequence(value):
            if len(value) > _LONG and all(type(item) in (int, float) for item in value):
                digest = hashlib.blake2b(repr(list(value)).encode()).digest()
                return _part("array", (len(value), digest), _counted(len(value), "item"), value)
            parts = self._parts(((("item", n), item) for n, item in enumerate(value)), depth)
            return _part("sequence", len(value), _counted(len(value), "item"), value, parts)
        return self._object(value, depth)

    def _object(self, value: Any, depth: int) -> Part:
        cls = type(value)
        shown = f"a {cls.__name__}"
        if _is_opaque(value):
            return _part("opaque", None, shown, value)
        if callable(getattr(cls, "state_dict", None)):
            state = value.state_dict()
            # What else is in it, such as the flag whether a module trains, is not its state.
            return _part("object", None, shown, value, {("call", STATE): self.of(state, depth + 1)})
        fields = dict(_slots(value)) | dict(getattr(value, "__dict__", {}))
        if not fields and not hasattr(value, "__dict__"):
            return _part("opaque", None, shown, value)
        parts = self._parts(((("field", name), part) for name, part in fields.items()), depth)
        return _part("object", None, shown, value, parts)

    def _parts(self, items: Iterable[tuple[Step, Any]], depth: int) -> dict[Step, Part]:
        return {step: self.of(item, depth + 1) for step, item in items}


def _key(place: int, key: object) -> Step:
    """Return the step to the value of a key; an object that is a key goes by its place."""
    if isinstance(key, str | int | float | bytes | None):
        return ("key", key)
    if isinstance(key, tuple) and all(isinstance(k, str | int | float | None) for k in key):
        return ("key", key)
    return ("key", f"{type(key).__name__} {place}")


def _part(
    kind: str, key: Any, shown: str, value: object, parts: Mapping[Step, Part] | None = None
) -> Part:
    return Part(kind, key, shown, parts or {}, id(value))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _plain(value: Any) -> Part | None:
    """Note a plain value; a number is the same whatever its class, as after a trip through JSON."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        try:
            value = value.item()
        except (AttributeError, ValueError):
            return None
    if value is None:
        return Part("value", ("None", None), "None", {}, 0)
    kinds: tuple[Any, ...] = (str, bytes, int, float, complex)
    for cls in kinds:  # of a class derived from these, what it holds
        if isinstance(value, cls):
            try:
                held = value if isinstance(value, bool) else cls(value)
            except Exception:  # noqa: BLE001 (of that class)
                return None
            shown = f"{held:.6g}" if cls is float else repr(held)
            kind = "number" if cls in (int, float, complex) else cls.__name__
            key = "nan" if held != held else held  # NaN is the same as NaN
            return Part("value", (kind, key), _short(shown), {}, 0)
    return None


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _generator(value: Any) -> Part | None:
    """Note the state of a generator of random numbers."""
    numpy_random, torch = sys.modules.get("numpy.random"), sys.modules.get("torch")
    state: object = None
    if isinstance(value, random.Random):
        if value is getattr(random, "_inst", None):  # letstune seeds it
            return _part("opaque", None, "", value)
        state = value.getstate()
    elif numpy_random and isinstance(value, numpy_random.RandomState):
        if value is getattr(numpy_random.mtrand, "_rand", None):
            return _part("opaque", None, "", value)
        state = value.get_state()
    elif numpy_random and isinstance(value, numpy_random.Generator):
        state = value.bit_generator.state
    elif numpy_random and isinstance(value, numpy_random.BitGenerator):
        state = value.state
    elif torch and isinstance(value, torch.Generator):
        state = value.get_state().numpy().tobytes()
    if state is None:
        return None
    return _part("generator", _digest_of(state), "a generator", value)


def _digest_of(state: object) -> bytes:
    """Return a digest of a generator's state: numbers, texts and arrays in dicts and tuples."""
    if isinstance(state, dict):
        state = [(name, _digest_of(item)) for name, item in sorted(state.items())]
    elif isinstance(state, tuple | list):
        state = [_digest_of(item) for item in state]
    elif hasattr(state, "tobytes"):
        state = state.tobytes()
    return hashlib.blake2b(repr(state).encode()).digest()


def _array(value: Any) -> Part | None:
    """Note an array or tensor, of whatever library that can turn it into NumPy's."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is None:
        return None
    kind, cls = "", type(value)
    if torch and isinstance(value, torch.Tensor):
        kind = str(value.dtype)
        shape = tuple(value.shape)
        # Byte by byte, since NumPy has not all of its types.
        found = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    elif hasattr(cls, "__array__") and hasattr(value, "dtype") and hasattr(value, "shape"):
        found = numpy.asarray(value)
        kind, shape = str(found.dtype), tuple(found.shape)
    else:
        return None
    if found.dtype.hasobject:
        return None if isinstance(value, numpy.ndarray) else _part("opaque", None, "", value)
    digest = hashlib.blake2b()
    for piece in _pieces(found):
        digest.update(numpy.ascontiguousarray(piece).tobytes())
    return _part("array", (kind, shape, digest.digest()), f"{kind} of shape {shape}", value)


def _pieces(array: Any) -> Iterator[Any]:
    """Yield an array, or every so-manieth row of a large one."""
    rows = len(array) if array.ndim else 0
    step = max(1, -(-array.nbytes // _SAMPLED))
    if not rows or step == 1:
        yield array
        return
    for first in range(0, rows, 1000 * step):
        yield array[first : first + 1000]


def _is_sequence(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return True
    return type(value).__module__ == "collections" and hasattr(value, "maxlen")


def _is_opaque(value: Any) -> bool:
    """Tell whether an object is not to be looked into: code, or what is the process's."""
    if isinstance(value, type | ModuleType) or hasattr(type(value), "__next__"):
        return True
    if hasattr(type(value), "__get__"):  # a function or method
        return True
    return type(value).__module__.partition(".")[0] in _NOT_OURS


def _slots(value: Any) -> Iterator[tuple[str, Any]]:
    for cls in type(value).__mro__:
        names = cls.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def spelled(path: Path) -> str:
    """Return a path as a user would write it, below the trainer.

    >>> spelled((("field", "opt"), ("call", "state_dict()"), ("key", "state"), ("item", 0)))
    "opt.state_dict()['state'][0]"
    """
    text = ""
    for kind, name in path:
        text += f"[{name!r}]" if kind in ("key", "item") else f".{name}"
    return text.removeprefix(".")


def holder(found: object, path: Path) -> object:
    """Return the object whose field a path leads to; None if the path cannot be followed."""
    there: Any = found
    for kind, name in path[:-1]:
        try:
            fields = getattr(there, "__dict__", {})
            there = fields[name] if kind == "field" and name in fields else (
                getattr(there, name) if kind == "field" else there[name]
            )  # fmt: skip
        except (AttributeError, KeyError, IndexError, TypeError):
            return None
    return there
