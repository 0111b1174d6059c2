"""Trainers: the classes with which a user says how a model is trained.

Every trainer has a `metric`, the name of the metric value to be optimized, and loads its dataset
at most once. Greater is better, or less if the name has a leading minus, as ``"-valid_loss"``.
`SimpleTrainer` trains a model in one go, as scikit-learn does; `EpochTrainer` trains epoch by
epoch, so that poor params are dropped early; `GeneratorTrainer` does so in one function, which
yields the metric values of each epoch; and for `CommandTrainer`, the training is a command, such as
a script.

Metric values are a dict of names to real numbers::

    {"train_accuracy": 0.92, "valid_accuracy": 0.83}

All of them are recorded; only the one named by `metric` decides. An epoch without it has no value.
"""

from letstune.training.command import CommandTrainer
from letstune.training.generator import GeneratorTrainer
from letstune.training.trainer import EpochTrainer, SimpleTrainer, Trainer

__all__ = ["CommandTrainer", "EpochTrainer", "GeneratorTrainer", "SimpleTrainer", "Trainer"]
