"""A job: all that another process, here or elsewhere, needs to train tasks of a run."""

from __future__ import annotations

import mmap
import pickle
import platform
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

from letstune._version import __version__
from letstune.errors import PickleError
from letstune.rounds.pickles import Pickle
from letstune.telling.lines import say
from letstune.training import pickling
from letstune.training.checkpoints import Keeper
from letstune.training.stores import Store
from letstune.training.trainer import Trainer, check_trainer, params_class
from letstune.training.worker import Assignment, Worker
from letstune.workers.set_up import SetUp

PACKAGES: Final = "let workers have the same packages."


@dataclass(frozen=True, kw_only=True)
class Job:
    """The trainer, the dataset and the store of a run, as bytes, and what else a worker needs.

    A plain value: it can be pickled by whatever sends it. ``journal`` is named in errors.
    """

    journal: Path
    trainer: Pickle
    dataset: Pickle
    store: Pickle
    metric: str
    seed: int
    versions: Mapping[str, str]
    set_up: SetUp
    horizon: int | None = None

    @staticmethod
    def of(
        trainer: Trainer[Any], dataset: object, store: Store, *, journal: Path, seed: int
    ) -> Job:
        """Return the job of a run.

        Raises:
            PickleError: the trainer, the dataset or the store cannot be pickled.
        """
        return Job(
            journal=journal,
            trainer=pickling.dump("trainer", trainer),
            dataset=pickling.dump("dataset", dataset),
            store=pickling.dump("store", store),
            metric=check_trainer(trainer),
            seed=seed,
            versions=_versions(),
            set_up=SetUp.here(),
        )

    def worker(self, token: str, kind: type[Worker] = Worker) -> Worker:
        """Return a new worker, with a clone of the trainer.

        Args:
            token: names it; no other worker, of any run, has the same.
            kind: the class of the worker.

        Raises:
            PickleError: this process is not what the run needs.
        """
        here = _versions()
        if here["letstune"] != self.versions["letstune"]:
            raise PickleError(
                f"{self.journal}: the run is of letstune {self.versions['letstune']}, but a "
                f"worker on {platform.node()} has letstune {here['letstune']}. Install the same."
            )
        trainer = self.load_trainer()
        assignment = Assignment(
            make_trainer=lambda: trainer,
            dataset=self._load(self.dataset),
            params_cls=params_class(trainer),
            metric=self.metric,
            seed=self.seed,
            store=self.load_store(),
            horizon=self.horizon,
        )
        return kind(assignment, token)

    def load_trainer(self, help_with: str = PACKAGES) -> Trainer[Any]:
        """Return a clone of the trainer.

        Args:
            help_with: what to do when that fails, for the error.

        Raises:
            PickleError: this process is not what the run needs.
        """
        trainer: Trainer[Any] = self._load(self.trainer, help_with)
        return trainer

    def load_store(self, help_with: str = PACKAGES) -> Store:
        """Return the store of the run's checkpoints; see `load_trainer`."""
        store: Store = self._load(self.store, help_with)
        return store

    def _load(self, kept: Pickle, help_with: str = PACKAGES) -> Any:
        return pickling.load(kept, self.journal, help_with)

    def without_dataset(self) -> Job:
        """Return a small job, as good for all but training: the dataset may be large."""
        return replace(self, dataset=replace(self.dataset, data=b""))

    def spool(self) -> IO[bytes]:
        """Return a file with this job, nameless: it is gone with the last process that has it.

        So any number of workers on this machine read one copy, however large the dataset is.
        """
        file = tempfile.TemporaryFile(prefix="letstune-")  # noqa: SIM115 (it is the caller's)
        pickle.dump(self, file)
        file.flush()
        return file

    @staticmethod
    def read(file: int) -> Job:
        """Return the job that another process has spooled, whose open file this is."""
        # Not read(): the place in the file is shared by all who have it open.
        with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as data:
            job: Job = pickle.loads(data)
        return job

    def sweep(self, tokens: Iterable[str], uris: Iterable[str] = ()) -> None:
        """Remove what workers that were killed left in the store.

        Nothing points to it, so where it cannot be removed, that is told on stderr, and no more:
        this is done as a run ends, perhaps of an error that says why.

        Args:
            tokens: theirs, for what they left half saved.
            uris: of checkpoints that they saved, and that were not recorded.
        """
        store: Store | None = None
        try:
            for token in tokens:
                store = store or self.load_store()
                Keeper(store, token).sweep()
            for uri in uris:
                store = store or self.load_store()
                store.delete(uri)
        except Exception as error:  # noqa: BLE001 (whatever a store may raise)
            say(
                f"letstune: {self.journal}: what workers that were killed left in its store cannot "
                f"be removed: {error}. `letstune check --fix` will."
            )


def _versions() -> dict[str, str]:
    return {"letstune": __version__, "python": platform.python_version()}
