"""`CommandTrainer`: a training that is a command, such as a script that nobody has to change.

What makes it exact. A checkpoint must be the state that the script had at the end of its epoch. A
script that uses `letstune.epochs` waits there until its folder is taken. One that does not goes
straight on, and may be writing the next state by then: so its folder is taken only when the
process has ended, at the end of the round or, with ``process = "epoch"``, of each epoch. The epochs
before have metric values and no checkpoint, which letstune knows how to resume: they are trained
again from the last one. Rejected: to stop the process with SIGSTOP when its line of metric values
comes, which may be in the middle of the next write; and to copy the folder until two copies are
alike, which proves nothing.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Literal, SupportsFloat

from letstune._public import public
from letstune.errors import StopTraining, TrainerError
from letstune.rounds.metric import metric_name
from letstune.rounds.seeding import Purpose, derive
from letstune.training import places, template
from letstune.training.command_process import CommandProcess
from letstune.training.epochs import END
from letstune.training.stores import temporary
from letstune.training.trainer import (
    FOLDER,
    HORIZON,
    LIMIT,
    TRAINING,
    EpochTrainer,
    P,
    params_class,
    stream_of,
)

if TYPE_CHECKING:
    from letstune.training.checkpoints import Checkpoint

# No `from __future__ import annotations`, as in `letstune.training.trainer`.

PARAMS: Final = "LETSTUNE_PARAMS"
"""The environment variable that tells a command the path of the JSON file with its params."""

FINISHING: Final = 5.0
"""How long a script has for what comes after its loop over `letstune.epochs`, in seconds."""


class _Training:
    """A training: its folders, and the process that trains, if there is one."""

    def __init__(self, trainer: "CommandTrainer[Any]", params: Any) -> None:
        self._trainer = trainer
        self._metric = metric_name(str(getattr(trainer, "metric", "")))
        self._workplace = Path(tempfile.mkdtemp(dir=temporary()))
        self.folder = self._workplace / "checkpoint"
        self.folder.mkdir()
        self._values = template.values_of(params.to_dict())
        self._params = self._workplace / "params.json"
        self._params.write_text(params.to_json())
        self._process: CommandProcess | None = None
        self._processes = 0
        self._lines = 0  # how many of the process's lines of metric values were taken
        self._last = False  # whether the process ends with this epoch
        self.whole = False  # whether the folder is that of the epoch, and will stay so

    def epoch(self, epoch: int) -> Mapping[str, SupportsFloat]:
        """Train one epoch, in the process that has trained the one before, if that goes on."""
        each = self._trainer.process == "epoch"
        self.whole = False
        if self._process is None:
            self._process, self._lines = self._begin(epoch, each), 0
        process = self._process
        end = END if each else ""
        process.answer(f"{epoch} {derive(*stream_of(self._trainer))}\n{end}")
        self._last = each or epoch + 1 == self._trainer.__dict__.get(LIMIT)
        values = self._wait(process, each)
        self.whole = (process.helped and not each) or self._last
        if each or (self._last and not process.helped):
            self._end()
        return values

    def _begin(self, epoch: int, each: bool) -> CommandProcess:
        """Start a process that trains from an epoch on."""
        trainer = self._trainer
        words = template.split(trainer.command)
        names = template.names_in(words)
        run, _, trial, _ = stream_of(trainer)
        limit = epoch + 1 if each else trainer.__dict__.get(LIMIT)
        place = self._workplace / str(self._processes)
        self._processes += 1
        own = {
            "python": sys.executable,
            "epochs": limit,
            "epoch": epoch,
            "horizon": trainer.__dict__.get(HORIZON),
            "seed": derive(run, Purpose.TRAIN, trial, 0),
            "epoch_seed": derive(run, Purpose.TRAIN, trial, epoch),
            "trial": trial,
            "checkpoint": self.folder,
            "metrics": place.with_suffix(".jsonl"),
            "params": self._params,
            "dataset": trainer.__dict__.get("dataset"),
        }
        for name in names:
            if own.get(name, "") is None:
                raise TrainerError(f"There is no {{{name}}} for the command: {_WHY[name]}")
        texts = {name: str(value) for name, value in own.items() if value is not None}
        return CommandProcess(
            template.fill(words, {**self._values, **texts}),
            trainer._folder(),
            {"PYTHONUNBUFFERED": "1", **os.environ, PARAMS: str(self._params)},
            place=place,
            metric=None if "metrics" in names else self._metric,
        )

    def _wait(self, process: CommandProcess, each: bool) -> Mapping[str, SupportsFloat]:
        """Wait for the metric values of an epoch, and the end of the process if it is the last."""
        while not (ready := self._ready(process, each)) and process.code is None:
            process.wait()
        if process.code and not ready:
            raise process.failure()
        left = len(process.lines) - self._lines
        if not left:
            self._end()
            if process.lines or process.helped:
                raise StopTraining
            raise TrainerError(_nothing(process, self._metric))
        if not each and self._last and not process.helped and left > 1:
            raise TrainerError(
                f"The command {process.shown} told metric values of {left - 1} more epochs than it "
                "was asked for. Give it the number of epochs that the trial is to have in the end, "
                '{epochs}; or, if it always trains one, set process = "epoch".'
            )
        self._lines += left if each else 1
        values: object = process.lines[self._lines - 1]
        if isinstance(values, dict):
            return values
        raise TrainerError(
            f"The command {process.shown} told {values!r:.200} as metric values; expected a line "
            'of JSON such as {"loss": 0.5}.'
        )

    def _ready(self, process: CommandProcess, each: bool) -> bool:
        """Tell whether an epoch is over for which the process need not have ended."""
        told = len(process.lines) > self._lines
        return told and not each and (process.helped or not self._last)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def close(self) -> None:
        """End the process, if there is one; if it waits in its loop, let it come to its own end."""
        process = self._process
        try:
            waits = process is not None and process.helped and self.whole
            if process is not None and waits and process.finish(FINISHING) and process.code:
                raise process.failure()
        finally:
            self._end()
            shutil.rmtree(self._workplace, ignore_errors=True)


_WHY: Final = {
    "epochs": 'rounds are in time, so nobody knows how many there will be. Set process = "epoch", '
    "or let the script loop over letstune.epochs().",
    "horizon": "rounds are in time, so nobody knows it.",
    "dataset": "there is no dataset. Give tune one, or leave {dataset} out.",
}


def _nothing(process: CommandProcess, name: str) -> str:
    return (
        f"The command {process.shown} ended well, but told no metric values. Expected a line of "
        f'JSON an epoch, such as {{"{name}": 0.9}}, in the file {{metrics}}, if the command has '
        "that, or else on stdout; or letstune.epochs() in the script."
    )


@public("letstune")
class CommandTrainer(EpochTrainer[P], Generic[P]):
    r"""Base class for a training that is a command, such as a script of yours as it is.

    The command is split into words first, as a shell would, and then values are put in the places
    of ``{lr}`` and the like: fields of the params, by their paths (``{model.lr}``; in a union,
    ``{model.$type}`` is the name of the class), and what letstune has:

    - ``{python}``, the interpreter; ``{trial}`` and ``{seed}``, the trial's id and seed;
    - ``{epochs}``, how many epochs the trial is to have when the command ends, and ``{epoch}``, how
      many it has when it begins; ``{horizon}``, the most that a trial may have, for schedules;
    - ``{checkpoint}``, a folder: what the command left there after the trial's last epoch is in it
      when it begins, and what it leaves is saved. At first, it is empty;
    - ``{metrics}``, a file for the metric values, a line of JSON an epoch. Without it, they are
      the lines on stdout that are JSON objects and have the metric;
    - ``{params}``, a JSON file with all params, also in the variable LETSTUNE_PARAMS; and
      ``{dataset}``, what `tune` was given.

    Texts are put in as they are, all else as JSON has it. A word with ``{name?}`` is left out if
    there is no such value, or it is None: ``--momentum={momentum?}``.

    Attributes:
        command: the template.
        process: ``"round"`` for one process a round: metric values are recorded as its epochs end,
            and the folder is saved when the process has ended, or after each epoch if the script
            loops over `letstune.epochs`. ``"epoch"`` for one process an epoch, for scripts that
            cannot train several, or whose every epoch is to be saved as they are; then
            ``{epoch_seed}`` is the epoch's seed, and of several lines the last one counts.
        folder: where the command runs; by default, where the run was begun.

    >>> import letstune
    >>> class Point(letstune.Params):
    ...     x: float = letstune.rand.uniform(0, 1)
    >>> class Echo(letstune.CommandTrainer[Point]):
    ...     metric = "height"
    ...     process = "epoch"
    ...     command = "echo '{{\"height\": {x}}}'"
    >>> letstune.rehearse(Echo(), n_trials=1)
    []
    """

    command: str
    process: Literal["round", "epoch"] = "round"
    folder: ClassVar[str | None] = None

    def __getstate__(self) -> dict[str, Any]:
        # Where the run is begun, so that it can be resumed from any folder.
        here: dict[str, Any] = {}
        with suppress(FileNotFoundError):  # it was removed
            here[FOLDER] = str(Path.cwd())
        return {**here, **self.__dict__}

    def __letstune_check__(self) -> None:
        """Refuse a command that cannot be filled; see `letstune.errors.TrainerError`."""
        name = type(self).__name__
        if os.name == "nt":
            raise TrainerError(f"{name}: a CommandTrainer needs Linux, macOS or the like.")
        command: object = getattr(self, "command", None)
        if not isinstance(command, str):
            raise TrainerError(
                f"{name}.command is {command!r:.200}; expected a text, such as "
                "command = '{python} train.py --lr={lr}'."
            )
        if self.process not in ("round", "epoch"):
            raise TrainerError(f'{name}.process is {self.process!r}; expected "round" or "epoch".')
        words = template.split(command)
        template.check(words, params_class(self).space())
        if "epoch_seed" in template.names_in(words) and self.process != "epoch":
            raise TrainerError(
                f"{name}: {{epoch_seed}} is for a process an epoch; in a process a round, it would "
                'depend on where that begins. Use {seed}, or process = "epoch".'
            )

    def load_dataset(self, dataset: Any) -> None:
        """Keep the dataset for ``{dataset}``: a path, or another text."""
        self.dataset = dataset

    def create_model(self, params: P) -> None:
        """Begin a training in an empty folder."""
        self.__dict__[TRAINING] = _Training(self, params)

    def load(self, checkpoint: "Checkpoint", params: P) -> None:
        """Begin a training in a folder with what was saved."""
        self.__dict__[TRAINING] = training = _Training(self, params)
        for entry in checkpoint.path.iterdir():  # a copy, which goes once this returns
            shutil.move(entry, training.folder)

    def train_epoch(self, epoch: int) -> Mapping[str, SupportsFloat]:
        """Have the command train an epoch; return the metric values that it tells."""
        training: _Training = self.__dict__[TRAINING]
        return training.epoch(epoch)

    def save(self, checkpoint: "Checkpoint") -> None:
        """Save the command's folder, if it is that of this epoch."""
        training: _Training = self.__dict__[TRAINING]
        if training.whole and any(training.folder.iterdir()):
            places.copy(training.folder, checkpoint.path)

    def _folder(self) -> Path:
        """Return where the command runs."""
        begun = Path(self.__dict__.get(FOLDER, "."))
        if not begun.is_dir():  # on another machine, say
            begun = Path.cwd()
        return begun / (self.folder or "")
