"""letstune: a hyperparameter tuner that survives the night.

Describe an experiment with a search space (`Params`, `rand`) and a trainer (`SimpleTrainer`,
`EpochTrainer`); `tune` it; and after a crash, `resume` it exactly where it stopped.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from letstune import rand
from letstune._version import __version__ as __version__
from letstune.checkpoints import Checkpoint
from letstune.errors import Interrupted, LetstuneError, StopTraining
from letstune.params import Params, ParamsLike, RecordedParams, Space
from letstune.records import Rounds
from letstune.samplers import Observation, Sampler
from letstune.stores import Store
from letstune.trainer import EpochTrainer, SimpleTrainer

__all__ = [
    "Checkpoint",
    "Epoch",
    "EpochTrainer",
    "Executor",
    "Interrupted",
    "LetstuneError",
    "Observation",
    "Observer",
    "Params",
    "ParamsLike",
    "RecordedParams",
    "Rounds",
    "Sampler",
    "SimpleTrainer",
    "Space",
    "StopTraining",
    "Store",
    "Trial",
    "TrialError",
    "TuningResults",
    "hookimpl",
    "load",
    "rand",
    "rehearse",
    "resume",
    "tune",
]

# What runs, and what reads a run, is imported when it is first used: a module that only describes
# an experiment, and the command line's help, need none of it.
if TYPE_CHECKING:
    from letstune.executors import Executor
    from letstune.hookspecs import hookimpl
    from letstune.observers import Observer
    from letstune.rehearsal import rehearse
    from letstune.results import Epoch, Trial, TrialError, TuningResults
    from letstune.tuning import load, resume, tune
else:
    _LATER = {
        "Executor": "letstune.executors",
        "hookimpl": "letstune.hookspecs",
        "Observer": "letstune.observers",
        "rehearse": "letstune.rehearsal",
        **dict.fromkeys(["Epoch", "Trial", "TrialError", "TuningResults"], "letstune.results"),
        **dict.fromkeys(["load", "resume", "tune"], "letstune.tuning"),
    }

    def __getattr__(name):
        if name not in _LATER:
            raise AttributeError(f"module 'letstune' has no attribute {name!r}")
        globals()[name] = found = getattr(import_module(_LATER[name]), name)
        return found

    def __dir__():
        return sorted([*globals(), *_LATER])
