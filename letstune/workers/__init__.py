"""Workers: where tasks are trained, in this process, in others here, or on other machines.

Knows processes, deaths, timeouts and messages, and the job that each worker gets.
Must not know of the journal or of what comes next: tasks come in, events go out, in any order.
"""

from typing import TYPE_CHECKING

from letstune._public import later

__all__ = [
    "Delivery",
    "EpochFinished",
    "Event",
    "Executor",
    "Job",
    "Slot",
    "Task",
    "TaskEnded",
    "TrialFailed",
    "TrialStopped",
    "Worker",
    "WorkerDied",
]

# For who writes an executor; letstune itself imports from the rooms.
if TYPE_CHECKING:
    from letstune.rounds.events import (
        EpochFinished,
        Event,
        Task,
        TaskEnded,
        TrialFailed,
        TrialStopped,
        WorkerDied,
    )
    from letstune.training.worker import Worker
    from letstune.workers.executor import Delivery, Executor
    from letstune.workers.job import Job
    from letstune.workers.slot import Slot
else:
    _ROOMS = {
        **dict.fromkeys(
            [
                *("EpochFinished", "Event", "Task", "TaskEnded", "TrialFailed", "TrialStopped"),
                "WorkerDied",
            ],
            "letstune.rounds.events",
        ),
        **dict.fromkeys(["Delivery", "Executor"], "letstune.workers.executor"),
        "Job": "letstune.workers.job",
        "Slot": "letstune.workers.slot",
        "Worker": "letstune.training.worker",
    }
    __getattr__ = later(globals(), _ROOMS)
