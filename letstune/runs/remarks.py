"""What of a trainer's values is told while a run goes on, or ends it before it has begun."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from letstune.errors import TrainerError
from letstune.results.verdicts import grave, what_is_grave
from letstune.rounds.events import EpochFinished, Event, TrialFailed, TrialStopped
from letstune.rounds.metric import as_returned, metric_name
from letstune.rounds.plan import Plan
from letstune.rounds.state import NO_VALUE, State
from letstune.training.trainer import without_metric
from letstune.workers.executor import Delivery


def mistaken(plan: Plan, first: Iterable[Delivery]) -> Exception | None:
    """Return why a run must end whose very first epochs these are; None if one of them is well.

    It is when the trainer returned what it must not, or trained a trial to its end without the
    metric: then each trial would fail alike, or come to nothing, and the journal is as good as new
    when the trainer is mended. Later, such a thing is its trial's own.
    """
    only = not plan.rounds.timed and plan.rounds.limits[-1] == 1
    error: Exception | None = None
    for delivery in first:
        match delivery.events:
            case [EpochFinished() as epoch, *others]:
                ends = only or any(isinstance(event, TrialStopped) for event in others)
                if not ends or metric_name(plan.metric) in epoch.metrics:
                    return None
                error = TrainerError(
                    f"{_lacking(plan, epoch)} Return it, and run the script again, or give "
                    "`letstune resume` the --trainer: the journal holds the code as it was. "
                    "Another metric needs a new journal."
                )
            case [TrialFailed(), *_] if isinstance(delivery.error, TrainerError):
                error = error or delivery.error
    return error


class Remarks:
    """Tells what a person should know of a run while it goes on, each thing once in a session.

    Args:
        state: the run as it begins; what is known of it then, nobody need be told now.
        tell: tells a person something.
        journal: the journal's path, as a shell takes it.
    """

    def __init__(self, state: State, tell: Callable[[str], None], journal: str) -> None:
        self._tell = tell
        self._journal = journal
        self._leader = state.leader
        self._frontier = list(state.frontier)
        self._told = set(grave(state, journal))
        self._without = False

    def recorded(self, events: Sequence[Event], state: State) -> None:
        """See what was recorded."""
        if not self._without:
            self._look_for_the_metric(events, state.plan)
        if state.leader[0] < self._leader[0]:
            self._tell_fallen(state)
        self._leader = state.leader
        if state.frontier != self._frontier:
            new = what_is_grave(state, self._frontier) - self._told
            self._frontier = list(state.frontier)
            self._told |= new
            for what, verdict in grave(state, self._journal).items() if new else ():
                if what in new:
                    self._tell(verdict)

    def _tell_fallen(self, state: State) -> None:
        (was, before), (is_, winner) = self._leader, state.leader
        lost = as_returned(state.plan.metric, was)
        now = f"{as_returned(state.plan.metric, is_):.6g} (trial {winner})"
        self._tell(
            f"Best so far fell from {lost:.6g} (trial {before}, which failed) to "
            f"{'nothing' if is_ == NO_VALUE else now}."
        )

    def _look_for_the_metric(self, events: Iterable[Event], plan: Plan) -> None:
        for event in events:
            # Most have a number, which is quicker to see than a name in a dict.
            if not isinstance(event, EpochFinished) or not math.isnan(event.value):
                continue
            if metric_name(plan.metric) not in event.metrics:
                self._without = True
                self._tell(
                    f"{_lacking(plan, event)} Such an epoch has no value: it ranks below all that "
                    "have one. If the name is a mistake, stop the run and mend it."
                )
                return


def _lacking(plan: Plan, epoch: EpochFinished) -> str:
    where = f"Training trial {epoch.trial}, epoch {epoch.epoch},"
    return without_metric(epoch.metrics, plan.metric, where)
