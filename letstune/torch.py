"""Save and load all the states of a PyTorch training in one call each.

PyTorch is imported when one of them is called, and not before: letstune does not need it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["load_states", "save_states"]

_FILE: Final = "states.pt"
_KEPT: Final = (
    "a model, an optimizer, a scheduler, a GradScaler, anything else with `state_dict` and "
    "`load_state_dict`, a DataLoader, or a random generator of PyTorch, NumPy or Python"
)


class _State(NamedTuple):
    """How the state of a thing is taken, and given back to it."""

    take: Callable[[], Any]
    give: Callable[[Any], object]


def save_states(path: str | os.PathLike[str], *things: Any, **named: Any) -> None:
    """Save the states of a training's parts in one file.

    What is forgotten here comes out different after a resume: give all that changes from epoch to
    epoch, such as the model, its moving average, the optimizer, schedulers, the GradScaler, and
    loaders or generators that you have made with a generator of their own. A loader without one
    draws from PyTorch's own generator, which letstune seeds for each epoch.

    Args:
        path: a file to be written, or a folder, such as ``checkpoint.path``, in which it will be
            ``states.pt``.
        things: models, optimizers, schedulers, scalers, loaders, random generators. They are told
            apart by their order.
        named: likewise, told apart by their names.

    Raises:
        TypeError: letstune does not know how to take the state of one of them.
    """
    import torch

    states = {name: state.take() for name, state in _states(things, named).items()}
    torch.save(states, _file(path))


def load_states(
    path: str | os.PathLike[str], *things: Any, weights_only: bool = True, **named: Any
) -> None:
    """Load what `save_states` has saved, into parts that were made anew.

    States are loaded into the main memory, and from there to where each part is, so a training may
    go on with another GPU.

    Args:
        path: as given to `save_states`.
        things: as many as there, in the same order.
        weights_only: see ``torch.load``. With False, states may hold any object, and a file may
            run any code.
        named: with the names that were used there.

    Raises:
        TypeError: letstune does not know how to load the state of one of them.
        ValueError: they are not those that were saved. None was changed.
    """
    import torch

    wanted = _states(things, named)
    file = _file(path)
    found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=weights_only)
    if found.keys() != wanted.keys():
        raise ValueError(
            f"{file} has the states of {_listed(found)}, but those of {_listed(wanted)} are to be "
            "loaded. Give load_states what save_states was given, in the same order."
        )
    for name, state in wanted.items():
        state.give(found[name])


def _file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    return path / _FILE if path.is_dir() else path


def _listed(names: dict[str, Any]) -> str:
    shown = [f"argument {int(n) + 1}" if n.isdecimal() else n for n in names]
    return ", ".join(shown) or "nothing"


def _states(things: tuple[Any, ...], named: dict[str, Any]) -> dict[str, _State]:
    """Return how each part is saved and loaded; those without a name go by their number."""
    return {
        name: state
        for given, part in [*((str(i), thing) for i, thing in enumerate(things)), *named.items()]
        for name, state in _parts(given, part)
    }


def _parts(name: str, thing: Any) -> Iterator[tuple[str, _State]]:
    import torch.utils.data

    if hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"):
        yield name, _State(thing.state_dict, thing.load_state_dict)
    elif isinstance(thing, torch.utils.data.DataLoader):
        yield name, _loader(thing)
    elif (state := _generator(thing)) is not None:
        yield name, state
    else:
        what = f"argument {int(name) + 1}" if name.isdecimal() else name
        raise TypeError(f"{what} is a {type(thing).__qualname__}; expected {_KEPT}.")


def _generator(thing: Any) -> _State | None:
    """Return how a random generator is saved; None if the thing is none."""
    import torch

    if isinstance(thing, torch.Generator):
        return _State(thing.get_state, thing.set_state)
    if isinstance(thing, random.Random):
        return _State(thing.getstate, lambda state: thing.setstate(_as_tuples(state)))
    bits = getattr(thing, "bit_generator", None)  # of NumPy's, which need not be there
    if bits is not None and isinstance(getattr(bits, "state", None), dict):
        return _State(lambda: _plain(bits.state), lambda state: setattr(bits, "state", state))
    return None


def _loader(loader: Any) -> _State:
    """Return how a DataLoader is saved: its generators, each once."""
    samplers = [
        loader.sampler,
        loader.batch_sampler,
        getattr(loader.batch_sampler, "sampler", None),
    ]
    owned = [getattr(part, "generator", None) for part in [loader, *samplers]]
    distinct = {id(found): found for found in owned if found is not None}
    states = [state for found in distinct.values() if (state := _generator(found)) is not None]

    def give(saved: list[Any]) -> None:
        for state, value in zip(states, saved, strict=True):
            state.give(value)

    return _State(lambda: [state.take() for state in states], give)


def _plain(state: Any) -> Any:
    """Return NumPy's state without arrays, which `torch.load` refuses with ``weights_only``."""
    if isinstance(state, dict):
        return {name: _plain(value) for name, value in state.items()}
    return state.tolist() if hasattr(state, "tolist") else state


def _as_tuples(state: Any) -> Any:
    return tuple(map(_as_tuples, state)) if isinstance(state, list | tuple) else state
