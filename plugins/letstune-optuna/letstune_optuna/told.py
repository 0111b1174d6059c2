"""What Optuna is told of a history.

All of it is a function of the history, so it can be computed anew at any moment; what is kept
from one proposal to the next saves doing that for thousands of trials.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Literal, TypeAlias

from letstune import Observation
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from letstune_optuna.axes import Axes
from letstune_optuna.storage import make_trial

Dropped: TypeAlias = Literal["pruned", "complete"]
"""How Optuna is told of a trial that others have outlasted; see `Told`."""


class Told:
    """A history as Optuna's trials.

    ``pending`` is told as RUNNING, ``failed`` as FAIL, ``stopped`` as COMPLETE: its trainer said
    that it is done, and it competes in all later rounds with what it has. Of ``trained`` ones,
    those with as many epochs as anyone are COMPLETE. The others, dropped on the way, are told

    - as PRUNED, to a sampler that understands it. That is TPE: it ranks COMPLETE trials first, by
      value, then the PRUNED ones by how far they came, then by their last intermediate value.
    - as COMPLETE, to one that does not, and would not look at them (in a cohort of 16, at 15 of
      them). It gets the best value so far, which is fair within a cohort: a trial that advanced is
      at least as good as it was when it advanced, and then it was better than who was dropped.

    Optuna looks at the last intermediate value, and letstune at the best so far; so that is what is
    told as the intermediate value of each epoch. To letstune, having no finite value is worse than
    any value. So NaN and infinities are told as -inf, which Optuna's samplers take as the worst.
    (NaN would make Optuna take the trial for failed, and so forget where not to go.)

    Attributes:
        trials: the trials, in the order of the history.
        rewrites: how often anything changed but by new trials and by the ends of running ones.
    """

    def __init__(self, axes: Axes, dropped: Dropped) -> None:
        self.axes = axes
        self.dropped = dropped
        self.trials: list[FrozenTrial] = []
        self.rewrites = 0
        self._known: list[Observation] = []
        self._longest = 0

    def update(self, history: Sequence[Observation]) -> None:
        """Make the trials those of this history."""
        known, history = self._known, list(history)
        count = len(known)
        if len(history) < count:
            del known[len(history) :], self.trials[len(history) :]
            self.rewrites += 1
            count = len(history)
        # Lists compare items by identity first, in C: this is what costs nothing in a run.
        if history[:count] != known:
            self._retell(history)
        for seen in history[count:]:
            self.trials.append(self._tell(seen))
        self._known = history
        # Last, since only all of them show who came furthest.
        if self.dropped == "pruned":
            self._promote(max((len(o.values) for o in history if o.status == "trained"), default=0))

    def _retell(self, history: list[Observation]) -> None:
        settled = max((i for i, o in enumerate(self._known) if o.status != "pending"), default=-1)
        for place, (was, now) in enumerate(zip(self._known, history, strict=False)):
            if was is now or was == now:
                continue
            same = (was.trial, was.params) == (now.trial, now.params)
            # Samplers may notice in which order trials end, so that must be the history's.
            self.rewrites += was.status != "pending" or not same or place < settled
            self.trials[place] = self._tell(now, self.trials[place] if same else None)

    def _promote(self, longest: int) -> None:
        """Change who is COMPLETE, if the length of the longest training has changed."""
        if longest == self._longest:
            return
        self._longest = longest
        for seen, trial in zip(self._known, self.trials, strict=True):
            if seen.status == "trained" and trial.state is not (state := self._state(seen)):
                trial.state = state
                self.rewrites += 1

    def _tell(self, seen: Observation, known: FrozenTrial | None = None) -> FrozenTrial:
        if known is None:
            params = self.axes.coordinates(seen.params)
            by_name = self.axes.by_name
            distributions: dict[str, BaseDistribution] = {
                name: by_name[name].distribution for name in params
            }
        else:
            params, distributions = known.params, known.distributions
        state = self._state(seen)
        best = list(best_so_far(seen.values))
        value = best[-1] if best else -math.inf
        told = state in (TrialState.COMPLETE, TrialState.PRUNED)
        return make_trial(
            seen.trial,
            state,
            value if told else None,
            params,
            distributions,
            dict(enumerate(best)),
        )

    def _state(self, seen: Observation) -> TrialState:
        match seen.status:
            case "pending":
                return TrialState.RUNNING
            case "failed":
                return TrialState.FAIL
            case "trained" if self.dropped == "pruned" and len(seen.values) < self._longest:
                return TrialState.PRUNED
        return TrialState.COMPLETE


def best_so_far(values: Sequence[float]) -> Iterator[float]:
    """Return the best finite value up to each epoch; -inf while there is none."""
    return accumulate((v if math.isfinite(v) else -math.inf for v in values), max)
