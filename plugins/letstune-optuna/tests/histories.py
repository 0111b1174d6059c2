"""Hypothesis strategies: histories of every kind."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st
from letstune import Observation, Space

# Few values, so that there are ties; and all that a metric may be.
VALUES = st.sampled_from([0.0, 0.5, 1.0, -1e300, math.nan, math.inf, -math.inf]) | st.floats(-9, 9)
SERIES = st.lists(VALUES, min_size=1, max_size=4).map(tuple)
STATUSES = ["pending", "trained", "trained", "trained", "stopped", "failed"]


@st.composite
def observations(draw: st.DrawFn, space: Space, trial: int) -> Observation:
    params = space.sample(np.random.default_rng(draw(st.integers(0, 2**32))))
    return result(draw, Observation(trial, params, "pending"))


def result(draw: st.DrawFn, seen: Observation) -> Observation:
    status = draw(st.sampled_from(STATUSES))
    values = draw(SERIES) if status in ("trained", "stopped") else ()
    return Observation(seen.trial, seen.params, status, values)


@st.composite
def walks(draw: st.DrawFn, space: Space) -> list[list[Observation]]:
    """Histories one after another: trials are added, end, go on, and are taken back."""
    history: list[Observation] = []
    steps = []
    for _ in range(draw(st.integers(1, 6))):
        change = draw(st.sampled_from(["add", "add", "add", "end", "change", "cut"]))
        history = list(history)
        if change == "cut":
            del history[draw(st.integers(0, len(history))) :]
        elif change == "add":
            for _ in range(draw(st.integers(1, 6))):
                history.append(draw(observations(space, len(history))))
        else:
            for place, seen in enumerate(history):
                if (seen.status == "pending") == (change == "end") and draw(st.booleans()):
                    history[place] = result(draw, seen)
        steps.append(history)
    return steps
