"""Params: declare what is tuned as the fields of a class.

    class SGDParams(Params):
        model_cls = SGDClassifier

        average: bool
        l1_ratio: float = rand.uniform(0, 1)
        alpha: float = rand.uniform(1e-5, 1, log=True)

Instances are what a trainer gets: immutable values with an exact JSON form.
"""

# No `from __future__ import annotations`: users' classes ask for the annotations of `Params`, and
# text would be looked up in the module of its public name.

import json
import re
import sys
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Self,
    cast,
    dataclass_transform,
    get_origin,
)

from letstune import rand
from letstune._public import public
from letstune.errors import SpaceError
from letstune.space.annotations import MISFIT, Annotation, parse
from letstune.space.distributions import Constant, Distribution, OneOf, Undeclared
from letstune.space.encoding import encode
from letstune.space.recorded_params import ParamsLike, RecordedParams, dumps, encode_params
from letstune.space.tree import Node, Space

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Params", "ParamsLike", "RecordedParams", "Space"]

_MISSING: Final = object()
_CLASS_VAR: Final = re.compile(r"^\s*(\w+\.)*ClassVar\b")
_EXAMPLES: Final[Mapping[type, str]] = {
    float: "rand.uniform(0, 1)",
    int: "rand.ints(1, 10)",
    str: 'rand.oneof(["a", "b"])',
}


@public("letstune.space")
@dataclass(frozen=True, eq=False)
class Field:
    annotation: Annotation
    node: Node
    default: Any

    @property
    def tagged(self) -> bool:
        # Whatever is under a `OneOf` is tagged, even if it has only one class.
        return self.annotation.tagged or isinstance(self.node, OneOf)


