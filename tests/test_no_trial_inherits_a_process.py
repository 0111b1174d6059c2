"""What a trial did to its process is not the next one's."""

import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from journal_facts import assert_same, metrics_of, query
from small_trainers import Climb, Point, tune

from letstune.errors import LetstuneError
from letstune.rounds.events import EpochFinished, Task, TaskEnded
from letstune.training.stores import DirectoryStore
from letstune.workers.commands import Answer, Came, Start
from letstune.workers.experience import USUAL, Experience
from letstune.workers.job import Job
from letstune.workers.messages import Change
from letstune.workers.remote_slots import RemoteSlots

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers here")


def lower(name: str, soft: int, *, hard: bool = False) -> None:
    which = getattr(resource, name)
    resource.setrlimit(which, (soft, soft if hard else resource.getrlimit(which)[1]))


def chdir() -> None:
    Path("meddled").mkdir(exist_ok=True)
    os.chdir("meddled")


def vanish() -> None:
    Path("vanished").mkdir()
    os.chdir("vanished")
    Path.cwd().rmdir()


def export() -> None:
    os.environ["MEDDLED"] = str(os.getpid())
    os.environ.pop("OMP_NUM_THREADS", None)


def ignore() -> None:
    for which in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(which, signal.SIG_IGN)


MEDDLING: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "a limit": lambda: lower("RLIMIT_FSIZE", 10**8),
    "a hard limit": lambda: lower("RLIMIT_NOFILE", 500, hard=True),
    "memory": lambda: lower("RLIMIT_AS", 2**40),
    "the folder": chdir,
    "a folder that is gone": vanish,
    "variables": export,
    "handlers": ignore,
    "blocked signals": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD]),
    "the umask": lambda: os.umask(0o777),
    "a timer": lambda: signal.setitimer(signal.ITIMER_REAL, 0.3),
    "some files": lambda: os.closerange(3, 50),
    "standard output": lambda: os.close(1),
}
"""What trials do to their process, at the end of their first epoch."""


def state() -> list[Any]:
    """Return what of a process may matter to a trial."""
    mask = os.umask(0o77)
    os.umask(mask)
    return [
        *(resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n[:7] == "RLIMIT_"),
        [which for which in (0, 1, 2) if not Path(f"/dev/fd/{which}").exists()],
        *(Path.cwd(), dict(os.environ), mask),
        *(signal.getsignal(which) for which in sorted(signal.valid_signals())),
        *(signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getitimer(signal.ITIMER_REAL)),
    ]


class Meddling(Climb):
    """Some trials change their process; all tell whether it is as it was."""

    def __init__(self, what: str) -> None:
        self.what = what

    def load_dataset(self, dataset: Any) -> None:
        os.chdir(dataset)
        self.before = state()

    def create_model(self, params: Point) -> None:
        try:
            same = state() == self.before
        except OSError:  # no folder
            same = False
        self.model = [params.x, float(same)]

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.epoch = epoch
        return {"same": self.model[1], **super().train_epoch(epoch)}

    def save(self, checkpoint: Any) -> None:
        super().save(checkpoint)
        if self.epoch == 0 and self.model[0] > 0:
            MEDDLING[self.what]()


