"""The dress rehearsal: whether a trial can go on from its checkpoint, before any trial has to.

The first trial that ends its first round has its last epoch trained once more, from the checkpoint
before it, and what comes out is compared with what is recorded. Nothing of it is recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from letstune.rounds.blame import preempted
from letstune.rounds.decisions import describe_death, ended
from letstune.rounds.events import (
    CheckpointDeleted,
    EpochFinished,
    Event,
    Task,
    TaskEnded,
    TrialFailed,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.metric import metric_name
from letstune.rounds.state import State, TrialState
from letstune.workers.executor import Delivery


class DressRehearsal:
    """Whether a run's trainer is what its trials need in later rounds.

    There is none if the first round has a single epoch, since the checkpoint before that does not
    exist; nor once a trial has been trained beyond its first round, which shows more.

    Args:
        state: the run as the session begins.
        wanted: whether there is to be one.

    Attributes:
        trial: the trial that it trains; -1 if there is none.
        done: whether it has found out.
        failed: why no trial should go on to its second round, if it has found that.
        remark: what is to be told of what it has found, if anything.
    """

    def __init__(self, state: State, wanted: bool) -> None:
        self._wanted = wanted and not any(map(_went_on, state.trials))
        self._recorded: EpochFinished | None = None
        self._deaths: list[WorkerDied] = []
        self._held: CheckpointDeleted | None = None
        self.trial = -1
        self.done = False
        self.failed = ""
        self.remark = ""

    @property
    def on(self) -> bool:
        """Whether it has begun and not ended, so that no trial may go on to its second round."""
        return self.trial >= 0

    def see(self, event: Event, state: State) -> None:
        """See what is recorded; the first epoch that ends a trial's first round is taken."""
        if isinstance(event, TrialStopped) and event.trial == self.trial:  # it never goes on
            self._wanted, self._recorded, self.trial = True, None, -1
        if not (self._wanted and isinstance(event, EpochFinished)):
            return
        trial = state.trials[event.trial]
        ends = len(trial.marks) == 1 and trial.marks[0][0] == event.epoch + 1
        if ends and trial.status == "trained" and event.epoch - 1 in trial.kept:
            self._wanted = False
            self._recorded, self.trial = event, event.trial

    def holds(self, deletion: CheckpointDeleted) -> bool:
        """Tell whether a deletion has to wait, since the checkpoint is needed; take note of it."""
        if self._recorded is None or deletion[:2] != (self.trial, self._recorded.epoch - 1):
            return False
        self._held = deletion
        return True

    def before(self, tasks: list[Task], state: State, busy: Collection[int]) -> list[Task]:
        """Return what may be trained now: what it has to train, and what is of the first round.

        Args:
            tasks: what else could be trained.
            state: the run.
            busy: the trials in training, and those for which there is no time.
        """
        first = [task for task in tasks if not state.trials[task.trial].round]
        if self._recorded is None or self.trial in busy:
            return first
        trial, epoch = state.trials[self.trial], self._recorded.epoch
        again = Task(
            trial=self.trial,
            attempt="",
            params=trial.params,
            epochs=epoch,
            seconds=0.0,  # for the trial's budget, it does not count
            limit=epoch + 1,
            timed=False,
            loaded=epoch - 1,
            checkpoint=trial.kept[epoch - 1],
            expected=repr(self._recorded.metrics.get(metric_name(state.plan.metric))),
        )
        return [again, *first]

    def take(self, delivery: Delivery, state: State) -> Iterator[str]:
        """Look at what came of it; yield the URIs of the checkpoints to delete."""
        stopped = any(isinstance(event, TrialStopped) for event in delivery.events)
        metric = metric_name(state.plan.metric)
        for event in delivery.events:
            match event:
                case EpochFinished():
                    if event.checkpoint is not None:
                        yield event.checkpoint.uri
                    self._compare(event.metrics, stopped, metric)
                case TrialStopped() if not self.done:
                    self._compare({}, stopped, metric)
                case TaskEnded(_, found) if found and self.remark:
                    self.remark += f" Not the same after the load, and perhaps the reason: {found}."
                case TrialFailed() | WorkerDied() if self.done:
                    pass  # it was in search of the reason
                case TrialFailed():
                    self._fail(event.message, event.traceback, only=len(state.limits) == 1)
                case WorkerDied() if not preempted(event):
                    self._deaths.append(event)
                    if len(self._deaths) >= state.plan.max_deaths:
                        told = "\n\n".join(map(describe_death, self._deaths))
                        message = f"the worker died, {ended(event.code)}."
                        self._fail(message, told, only=len(state.limits) == 1)

    def over(self) -> list[CheckpointDeleted]:
        """End it; return the deletion that had to wait, if there is one.

        If it has not found out, another trial is going to be taken.
        """
        held, self._held = self._held, None
        self._wanted, self._recorded, self.trial = self.on and not self.done, None, -1
        return [] if held is None else [held]

    def _compare(self, now: Mapping[str, float], stopped: bool, metric: str) -> None:
        """Compare what came of it with what is recorded, to the last bit.

        Args:
            now: the metric values; empty if the trial was stopped in the epoch, without any.
            stopped: whether it was stopped.
            metric: the name of the run's.
        """
        if self._recorded is None:
            return
        self.done = True
        was = self._recorded.metrics
        names = [n for n in dict.fromkeys([*was, *now]) if repr(was.get(n)) != repr(now.get(n))]
        told = [f"{name} is {now.get(name)!r} instead of {was.get(name)!r}" for name in names[:5]]
        if stopped:
            told = ["the trial was stopped", *(told if now else [])]
        if not told:
            return
        self.remark = (
            f"Trial {self.trial}, epoch {self._recorded.epoch}, was trained once more from the "
            f"checkpoint before it, and came out differently: {', '.join(told)}. "
        )
        if stopped or metric in names:
            self.remark += (
                "So save and load do not keep all that the next epoch depends on, or the training "
                "draws from what letstune does not seed; then what goes on from a checkpoint, in a "
                "later round or after a crash, is not what it would have been. `letstune rehearse` "
                "finds out more, and the documentation has a page, How resume works."
            )
        else:
            self.remark += (
                f"{metric} is the same to the last bit, so nothing is wrong if the others are "
                "times, or measure something else that is never twice the same."
            )

    def _fail(self, message: str, traceback: str, *, only: bool) -> None:
        """See it fail; in a run of only one round, in which no trial has to go on, that is told."""
        self.done = True
        found = (
            f"Trial {self.trial} cannot go on from its checkpoint: its last epoch was trained once "
            f"more from the checkpoint before it, and failed: {message}\n{traceback.rstrip()}\n"
        )
        if only:
            self.remark = (
                f"{found}The run goes on, since it has a single round. But if it is interrupted, "
                "the trials that are in training then will fail. Mend the trainer's save and load."
            )
            return
        self.failed = (
            f"{found}So would every trial that advances. The run was stopped, and all is recorded. "
            "Mend the trainer's save and load, and run this again; where checkpoints that are "
            "there already lack something, begin another journal. To go on regardless: "
            "rehearse=False, --no-rehearse."
        )


def _went_on(trial: TrialState) -> bool:
    """Tell whether a trial was trained beyond its first round."""
    return bool(trial.marks) and trial.epochs > trial.marks[0][0]