@public("letstune")
@dataclass_transform(
    kw_only_default=True,
    frozen_default=True,
    field_specifiers=(rand.uniform, rand.normal, rand.ints, rand.oneof, rand.bools),
)
class Params:
    """Base class of params; a subclass declares them as annotated fields.

    A field is sampled from its distribution (see `letstune.rand`). Without one, bools, literals,
    Enums, nested params and unions of these are sampled uniformly. A plain default is a constant.

    Attributes:
        model_cls: what `create_model` calls; not a field.

    Raises:
        SpaceError: a declaration, or a value at construction, is not what it must be.

    >>> from letstune import rand
    >>> class SGDParams(Params):
    ...     average: bool
    ...     alpha: float = rand.uniform(1e-5, 1, log=True)
    ...     penalty: str = "l2"
    >>> params = SGDParams(average=True, alpha=0.1)
    >>> params
    SGDParams(average=True, alpha=0.1, penalty='l2')
    >>> params.to_json()
    '{"average":true,"alpha":0.1,"penalty":"l2"}'
    >>> SGDParams.from_json(params.to_json()) == params
    True
    """

    # The fields are in the __dict__ of the subclass' instance, and nothing else is.
    __slots__ = ("_json",)

    model_cls: ClassVar[Any] = None
    _declared: ClassVar[dict[str, Field]] = {}  # in the class itself
    _fields: ClassVar[dict[str, Field]] = {}
    _space: ClassVar[Space]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # cloudpickle makes a class without content first, and sets these attributes afterwards;
        # so what is derived from the declarations must be plain attributes of the class.
        cls._declared, cls._fields = _collect_fields(cls)
        cls._space = Space(
            cls.__name__,
            tuple((name, field.node) for name, field in cls._fields.items()),
            _is_custom(cls),
            tuple(name for name, field in cls._fields.items() if field.tagged),
            cls,
        )

    if not TYPE_CHECKING:
        # To a type checker, the signature is what dataclass_transform says, and setting an
        # attribute is an error.

        def __init__(self, **values: Any) -> None:
            stored = self.__dict__
            fields = type(self)._fields
            for name, field in fields.items():
                value = values.get(name, field.default)
                fitting = field.annotation.coerce(value)
                if fitting is MISFIT:
                    _require_names(type(self), fields, values)
                    _raise_misfit(f"{type(self).__name__}.{name}", value, field.annotation)
                stored[name] = fitting
            if stored.keys() != values.keys():
                _require_names(type(self), fields, values)

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(
                f"{type(self).__name__}.{name}: params can't be changed; "
                f"make a changed copy with replace({name}=...)."
            )

        def __delattr__(self, name: str) -> None:
            self.__setattr__(name, None)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some values changed.

        Raises:
            SpaceError: there is no such field, or it can't have that value.
        """
        return type(self)(**{**self._values(), **changes})

    def to_dict(self) -> dict[str, Any]:
        """Return what `to_json` writes: a dict of what `json` takes, in the order of the fields.

        Nested params are dicts. If the field is a union, they begin with ``"$type"``, the name of
        their class. Enum members become names, tuples become lists, and nan becomes
        ``{"$float": "nan"}``.
        """
        fields = type(self)._fields
        encoded = {}
        for name, value in self._values().items():
            if isinstance(value, Params):
                encoded[name] = encode_params(value, tag=fields[name].tagged)
            else:
                encoded[name] = encode(value)
        return encoded

    def to_json(self) -> str:
        """Return the values as JSON text: the same for equal params, and exact."""
        text: str | None = getattr(self, "_json", None)
        if text is None:
            text = dumps(self.to_dict())
            object.__setattr__(self, "_json", text)
        return text

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the params that `to_dict` described.

        Raises:
            SpaceError: a key is unknown or missing, or a value is not what it must be.
        """
        if not isinstance(data, Mapping):
            raise SpaceError(
                f"{cls.__name__}: {data!r} is not a dict of values, as to_dict() returns."
            )
        _require_names(cls, cls._fields, data, with_constants=True)
        values = {}
        for name, field in cls._fields.items():
            values[name] = field.annotation.decode(data[name])
            if values[name] is MISFIT:
                _raise_misfit(f"{cls.__name__}.{name}", data[name], field.annotation)
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the params that `to_json` wrote.

        Raises:
            SpaceError: the text is not JSON, or does not describe such params.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise SpaceError(f"{cls.__name__}: {text!r:.200} is not JSON: {error}") from error
        return cls.from_dict(data)

    def create_model(self, **extra: Any) -> Any:
        """Return ``model_cls(**values, **extra)``; where both have a name, `extra` wins.

        Raises:
            SpaceError: the class has no `model_cls`.
        """
        if type(self).model_cls is None:
            raise SpaceError(
                f"{type(self).__name__} has no model_cls. Set it to the class of the model, or "
                "override create_model."
            )
        return type(self).model_cls(**{**self._values(), **extra})

    @classmethod
    def get_random_params(cls, rng: "np.random.Generator") -> Self:
        """Return random params, the same for the same state of `rng`.

        Override it to sample in a way of your own. Then only the sampler 'random' can drive the
        class.
        """
        return cast(Self, cls._space.sample_fields(rng))  # since the space has the class

    @classmethod
    def space(cls) -> Space:
        """Return the search space: the fields as a tree of distributions.

        Raises:
            SpaceError: there are no fields.
        """
        if not cls._fields:
            raise SpaceError(
                f"{cls.__name__} has no fields, so there is nothing to tune. Declare one, for "
                "instance  alpha: float = rand.uniform(0, 1)"
            )
        return cls._space

    # Compared by JSON, so that nan equals itself after a round trip, and 0.0 is not -0.0.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Params) or not _is_same(type(self), type(other)):
            return NotImplemented
        return self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self._values().items())
        return f"{type(self).__name__}({values})"

    def __getstate__(self) -> dict[str, Any]:
        return self._values()

    def _values(self) -> dict[str, Any]:
        # Not all of __dict__, in which a cached_property keeps its value.
        stored = self.__dict__
        return {name: stored[name] for name in type(self)._fields}


def _is_same(one: type, other: type) -> bool:
    """Tell whether both are the same class; a script's class is made anew by unpickling."""
    names = (one.__module__, one.__qualname__)
    return one is other or names == (other.__module__, other.__qualname__)


def _is_custom(cls: type[Params]) -> bool:
    default: Any = Params.get_random_params
    return getattr(cls.get_random_params, "__func__", None) is not default.__func__


def _collect_fields(cls: type[Params]) -> tuple[dict[str, Field], dict[str, Field]]:
    """Return the fields that a class itself declares, and all fields that it has."""
    fields: dict[str, Field] = {}
    declared: dict[str, Field] = {}
    # Only what each base itself declares, so that none brings back what another has overridden.
    for base in reversed(cls.__mro__[1:]):
        fields.update(base.__dict__.get("_declared", {}))
        for name, value in vars(base).items():
            if isinstance(value, Distribution) and not issubclass(base, Params):
                raise SpaceError(
                    f"{cls.__name__} inherits from {base.__name__}, which has a distribution for "
                    f"{name}, but is not derived from letstune.Params. Derive it from there."
                )
    try:
        annotations = dict(cls.__annotations__)
    except NameError as error:  # they are evaluated only now, from Python 3.14 on
        raise SpaceError(f"{cls.__name__}: an annotation can't be resolved: {error}.") from error
    resolve = _resolver(cls)
    for name, annotation in annotations.items():
        where = f"{cls.__name__}.{name}"
        if name == "model_cls" or _is_class_var(annotation):
            continue
        if name.startswith("_") or hasattr(Params, name):
            raise SpaceError(
                f"{where}: Params itself uses that name; choose another name, without a leading "
                "underscore."
            )
        parsed = parse(annotation, where, resolve)
        declared[name] = _field(cls, name, parsed, cls.__dict__.get(name, _MISSING))
    for name, value in list(vars(cls).items()):
        if name in fields and name not in annotations:
            declared[name] = _field(cls, name, fields[name].annotation, value)
        elif name not in fields | declared and isinstance(value, Distribution):
            raise SpaceError(
                f"{cls.__name__}.{name} has a distribution, but no annotation, which makes it a "
                f"parameter. Write  {name}: {value.produces.__name__} = rand.{value}"
                if value.produces
                else f"{cls.__name__}.{name} has a distribution, but no annotation, which makes it "
                f"a parameter. Write its type behind its name, as in  {name}: int = rand.{value}"
            )
    return declared, fields | declared


