"""Training in pieces, as if a run were killed after each epoch, and a look at what is brought back.

This is the owner's side of a process that `letstune.workers.stage` runs in.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

from letstune.errors import WorkerError
from letstune.results.results import TuningResults
from letstune.results.trials import Trial
from letstune.rounds.decisions import ended
from letstune.rounds.events import EpochFinished, Event, Stored, Task, TrialFailed, TrialStopped
from letstune.training.audit import Audit, Looks, Unlike, audit, changed, fields_of, unlike
from letstune.training.parts import Path
from letstune.workers.job import Job
from letstune.workers.machine import own_threads, thread_limits
from letstune.workers.messages import Raised
from letstune.workers.stage import Came, Opened, Piece
from letstune.workers.worker_process import WorkerProcess

_MAIN = "letstune.workers.stage"
_GRACE = 5.0


class Stage:
    """A process that has the dataset, and trains each piece as if nothing had been before it.

    Args:
        job: what is trained.
        token: names it.

    Attributes:
        fields: what `load_dataset` has set.

    Raises:
        WorkerError: it cannot be started, or died.
        Exception: `load_dataset` raised it.
    """

    def __init__(self, job: Job, token: str) -> None:
        self._file = job.spool()
        self._token, self._started = token, 0
        self._process: WorkerProcess | None = None
        self.fields: list[str] = []
        self._alone = ""
        self._open()

    def come(self, pieces: Sequence[Piece]) -> list[Came]:
        """Train pieces; where forks are out of the question, a process trains all of them."""
        if not self._alone:
            # In a process each, if one of them finds that forks are out of the question.
            return [self._train(piece) for piece in pieces]
        together = Piece([task for piece in pieces for task in piece.tasks], *pieces[0][1:])
        came = self._train(together)
        self.close(last=False)
        return [
            came._replace(events=[e for e in came.events if e[0] == piece.tasks[0].trial])
            for piece in pieces
        ]

    def close(self, *, last: bool = True) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.close(_GRACE)
        if last:
            self._file.close()

    def _open(self) -> WorkerProcess:
        self._started += 1
        environment = thread_limits(1, os.environ, own_threads(1, os.environ))
        token = f"{self._token}-{self._started}"
        self._process = process = WorkerProcess(self._file, token, environment, main=_MAIN)
        opened = self._hear(process)
        if not isinstance(opened, Opened):
            raise WorkerError(
                f"The process of the rehearsal died while it loaded the dataset: {opened}. Nothing "
                "was changed; try again, with a part of the dataset if there was too little memory."
            )
        self.fields, self._alone = opened.fields, opened.alone
        return process

    def _train(self, piece: Piece) -> Came:
        process = self._process or self._open()
        process.send(piece)
        came = self._hear(process)
        if isinstance(came, Came):
            if came.alone:
                self._alone = came.alone
                self.close(last=False)
            return came
        self.close(last=False)
        task, message = piece.tasks[0], f"The process died: {came}."
        failed = TrialFailed(task.trial, task.epochs, "worker died", message, message)
        return Came([failed], [], set(), 0.0)

    def _hear(self, process: WorkerProcess) -> Any:
        """Return what it says next; how it ended, if it says nothing any more."""
        while True:
            wait(process.waitables, 1.0)
            messages: list[Any] = process.receive()
            if messages and isinstance(messages[0], Raised):
                raise messages[0].exception("The process of the rehearsal")
            if messages:
                return messages[0]
            if (how := process.ended()) is not None:
                return ended(how.code)


@dataclass
class Resumed:
    """What came of a trial in pieces; see `Trial`.

    Attributes:
        metrics: of each epoch.
        last: the last epoch that was stored, and where.
    """

    trial: Trial[Any]
    metrics: list[Mapping[str, float]] = field(default_factory=list)
    status: str = "trained"
    message: str = ""
    best: float = -math.inf
    last: tuple[int, Stored | None] = (-1, None)

    def task(self, epochs: int) -> Task:
        """Return the task of a number of epochs more."""
        return Task(
            trial=self.trial.trial_id,
            attempt=secrets.token_hex(4),
            params=self.trial.params.to_json(),
            epochs=len(self.metrics),
            seconds=0.0,
            limit=len(self.metrics) + epochs,
            timed=False,
            loaded=self.last[0],
            checkpoint=self.last[1],
        )

    def see(self, event: Event) -> None:
        """See what came of a piece."""
        match event:
            case EpochFinished():
                self.metrics.append(event.metrics)
                self.best = max(self.best, -math.inf if math.isnan(event.value) else event.value)
                if event.checkpoint is not None:
                    self.last = (event.epoch, event.checkpoint)
            case TrialStopped():
                self.status = "stopped"
            case TrialFailed():
                self.status, self.message = "failed", event.message


def in_pieces(stage: Stage, straight: TuningResults[Any], epochs: int) -> list[Resumed]:
    """Train the trials of a run in pieces, and return what came of them, by trial.

    After each epoch, the better half goes on.
    """
    all_of_them = [Resumed(t) for t in sorted(straight, key=lambda trial: trial.trial_id)]
    going = all_of_them
    for _ in range(epochs):
        came = stage.come([Piece([one.task(1)]) for one in going])
        for one, what in zip(going, came, strict=True):
            for event in what.events:
                one.see(event)
        half = math.ceil(len(going) / 2)
        alive = [one for one in going if one.status == "trained"]
        going = sorted(alive, key=lambda one: -one.best)[:half]
        if not going:
            break
    return all_of_them


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a look at a trainer has found.

    Attributes:
        audit: what `save` and `load` have lost.
        changed: what a training has changed of what `load_dataset` has loaded.
        fields: what `load_dataset` has set.
        loading: how long a load took, in seconds.
    """

    audit: Audit
    changed: list[Unlike]
    fields: list[str]
    loading: float

    @property
    def forgotten(self) -> list[Unlike]:
        """What is wrong, but for what `load_dataset` has loaded, which nobody saves."""
        return [each for each in self.audit.wrong if each.path[0][1] not in self.fields]


