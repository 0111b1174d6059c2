"""Params as the journal has them, without their class."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol, cast

from letstune._public import public
from letstune._visible import visible
from letstune.space.encoding import encode

# A made encoder, as json.dumps makes a new one at every call with separators.
dumps: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@public("letstune")
class ParamsLike(Protocol):
    """What a `Params` and a `RecordedParams` have in common."""

    def to_dict(self) -> dict[str, Any]:
        """Return them as a dict of what `json` takes."""

    def to_json(self) -> str:
        """Return them as JSON text."""


@public("letstune")
class RecordedParams:
    """Params as the journal has them, without their class: read-only attributes.

    Enum members are their names. Two of them are equal if the names of their classes and their JSON
    are.

    >>> params = RecordedParams("SGDParams", {"alpha": 0.1, "layers": (50, 50)})
    >>> params.layers
    (50, 50)
    >>> params
    SGDParams(alpha=0.1, layers=(50, 50))
    """

    __slots__ = ("_name", "_tagged", "_values")

    def __init__(self, name: str, values: Mapping[str, Any], tagged: tuple[str, ...] = ()) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_tagged", tagged)

    def __getattr__(self, name: str) -> Any:
        # pickle and copy ask for the slots, too, before __init__ has run.
        if name in RecordedParams.__slots__:
            raise AttributeError(name)
        if name in self._values:
            return self._values[name]
        known = ", ".join(map(_shown, self._values))
        raise AttributeError(
            f"The recorded params have no {name!r}, only: {known}. For methods of their class, "
            f"make one of them:  {_shown(self._name)}.from_dict(params.to_dict())"
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{_shown(self._name)}.{name}: recorded params can't be changed.")

    __delattr__ = cast(Any, __setattr__)

    def to_dict(self) -> dict[str, Any]:
        """Return what `to_json` writes."""
        return {
            name: (
                encode_params(value, tag=name in self._tagged)
                if isinstance(value, RecordedParams)
                else encode(value)
            )
            for name, value in self._values.items()
        }

    def to_json(self) -> str:
        """Return the JSON text, the same that the class wrote."""
        return dumps(self.to_dict())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RecordedParams):
            return NotImplemented
        return self._name == other._name and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self._name, self.to_json()))

    def __repr__(self) -> str:
        values = ", ".join(f"{_shown(name)}={value!r}" for name, value in self._values.items())
        return f"{_shown(self._name)}({values})"

    def __reduce__(self) -> tuple[Any, ...]:
        return RecordedParams, (self._name, self._values, self._tagged)


def _shown(name: str) -> str:
    return visible(name, keep="")


def encode_params(params: ParamsLike, *, tag: bool) -> dict[str, Any]:
    """Return params as a dict for JSON; with `tag`, the name of their class comes first."""
    return {"$type": class_name(params)} | params.to_dict() if tag else params.to_dict()


def class_name(params: ParamsLike) -> str:
    """Return the name of the params' class."""
    return params._name if isinstance(params, RecordedParams) else type(params).__name__
