"""Training: trainers, their checkpoints and where these are kept, and one task with one trainer.

Knows the user's code, how it is pickled and called, and the folders that it fills.
Must not know of other tasks, of rounds or of the journal: it yields events, and decides nothing.
"""

from typing import TYPE_CHECKING

from letstune._public import later

__all__ = [
    "GONE",
    "REMEDY",
    "DirectoryStore",
    "Keeper",
    "Stored",
    "Trainer",
    "fetch",
    "identity",
    "tighten",
]

# What journals name, and what authors of stores and samplers use.
if TYPE_CHECKING:
    from letstune._private import tighten
    from letstune.rounds.events import Stored
    from letstune.training.checkpoints import REMEDY, Keeper, fetch
    from letstune.training.pickling import identity
    from letstune.training.stores import GONE, DirectoryStore
    from letstune.training.trainer import Trainer
else:
    _ROOMS = {
        "Stored": "letstune.rounds.events",
        **dict.fromkeys(["Keeper", "REMEDY", "fetch"], "letstune.training.checkpoints"),
        "identity": "letstune.training.pickling",
        **dict.fromkeys(["DirectoryStore", "GONE"], "letstune.training.stores"),
        "Trainer": "letstune.training.trainer",
        "tighten": "letstune._private",
    }
    __getattr__ = later(globals(), _ROOMS)