def _is_class_var(annotation: Any) -> bool:
    # As text, because it may name what is imported for type checkers only.
    if isinstance(annotation, str):
        return _CLASS_VAR.match(annotation) is not None
    return annotation is ClassVar or get_origin(annotation) is ClassVar


def _resolver(cls: type) -> Callable[[str, str], Any]:
    """Return what evaluates a string annotation where the class is being defined.

    The module may not be in sys.modules, and the class may be defined in a function, so this looks
    into the frames up to the module's.
    """

    def resolve(text: str, where: str) -> Any:
        frame: Any = sys._getframe(1)
        while frame and (
            frame.f_globals is globals() or frame.f_globals.get("__name__") != cls.__module__
        ):
            frame = frame.f_back
        defining = sys.modules.get(cls.__module__)
        module = frame.f_globals if frame else getattr(defining, "__dict__", {})
        scopes: list[Any] = [dict(vars(cls))]
        while frame is not None and frame.f_globals is module:
            scopes.append(frame.f_locals)
            frame = frame.f_back
        try:
            return eval(text, module, ChainMap(*scopes))
        except Exception as error:
            raise SpaceError(
                f"{where}: the annotation {text!r} can't be resolved: {error}. Define or import "
                "the name before the class, outside of `if TYPE_CHECKING`."
            ) from error

    return resolve


def _field(cls: type[Params], name: str, annotation: Annotation, declared: Any) -> Field:
    where = f"{cls.__name__}.{name}"
    if declared is _MISSING:
        node = annotation.sampled()
        if node is None and _is_custom(cls):
            node = Undeclared(annotation.text)
        if node is None:
            example = next(
                (text for kind, text in _EXAMPLES.items() if kind in annotation.members),
                "rand.oneof([...])",
            )
            raise SpaceError(
                f"{where}: {annotation.text} without a distribution. Say how to choose it, for "
                f"instance  {name}: {annotation.text} = {example}"
            )
        return Field(annotation, node, _MISSING)
    if isinstance(declared, Distribution):
        try:
            node = annotation.fit(declared)
        except SpaceError as error:  # 1 and 1.0, which are one value once they are floats
            raise SpaceError(f"{where}: {error}") from None
        if node is MISFIT:
            raise SpaceError(
                f"{where}: {declared} gives values other than {annotation.text}. Correct the "
                "annotation or the distribution."
            )
        return Field(annotation, node, _MISSING)
    value = annotation.coerce(declared)
    if value is MISFIT:
        _raise_misfit(where, declared, annotation)
    return Field(annotation, _constant(value), value)


def _constant(value: Any) -> Node:
    if not isinstance(value, Params):
        return Constant(value)
    fields = tuple((name, _constant(item)) for name, item in value._values().items())
    space = value._space
    return Space(space.name, fields, False, space.tagged, space.cls)


def _raise_misfit(where: str, value: object, annotation: Annotation) -> None:
    raise SpaceError(
        f"{where} is {value!r} of type {type(value).__name__}, expected {annotation.text}; "
        "correct the value or the annotation."
    )


def _require_names(
    cls: type[Params],
    fields: Mapping[str, Field],
    names: Iterable[str],
    *,
    with_constants: bool = False,
) -> None:
    given = set(names)
    unknown = [name for name in names if name not in fields]
    missing = [
        name
        for name, field in fields.items()
        if name not in given and (with_constants or field.default is _MISSING)
    ]
    if unknown or missing:
        problems = [f"unknown: {', '.join(unknown)}"] if unknown else []
        problems += [f"missing: {', '.join(missing)}"] if missing else []
        raise SpaceError(
            f"{cls.__name__}: {'; '.join(problems)}. Its fields are {', '.join(fields) or 'none'}."
        )
