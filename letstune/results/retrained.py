"""What came of training a trial again, compared with what is recorded of it: to the last bit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from letstune._public import public
from letstune.results.trials import TrialError
from letstune.rounds.events import TrialFailed
from letstune.rounds.failures import signature
from letstune.telling.lines import counted
from letstune.training.checkpoints import Checkpoint


class RetrainedEpoch(NamedTuple):
    """An epoch that was trained again.

    ``recorded`` are the metric values that the journal has; None if it has no such epoch.
    ``metric_values`` are those of now.
    """

    epoch: int
    recorded: Mapping[str, float] | None
    metric_values: Mapping[str, float]

    @property
    def difference(self) -> str:
        """What differs, and by how much; nothing if all values are the same to the last bit."""
        if self.recorded is None:
            return ""
        names = dict.fromkeys([*self.recorded, *self.metric_values])
        pairs = ((name, self.recorded.get(name), self.metric_values.get(name)) for name in names)
        # As text, NaN is the same as NaN, and -0.0 is not 0.0.
        return ", ".join(_told(*pair) for pair in pairs if repr(pair[1]) != repr(pair[2]))


@public("letstune")
@dataclass(frozen=True, kw_only=True)
class Retrained:
    """What came of training a trial again.

    Attributes:
        trial_id: the trial.
        start: the first epoch that was trained: 0, or the one after that of the checkpoint with
            which it began.
        epochs: the epochs that were trained, each with its ``epoch``, its ``metric_values``, those
            that are ``recorded`` (None if there are none), and the ``difference`` in words.
        difference: what is not as recorded, the first of it; or how a further epoch fails; empty
            if there is nothing of the kind.
        failure: how the trial has failed now; None if it has not.
        verdict: all of this in a sentence.
        changes: what is known not to be as it was when the trial was trained.
        checkpoint: the model after the last epoch; its use raises an error if there is none.
    """

    trial_id: int
    start: int
    epochs: Sequence[RetrainedEpoch]
    difference: str
    failure: TrialError | None
    verdict: str
    changes: Sequence[str]
    checkpoint: Checkpoint

    @property
    def same(self) -> bool:
        """Whether all that is recorded came out again, to the last bit, and nothing else failed."""
        return not self.difference

    def __repr__(self) -> str:
        return f"Retrained(trial_id={self.trial_id}, verdict={self.verdict!r})"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a verdict is made of.

    Attributes:
        start: the first epoch that was trained; ``asked``, how many there were to be in all.
        epochs: those that were trained.
        recorded: how many epochs the journal has; ``was``, how the trial failed after them.
        failed: how it has failed now. ``stopped``: whether its trainer has ended it.
    """

    start: int
    asked: int
    epochs: Sequence[RetrainedEpoch]
    recorded: int
    was: TrialFailed | None = None
    failed: TrialFailed | None = None
    stopped: bool = False

    @property
    def difference(self) -> str:
        """What is not as recorded, the first of it, or fails; nothing if all is well."""
        for epoch in self.epochs:
            if epoch.difference:
                return f"epoch {epoch.epoch} differs first: {epoch.difference}"
        reached = self.start + len(self.epochs)
        if reached < min(self.asked, self.recorded):
            ends = f"fails: {self.failed.message}" if self.failed else "the trainer stops before it"
            return f"epoch {reached} differs first: it was trained, and now {ends}"
        was, now = self.was, self.failed
        if was is None or self.asked <= self.recorded:
            return f"epoch {now.epoch}, which is not recorded, fails: {now.message}" if now else ""
        if now is None or now.epoch != was.epoch:
            return f"epoch {was.epoch} failed, and now it does not: {was.message}"
        if not _alike(was, now):
            return f"epoch {was.epoch} fails as it did, but with {now.message}; was {was.message}"
        return ""

    @property
    def verdict(self) -> str:
        """A sentence: how many epochs are as recorded, and what differs first."""
        due = max(0, min(self.asked, self.recorded) - self.start)
        compared = [epoch for epoch in self.epochs if epoch.recorded is not None]
        alike = sum(not epoch.difference for epoch in compared)
        more = len(self.epochs) - len(compared)
        if due:
            said = f"{alike} of {counted(due, 'epoch')} as recorded" + (
                f", {more} more" * bool(more)
            )
        else:
            said = f"{counted(more, 'epoch')} more than recorded"
        if self.start:
            said += f", from the checkpoint of epoch {self.start - 1} on"
        return "; ".join(filter(None, [said, self.difference or self._end()]))

    def _end(self) -> str:
        """Return how the trial ended before the last epoch that was asked for, if it did."""
        if self.failed is not None:
            return f"epoch {self.failed.epoch} fails, as recorded: {self.failed.message}"
        if self.stopped and self.start + len(self.epochs) < self.asked:
            return "then its trainer stops"
        return ""


def _told(name: str, was: float | None, now: float | None) -> str:
    if was is None or now is None:
        there = f"was {was!r}, and is missing" if now is None else f"was missing, and is {now!r}"
        return f"{name} {there}"
    by = abs(now - was)
    amount = f" ({by:.3g} {'more' if now > was else 'less'})" if math.isfinite(by) and by else ""
    return f"{name} was {was!r}, is {now!r}{amount}"


def _alike(was: TrialFailed, now: TrialFailed) -> bool:
    """Tell whether a trial has failed as it did, but for numbers, and for where its code is now."""
    if (was.kind, now.kind) != ("raised", "raised"):
        return was.kind == now.kind
    return signature(was)[:2] == signature(now)[:2]
