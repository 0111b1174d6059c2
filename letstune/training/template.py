"""The template of a command: which words it has, and what values go where. Pure.

It is split into words before any value is put in. So no value can be split, whatever is in it, and
no shell ever sees one.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from string import Formatter
from typing import Any, Final, NamedTuple

from letstune.errors import TrainerError
from letstune.space.distributions import Constant, OneOf
from letstune.space.recorded_params import dumps
from letstune.space.tree import Space

OWN: Final = {
    "python": "the interpreter",
    "epochs": "how many epochs the trial has when the command ends",
    "epoch": "how many it has when the command begins",
    "horizon": "how many a trial has at most",
    "seed": "the trial's seed",
    "epoch_seed": "the epoch's seed, for one process an epoch",
    "trial": "the trial's id",
    "checkpoint": "the folder of the trial's state",
    "metrics": "a file for JSON lines of metric values",
    "params": "a JSON file with the params",
    "dataset": "the dataset",
}
"""The placeholders that every command has, and what they stand for."""


class Part(NamedTuple):
    """A piece of a word: a text, and the placeholder that follows, if any."""

    text: str
    name: str | None
    optional: bool


Word = tuple[Part, ...]


def split(command: str) -> list[Word]:
    """Return the words of a command, as a shell would split it.

    Raises:
        TrainerError: it cannot be split.

    >>> [len(word) for word in split("python 'my train.py' --lr={lr}")]
    [1, 1, 1]
    """
    try:
        words = [tuple(_parts(word)) for word in shlex.split(command)]
    except ValueError as error:
        raise TrainerError(
            f"command = {command!r:.300} cannot be split into words: {error}. Write it as for a "
            "shell, with placeholders such as {lr}, and {{ for a brace."
        ) from error
    if not words:
        raise TrainerError("command is empty; expected such as '{python} train.py --lr={lr}'.")
    return words


def _parts(word: str) -> Iterator[Part]:
    for text, name, form, conversion in Formatter().parse(word):
        if form or conversion:
            raise ValueError(f"{{{name}}} has a format, and values are given exactly as they are")
        optional = (name or "").endswith("?")
        yield Part(text, name.removesuffix("?") if name is not None else None, optional)


def names_in(words: Iterable[Word]) -> list[str]:
    """Return the placeholders of a command, each once."""
    return list(dict.fromkeys(part.name for w in words for part in w if part.name is not None))


def paths(space: Space) -> dict[str, bool]:
    """Return the path of each field of a search space, and whether it always has a value.

    A nested field's is ``model.lr``, and ``model.$type`` is the name of the class in a union.
    """
    return _within(space, space.tagged)


def _within(space: Space, tagged: tuple[str, ...]) -> dict[str, bool]:
    found = {}
    for name, node in space.fields:
        found[name] = True
        for path, always in _below(node, tag=name in tagged).items():
            found[f"{name}.{path}" if path else name] = always
    return found


def _below(node: Any, *, tag: bool) -> dict[str, bool]:
    """Return the paths in the value of a field; "" stands for the value itself, if it may lack."""
    if isinstance(node, Space):
        return {**({"$type": True} if tag else {}), **_within(node, node.tagged)}
    if isinstance(node, Constant):
        return {"": False} if node.value is None else {}
    if not isinstance(node, OneOf):
        return {}
    each = [_below(candidate, tag=tag) for candidate in node.candidates]
    return {
        path: all(branch.get(path, False) for branch in each)
        for path in dict.fromkeys(path for branch in each for path in branch)
    }


def check(words: list[Word], space: Space) -> None:
    """Refuse a command with placeholders for which there is no value, or not always one.

    Raises:
        TrainerError: it has one.
    """
    there = paths(space)
    for word in words:
        for part in word:
            if part.name is None:
                continue
            if part.name in OWN and part.name in there:
                raise TrainerError(
                    f"{{{part.name}}} in the command is {OWN[part.name]}, but {space.name} has a "
                    f"field {part.name} as well. Give the field another name."
                )
            if part.name not in OWN and part.name not in there and not space.custom:
                own, fields = _listed(OWN), _listed(there)
                raise TrainerError(
                    f"There is no {{{part.name}}} for the command: {space.name} has {fields}; "
                    f"beside these, there are {own}."
                )
            if not part.optional and not there.get(part.name, True):
                raise TrainerError(
                    f"Not all of {space.name} have a value for {{{part.name}}} in the command. "
                    f"Write --{part.name.rpartition('.')[2]}={{{part.name}?}}: such a word is left "
                    "out where there is none."
                )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)


def values_of(params: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the text of each field of params, by its path; None for what is null.

    Args:
        params: as their `to_dict` returns them.

    >>> values_of({"net": {"lr": 1e-05}, "name": "a b", "flag": True})
    {'net': '{"lr":1e-05}', 'net.lr': '1e-05', 'name': 'a b', 'flag': 'true'}
    """
    found: dict[str, str | None] = {}
    for name, value in params.items():
        if isinstance(value, dict) and set(value) == {"$float"}:  # which JSON has no number for
            found[name] = str(value["$float"])
            continue
        found[name] = _text(value)
        if isinstance(value, dict):
            found |= {f"{name}.{path}": text for path, text in values_of(value).items()}
    return found


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else dumps(value)


def fill(words: Iterable[Word], values: Mapping[str, str | None]) -> list[str]:
    """Return the words of a command with values in the place of the placeholders.

    A word with ``{name?}`` is left out if there is no such value.

    Raises:
        TrainerError: there is no value where there must be one, or one would be taken for an
            option.
    """
    filled = []
    for word in words:
        texts = []
        for part in word:
            value = values.get(part.name) if part.name is not None else ""
            if value is None and part.optional:
                break
            if value is None:
                raise TrainerError(
                    f"There is no {{{part.name}}} for the command of this trial: there are "
                    f"{_listed(name for name in values if values[name] is not None)}. "
                    f"Write {{{part.name}?}} to leave the word out then."
                )
            texts += [part.text, value]
            _refuse_option(part, value, alone=len(texts) == 2 and not part.text)
        else:
            filled.append("".join(texts))
    return filled


def _refuse_option(part: Part, value: str, *, alone: bool) -> None:
    """Refuse a value at the beginning of a word that a program would take for an option."""
    if alone and value.startswith("-") and not _is_number(value):
        raise TrainerError(
            f"The value {value!r:.200} of {{{part.name}}} would be taken for an option by the "
            f"command. Write --{str(part.name).rpartition('.')[2]}={{{part.name}}}, in one word."
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
