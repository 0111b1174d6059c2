"""Training: trainers, their checkpoints and where these are kept, and one task with one trainer.

Knows the user's code, how it is pickled and called, and the folders that it fills.
Must not know of other tasks, of rounds or of the journal: it yields events, and decides nothing.
"""

from typing import TYPE_CHECKING

from letstune._public import later

__all__ = ["DirectoryStore", "Trainer"]

if TYPE_CHECKING:
    from letstune.training.stores import DirectoryStore
    from letstune.training.trainer import Trainer
else:
    _ROOMS = {
        "DirectoryStore": "letstune.training.stores",
        "Trainer": "letstune.training.trainer",
    }
    __getattr__ = later(globals(), _ROOMS)
