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
Failures: TypeAlias = Literal["worst", "ignore"]
"""How Optuna is told of a trial that failed, or has no finite value; see `Told`."""


class Told:
    """A history as Optuna's trials.

    ``pending`` is told as RUNNING, ``stopped`` as COMPLETE: its trainer said that it is done, and
    it competes in all later rounds with what it has. Of ``trained`` ones, those with as many epochs
    as anyone are COMPLETE. The others, dropped on the way, are told

    - as PRUNED, to a sampler that understands it. That is TPE: it ranks COMPLETE trials first, by
      value, then the PRUNED ones by how far they came, then by their last intermediate value.
    - as COMPLETE, to one that does not, and would not look at them (in a cohort of 16, at 15 of
      them). It gets the best value so far, which is fair within a cohort: a trial that advanced is
      at least as good as it was when it advanced, and then it was better than who was dropped.

    Optuna looks at the last intermediate value, and letstune at the best so far; so that is what is
    told as the intermediate value of each epoch.

    What has no result, since it ``failed``, however late, or has no finite value, is ranked below
    all that has one. Optuna's samplers do not look at FAIL, so they would propose it over and over:
    what it was like is the one thing that they did not learn. It is told

    - as PRUNED in no epoch, where dropped trials are PRUNED: that is the last of TPE's ranks, and
      a COMPLETE one would come before all that were dropped, whatever its value.
    - as COMPLETE, with -inf, to a sampler that looks at ranks only.
    - as COMPLETE, with `below` all other values, to one that looks at the values.

    Runs that began without that (``failures="ignore"``) tell ``failed`` as FAIL, and tell as -inf
    what is not finite.

    Attributes:
        trials: the trials, in the order of the history.
        rewrites: how often anything changed but by new trials and by the ends of running ones, and
            by what is told of those without a result.
        lost: how many are told to have no result.
    """

    def __init__(
        self, axes: Axes, dropped: Dropped, failures: Failures, *, ranks: bool = False
    ) -> None:
        self.axes = axes
        self.dropped = dropped
        self.failures = failures
        self.ranks = ranks
        self.trials: list[FrozenTrial] = []
        self.rewrites = 0
        self.lost = 0
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
        # Last, since only all of them show who came furthest, and what is worst.
        if self.dropped == "pruned":
            self._promote(max((len(o.values) for o in history if o.status == "trained"), default=0))
        if self.failures == "worst":
            self._lower()

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

    def _lower(self) -> None:
        """Count those without a result, and put their values below all others."""
        lost = [trial for trial in self.trials if is_lost(trial)]
        self.lost = len(lost)
        if lost and self.dropped == "complete" and not self.ranks:
            results = (t.value for t in self.trials if t.intermediate_values)
            floor = below([value for value in results if value is not None])
            for trial in lost:
                trial.value = floor

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
        best = [] if self._is_lost(seen) else list(best_so_far(seen.values))
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
        if seen.status == "pending":
            return TrialState.RUNNING
        if seen.status == "failed" and self.failures == "ignore":
            return TrialState.FAIL
        outlasted = seen.status == "trained" and len(seen.values) < self._longest
        if self.dropped == "pruned" and (outlasted or self._is_lost(seen)):
            return TrialState.PRUNED
        return TrialState.COMPLETE

    def _is_lost(self, seen: Observation) -> bool:
        """Tell whether a trial is told as one that has no result."""
        if self.failures == "ignore" or seen.status == "pending":
            return False
        return seen.status == "failed" or not any(map(math.isfinite, seen.values))


def best_so_far(values: Sequence[float]) -> Iterator[float]:
    """Return the best finite value up to each epoch; -inf while there is none."""
    return accumulate((v if math.isfinite(v) else -math.inf for v in values), max)


def is_lost(trial: FrozenTrial) -> bool:
    """Tell whether a trial was told as one that has no result; the others have values."""
    return not trial.intermediate_values and trial.state.is_finished()


def below(values: Sequence[float]) -> float:
    """Return a value that is below all others, by half of their spread.

    For a sampler that models the values, which are scaled by their standard deviation: one that is
    far below would make all others look alike, and the worst itself would make a failure as good as
    a result. Half of the spread is what Vizier and BoTorch take for what is infeasible.

    Args:
        values: finite ones. If there are none, whatever is returned is the only value.
    """
    low, high = min(values, default=0.0), max(values, default=0.0)
    spread = high / 2 - low / 2  # the difference itself may be infinite
    return min(low - (spread or max(abs(low), 1.0)), math.nextafter(low, -math.inf))
