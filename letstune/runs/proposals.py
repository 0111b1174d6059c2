"""Proposals: what a run records of the trials that its sampler proposes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, Final

from letstune.journal.journal import Journal
from letstune.rounds.decisions import Proposal, visible
from letstune.rounds.events import Event, SpaceExhausted, TrialProposed
from letstune.rounds.state import State
from letstune.samplers.proposer import Proposer
from letstune.samplers.sampler import Observation, Sampler
from letstune.space.params import Space

MANY: Final = 10
"""So many trials for which a sampler has nothing new are told, once in a session."""

DEAR: Final = 5.0
"""Proposing is told to be dear from so many seconds on, if it takes a tenth of the time."""


class Proposals:
    """Proposes cohorts, each from what the lag rule shows of the trials before it.

    Args:
        sampler: who is asked.
        space: the search space.
        journal: has the metric values that are shown.
        doing: shows a person what is going on.

    Attributes:
        seconds: how long proposing has taken in this session.
    """

    def __init__(
        self, sampler: Sampler, space: Space, journal: Journal, doing: Callable[[str], None]
    ) -> None:
        self._sampler = sampler
        self._space = space
        self._journal = journal
        self._doing = doing
        self.seconds = 0.0
        self._proposer: Proposer | None = None
        self._seen: dict[int, Observation] = {}
        self._told = False

    def of(self, proposal: Proposal, state: State, interrupted: Callable[[], bool]) -> list[Event]:
        """Return the events of a proposal, all of which are to be recorded together.

        They begin with `SpaceExhausted` if the space has fewer params than are wanted. There are
        none if the run is interrupted meanwhile: a slow sampler is not waited for.

        Args:
            proposal: which trials are wanted.
            state: the run as it is recorded.
            interrupted: tells whether the run is to stop.
        """
        began = time.monotonic()
        try:
            return self._of(proposal, state, interrupted)
        finally:
            self.seconds += time.monotonic() - began

    def _of(self, proposal: Proposal, state: State, interrupted: Callable[[], bool]) -> list[Event]:
        plan = state.plan
        if self._proposer is None:  # not before: a run may have nothing to propose
            taken = (trial.params for trial in state.trials)
            self._proposer = Proposer(self._sampler, self._space, plan.seed, taken, plan.attempts)
        history = self._history(proposal.cohort, state)
        events: list[Event] = []
        for trial in range(proposal.first, proposal.first + proposal.size):
            if interrupted():
                self._proposer = None  # it has taken params that are not recorded
                return []
            self._doing(f"asking sampler {plan.sampler['name']!r} for trial {trial}")
            try:
                params = self._proposer.propose(history, trial)
            except Exception as error:
                error.add_note(_blamed(error, plan.sampler, trial))
                raise
            if params is None:
                return [SpaceExhausted(trial), *events]
            events.append(TrialProposed(trial, params.to_json(), plan.sampler["name"]))
            if plan.adaptive:
                history.append(Observation(trial, params, "pending"))
        return events

    def dear(self, trained: float) -> str:
        """Return what is to be told of a sampler that takes long beside training; else nothing.

        Args:
            trained: how many seconds of training this session has recorded.
        """
        whole = self.seconds + trained
        if self.seconds < DEAR or self.seconds * 10 < whole:
            return ""
        return (
            f"{type(self._sampler).__name__} took {self.seconds:.0f} s to propose trials, "
            f"{self.seconds / whole:.0%} of the time of this session; their training took "
            f"{trained:.0f} s. With trainings as short as these, a simpler sampler finds more in "
            "the same time."
        )

    def remark(self) -> str:
        """Return what is to be told of a sampler that repeats itself; once, else nothing."""
        if self._told or self._proposer is None or self._proposer.repeated < MANY:
            return ""
        self._told = True
        return (
            f"{type(self._sampler).__name__} has proposed params that were there already for "
            f"{MANY} trials; these were drawn at random instead. It may have learned all that it "
            "can of this space: fewer trials may do, or another sampler finds more."
        )

    def _history(self, cohort: int, state: State) -> list[Observation]:
        history = []
        for sight in visible(state.plan, state, cohort):
            seen = self._seen.get(sight.trial)
            if seen is None or (seen.status, len(seen.values)) != (sight.status, sight.epochs):
                shown = (
                    list(self._journal.epochs(sight.trial))[: sight.epochs] if sight.epochs else []
                )
                seen = self._seen[sight.trial] = Observation(
                    sight.trial,
                    self._space.decode(state.trials[sight.trial].params),
                    sight.status,
                    tuple(epoch.value for epoch in shown),
                    tuple(epoch.metrics for epoch in shown),
                )
            history.append(seen)
        return history


def _blamed(error: Exception, sampler: Mapping[str, Any], trial: int) -> str:
    """Return who raised an exception when it was asked for a trial, and where."""
    by = sampler.get("by") or {}
    who = " ".join(str(by[part]) for part in ("distribution", "version") if by.get(part))
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"It was raised by sampler {sampler['name']!r}{f' of {who}' if who else ''}, asked for "
        f"trial {trial}, in {last.filename}, line {last.lineno}. Nothing of the cohort is recorded."
    )
