"""What runs in the process of a rehearsal: it trains pieces of trials, and looks at the trainer.

Where it can, each piece is trained in a fork of its own: of a process that has the dataset, and
that no trial has touched. The owner's side is `letstune.runs.rehearsal`.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import pickle
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path as FilePath
from typing import Any, Final, NamedTuple

from letstune.rounds.events import Event, Stored, Task, TaskEnded, TrialFailed
from letstune.training.audit import Parts
from letstune.training.parts import Path, holder
from letstune.training.script import standing_in
from letstune.training.stores import temporary
from letstune.training.worker import Worker
from letstune.workers.job import Job
from letstune.workers.messages import ENDINGS, Raised, pack
from letstune.workers.worker_main import leave_signals_to_the_owner, put_away

_DEVICES: Final = ("/dev/nvidia", "/dev/kfd", "/dev/dri")
_UNFORKABLE: Final = {"jax", "tensorflow"}
"""What has threads as soon as it is imported, and hangs in a fork."""


class Piece(NamedTuple):
    """What is to be trained.

    Attributes:
        tasks: one after another.
        looks: whether to look at the trainer.
        watched: the fields of which to tell whether an epoch asks for them.
        reload: whether to save and load before each epoch, whatever the trainer says.
    """

    tasks: Sequence[Task]
    looks: bool = False
    watched: Sequence[Path] = ()
    reload: bool = False


class Came(NamedTuple):
    """What came of it.

    Attributes:
        events: of all tasks.
        looks: at the trainer: before the first epoch, and after each.
        asked: those of the watched fields that an epoch asked for before it set them.
        loading: how long it took to load, in seconds, at last.
        imported: the modules that were imported meanwhile.
        alone: why each piece needs a process of its own from now on; see `Opened`.
    """

    events: list[Event]
    looks: list[Parts]
    asked: set[Path]
    loading: float
    imported: Sequence[str] = ()
    alone: str = ""


class Opened(NamedTuple):
    """The dataset is loaded.

    Attributes:
        fields: the names of what `load_dataset` has set.
        alone: why each piece needs a process of its own; empty if it gets a fork.
    """

    fields: list[str]
    alone: str


class Looking(Worker):
    """A worker that looks at its trainer."""

    piece = Piece(())

    def look_at(self, piece: Piece) -> Came:
        """Train a piece."""
        self.piece = piece
        self._looks: list[Parts] = []
        self._alive: list[object] = []
        self._watch = Watch()
        self._loading = 0.0
        events: list[Event] = []
        for task in piece.tasks:
            for told, _ in self.train(task):
                events += [event for event in told if not isinstance(event, TaskEnded)]
        return Came(events, self._looks, self._watch.asked, self._loading)

    @property
    def fields(self) -> list[str]:
        """What `load_dataset` has set."""
        return list(self._fields)

    @property
    def _reloads(self) -> bool:
        return self.piece.reload or super()._reloads

    def _start(self, task: Task) -> None:
        super()._start(task)
        self._look()
        for path in self.piece.watched:
            self._watch.over(self._trainer, path)

    def _load(self, task: Task, epoch: int, stored: Stored) -> None:
        began = time.perf_counter()
        super()._load(task, epoch, stored)
        self._loading = time.perf_counter() - began

    def _epoch(self, number: int, epoch: int, attempt: str) -> Any:
        came = super()._epoch(number, epoch, attempt)
        self._look()
        return came

    def _look(self) -> None:
        if self.piece.looks:
            self._looks.append(self.noted(self._alive))


class Watch:
    """Tells which fields are asked for before they are set.

    Attributes:
        asked: the paths of these.
    """

    def __init__(self) -> None:
        self.asked: set[Path] = set()
        self._classes: dict[type, type] = {}
        self._waiting: dict[tuple[int, str], Path] = {}

    def over(self, trainer: object, path: Path) -> None:
        """Watch a field from now on; if that cannot be done, let it count as one that is asked for.

        Args:
            trainer: with whose fields paths begin.
            path: of the field.
        """
        held: Any = holder(trainer, path)
        try:
            if type(held) not in self._classes.values():
                held.__class__ = self._class(type(held))
        except Exception:  # noqa: BLE001 (it is of a class in C, or that is not to be derived from)
            self.asked.add(path)
            return
        self._waiting[id(held), path[-1][1]] = path

    def _class(self, cls: Any) -> type:
        if cls in self._classes:
            return self._classes[cls]
        waiting, asked = self._waiting, self.asked

        class Watched(cls):  # type: ignore[misc]
            __slots__ = ()

            def __getattribute__(self, name: str) -> Any:
                if (path := waiting.pop((id(self), name), None)) is not None:
                    asked.add(path)
                return super().__getattribute__(name)

            def __setattr__(self, name: str, value: Any) -> None:
                waiting.pop((id(self), name), None)
                super().__setattr__(name, value)

        Watched.__name__, Watched.__qualname__ = cls.__name__, cls.__qualname__
        self._classes[cls] = Watched
        return Watched


def main(data: int, log: int, job: int, token: str, told: bool) -> None:
    """Train pieces until the owner ends the conversation; see `worker_main.main`."""
    leave_signals_to_the_owner()
    data, log, job = map(put_away, (data, log, job))
    faulthandler.enable(log)
    with Connection(data) as owner, ExitStack() as opened:
        try:
            temporary()  # which is removed as this process ends, and not as a fork does
            read = Job.read(job)
            with read.set_up.applied():
                assigned = read.worker(token).assignment
            worker = opened.enter_context(closing(Looking(assigned, token)))
            opened.enter_context(standing_in(assigned.make_trainer(), assigned.dataset))
            linux = sys.platform == "linux"
            before = _threads() if linux else 0
            worker.prepare()
            alone = _not_to_be_forked(before) if linux else "it is not safe on this system"
            owner.send(Opened(worker.fields, alone))
            while True:
                piece = owner.recv()
                came = worker.look_at(piece) if alone else _in_a_fork(worker, piece)
                if not alone and isinstance(came, Came):
                    came = came._replace(alone=_import_for_all(came.imported, before))
                owner.send(came)
        except (EOFError, ConnectionError):
            pass
        except ENDINGS as error:
            raised = Raised.of(error)
            error.add_note(f"It was raised in a worker process:\n{raised.text}")
            owner.send(Raised(pack(error), raised.text))


def _threads() -> int:
    """Return how many threads this process has that do not mind a fork.

    A fork has one thread. What the others held stays locked, and OpenMP waits for its own for ever.
    Only those of OpenBLAS and jemalloc are stopped for a fork, and begun anew; these libraries are
    there as soon as NumPy or pandas is imported.
    """
    tasks = [task / "comm" for task in FilePath("/proc/self/task").iterdir()]
    names = [task.read_text().strip() for task in tasks]
    maps = FilePath("/proc/self/maps").read_text(errors="replace").splitlines()
    blas = {
        line.split()[-1] for line in maps if "libscipy_openblas" in line or "libopenblas" in line
    }
    each = int(os.environ.get("OPENBLAS_NUM_THREADS", "1")) - 1
    return len(names) - names.count("jemalloc_bg_thd") - each * len(blas)


def _not_to_be_forked(before: int) -> str:
    """Return why this process should not be forked; empty if it can be.

    Args:
        before: how many threads there were before the dataset was loaded.
    """
    for name in _UNFORKABLE & sys.modules.keys():
        return f"{name} is imported"
    with suppress(OSError):
        for file in FilePath("/proc/self/fd").iterdir():
            with suppress(OSError):
                if str(file.readlink()).startswith(_DEVICES):
                    return "a device is in use"
    if threading.active_count() > 1 or _threads() > max(1, before):
        return "it has threads"
    return ""


def _in_a_fork(worker: Looking, piece: Piece) -> Came | Raised:
    """Train a piece in a fork."""
    sys.stdout.flush()
    sys.stderr.flush()
    readable, writable = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of threads; see above
        child = os.fork()
    if not child:
        _perform(worker, piece, writable)
    os.close(writable)
    with open(readable, "rb") as file:  # noqa: PTH123 (it is a descriptor)
        answer = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        return _died(piece, code)
    came: Came | Raised = pickle.loads(answer)
    return came


def _import_for_all(names: Sequence[str], before: int) -> str:
    """Import what a fork has imported, so that the others need not: PyTorch is slow at that.

    But no framework as a whole, since from then on it would be seeded, as it is not where it is
    imported late. Return why this process should not be forked any more, if that is so.
    """
    known = {name.partition(".")[0] for name in sys.modules}
    for name in names:
        if name.partition(".")[0] in known - {"__main__", "__mp_main__"}:
            with suppress(Exception):
                importlib.import_module(name)
    return _not_to_be_forked(before)


def _perform(worker: Looking, piece: Piece, writable: int) -> None:
    """Train a piece, tell what came of it, and end this process."""
    code = 1
    try:
        try:
            before = set(sys.modules)
            answer: Came | Raised = worker.look_at(piece)._replace(
                imported=[name for name in sys.modules if name not in before]
            )
        except ENDINGS as error:
            answer = Raised.of(error)
        with open(writable, "wb") as file:
            pickle.dump(answer, file)
        worker.close()
        sys.stdout.flush()
        sys.stderr.flush()
        code = 0
    except BaseException:  # noqa: BLE001 (of letstune's own, which is not to be lost)
        traceback.print_exc()
    finally:
        os._exit(code)


def _died(piece: Piece, code: int) -> Came:
    task = piece.tasks[0]
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    message = f"The process died: {how}."
    failed = TrialFailed(task.trial, task.epochs, "worker died", message, message)
    return Came([failed], [], set(), 0.0)
