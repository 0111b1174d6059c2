"""Workers: where tasks are trained, in this process, in others here, or on other machines.

Knows processes, deaths, timeouts and messages, and the job that each worker gets.
Must not know of the journal or of what comes next: tasks come in, events go out, in any order.
"""

from typing import TYPE_CHECKING

from letstune._public import later

__all__ = [
    "GRACE",
    "Answer",
    "Came",
    "Cancel",
    "Command",
    "Delivery",
    "EpochFinished",
    "Event",
    "Executor",
    "Item",
    "Job",
    "Raised",
    "Remote",
    "RemoteSlots",
    "Slot",
    "Start",
    "Stop",
    "Task",
    "TaskEnded",
    "TrialFailed",
    "TrialStopped",
    "Worker",
    "WorkerDied",
    "put_probe",
    "read_probe",
    "usable_cores",
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
    from letstune.workers.commands import Answer, Came, Cancel, Command, Item, Start, Stop
    from letstune.workers.executor import Delivery, Executor
    from letstune.workers.job import Job
    from letstune.workers.machine import usable_cores
    from letstune.workers.messages import Raised
    from letstune.workers.probe import put_probe, read_probe
    from letstune.workers.remote import Remote
    from letstune.workers.remote_slots import RemoteSlots
    from letstune.workers.slot import GRACE, Slot
else:
    _ROOMS = {
        **dict.fromkeys(
            [
                "EpochFinished",
                "Event",
                "Task",
                "TaskEnded",
                "TrialFailed",
                "TrialStopped",
                "WorkerDied",
            ],
            "letstune.rounds.events",
        ),
        "Worker": "letstune.training.worker",
        **dict.fromkeys(
            ["Answer", "Came", "Cancel", "Command", "Item", "Start", "Stop"],
            "letstune.workers.commands",
        ),
        **dict.fromkeys(["Delivery", "Executor"], "letstune.workers.executor"),
        "Job": "letstune.workers.job",
        "usable_cores": "letstune.workers.machine",
        "Raised": "letstune.workers.messages",
        **dict.fromkeys(["put_probe", "read_probe"], "letstune.workers.probe"),
        "Remote": "letstune.workers.remote",
        "RemoteSlots": "letstune.workers.remote_slots",
        **dict.fromkeys(["GRACE", "Slot"], "letstune.workers.slot"),
    }
    __getattr__ = later(globals(), _ROOMS)
