"""The far side of an executor: slots on another machine, that do what they are told.

It knows nothing of how commands come and items go: a cluster's own messages carry both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import IO, Any

from letstune.rounds.events import TaskEnded
from letstune.workers.commands import Answer, Came, Cancel, Command, Item, Start, Stop
from letstune.workers.executor import Delivery
from letstune.workers.experience import Experience
from letstune.workers.machine import thread_limits
from letstune.workers.messages import ENDINGS, Raised
from letstune.workers.slot import GRACE, SUSPENDED, Slot


class RemoteSlots:
    """Trains tasks on this machine for a `Remote` elsewhere, each in a process below this one.

    So a trainer that crashes, hangs or takes all memory does not take this process with it. For
    one thread at a time.

    Args:
        job: a file from `Job.spool`.
        tokens: one for each slot, which names its workers; no other slot, of any run, has the same.
        threads: how many threads the libraries of each worker may have; by default, their share
            of the cores.
        epoch_timeout: how long one call of the trainer may take, in seconds.
        trial_timeout: how long the epochs of a trial may take in all, in seconds.
    """

    def __init__(
        self,
        job: IO[bytes],
        tokens: Sequence[str],
        *,
        threads: int | None = None,
        epoch_timeout: float | None = None,
        trial_timeout: float | None = None,
    ) -> None:
        limits = thread_limits(len(tokens), os.environ, threads)
        experience = Experience()
        self._slots = [
            Slot(
                job,
                token,
                limits,
                epoch_timeout=epoch_timeout,
                trial_timeout=trial_timeout,
                experience=experience,
            )
            for token in tokens
        ]

    @property
    def killed(self) -> list[str]:
        """The tokens of the workers that could not tidy up, so far; for `Job.sweep`."""
        return [token for slot in self._slots for token in slot.killed]

    @property
    def dropped(self) -> list[str]:
        """The URIs of checkpoints that these had saved when it was too late; for `Job.sweep`."""
        return [uri for slot in self._slots for uri in slot.dropped]

    def obey(self, command: Command) -> list[Item]:
        """Do what the owner says, and return what has come of it at once."""
        try:
            match command:
                case Start(task):
                    idle = [slot for slot in self._slots if slot.task is None]
                    next((slot for slot in idle if slot.warm), idle[0]).start(task)
                case Answer(attempt, go_on):
                    for slot in self._of(attempt):
                        slot.answer(go_on)
                case Cancel(attempt):
                    for slot in self._of(attempt):
                        slot.cancel()
                case Stop():
                    return self._end_what_is_cold()
        except ENDINGS as error:
            return [Raised.of(error)]
        return []

    def _of(self, attempt: str) -> list[Slot]:
        return [s for s in self._slots if s.task is not None and s.task.attempt == attempt]

    def _end_what_is_cold(self) -> list[Item]:
        items: list[Item] = []
        for slot in self._slots:
            if slot.task is not None and not slot.warm:  # loading a dataset may take long
                trial, attempt = slot.task.trial, slot.task.attempt
                slot.cancel()
                items.append(Came.of(Delivery(trial, attempt, [TaskEnded(trial)])))
        return items

    def poll(self, seconds: float, *others: Any) -> list[Item]:
        """Wait for news of the tasks, and return them.

        Args:
            seconds: how long to wait at most.
            others: what else is worth waking up for, such as a socket that rings when there is a
                command; see `multiprocessing.connection.wait`.
        """
        places = [(waitable, slot) for slot in self._slots for waitable in slot.waitables]
        soonest = min(slot.deadline for slot in self._slots) - time.monotonic()
        began, left = time.monotonic(), max(0, min(seconds, soonest))
        heard = wait([*others, *(waitable for waitable, _ in places)], left)
        moment = time.monotonic()
        if (late := moment - began - left) > SUSPENDED:
            for slot in self._slots:
                slot.postpone(late)
        news = [slot for waitable, slot in places if waitable in heard]
        news += [slot for slot in self._slots if slot.deadline <= moment]
        items: list[Item] = []
        for slot in dict.fromkeys(news):
            try:
                items += map(Came.of, slot.poll())
            except ENDINGS as error:  # the others may still have something to tell
                items.append(Raised.of(error))
        return items

    def close(self) -> None:
        """End all training; `killed` and `dropped` are complete then."""
        until = time.monotonic() + GRACE
        for slot in self._slots:
            slot.hang_up()
        for slot in self._slots:  # all at a time: if one cannot be killed, others may be like it
            slot.end(max(0.0, until - time.monotonic()))
        for slot in self._slots:
            slot.close(0.0)
