"""`GeneratorTrainer`: training as one function from top to bottom, which yields metric values."""

import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, SupportsFloat

from letstune._public import public
from letstune.errors import StopTraining, TrainerError
from letstune.training.stores import temporary
from letstune.training.trainer import (
    TRAINING,
    EpochTrainer,
    P,
    Stream,
    begin_again,
    stream_of,
)

if TYPE_CHECKING:
    from letstune.training.checkpoints import Checkpoint

# No `from __future__ import annotations`, as in `letstune.training.trainer`.


@public("letstune")
class TrialRun:
    """What a `GeneratorTrainer` is given beside the params: where it was, and where to save.

    Attributes:
        saved: the folder that was saved after the last epoch, to go on from; None if there is
            none. It lives as long as the training.
    """

    saved: Path | None

    def __init__(self, trainer: EpochTrainer[Any], saved: Path | None, workplace: Path) -> None:
        self.saved = saved
        self._trainer = trainer
        self._folder = workplace / "save"
        self._stream: Stream | None = None  # of the epoch that letstune wants trained
        self._epoch = -1
        self._begun = False

    @property
    def path(self) -> Path:
        """An empty folder for what is to be saved after this epoch: fill it before the yield.

        If nothing is in it, a trial that goes on is trained again from its first epoch.
        """
        self._folder.mkdir(exist_ok=True)
        return self._folder

    def epochs(self) -> Iterator[int]:
        """Yield the number of each epoch, from where the trial was; letstune ends the loop.

        Each epoch has its seeds. What was drawn before the loop, or in another epoch, changes
        nothing in it.

        Raises:
            TrainerError: it is called twice, or an epoch ended without its metric values.
        """
        if self._begun:
            raise TrainerError(
                "run.epochs() was called twice in one training. Write one loop over it: for epoch "
                "in run.epochs()."
            )
        self._begun = True
        while True:
            stream, self._stream = self._stream, None
            if stream is None:
                raise TrainerError(
                    f"Epoch {self._epoch} ended without metric values. Yield them in each round of "
                    "the loop over run.epochs()."
                )
            begin_again(self._trainer, stream)
            yield self._epoch

    def _next(self, epoch: int, stream: Stream) -> None:
        self._epoch, self._stream = epoch, stream

    @property
    def _in_epoch(self) -> bool:
        return self._begun and self._stream is None


class _Training:
    """A training: the generator, its run, and the folder for both."""

    def __init__(
        self, trainer: "GeneratorTrainer[Any]", params: Any, checkpoint: "Checkpoint | None"
    ) -> None:
        # Of what comes before the loop; and first of all, lest files be moved that are a user's.
        self._before: Stream | None = stream_of(trainer)
        self._workplace = workplace = Path(tempfile.mkdtemp(dir=temporary()))
        saved = None
        if checkpoint is not None:
            saved = workplace / "saved"
            saved.mkdir()
            for entry in checkpoint.path.iterdir():  # a copy, which goes once `load` returns
                shutil.move(entry, saved)
        self.run = TrialRun(trainer, saved, workplace)
        self._trainer = trainer
        self._yielded = trainer.train(params, self.run)
        if not isinstance(self._yielded, Iterator):
            raise TrainerError(
                f"{type(trainer).__name__}.train returned {self._yielded!r:.200}; expected a "
                "generator: a function that yields the metric values of each epoch."
            )

    def epoch(self, epoch: int) -> Mapping[str, SupportsFloat]:
        """Train one epoch."""
        self.run._next(epoch, stream_of(self._trainer))
        if self._before is not None:
            begin_again(self._trainer, self._before)
            self._before = None
        try:
            values = next(self._yielded)
        except StopIteration:
            raise StopTraining from None
        if not self.run._in_epoch:
            raise TrainerError(
                f"{type(self._trainer).__name__}.train yielded outside of its loop over "
                f"run.epochs(), or twice in one round: {values!r:.200}. Yield the metric values of "
                "each epoch once, at the end of a round."
            )
        return values

    def close(self) -> None:
        """Let the generator clean up, and then its folder go."""
        try:
            if isinstance(self._yielded, Generator):
                self._yielded.close()
        finally:
            shutil.rmtree(self._workplace, ignore_errors=True)

    def save(self, folder: Path) -> None:
        """Move what was saved."""
        for entry in self.run.path.iterdir():
            shutil.move(entry, folder)


@public("letstune")
class GeneratorTrainer(EpochTrainer[P], Generic[P]):
    """Base class for a training that is written as one function, from top to bottom.

    `train` builds a model, brings back what was saved if something was, and loops over
    ``run.epochs()``. In each round, it trains an epoch, saves all that the next epoch depends on
    to ``run.path``, and yields the metric values. To return is to end the trial there.

    >>> import letstune
    >>> class Start(letstune.Params):
    ...     x: float = letstune.rand.uniform(0, 1)
    >>> class Climb(letstune.GeneratorTrainer[Start]):
    ...     metric = "height"
    ...     def load_dataset(self, dataset):
    ...         pass
    ...     def train(self, params, run):
    ...         height = params.x
    ...         if run.saved:
    ...             height = float((run.saved / "height").read_text())
    ...         for epoch in run.epochs():
    ...             height += self.rng.random()
    ...             (run.path / "height").write_text(repr(height))
    ...             yield {"height": height}
    >>> letstune.rehearse(Climb())
    []
    """

    @abstractmethod
    def train(self, params: P, run: TrialRun) -> Iterator[Mapping[str, SupportsFloat]]:
        """Train a model parametrized by ``params``; yield the metric values of each epoch."""

    def create_model(self, params: P) -> None:
        """Begin a training; see `train`."""
        self.__dict__[TRAINING] = _Training(self, params, None)

    def load(self, checkpoint: "Checkpoint", params: P) -> None:
        """Begin a training that goes on from a checkpoint; see `train`."""
        self.__dict__[TRAINING] = _Training(self, params, checkpoint)

    def train_epoch(self, epoch: int) -> Mapping[str, SupportsFloat]:
        """Let `train` go on to its next yield."""
        training: _Training = self.__dict__[TRAINING]
        return training.epoch(epoch)

    def save(self, checkpoint: "Checkpoint") -> None:
        """Keep what `train` has saved to ``run.path``."""
        training: _Training = self.__dict__[TRAINING]
        training.save(checkpoint.path)