def look(stage: Stage, trial: Trial[Any], *, in_a_function: bool, thorough: bool) -> Looked | None:
    """Look at a trainer before and after a load; return nothing if there is nothing to look at.

    Args:
        stage: who trains.
        trial: one that has two epochs.
        in_a_function: whether it is a `GeneratorTrainer`. Of that, there is nothing to see before
            it has trained another epoch.
        thorough: whether a training has come out differently, so that all that differs is told.
    """
    one = Resumed(trial)
    whole = Piece([one.task(2)], looks=True)
    (straight,) = stage.come([whole])
    for event in straight.events[:1]:
        one.see(event)
    if len(straight.looks) < 3 or one.last[1] is None:
        return None
    rest = Piece([one.task(1)], looks=True)
    (again,) = stage.come([rest])
    fresh, trained, later = straight.looks
    loaded, resumed = (*again.looks, None, None)[:2]
    if in_a_function:
        trained, loaded = later, resumed
    if loaded is None:
        return None
    looks = Looks(fresh=fresh, trained=trained, later=later, loaded=loaded, resumed=resumed)
    found, noise = audit(looks), set[Path]()
    if found.wrong or thorough:
        (once_more,) = stage.come([_anew(whole)])
        for was, now in zip(straight.looks, once_more.looks, strict=False):
            noise |= {each.path for each in unlike(was, now)}
        found = audit(looks, noise)
    doubtful = [*found.wrong, *(found.suspects if thorough else ())]
    if doubtful and not in_a_function:
        fields = set[Path]().union(*(fields_of(each, looks) for each in doubtful))
        watched = _anew(rest)._replace(looks=False, watched=list(fields))
        found = audit(looks, noise, stage.come([watched])[0].asked)
    left = [each for each in changed(fresh, trained, stage.fields) if each.path not in noise]
    return Looked(audit=found, changed=left, fields=stage.fields, loading=again.loading)


def _anew(piece: Piece) -> Piece:
    """Return a piece as it is to be trained once more: no checkpoint is ever written again."""
    return piece._replace(
        tasks=[task._replace(attempt=secrets.token_hex(4)) for task in piece.tasks]
    )


def with_reloads(stage: Stage, trial: Trial[Any], epochs: int) -> list[Mapping[str, float]]:
    """Return the metric values of a trial that is trained straight on with ``reload = True``."""
    one = Resumed(trial)
    (came,) = stage.come([Piece([one.task(epochs)], reload=True)])
    for event in came.events:
        one.see(event)
    return one.metrics
