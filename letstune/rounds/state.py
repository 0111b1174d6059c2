"""What a run has come to: the fold of its journal's events.

The state is derived, whole, from the plan and the events; nothing else is remembered. It is
folded in place: a copy for each of a million events would make the cost of an event grow with the
run.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable
from typing import Final, NoReturn

from letstune.errors import IllegalEventError
from letstune.rounds.blame import preempted
from letstune.rounds.cohorts import DROPPED, Cohort, Queue, rank_key
from letstune.rounds.events import (
    CheckpointDeleted,
    EpochFinished,
    Event,
    SpaceExhausted,
    Stored,
    TrialFailed,
    TrialProposed,
    TrialRetried,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.failures import Failures
from letstune.rounds.plan import Plan

TRANSITIONS: Final = {
    (None, TrialProposed): "proposed",
    ("proposed", EpochFinished): "trained",
    ("trained", EpochFinished): "trained",
    ("proposed", TrialStopped): "stopped",
    ("trained", TrialStopped): "stopped",
    ("proposed", TrialFailed): "failed",
    ("trained", TrialFailed): "failed",
}
"""Every legal move of a trial: what it is, what happens, what it is then. All else is refused."""

NO_VALUE: Final = -math.inf


class TrialState:
    """How far one trial has come.

    Attributes:
        status: a value of `TRANSITIONS`.
        epochs: how many are recorded; ``seconds``, how long they took in all.
        best: the best finite standing, or `NO_VALUE`; ``best_epoch``, the first to reach it.
        marks: of each round whose limit is reached, the epochs by then and the best value.
        limit: that of the first round that is not reached.
        cohort: the cohort that it competes in, and ``round``, the last round that it entered.
        waiting: whether it is through with that round, and its advancing is not yet certain.
        settled: whether it will never be trained any more.
        kept: the checkpoints that exist, by epoch.
    """

    __slots__ = (
        "_best_epoch",
        "best",
        "cohort",
        "epochs",
        "kept",
        "limit",
        "marks",
        "params",
        "round",
        "seconds",
        "settled",
        "status",
        "waiting",
    )

    def __init__(self, params: str, cohort: int, limit: float) -> None:
        self.params = params
        self.limit = limit
        self.cohort = cohort
        self.status = "proposed"
        self.epochs = 0
        self.seconds = 0.0
        self.best = NO_VALUE
        self._best_epoch = -1
        self.marks: list[tuple[int, float]] = []
        self.round = 0
        self.waiting = False
        self.settled = False
        self.kept: dict[int, Stored] = {}

    @property
    def best_epoch(self) -> int:
        """The epoch of the best value; the first one if no value is finite; -1 without epochs."""
        return 0 if self._best_epoch < 0 < self.epochs else self._best_epoch


class State:
    """A run so far.

    Attributes:
        trials: by trial id.
        cohorts: those begun, in order; ``frontier[k]`` of them, from the first on, are through
            with round k.
        exhausted: how many different params there are, once that is known to be too few.
        ready: of each round, the trials to be trained in it, those in training included; the
            first to be trained first.
        leader: the best standing so far of a trial that has not failed, and whose it is.
        podium: the best settled trials, whose best epochs are kept.
        changed: the trials whose checkpoints may be of no more use.
        failures: how those trials failed that have.
        deaths: the workers that each trial has lost in its next epoch; most have lost none.
        ends_before: the row of the journal from which on it was not read; None if all of it was.
    """

    def __init__(
        self, plan: Plan, exhausted: int | None = None, *, replaying: bool = False
    ) -> None:
        self.plan = plan
        self.exhausted = exhausted
        self.trials: list[TrialState] = []
        self.cohorts: list[Cohort] = []
        self.limits = plan.rounds.limits
        self.timed = plan.rounds.timed
        self.frontier = [0] * len(self.limits)
        self.ready = [Queue() for _ in self.limits]
        self.unsettled = 0
        self.total_epochs = 0
        self.total_seconds = 0.0
        self.leader: tuple[float, int] = (NO_VALUE, -1)
        self.podium: list[tuple[bool, float, int]] = []
        self.changed: dict[int, None] = {}
        self.failures = Failures()
        self.deaths: dict[int, list[WorkerDied]] = {}
        self.ends_before: int | None = None
        self._replaying = replaying

    @property
    def n_trials(self) -> int:
        """How many trials the run will have, as far as is known."""
        return min(self.plan.n_trials, self.exhausted or self.plan.n_trials)

    @property
    def trained(self) -> float:
        """How much training is recorded, in the unit of the rounds: epochs or seconds."""
        return self.total_seconds if self.timed else self.total_epochs

    @property
    def finished(self) -> bool:
        """Whether everything that was planned is done."""
        return self.unsettled == 0 and len(self.trials) == self.n_trials

    def apply(self, event: Event) -> None:
        """Fold one event in.

        Raises:
            IllegalEventError: the event does not follow from what is recorded.
        """
        match event:
            case EpochFinished():
                trial = self._trial(event)
                self._fold([(event.trial, event.epoch, event.value, event.seconds)])
                self.total_epochs += 1
                self.total_seconds += event.seconds
                if trial.best > self.leader[0]:
                    self.leader = (trial.best, event.trial)
                if event.checkpoint is not None:
                    trial.kept[event.epoch] = event.checkpoint
                    self.changed[event.trial] = None
                if self.deaths:
                    self.deaths.pop(event.trial, None)
            case TrialProposed():
                self._propose(event)
            case TrialStopped() | TrialFailed():
                self._trial(event)
                self._move_on(event.trial)
                self.deaths.pop(event.trial, None)
                if isinstance(event, TrialFailed):
                    self.failures.add(event)
                    if event.trial == self.leader[1]:
                        self._find_leader()
            case WorkerDied():
                self._die(event)
            case CheckpointDeleted():
                self._known(event).kept.pop(event.epoch, None)
            case SpaceExhausted():
                self.exhausted = event.trials
            case TrialRetried():
                # Others may have advanced in its place, and all that followed from its failure is
                # undone: the journal is folded anew, without the failure. Who went further than
                # they would have keeps what it has.
                raise RuntimeError(f"{event} is recorded before a session, and the state loaded")

    def replay(
        self,
        epochs: Iterable[tuple[int, int, float, float]],
        later: Iterable[Event],
        kept: Iterable[tuple[int, int, Stored]],
    ) -> None:
        """Fold a whole journal in, after its proposals: what `apply` does, for millions of rows.

        Args:
            epochs: rows of trial, epoch, value and seconds, in journal order.
            later: all other events: how trials ended, then the deaths of workers. A trial has no
                epoch after its end, and no worker's death counts after a further epoch, so they
                may come after all epochs.
            kept: rows of trial, epoch and checkpoint, of the checkpoints that were not deleted.
        """
        self._replaying = True
        self._fold(epochs)
        for trial in self.trials:
            if trial.epochs:
                trial.status = "trained"
                self.total_epochs += trial.epochs
                self.total_seconds += trial.seconds
        for event in later:
            self.apply(event)
        for number, epoch, stored in kept:
            self.trials[number].kept[epoch] = stored
        # A trial that had settled may have gone on, in the part of the run before the plan grew,
        # so only now is it known what the settled ones are worth.
        self._find_leader()
        self._replaying = False
        for number, trial in enumerate(self.trials):
            if trial.settled:
                self._stand(number, trial)
            if trial.kept:
                self.changed[number] = None

    def counts(self, death: WorkerDied) -> bool:
        """Tell whether a death is to be laid to its trial: whether it came in its next epoch.

        A trial that waits for others, or is settled, has no epoch in flight, so whatever its
        worker died of was not of its doing. Nor was it if the worker was preempted.
        """
        if preempted(death):
            return False  # of a journal from when such deaths were recorded
        trial = self._known(death)
        going_on = trial.status in ("proposed", "trained") and not trial.waiting
        return going_on and not trial.settled and death.epoch == trial.epochs

    def _die(self, death: WorkerDied) -> None:
        if self.counts(death):
            self.deaths.setdefault(death.trial, []).append(death)

    def _find_leader(self) -> None:
        self.leader = (NO_VALUE, -1)
        for number, trial in enumerate(self.trials):
            if trial.best > self.leader[0] and trial.status != "failed":
                self.leader = (trial.best, number)

    def _known(
        self, event: EpochFinished | TrialStopped | TrialFailed | WorkerDied | CheckpointDeleted
    ) -> TrialState:
        if not 0 <= event.trial < len(self.trials):
            raise IllegalEventError(
                f"Trial {event.trial} was never proposed, but there is a {type(event).__name__} "
                f"of it. {_TAMPERED}"
            )
        return self.trials[event.trial]

    def _trial(self, event: EpochFinished | TrialStopped | TrialFailed) -> TrialState:
        trial = self._known(event)
        status = TRANSITIONS.get((trial.status, type(event)))
        if trial.settled and isinstance(event, TrialFailed) and not self._replaying:
            # It may be on the podium, and have pushed others off, whose checkpoints are gone.
            raise IllegalEventError(
                f"Trial {event.trial} has come to its end, but there is a TrialFailed of it: "
                f"{event.message} That is a bug of whatever trains; please report it."
            )
        if status is None:
            raise IllegalEventError(
                f"Trial {event.trial} is {trial.status}, but there is a {type(event).__name__} "
                f"of it. {_TAMPERED}"
            )
        trial.status = status
        return trial

    def _propose(self, event: TrialProposed) -> None:
        number = len(self.trials)
        if event.trial != number or number >= self.n_trials:
            raise IllegalEventError(
                f"Trial {event.trial} is proposed, but {number} of {self.n_trials} trials "
                f"are there. {_TAMPERED}"
            )
        if not self.cohorts or self.cohorts[-1].full:
            size = min(self.plan.cohort_size(len(self.cohorts)), self.n_trials - number)
            self.cohorts.append(Cohort(self.plan.rounds.quotas(size)))
        self.cohorts[-1].enter()
        self.trials.append(TrialState(event.params, len(self.cohorts) - 1, self.limits[0]))
        self.unsettled += 1
        self.ready[0].put(number, 0.0)

    def _fold(self, epochs: Iterable[tuple[int, int, float, float]]) -> None:
        """Fold epochs in, rows of trial, epoch, value and seconds."""
        # A million of them at a resume, so all that can wait is left to the callers, and nothing
        # is called or looked up for an epoch that ends no round.
        trials, count, timed, infinity = self.trials, len(self.trials), self.timed, math.inf
        for number, epoch, value, seconds in epochs:
            if not 0 <= number < count or epoch != (trial := trials[number]).epochs:
                self._refuse_epoch(number, epoch)
            if trial.best < value < infinity:
                trial.best = value
                trial._best_epoch = epoch
            trial.epochs = epoch + 1
            trial.seconds += seconds
            if (trial.seconds if timed else trial.epochs) >= trial.limit:
                self._mark(trial)
                self._move_on(number)

    def _refuse_epoch(self, number: int, epoch: int) -> NoReturn:
        expected = "there is no such trial"
        if 0 <= number < len(self.trials):
            expected = f"epoch {self.trials[number].epochs} comes next"
        raise IllegalEventError(
            f"Trial {number}: epoch {epoch} is recorded, but {expected}. {_TAMPERED}"
        )

    def _mark(self, trial: TrialState) -> None:
        """Note how a trial stands in the rounds whose limit it has reached."""
        done = trial.seconds if self.timed else trial.epochs
        while done >= trial.limit:
            trial.marks.append((trial.epochs, trial.best))
            later = self.limits[len(trial.marks) :]
            trial.limit = later[0] if later else math.inf

    def _move_on(self, number: int) -> None:
        """Move a trial on in its rounds, and then all trials whose place that makes certain."""
        arrived = [number]
        while arrived:
            number = arrived.pop()
            trial = self.trials[number]
            if trial.waiting or trial.settled:
                continue  # the plan has grown since: what it did beyond its round does not count
            k = trial.round
            if len(trial.marks) > k:
                standing: float | None = trial.marks[k][1]
            elif trial.status in ("stopped", "failed"):
                standing = trial.best if trial.status == "stopped" else None
            else:
                self.ready[k].put(number, trial.seconds / (trial.epochs or 1))
                continue
            self.ready[k].remove(number)
            trial.waiting = True
            cohort = self.cohorts[trial.cohort]
            for moved, target in cohort.finish(k, number, standing):
                self.trials[moved].waiting = False
                if target == DROPPED:
                    self._settle(moved)
                else:
                    self.trials[moved].round = target
                    arrived.append(moved)
            if cohort.complete(k):
                self._move_frontier(k)

    def _move_frontier(self, k: int) -> None:
        # In all rounds from k on: a failure leaves a place empty, which may complete later ones.
        for later in range(k, len(self.limits)):
            begun = self.frontier[later]
            while begun < len(self.cohorts) and self.cohorts[begun].complete(later):
                begun += 1
            self.frontier[later] = begun

    def _settle(self, number: int) -> None:
        trial = self.trials[number]
        trial.settled = True
        self.unsettled -= 1
        self.changed[number] = None
        if not self._replaying:
            self._stand(number, trial)

    def _stand(self, number: int, trial: TrialState) -> None:
        """Put a settled trial on the podium, if it deserves it."""
        if trial.status != "failed" and self.plan.keep_checkpoints != "all":
            insort(self.podium, rank_key(trial.best, number))
            if len(self.podium) > self.plan.keep_checkpoints:
                self.changed[self.podium.pop()[2]] = None


_TAMPERED: Final = (
    "That does not follow from what was recorded before; `letstune check` says how to go on from "
    "there."
)
