"""Trains in processes on this machine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from typing import Final

from letstune.rounds.events import Task, TaskEnded
from letstune.workers.executor import Delivery, Executor
from letstune.workers.experience import Experience
from letstune.workers.job import Job
from letstune.workers.machine import thread_limits
from letstune.workers.messages import ENDINGS
from letstune.workers.slot import GRACE, SUSPENDED, Printed, Slot

NOTICE: Final = 8.0
"""How long epochs in flight have when the whole job is ended, in seconds.

Whoever sends SIGTERM to all of its processes kills them soon: Docker after 10 seconds.
"""

TICK: Final = 1.0
"""How long `ProcessExecutor.deliveries` waits at most, in seconds."""


class ProcessExecutor(Executor):
    """Trains in ``workers`` processes, each started when there is a task for it.

    Args:
        job: what is trained.
        workers: how many processes.
        token: names them; no other executor, of any run, has the same.
        devices: of which each process sees one, in turns, as CUDA_VISIBLE_DEVICES.
        threads: how many threads the libraries of each may have; by default its share of the cores.
        epoch_timeout: how long one epoch may take, in seconds.
        trial_timeout: how long the epochs of a trial may take in all, in seconds.
        printed: takes what a trial has printed; see `Slot`.
    """

    def __init__(
        self,
        job: Job,
        workers: int,
        token: str,
        *,
        devices: Sequence[str] = (),
        threads: int | None = None,
        epoch_timeout: float | None = None,
        trial_timeout: float | None = None,
        printed: Printed | None = None,
    ) -> None:
        self.slots = workers
        self._file = job.spool()
        self._job = job.without_dataset()
        self._stopped = False
        self._notice = math.inf
        self._raised: BaseException | None = None
        self._ended: list[Delivery] = []
        limits = thread_limits(workers, os.environ, threads)
        experience = Experience()
        self._slots = [
            Slot(
                self._file,
                f"{token}-w{number}",
                {**limits, "CUDA_VISIBLE_DEVICES": devices[number % len(devices)]}
                if devices
                else limits,
                epoch_timeout=epoch_timeout,
                trial_timeout=trial_timeout,
                experience=experience,
                printed=printed,
            )
            for number in range(workers)
        ]

    def start(self, task: Task) -> None:
        """Have a task trained; see `Executor.start`."""
        idle = [slot for slot in self._slots if slot.task is None]
        next((slot for slot in idle if slot.warm), idle[0]).start(task)

    def deliveries(self) -> list[Delivery]:
        """Wait for news; see `Executor.deliveries`."""
        until = time.monotonic() + TICK
        while self._raised is None:
            self._end_with_the_job()
            for slot in self._slots:
                slot.pump()
            found, self._ended = self._ended, []
            places = [(waitable, slot) for slot in self._slots for waitable in slot.waitables]
            soonest = min(until, *(slot.deadline for slot in self._slots))
            left = 0.0 if found else max(0.0, soonest - time.monotonic())
            began = time.monotonic()
            heard = wait([waitable for waitable, _ in places], left)
            moment = time.monotonic()
            if (late := moment - began - left) > SUSPENDED:
                for slot in self._slots:
                    slot.postpone(late)
            news = [slot for waitable, slot in places if waitable in heard]
            news += [slot for slot in self._slots if slot.deadline <= moment]
            for slot in dict.fromkeys(news):
                try:
                    found += slot.poll()
                except ENDINGS as error:  # raised below, after what came with it
                    self._raised = error
            if found or moment >= until:
                return found
        raise self._raised

    def recorded(self) -> None:
        """Let workers go on, or not; see `Executor.recorded`."""
        for slot in self._slots:
            slot.answer(not self._stopped)

    def cancel(self, trial: int) -> None:
        """Give a task up, and its worker; see `Executor.cancel`."""
        for slot in self._slots:
            if slot.task is not None and slot.task.trial == trial:
                slot.cancel()

    def stop(self) -> None:
        """Begin no further epoch; see `Executor.stop`."""
        self._stopped = True
        for slot in self._slots:
            if not slot.warm:  # loading a dataset may take long
                self._lose(slot)

    def _end_with_the_job(self) -> None:
        """Wait for no epoch in flight that would be killed with the whole job."""
        if not self._stopped or not any(slot.ending for slot in self._slots):
            return
        self._notice = min(self._notice, time.monotonic() + NOTICE)
        if time.monotonic() >= self._notice:
            for slot in self._slots:
                self._lose(slot)

    def _lose(self, slot: Slot) -> None:
        """End the task of a slot, if it has one, and lose the epoch in flight."""
        if slot.task is not None:
            trial, attempt = slot.task.trial, slot.task.attempt
            slot.cancel()
            self._ended.append(Delivery(trial, attempt, [TaskEnded(trial)]))

    def close(self) -> None:
        """End all processes; see `Executor.close`."""
        until = time.monotonic() + GRACE
        for slot in self._slots:
            slot.hang_up()
        for slot in self._slots:  # all at a time: if one cannot be killed, others may be like it
            slot.end(max(0.0, until - time.monotonic()))
        for slot in self._slots:
            slot.close(0.0)
        self._file.close()
        self._job.sweep(
            (token for slot in self._slots for token in slot.killed),
            (uri for slot in self._slots for uri in slot.dropped),
        )
