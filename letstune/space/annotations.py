"""What values the annotation of a parameter allows, and how they are read back from JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, ForwardRef, Literal, TypeAlias, Union, get_args, get_origin

from letstune._public import public
from letstune.errors import SpaceError
from letstune.space.distributions import Bools, Constant, Distribution, OneOf
from letstune.space.encoding import decode, exact, plain
from letstune.space.tree import Node, Space

MISFIT: Final = object()
_SCALARS: Final = (bool, int, float, str, NoneType)

Resolve: TypeAlias = Callable[[str, str], Any]


@public("letstune.space")
@dataclass(frozen=True, eq=False)
class Literals:
    """The values of a ``Literal[...]``."""

    values: tuple[Any, ...]


@public("letstune.space")
@dataclass(frozen=True, eq=False)
class TupleOf:
    """A ``tuple[X, Y]``, or a ``tuple[X, ...]`` if `variadic`."""

    items: tuple[Annotation, ...]
    variadic: bool

    def convert(self, values: Any, how: Callable[[Annotation, Any], Any]) -> Any:
        """Return the tuple of all values, each converted, or MISFIT."""
        items = self.items * len(values) if self.variadic else self.items
        if len(items) != len(values):
            return MISFIT
        converted = tuple(how(item, value) for item, value in zip(items, values, strict=True))
        return MISFIT if MISFIT in converted else converted


Member: TypeAlias = type | Literals | TupleOf


@public("letstune.space")
@dataclass(frozen=True, eq=False)
class Annotation:
    """An annotation as the members of a union, perhaps of only one.

    Attributes:
        text: the annotation for messages.
        members: scalar types, Enum classes, Params classes, literals and tuples.
    """

    text: str
    members: tuple[Member, ...]

    @property
    def tagged(self) -> bool:
        """Whether nested params need the name of their class in JSON."""
        return len(self.members) > 1 and bool(_params_classes(self.members))

    def coerce(self, value: Any) -> Any:
        """Return the value as the annotation has it (an int as a float), or MISFIT."""
        if type(value) not in self.members:
            value = plain(value)
        if type(value) in self.members:
            return value
        for member in self.members:
            if isinstance(member, Literals) and exact(value) in map(exact, member.values):
                return value
            if isinstance(member, TupleOf) and isinstance(value, tuple | list):
                converted = member.convert(value, Annotation.coerce)
                if converted is not MISFIT:
                    return converted
        if type(value) is int and float in self.members:
            try:
                return float(value)
            except OverflowError:
                return MISFIT
        return MISFIT

    def decode(self, data: Any) -> Any:
        """Return the value that was written to JSON as this, or MISFIT.

        Raises:
            SpaceError: nested params are not what they must be.
        """
        if isinstance(data, dict) and "$float" not in data:
            values = dict(data)
            name = values.pop("$type", None)
            for cls in _params_classes(self.members):
                if name == cls.__name__ or (name is None and not self.tagged):
                    return cls.from_dict(values)
            return MISFIT
        for member in self.members:
            if isinstance(data, list) and isinstance(member, TupleOf):
                return member.convert(data, Annotation.decode)
            if isinstance(data, str):
                for candidate in _enum_members(member):
                    if candidate.name == data:
                        return candidate
        return self.coerce(decode(data))

    def sampled(self) -> Node | None:
        """Return how a field without a distribution is sampled; None if it needs one."""
        nodes = [_sampled(member) for member in self.members]
        if None in nodes:
            return None
        return nodes[0] if len(nodes) == 1 else OneOf(tuple(n for n in nodes if n is not None))

    def fit(self, node: Any) -> Any:
        """Return a distribution with constants as the annotation has them, or MISFIT."""
        if isinstance(node, Constant):
            value = self.coerce(node.value)
            return MISFIT if value is MISFIT else Constant(value)
        if isinstance(node, Space):
            return node if node.cls in self.members else MISFIT
        if isinstance(node, OneOf):
            candidates = tuple(map(self.fit, node.candidates))
            return MISFIT if MISFIT in candidates else replace(node, candidates=candidates)
        fits = isinstance(node, Distribution) and node.produces in self.members
        return node if fits else MISFIT


def _params_classes(members: tuple[Any, ...]) -> list[Any]:
    # An attribute tells them, since their base class is in a module that imports this one.
    return [member for member in members if hasattr(member, "_space")]


def _enum_members(member: Any) -> list[Enum]:
    values = member.values if isinstance(member, Literals) else ()
    if isinstance(member, type) and issubclass(member, Enum):
        values = tuple(member)
    return [value for value in values if isinstance(value, Enum)]


def _sampled(member: Any) -> Node | None:
    if member is NoneType:
        return Constant(None)
    if member is bool:
        return Bools()
    if hasattr(member, "_space"):
        space: Space = member._space
        return space
    values = member.values if isinstance(member, Literals) else tuple(_enum_members(member))
    if not values:
        return None
    return Constant(values[0]) if len(values) == 1 else OneOf(tuple(map(Constant, values)))


def parse(annotation: Any, where: str, resolve: Resolve) -> Annotation:
    """Return what an annotation allows.

    Args:
        annotation: as Python has it.
        where: the field, for messages.
        resolve: evaluates a string annotation, given it and `where`.

    Raises:
        SpaceError: a parameter can't have this annotation.
    """
    text = annotation if isinstance(annotation, str) else _text(annotation)
    members = tuple(_members(annotation, where, resolve))
    _require_distinct(members, f"{where}: {text}")
    return Annotation(text, members)


def _text(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.sub(r"(?:[\w<>]+\.)+(\w)", r"\1", text)  # without the modules


def _members(annotation: Any, where: str, resolve: Resolve) -> Iterator[Member]:
    while isinstance(annotation, str | ForwardRef):
        text = annotation if isinstance(annotation, str) else annotation.__forward_arg__
        annotation = resolve(text, where)
    # That of a `type X = ...` statement.
    annotation = getattr(annotation, "__value__", annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        for argument in arguments:
            yield from _members(argument, where, resolve)
    elif origin is Literal:
        yield Literals(tuple(Constant(value).value for value in arguments))
    elif origin is tuple and arguments:
        variadic = len(arguments) == 2 and arguments[1] is Ellipsis
        items = tuple(
            parse(argument, where, resolve)
            for argument in (arguments[:1] if variadic else arguments)
        )
        if any(_params_classes(item.members) for item in items):
            raise SpaceError(f"{where}: a tuple can't hold params; give each of them a field.")
        yield TupleOf(items, variadic)
    elif annotation is None or annotation in _SCALARS:
        yield annotation or NoneType
    elif isinstance(annotation, type) and (hasattr(annotation, "_space") or _is_enum(annotation)):
        yield annotation
    elif isinstance(annotation, type) and issubclass(annotation, Enum) and annotation is not Enum:
        raise SpaceError(
            f"{where}: the Enum {_text(annotation)} has no members. Functions in an Enum are its "
            "methods; to have one as a member, write NAME = enum.member(function)."
        )
    else:
        raise SpaceError(
            f"{where}: {_text(annotation)} can't be the type of a parameter. Use bool, int, "
            "float, str, Literal, an Enum, a tuple of those, a Params class, or a union."
        )


def _is_enum(annotation: type) -> bool:
    return issubclass(annotation, Enum) and len(annotation) > 0


def _require_distinct(members: tuple[Member, ...], where: str) -> None:
    names = [cls.__name__ for cls in _params_classes(members)]
    if len(set(names)) < len(names):
        raise SpaceError(
            f"{where} has two classes of the same name, which JSON couldn't tell apart; rename one."
        )
    enums = [member for member in members if _enum_members(member)]
    texts = [
        member
        for member in members
        if member is str
        or (isinstance(member, Literals) and any(type(v) is str for v in member.values))
    ]
    if len(enums) > 1 or (enums and texts):
        raise SpaceError(
            f"{where} has an Enum beside strings or another Enum, which JSON couldn't tell apart; "
            "use one Enum for all."
        )
    if sum(isinstance(member, TupleOf) for member in members) > 1:
        raise SpaceError(
            f"{where} has two tuple types; use one, for instance tuple[int | str, ...]."
        )
