"""letstune: a hyperparameter tuner that survives the night.

Describe an experiment with a search space (`Params`, `rand`) and a trainer (`SimpleTrainer`,
`EpochTrainer`); `tune` it; and after a crash, `resume` it exactly where it stopped.
"""

from letstune import rand
from letstune.checkpoints import Checkpoint, Store
from letstune.errors import Interrupted, LetstuneError, StopTraining
from letstune.params import Params
from letstune.records import Rounds
from letstune.results import Epoch, Trial, TrialError, TuningResults
from letstune.samplers import Sampler
from letstune.trainer import EpochTrainer, SimpleTrainer
from letstune.tuning import load, resume, tune

__version__ = "0.1.0"

__all__ = [
    "Checkpoint",
    "Epoch",
    "EpochTrainer",
    "Interrupted",
    "LetstuneError",
    "Params",
    "Rounds",
    "Sampler",
    "SimpleTrainer",
    "StopTraining",
    "Store",
    "Trial",
    "TrialError",
    "TuningResults",
    "load",
    "rand",
    "resume",
    "tune",
]
