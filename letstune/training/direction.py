"""Whether less of a metric is better, as users of other tuners say it: told, or refused.

letstune has one way to say it, a leading minus in `metric`. What a trainer says in another way
must not be passed over in silence, since then the worst trial wins.
"""

from __future__ import annotations

from inspect import getattr_static
from typing import Final

from letstune.errors import TrainerError
from letstune.rounds.metric import less_is_better, metric_name, sounds_like_less

_LESS: Final = ("min", "minimum", "minimize", "minimise", "minimization", "lower", "less")
_MORE: Final = ("max", "maximum", "maximize", "maximise", "maximization", "higher", "greater")


def directed(trainer: object, metric: str) -> str:
    """Return a trainer's metric, with a leading minus if the trainer asks for that elsewhere.

    That is, where its metric's own name says as much: a loss that is to be minimised can be meant
    in no other way. Then `advice` tells how to write it.

    Raises:
        TrainerError: a ``direction``, ``mode`` or ``minimize`` of the trainer says something else
            than its metric.
    """
    if (found := _asked(trainer)) is None:
        return metric
    said, less = found
    if less == less_is_better(metric):
        return metric
    name = metric_name(metric)
    if less and sounds_like_less(name):
        return f"-{name}"
    wanted = f"-{name}" if less else name
    raise TrainerError(
        f"{said}, but metric = {metric!r} says that {_better(metric)} is better, and only that "
        f'counts. Write metric = "{wanted}" if {_better(wanted)} is better, and leave the other '
        f"out. The trainer returns {name} as it is."
    )


def advice(trainer: object, metric: str) -> str:
    """Return what to tell of a metric when a run begins; empty if there is nothing to say.

    Args:
        trainer: whose it is.
        metric: what `directed` returned.
    """
    found, name = _asked(trainer), metric_name(metric)
    if less_is_better(metric) and getattr(trainer, "metric", metric) != metric and found:
        return (
            f"letstune: {found[0]} is taken for a leading minus: less of {name} is better. "
            f'Write metric = "{metric}" instead; greater is better without the minus.'
        )
    if sounds_like_less(metric):
        return (
            f"letstune: metric = {metric!r}, so greater is better. If less is better, write "
            f'metric = "-{name}", with a leading minus, and give a new journal; the trainer '
            f"returns {name} as it is."
        )
    return ""


def _asked(trainer: object) -> tuple[str, bool] | None:
    """Return what a trainer says, and whether it says that less is better; None if nothing."""
    for name in ("direction", "mode", "minimize"):
        value = getattr_static(trainer, name, None)
        shown = f"{type(trainer).__name__}.{name} = {value!r:.50}"
        if name == "minimize" and isinstance(value, bool):
            return shown, value
        # Or a member of an Enum, as Optuna's StudyDirection.
        word = str(getattr(value, "name", value)).lower()
        if word in _LESS or word in _MORE:
            return shown, word in _LESS
    return None


def _better(metric: str) -> str:
    return "less" if less_is_better(metric) else "greater"
