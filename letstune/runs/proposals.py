"""Proposals: what a run records of the trials that its sampler proposes."""

from __future__ import annotations

from typing import Final

from letstune.journal.journal import Journal
from letstune.rounds.decisions import Proposal, visible
from letstune.rounds.events import Event, SpaceExhausted, TrialProposed
from letstune.rounds.state import State
from letstune.samplers.proposer import Proposer
from letstune.samplers.sampler import Observation, Sampler
from letstune.space.params import Space

MANY: Final = 10
"""So many trials for which a sampler has nothing new are told, once in a session."""


class Proposals:
    """Proposes cohorts, each from what the lag rule shows of the trials before it.

    Args:
        sampler: who is asked.
        space: the search space.
        journal: has the metric values that are shown.
    """

    def __init__(self, sampler: Sampler, space: Space, journal: Journal) -> None:
        self._sampler = sampler
        self._space = space
        self._journal = journal
        self._proposer: Proposer | None = None
        self._seen: dict[int, Observation] = {}
        self._told = False

    def of(self, proposal: Proposal, state: State) -> list[Event]:
        """Return the events of a proposal, all of which are to be recorded together.

        They begin with `SpaceExhausted` if the space has fewer params than are wanted.
        """
        plan = state.plan
        if self._proposer is None:  # not before: a run may have nothing to propose
            taken = (trial.params for trial in state.trials)
            self._proposer = Proposer(self._sampler, self._space, plan.seed, taken, plan.attempts)
        history = self._history(proposal.cohort, state)
        events: list[Event] = []
        for trial in range(proposal.first, proposal.first + proposal.size):
            params = self._proposer.propose(history, trial)
            if params is None:
                return [SpaceExhausted(trial), *events]
            events.append(TrialProposed(trial, params.to_json(), plan.sampler["name"]))
            if plan.adaptive:
                history.append(Observation(trial, params, "pending"))
        return events

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
