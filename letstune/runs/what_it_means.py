"""What the differences that a rehearsal has found mean, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from letstune.results.results import TuningResults
from letstune.runs.pieces import Looked, Resumed
from letstune.telling.lines import counted
from letstune.training.audit import Unlike

_MOST: Final = 5
"""So many fields are named."""


class Learned(NamedTuple):
    """What trials have learned: straight on, and in pieces; and the name of the metric."""

    straight: TuningResults[Any]
    pieces: Sequence[Resumed]
    metric: str


def what_it_means(
    found: Sequence[tuple[int, int]],
    learned: Learned,
    looked: Looked | None,
    *,
    cured: bool,
    reloads: bool,
) -> list[str]:
    """Return what differences mean, and what may be behind them.

    Args:
        found: the trial and the epoch of each.
        learned: by the trials.
        looked: what a look at the trainer has found.
        cured: whether ``reload = True`` makes a trial come out the same.
        reloads: whether the trainer has that.
    """
    return list(_remarks(found, learned, looked, cured=cured, reloads=reloads))


def _remarks(
    found: Sequence[tuple[int, int]],
    learned: Learned,
    looked: Looked | None,
    *,
    cured: bool,
    reloads: bool,
) -> Iterator[str]:
    wrong = [] if looked is None else looked.audit.wrong
    forgotten = [] if looked is None else looked.forgotten
    shared = [each for each in wrong if each not in forgotten]
    if forgotten and reloads:
        yield (
            "With reload = True, each epoch begins without what `save` and `load` do not keep: "
            f"{_listed(forgotten)}."
        )
    elif forgotten:
        yield f"After an epoch, `save` and `load` did not bring back all: {_listed(forgotten)}."
    first = {trial for trial, epoch in found if not epoch}
    if shared and not first:
        yield (
            "An epoch changes what load_dataset loaded, and where a trial goes on in another "
            f"process, that is missing: {_listed(shared)}. Make it in create_model, and save it."
        )
    if 0 in first:
        yield (
            "The first epoch of a new process came out differently, though nothing was loaded. It "
            "depends on more than its seeds, such as the order of a set of texts, the time, the "
            "number of threads, or what a GPU adds up first."
        )
    elif first:
        yield _left_behind(min(first), looked)
    later = [(trial, epoch) for trial, epoch in found if epoch]
    if later and (line := _starts_over(later, learned, looked)):
        yield line
    elif later and looked is not None and not wrong and looked.audit.suspects:
        yield (
            f"Not the same after a load, and perhaps the reason: {_listed(looked.audit.suspects)}."
        )
    if cured and looked is not None:
        yield (
            "With reload = True, the trial comes out the same; a load takes "
            f"{looked.loading:.2g} seconds an epoch here. It is for frameworks in which a model is "
            "not the same after it was loaded, and it hides what `save` forgets: look for that "
            "first."
        )


def _listed(fields: Sequence[Unlike]) -> str:
    told = "; ".join(map(str, fields[:_MOST]))
    more = len(fields) - _MOST
    return told if more <= 0 else f"{told}; and {counted(more, 'other')}"


def _left_behind(trial: int, looked: Looked | None) -> str:
    what = ""
    if looked is not None and looked.changed:
        what = f" A training has changed: {_listed(looked.changed)}."
    return (
        f"Trial {trial} came out differently in its first epoch if no other trial had been trained "
        "before it in its process: an earlier trial has changed something that load_dataset "
        "loaded, or that is global. Then results depend on who trained what before, resume or no "
        f"resume.{what} Copy in create_model and load what an epoch changes, or make it anew there."
    )


def _starts_over(later: Sequence[tuple[int, int]], learned: Learned, looked: Looked | None) -> str:
    """Return what to tell of a trainer that does not go on from what it has loaded."""
    lines = []
    for trial, epoch in later:
        name = learned.metric
        straight = learned.straight.trial(trial).epochs
        pieces = next(one for one in learned.pieces if one.trial.trial_id == trial).metrics
        if epoch >= len(pieces) or epoch >= len(straight):
            return ""  # it failed
        values = [straight[0].metric_values.get(name), straight[epoch].metric_values.get(name)]
        begun, on, now = (*values, pieces[epoch].get(name))
        if begun is None or on is None or now is None:
            return ""
        # Seeds differ from epoch to epoch, so a beginning is never quite the same.
        anew = looked is not None and looked.audit.anew
        if not (anew or 4 * abs(now - begun) <= abs(on - now)):
            return ""
        lines.append((trial, epoch, f"{name} is {now:.4g}", f"{begun:.4g}", f"{on:.4g}"))
    trial, epoch, now_, begun_, on_ = lines[0]
    return (
        f"It starts over after a load: in epoch {epoch} of trial {trial}, {now_}, as in epoch 0 "
        f"({begun_}), and not {on_} as straight on. Let `load` bring back the model, and hand the "
        "checkpoint on to what trains it, such as ckpt_path or resume_from_checkpoint."
    )
