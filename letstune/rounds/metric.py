"""The metric as a trainer names it, and which way it is better.

``"accuracy"``: greater is better. ``"-valid_loss"``: less of ``valid_loss`` is. This is the only
place that knows of the sign: trainers return, and people see, the value of that name; what decides
is its *standing*, of which greater is always better.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

MOST: Final = 10_000
"""So many metric values an epoch may have: each is a column where all are shown."""


def metric_name(metric: str) -> str:
    """Return the name of the metric value, as trainers return it.

    >>> [metric_name(metric) for metric in ("accuracy", "-valid_loss")]
    ['accuracy', 'valid_loss']
    """
    return metric.removeprefix("-")


def less_is_better(metric: str) -> bool:
    """Tell whether the metric is minimised."""
    return metric.startswith("-")


def standing(metric: str, values: Mapping[str, float]) -> float:
    """Return what an epoch's metric values count for; NaN if the metric is not among them.

    >>> [standing("-loss", values) for values in ({"loss": 0.25}, {"accuracy": 0.9})]
    [-0.25, nan]
    """
    value = values.get(metric_name(metric), math.nan)
    return -value if less_is_better(metric) else value


def as_returned(metric: str, standing: float) -> float:
    """Return the metric value of a standing, as the trainer returned it.

    >>> [as_returned(metric, -0.25) for metric in ("score", "-loss")]
    [-0.25, 0.25]
    """
    return -standing if less_is_better(metric) else standing


_ENDINGS: Final = ("loss", "losses", "error", "errors", "rmse", "perplexity", "entropy")
_WORDS: Final = {
    *("err", "mae", "mse", "msle", "rmsle", "mape", "smape", "wape", "medae", "nll", "nrmse"),
    *("ppl", "wer", "cer", "cost", "regret", "brier", "crps", "fid", "deviance", "l1", "l2"),
}
_TURNED: Final = {"neg", "negative", "negated", "minus", "inverse", "inverted"}


def sounds_like_less(metric: str) -> bool:
    """Tell whether less is better, as far as a name without a minus can say.

    >>> names = ("val_loss", "validRMSE", "mlogloss", "neg_log_loss", "accuracy")
    >>> [sounds_like_less(name) for name in names]
    [True, True, True, False, False]
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", metric).lower()
    words = re.findall(r"[a-z]+[0-9]*", spaced)
    if less_is_better(metric) or not _TURNED.isdisjoint(words):
        return False
    return any(word in _WORDS or word.endswith(_ENDINGS) for word in words)
