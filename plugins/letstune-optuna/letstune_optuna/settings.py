"""What the plan says of a sampler of Optuna: enough to tell two of them apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any, Final

import numpy as np
from letstune.training import identity
from optuna.samplers import BaseSampler, QMCSampler

from letstune_optuna.replay import CACHES
from letstune_optuna.seeding import GENERATORS, GIVEN, given_seed

_LONG: Final = 100


def settings(sampler: BaseSampler, generators: Sequence[Any]) -> str:
    """Return the attributes of a sampler, and of what it holds, as JSON.

    Args:
        sampler: the sampler.
        generators: those in it. The seeds that they were given are listed.
    """
    said = _attributes(sampler, (id(sampler),))
    seeds = [given_seed(generator) for generator in generators]
    if any(seed is not None for seed in seeds):
        said["seeds"] = seeds
    return json.dumps(said, sort_keys=True)


def _attributes(sampler: BaseSampler, within: tuple[int, ...]) -> dict[str, Any]:
    said = {}
    for name, value in vars(sampler).items():
        if isinstance(sampler, QMCSampler) and name == "_seed" and value >= GIVEN:
            value = "of the run"
        # Generators are seeded anew, and what Optuna keeps of a study is not looked at.
        if value is not None and not isinstance(value, GENERATORS + CACHES):
            said[name.lstrip("_")] = _say(value, within)
    return said


def _say(value: Any, within: tuple[int, ...]) -> Any:
    """Describe a value in terms of JSON, in the same way in any process.

    Args:
        value: the value.
        within: the ids of what it is in.
    """
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, type):
        return _name(value)
    kind = _name(type(value))
    if isinstance(value, GENERATORS) or id(value) in within:
        return kind
    within = (*within, id(value))
    if isinstance(value, FunctionType):
        return _function(value, within)
    if isinstance(value, BaseSampler):
        return {"class": kind, **_attributes(value, within)}
    if isinstance(value, np.ndarray | np.generic):
        return [kind, _say(value.tolist(), within)]
    if isinstance(value, bytes) or (isinstance(value, list | tuple | dict) and len(value) > _LONG):
        return f"{len(value)} in a {kind}, {identity(value)}"
    if isinstance(value, Mapping):
        return {str(key): _say(item, within) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_say(item, within) for item in value]
    if isinstance(value, set | frozenset):
        return [kind, *sorted(json.dumps(_say(item, within)) for item in value)]
    return _object(value, kind, within)


def _name(named: Any) -> str:
    return f"{named.__module__}.{named.__qualname__}"


def _function(function: FunctionType, within: tuple[int, ...]) -> Any:
    """Describe a function: by its name, if one can import it, or else also by its code."""
    name = _name(function)
    if function.__module__ != "__main__" and "<" not in name:
        return name
    enclosed = [_say(cell.cell_contents, within) for cell in function.__closure__ or ()]
    return [name, identity(function), *enclosed]


def _object(value: Any, kind: str, within: tuple[int, ...]) -> Any:
    """Describe an object by what it is pickled as: its arguments and its state."""
    try:
        reduced = value.__reduce_ex__(2)
    except Exception:  # noqa: BLE001 (cloudpickle knows ways for some more, which tell nothing)
        return kind
    if isinstance(reduced, str):
        return reduced
    parts = [
        part
        for part in (*reduced[1], *reduced[2:3])
        if part is not None and part is not type(value)
    ]
    return [kind, *(_say(part, within) for part in parts)]
