"""letstune: a hyperparameter tuner that survives the night.

Describe an experiment with a search space (`Params`, `rand`) and a trainer (`SimpleTrainer`,
`EpochTrainer`); `tune` it; and after a crash, `resume` it exactly where it stopped.
"""

from typing import TYPE_CHECKING

from letstune import rand
from letstune._public import later
from letstune._version import __version__ as __version__
from letstune.errors import Interrupted, LetstuneError, StopTraining
from letstune.rounds.plan import Rounds
from letstune.samplers.sampler import Observation, Sampler
from letstune.space.params import Params, ParamsLike, RecordedParams, Space
from letstune.training.checkpoints import Checkpoint
from letstune.training.stores import Store
from letstune.training.trainer import EpochTrainer, SimpleTrainer

__all__ = [
    "Checkpoint",
    "CommandTrainer",
    "Epoch",
    "EpochReport",
    "EpochTrainer",
    "Executor",
    "GeneratorTrainer",
    "Interrupted",
    "LetstuneError",
    "Observation",
    "Observer",
    "Params",
    "ParamsLike",
    "RecordedParams",
    "Retrained",
    "Rounds",
    "Sampler",
    "SimpleTrainer",
    "Space",
    "StopTraining",
    "Store",
    "Trial",
    "TrialError",
    "TrialRun",
    "TuningResults",
    "epochs",
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
    from letstune.plugins.hookspecs import hookimpl
    from letstune.results.results import TuningResults
    from letstune.results.retrained import Retrained
    from letstune.results.trials import Epoch, Trial, TrialError
    from letstune.runs.rehearsal import rehearse
    from letstune.runs.tuning import load, resume, tune
    from letstune.telling.observers import Observer
    from letstune.training.command import CommandTrainer
    from letstune.training.epochs import EpochReport, epochs
    from letstune.training.generator import GeneratorTrainer, TrialRun
    from letstune.workers.executor import Executor
else:
    _ROOMS = {
        "CommandTrainer": "letstune.training.command",
        **dict.fromkeys(["EpochReport", "epochs"], "letstune.training.epochs"),
        "Executor": "letstune.workers.executor",
        "hookimpl": "letstune.plugins.hookspecs",
        "Observer": "letstune.telling.observers",
        **dict.fromkeys(["GeneratorTrainer", "TrialRun"], "letstune.training.generator"),
        "rehearse": "letstune.runs.rehearsal",
        "Retrained": "letstune.results.retrained",
        **dict.fromkeys(["Epoch", "Trial", "TrialError"], "letstune.results.trials"),
        "TuningResults": "letstune.results.results",
        **dict.fromkeys(["load", "resume", "tune"], "letstune.runs.tuning"),
    }
    __getattr__ = later(globals(), _ROOMS)

    def __dir__():
        return sorted([*globals(), *_ROOMS])
