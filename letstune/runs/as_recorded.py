"""What users give for a backend: names, options, URIs and objects, as the journal has them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from letstune.errors import PlanError
from letstune.training.pickling import identity, type_name

_LONG: Final = 1000  # characters of JSON: a longer field of an object is not recorded


def named(what: str, given: Any, expected: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of something that can be given with or without options."""
    match given:
        case str():
            return given, {}
        case (str() as name, Mapping() as options):
            return name, recordable(what, options)
    raise PlanError(f"{what}: expected {expected}.")


def recordable(what: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options as the journal gives them back: a first run sees what a resume sees."""
    try:
        recorded: dict[str, Any] = json.loads(json.dumps(dict(options), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise PlanError(
            f"{what}: {error}. Options are recorded as JSON. To give it something else, make the "
            "object yourself, and give that instead of its name."
        ) from error
    return recorded


def public_fields(made: object) -> dict[str, Any]:
    """Return the public fields of an object, as JSON has them.

    Not the private ones: they hold caches and connections, which come and go.
    """
    return {
        name: _recorded_field(value)
        for name, value in getattr(made, "__dict__", {}).items()
        if not name.startswith("_")
    }


def _recorded_field(value: object) -> object:
    """Return a field of an object as JSON or, if JSON cannot hold it, a text that identifies it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = ""
    return (
        json.loads(text)
        if 0 < len(text) <= _LONG
        else f"{type_name(type(value))} {identity(value)}"
    )


def relative(folder: Path, journal: Path) -> str:
    """Return a folder relative to the journal's if it is below that one, so that both can move."""
    below = folder.is_relative_to(journal.parent)
    return str(folder.relative_to(journal.parent) if below else folder)


def own_place(fact: Mapping[str, Any], journal: Path) -> str:
    """Return the URI of the run's own folder in a store."""
    uri, run = fact["uri"], fact["run"]
    if fact["name"] != "directory":
        scheme, _, place = uri.partition("://")  # the place may be empty, as in memory://
        return f"{scheme}://{place.rstrip('/')}/{run}" if place else f"{scheme}://{run}"
    if uri is not None:
        return str(journal.parent / uri / run)
    # Each journal has a folder of its own: "run" and "run.db" must not share one.
    stem = journal.name.removesuffix(".db")
    joint = "." if journal.name.endswith(".db") else "-"
    return str(journal.with_name(f"{stem}{joint}checkpoints"))