@pytest.fixture
def folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return where trainers work; what is trained in this process is in it, too."""
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return str(path.parent)


def compare(path: Path, what: str, workers: int, folder: str) -> None:
    tuning = tune(Meddling(what), 8, path, rounds=[1, 1], workers=workers, dataset=folder)
    other = path.with_name("other.db")
    tune(Meddling("nothing"), 8, other, rounds=[1, 1], dataset=folder)
    assert_same(path, other)
    assert query(path, "SELECT * FROM deaths") == query(path, "SELECT * FROM failures") == []
    assert {values["same"] for values in metrics_of(path).values()} == {1.0}
    assert sum(trial.params.x > 0 for trial in tuning) > USUAL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "told"),
    [("variables", "value of the environment variable MEDDLED"), ("the folder", "working directo")],
)
def test_a_change_is_told_once_and_nobody_is_blamed(
    what: str, told: str, path: Path, folder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    compare(path, what, 1, folder)
    err = capfd.readouterr().err
    assert err.count("left its worker with another") == 1
    assert err.count("trials again and again leave their worker with another") == 1
    assert err.count(told) == 2


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("what", MEDDLING)
def test_every_trial_begins_in_a_process_as_it_was(
    what: str, workers: int, path: Path, folder: str
) -> None:
    compare(path, what, workers, folder)


class Alike(Climb):
    """Each trial sets the same variable, as libraries do. ``dataset`` is a folder."""

    def load_dataset(self, dataset: Any) -> None:
        (Path(dataset) / f"loaded {os.getpid()}").touch()

    def train_epoch(self, epoch: int) -> dict[str, float]:
        os.environ.setdefault("KMP_INIT_AT_FORK", "FALSE")
        return super().train_epoch(epoch)


@pytest.mark.slow
def test_what_trials_always_do_costs_few_processes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KMP_INIT_AT_FORK", raising=False)
    tune(Alike(), 9, path, rounds=[1], workers=1, dataset=str(path.parent))
    assert len(list(path.parent.glob("loaded *"))) == USUAL + 1


def test_what_load_dataset_does_is_there_for_all_trials(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Setting(Alike):
        def load_dataset(self, dataset: Any) -> None:
            super().load_dataset(dataset)
            os.environ["KMP_INIT_AT_FORK"] = "FALSE"
            os.chdir(dataset)
            lower("RLIMIT_CORE", 0)

    tune(Setting(), 3, path, rounds=[1], workers=1, dataset=str(path.parent))
    assert len(list(path.parent.glob("loaded *"))) == 1
    assert capfd.readouterr().err == ""


def test_what_cannot_be_put_back_is_never_usual(capsys: pytest.CaptureFixture[str]) -> None:
    experience = Experience()
    changes = [Change("umask", True), Change("file descriptor 1", False)]
    assert [experience.spoilt(trial, changes) for trial in range(USUAL + 3)] == [True] * (USUAL + 3)
    assert not experience.spoilt(9, changes[:1])
    assert experience.spoilt(10, [Change("handler of SIGTERM", True)])
    told = capsys.readouterr().err
    assert told.count("another umask and another file descriptor 1.") == 1
    assert told.count("again and again leave their worker with another umask.") == 1


# What a trial brings about for itself


class Choking(Climb):
    """Some trials lower a limit, so that they cannot be saved."""

    def __init__(self, name: str, *, hard: bool, when: str) -> None:
        self.name, self.hard, self.when = name, hard, when

    def choke(self, when: str) -> None:
        if when == self.when and self.model[0] > 0:
            lower(self.name, 0 if self.name == "RLIMIT_FSIZE" else 3, hard=self.hard)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.choke("train_epoch")
        return super().train_epoch(epoch)

    def save(self, checkpoint: Any) -> None:
        super().save(checkpoint)
        self.choke("save")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("when", ["train_epoch", "save"])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("name", ["RLIMIT_FSIZE", "RLIMIT_NOFILE"])
def test_what_a_limit_does_is_the_trials_own_failure(
    name: str, hard: bool, when: str, workers: int, path: Path
) -> None:
    tuning = tune(Choking(name, hard=hard, when=when), 8, path, rounds=[2], workers=workers)
    assert tuning.finished
    assert query(path, "SELECT * FROM deaths") == []
    for trial in tuning:
        # Without a limit on files, there may be nothing that is written after `save`.
        fails = trial.params.x > 0 and (when, name) != ("save", "RLIMIT_FSIZE")
        if trial.params.x < 0 or fails:
            assert (trial.status == "failed") is fails
    for error in tuning.errors:
        assert error.kind == "raised"


@pytest.mark.slow
def test_a_store_that_is_denied_by_a_limit_is_not_each_trials_trouble(path: Path) -> None:
    tuning = tune(Choking("RLIMIT_NOFILE", hard=True, when="save"), 4, path, rounds=[1], workers=1)
    assert tuning.finished
    assert 0 < len(tuning.errors) < 4
    for error in tuning.errors:
        assert "The trial has lowered limits of its process: RLIMIT_NOFILE." in error.message


def test_a_store_in_trouble_still_ends_the_run(path: Path) -> None:
    class Ruining(Climb):
        """Changes its process, and the store is in trouble as well."""

        def load_dataset(self, dataset: Any) -> None:
            self.store = dataset

        def save(self, checkpoint: Any) -> None:
            super().save(checkpoint)
            os.environ["MEDDLED"] = "1"
            Path(self.store).rename(f"{self.store} is away")
            Path(self.store).touch()

    store = str(path.with_name("run.checkpoints"))
    with pytest.raises(LetstuneError):
        tune(Ruining(), 2, path, rounds=[1], workers=1, dataset=store)
    assert query(path, "SELECT * FROM failures") == []


class Closing(Climb):
    """One kind of trial closes all files that it does not know."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if self.model[0] > 0:
            os.closerange(3, 4000)
            self.files = [Path("/dev/null").open("w") for _ in range(1000)]  # noqa: SIM115
        return super().train_epoch(epoch)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_who_closes_all_files_fails_alone(workers: int, path: Path) -> None:
    tuning = tune(Closing(), 6, path, rounds=[1], workers=workers, max_deaths=2)
    assert tuning.finished
    assert {error.trial_id for error in tuning.errors} == {
        trial.trial_id for trial in tuning if trial.params.x > 0
    }
    assert 0 < len(tuning.errors) < 6
    for error in tuning.errors:
        assert error.kind == "worker died"
        assert "the trainer has closed the file by which it speaks" in error.traceback


def test_it_is_so_on_other_machines_too(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    trainer, journal = Meddling("variables"), tmp_path / "run.db"
    job = Job.of(trainer, str(tmp_path), store, journal=journal, seed=1)
    params = Point(x=0.5, n=1).to_json()
    events: list[Any] = []
    with job.spool() as file, closing(RemoteSlots(file, ["token"])) as far:
        for trial in (0, 1):
            assert far.obey(Start(Task(trial, f"a{trial}", params, 0, 0.0, 1, False))) == []
            while not (events and isinstance(events[-1], TaskEnded) and events[-1].trial == trial):
                for item in far.poll(1):
                    assert isinstance(item, Came), item
                    events += item.events
                    far.obey(Answer(item.attempt, True))
    found = [event.metrics["same"] for event in events if isinstance(event, EpochFinished)]
    assert found == [1.0, 1.0]
