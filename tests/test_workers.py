"""Worker processes: the same answer with any number of them, whatever becomes of them."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from facts import facts, recorded_epochs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import ROOT, TESTS, Climb, Point, command, environment, python, tune
from troubles import KINDS, Lying, Refusing, Trouble
from walks import NearBest, WalkParams, WalkTrainer

import letstune
from letstune import SimpleTrainer
from letstune.errors import CheckpointError, PickleError, PlanError, TrainerError, WorkerError
from letstune.journal.journal import Journal, now
from letstune.rounds.decisions import doomed
from letstune.rounds.events import (
    EpochFinished,
    Task,
    TaskEnded,
    TrialProposed,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.plan import Plan
from letstune.rounds.state import State
from letstune.runs.check import check_run
from letstune.runs.loop import Runner
from letstune.runs.skip import requests, skip_trial
from letstune.training import pickling
from letstune.training.pickling import load_object
from letstune.training.stores import DirectoryStore
from letstune.training.worker import Worker
from letstune.workers import machine, supervisor
from letstune.workers import process_executor as pool
from letstune.workers import slot as slots
from letstune.workers import worker_process as worker_processes
from letstune.workers.executor import Delivery, Executor
from letstune.workers.job import Job
from letstune.workers.machine import THREADS, usable_cores
from letstune.workers.process_executor import ProcessExecutor

EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def alive(pid: int, mark: str = f"{worker_processes.MARK}=") -> bool:
    """Whether a process runs that has a variable which begins so: by default, one of a worker.

    The numbers of processes are used again. One that has ended, and whose end nobody cares to
    hear, has no variables any more.
    """
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(variable.startswith(mark.encode()) for variable in variables)


def gone(pids: list[int], within: float = 20) -> bool:
    """Wait until processes have ended, for some seconds at most; tell whether they have."""
    until = time.monotonic() + within
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    return not any(map(alive, pids))


def pids(file: Path) -> list[int]:
    return [int(word) for word in file.read_text().split()]


# Trouble


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which workers die and hang in every way."""
    path = tmp_path_factory.mktemp("troubled") / "run.db"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(slots, "GRACE", 0.5)
        tune(
            Trouble(),
            len(KINDS),
            path,
            dataset=str(path.parent),
            sampler="grid",
            rounds=letstune.Rounds([2], keep=1),
            workers=2,
            epoch_timeout=4,
        )
    return path


def end_of(path: Path, kind: str) -> tuple[Any, ...]:
    """How a trial failed: epoch, kind, message, traceback."""
    ((found,),) = [
        query(path, f"SELECT epoch, kind, message, traceback FROM failures WHERE trial = {n}")
        for n, name in enumerate(KINDS)
        if name == kind
    ]
    return tuple(found)


def test_all_others_go_on(troubled: Path) -> None:
    tuning = letstune.load(troubled)
    assert tuning.finished
    statuses = {trial.params.kind: (trial.status, len(trial.epochs)) for trial in tuning}
    well = {"fine", "killed once", "grandchildren"}
    assert statuses == {kind: ("trained", 2) if kind in well else ("failed", 1) for kind in KINDS}


@pytest.mark.parametrize(
    ("kind", "code", "how"),
    [
        ("segfault", -signal.SIGSEGV, "signal 11 (SIGSEGV)"),
        ("killed", -signal.SIGKILL, "signal 9 (SIGKILL)"),
        ("exit", 3, "exit code 3"),
    ],
)
def test_a_trial_that_kills_its_worker_three_times_fails(
    kind: str, code: int, how: str, troubled: Path
) -> None:
    trial = KINDS.index(kind)
    deaths = query(
        troubled, f"SELECT epoch, code, memory, stack, attempt FROM deaths WHERE trial = {trial}"
    )
    assert [death[:2] for death in deaths] == [(1, code)] * 3
    assert all(2**23 < memory < 2**33 for _, _, memory, _, _ in deaths)
    assert len({attempt for *_, attempt in deaths}) == 3
    epoch, why, message, told = end_of(troubled, kind)
    assert (epoch, why) == (1, "worker died")
    assert message == f"The worker died 3 times in this epoch: {how}."
    assert told.count(how) == 4
    assert "MiB" in told
    if kind == "segfault":
        assert all("in segfault" in stack for *_, stack, _ in deaths)
        assert "in train_epoch" in told
    else:
        assert {stack for *_, stack, _ in deaths} == {""}
        assert "No stack" in told


def test_a_worker_that_dies_once_costs_an_epoch_only(troubled: Path) -> None:
    trial = KINDS.index("killed once")
    assert query(troubled, f"SELECT epoch FROM deaths WHERE trial = {trial}") == [(1,)]
    assert len(query(troubled, "SELECT * FROM deaths")) == 10


def test_an_allocation_that_fails_is_an_error_like_any_other(troubled: Path) -> None:
    epoch, kind, message, told = end_of(troubled, "memory")
    assert (epoch, kind, message) == (1, "raised", "MemoryError")
    assert "bytearray" in told
    assert end_of(troubled, "raise")[1:3] == ("raised", "ZeroDivisionError: division by zero")


@pytest.mark.parametrize(("kind", "where"), [("hang", "in hang"), ("sleep", "in sleep")])
def test_an_epoch_that_hangs_is_ended_and_its_stacks_are_kept(
    kind: str, where: str, troubled: Path
) -> None:
    epoch, why, message, told = end_of(troubled, kind)
    assert (epoch, why) == (1, "timed out")
    assert message == "It took longer than epoch_timeout, 4 s."
    assert where in told


def test_no_process_is_left(troubled: Path) -> None:
    workers = pids(troubled.parent / "pids")
    assert len(set(workers)) >= 2 * 13  # and their supervisors: one for each death or hang
    assert gone(workers, within=0)
    assert len(pids(troubled.parent / "left")) == 4
    for name in ("left", "sleeping"):
        assert gone(pids(troubled.parent / name), within=0)


def test_nothing_half_saved_is_left(troubled: Path) -> None:
    assert not (troubled.parent / "run.checkpoints" / ".new").exists()
    assert check_run(troubled) == []


# Deaths, as the journal has them


def death(trial: int, epoch: int) -> WorkerDied:
    return WorkerDied(trial, epoch, "a-1", -11, None, "the stack", now())


def test_deaths_count_since_the_last_epoch_also_after_a_resume(path: Path) -> None:
    tune(Climb(), 3, path, rounds=[2], keep_checkpoints="all")
    letstune.resume(path, n_trials=3, rounds=[3], progress=False)
    with closing(Journal(path, write=True)) as journal:
        plan = journal.load()[0]
        journal.grow({"n_trials": 6})
        journal.append([TrialProposed(n, Point(x=n / 9, n=1).to_json(), "random") for n in (3, 4)])
        # Of trial 3, those before its epoch do not count any more; trial 4 has lost two.
        finished = EpochFinished(3, 0, 0.5, {"height": 0.5}, now(), 0.1)
        journal.append([death(3, 0), death(3, 0), finished, death(3, 1), death(4, 0), death(4, 0)])
        state = journal.load()[1]
        assert {n: len(d) for n, d in state.deaths.items()} == {3: 1, 4: 2}
        assert doomed(replace(plan, max_deaths=3), state) == []
        (failed,) = doomed(replace(plan, max_deaths=2), state)
        assert (failed.trial, failed.epoch, failed.kind) == (4, 0, "worker died")
        journal.end_session("interrupted")
    assert letstune.resume(path, max_deaths=2, progress=False).finished
    assert query(path, "SELECT trial, kind FROM failures") == [(4, "worker died")]
    assert query(path, "SELECT count(*) FROM epochs WHERE trial = 4") == [(0,)]


def test_deaths_are_forgotten_with_the_next_epoch_and_with_the_end() -> None:
    plan = Plan.from_facts(PLAN)
    state = State(plan)
    for number in range(2):
        state.apply(TrialProposed(number, "{}", "random"))
        state.apply(death(number, 0))
    state.apply(EpochFinished(0, 0, 0.5, {}, now(), 0.1))
    assert list(state.deaths) == [1]
    state.apply(TrialStopped(1, -1))
    assert state.deaths == {}


PLAN = {
    "metric": "m",
    "n_trials": 2,
    "rounds": letstune.Rounds([2]).to_dict(),
    "simple": False,
    "seed": 1,
    "space": {},
    "sampler": {"name": "random", "options": {}},
    "adaptive": False,
    "store": {},
    "lag": 0,
    "keep_checkpoints": 1,
    "trainer": "m:T",
}


def test_a_worker_that_dies_after_the_last_epoch_of_a_trial_costs_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = slots.Slot.answer
    killed: list[int] = []

    def deadly(self: slots.Slot, go_on: bool) -> None:
        # Once each: it is called again whenever there is news of the other worker.
        if self.task is not None and self._epoch == 3 and self.task.trial not in killed:
            assert self._process is not None
            os.kill(self._process.pid, signal.SIGKILL)
            if self.task.trial % 2:
                wait_for(self._process.ended)
            killed.append(self.task.trial)
        answer(self, go_on)

    monkeypatch.setattr(slots.Slot, "answer", deadly)
    tune(Climb(), 4, path, rounds=[3], workers=2, max_deaths=1)
    assert sorted(killed) == [0, 1, 2, 3]
    assert query(path, "SELECT trial FROM failures UNION ALL SELECT trial FROM deaths") == []
    assert check_run(path) == []
    straight = path.with_name("straight.db")
    tune(Climb(), 4, straight, rounds=[3], max_deaths=1)
    assert_same(path, straight)


class DiesInLoad(Climb):
    """Is killed in the first `load` of all. ``dataset`` is a folder."""

    def load_dataset(self, dataset: Any) -> None:
        self.folder = Path(dataset)

    def load(self, checkpoint: Any, params: Point) -> None:
        super().load(checkpoint, params)
        with suppress(FileExistsError):
            (self.folder / "killed").touch(exist_ok=False)
            (self.folder / "copy").write_text(str(checkpoint.path))
            os.kill(os.getpid(), signal.SIGKILL)


def test_what_is_killed_in_load_leaves_no_copy_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = path.parent
    (folder / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
    tune(DiesInLoad(), 2, path, dataset=str(folder), rounds=[1, 1], workers=1)
    assert len(query(path, "SELECT * FROM deaths")) == 1
    assert not Path((folder / "copy").read_text()).exists()
    assert list((folder / "tmp").iterdir()) == []
    assert check_run(path) == []


# What must end the run


def quarrel(trainer: Any, path: Path, **options: Any) -> None:
    tune(
        trainer,
        len(KINDS),
        path,
        dataset=str(path.parent),
        sampler="grid",
        rounds=letstune.Rounds([2], keep=1),
        **{"workers": 2, **options},
    )


def test_what_load_dataset_raises_is_told_here(path: Path) -> None:
    with pytest.raises(WorkerError, match=r"A worker process raised:\n") as caught:
        quarrel(Refusing(), path)
    told = str(caught.value)
    assert f"LookupError: ('no dataset here', {str(path.parent)!r})" in told
    assert "Refusing.load_dataset raised this, so no trial was trained" in told
    assert "in load_dataset" in told
    assert gone(pids(path.parent / "pids"), within=0)
    assert query(path, "SELECT count(*) FROM epochs") == [(0,)]
    assert letstune.load(path).errors == []


def test_workers_that_die_in_load_dataset_are_nobodys_failure(path: Path) -> None:
    (path.parent / "die").touch()
    with pytest.raises(WorkerError, match=r"3 worker processes in a row died .* \(SIGSEGV\)") as e:
        quarrel(Refusing(), path, workers=1)
    assert "in load_dataset" in str(e.value)
    assert len(pids(path.parent / "pids")) == 3 * 2
    assert query(path, "SELECT count(*) FROM failures") == [(0,)]


class LyingAtOnce(Lying):
    def train_epoch(self, epoch: int) -> Any:
        return None


def test_a_broken_trainer_ends_the_run_as_it_does_in_this_process(path: Path) -> None:
    with pytest.raises(TrainerError, match="expected metric values"):
        quarrel(LyingAtOnce(), path, workers=1)
    assert query(path, "SELECT ended FROM sessions WHERE ended IS NOT NULL") == [("error",)]
    assert gone(pids(path.parent / "pids"), within=0)


def test_errors_are_passed_through(path: Path) -> None:
    with pytest.raises(TrainerError, match=r"(?s)in train_epoch.*ZeroDivisionError: division"):
        tune(Failing(), 3, path, rounds=[1], workers=1, passthrough_errors=True)
    assert query(path, "SELECT kind, message FROM failures") == [
        ("raised", "ZeroDivisionError: division by zero")
    ]


class Unplugging(Climb):
    """Takes the disk of the store away in its second epoch. ``dataset`` is where that is."""

    def load_dataset(self, dataset: Any) -> None:
        self.root = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            self.root.rename(self.root.with_name("unplugged"))
            self.root.write_text("no folder")
        return super().train_epoch(epoch)


def test_what_cannot_be_tidied_up_does_not_hide_why_the_run_ended(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(path.with_name("store"))
    with pytest.raises(CheckpointError, match="cannot be stored"):
        tune(Unplugging(), 1, path, rounds=[3], store=store, dataset=store, workers=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"letstune: {path}: what workers that were killed left in its store")


class Failing(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        return {"height": 1 / 0}


class PickyError(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("picky")


class Picky(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        raise PickyError(1, 2)


class PickyAtLoading(Climb):
    def load_dataset(self, dataset: Any) -> None:
        raise PickyError(1, 2)


def test_errors_that_cannot_be_sent_are_told(path: Path) -> None:
    with pytest.raises(TrainerError, match="raise PickyError"):
        tune(Picky(), 3, path, rounds=[1], workers=1, passthrough_errors=True)
    with pytest.raises(WorkerError, match="raise PickyError"):
        tune(PickyAtLoading(), 3, path.with_name("other.db"), rounds=[1], workers=1)


def test_a_dataset_that_cannot_be_pickled_is_refused_before_anything_is_written(
    path: Path,
) -> None:
    with pytest.raises(PickleError, match="dataset, a generator, cannot be pickled"):
        tune(Climb(), 3, path, rounds=[1], workers=2, dataset=(n for n in range(3)))
    assert list(path.parent.iterdir()) == []


# What workers see


class Seeing(SimpleTrainer[Point]):
    """Its model is the environment, and its dataset."""

    metric = "x"

    def load_dataset(self, dataset: Any) -> None:
        self.dataset = dataset

    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        meet(Path(self.dataset["meeting"]), self.dataset["size"])
        seen = dict(os.environ), sys.path, str(Path.cwd()), os.getsid(0)
        return seen, {"x": params.x}


def meet(folder: Path, size: int) -> None:
    """Wait until so many processes have come here, so that each gets a task."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < size:
        time.sleep(0.01)


def seen(path: Path, size: int, **options: Any) -> list[Any]:
    meeting = path.with_name("meeting")
    meeting.mkdir()
    dataset = {"meeting": str(meeting), "size": size, "large": bytes(2**20)}
    tuning = tune(Seeing(), size, path, dataset=dataset, **options)
    found = [trial.checkpoint.load_pickle() for trial in tuning]
    meeting_pids = [int(file.name) for file in meeting.iterdir()]
    assert sorted(session for *_, session in found) == sorted(meeting_pids)
    return found


def test_workers_have_the_import_path_and_folder_of_their_owner(path: Path) -> None:
    ((_, import_path, folder, session),) = seen(path, 1, workers=1)
    assert import_path[: len(sys.path)] == sys.path
    assert folder == str(Path.cwd())
    assert session != os.getsid(0)


@pytest.mark.parametrize(("user", "threads"), [({}, None), ({"OMP_NUM_THREADS": "5"}, "5")])
def test_workers_share_the_cores(
    user: dict[str, str], threads: str | None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**user, "MKL_NUM_THREADS": "7"}.items():
        monkeypatch.setenv(name, value)
    for variables, *_ in seen(path, 2, workers=2):
        share = threads or str(max(1, usable_cores() // 2))
        assert {variables[name] for name in THREADS if name != "MKL_NUM_THREADS"} == {share}
        assert variables["MKL_NUM_THREADS"] == "7"
    assert "OPENBLAS_NUM_THREADS" not in os.environ


class Threads(SimpleTrainer[Point]):
    """Its metric is how many threads it may have."""

    metric = "threads"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        return None, {"threads": float(os.environ.get("OPENBLAS_NUM_THREADS", "nan"))}


def test_a_run_keeps_its_number_of_threads(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("letstune.workers.machine.usable_cores", lambda: 6)
    monkeypatch.setattr("letstune.runs.how.usable_cores", lambda: 6)
    tune(Threads(), 2, path, workers=2)
    letstune.resume(path, n_trials=4, workers=1, progress=False)
    assert capsys.readouterr().err == ""
    letstune.resume(path, n_trials=6, workers=3)
    assert "each of 3 workers has 3 threads, on 6 cores" in capsys.readouterr().err
    threads = [trial.metric_value for trial in letstune.load(path)]
    assert threads == [3.0] * 6  # and not 3, 6 and 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    letstune.resume(path, n_trials=7, progress=False)
    assert letstune.load(path).trial(6).metric_value == 1.0


def test_each_worker_sees_a_device_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-b,7")
    found = seen(path, 3, gpus="auto")
    assert sorted(e["CUDA_VISIBLE_DEVICES"] for e, *_ in found) == ["3", "7", "GPU-b"]


def test_workers_share_devices_in_turns(path: Path) -> None:
    found = seen(path, 3, gpus=[1, 0], workers=3)
    assert sorted(e["CUDA_VISIBLE_DEVICES"] for e, *_ in found) == ["0", "1", "1"]


def test_no_device_is_an_error_before_anything_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(PlanError, match="no device is visible"):
        tune(Climb(), 3, path, rounds=[1], gpus="auto")
    assert list(path.parent.iterdir()) == []


def test_the_quota_of_a_container_counts(tmp_path: Path) -> None:
    assert machine._quota(tmp_path) == float("inf")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine._quota(tmp_path) == float("inf")
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert machine._quota(tmp_path) == 2.5


# Signals, and requests from elsewhere


class Waiting(Climb):
    """In its second epoch, each trial waits until there is a file "go". ``dataset`` is a folder."""

    def load_dataset(self, dataset: Any) -> None:
        self.folder = Path(dataset)

    def create_model(self, params: Point) -> None:
        super().create_model(params)
        self.name = params.to_json()

    def load(self, checkpoint: Any, params: Point) -> None:
        super().load(checkpoint, params)
        self.name = params.to_json()

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
            (self.folder / f"{self.name} here").write_text(
                f"{os.getpid()} {os.getppid()} {child.pid}"
            )
            wait_for(lambda: (self.folder / "go").exists())
            child.kill()
            child.wait()
        return super().train_epoch(epoch)


def wait_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + 60
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.005)


WAIT = """
import sys, letstune, test_workers
letstune.tune(
    test_workers.Waiting(), 6, rounds=[2, 1], seed=1, workers=2, dataset=sys.argv[2],
    journal=sys.argv[1],
)
"""
"""No guard: worker processes do not run the script again."""


def here(folder: Path) -> list[Path]:
    """Where the trials have left that they wait, and it is all written."""
    return [file for file in folder.glob("* here") if len(file.read_text().split()) == 3]


@contextmanager
def waiting(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """An owner both of whose workers are in the middle of an epoch."""
    folder = path.with_name("witness")
    folder.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", WAIT, str(path), str(folder)],
        env=environment(TESTS),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            wait_for(lambda: len(here(folder)) == 2 or process.poll() is not None)
            yield process
        finally:
            process.kill()
            (folder / "go").touch()


def processes(path: Path) -> list[int]:
    """Workers, supervisors, and what the trainers started."""
    return [pid for file in here(path.with_name("witness")) for pid in pids(file)]


def told(process: "subprocess.Popen[str]") -> str:
    """What the owner says next, once it has heard of a signal."""
    assert process.stderr is not None
    assert process.stderr.readline() == "\n"
    return process.stderr.readline()


def assert_resumes_exactly(path: Path) -> None:
    path.with_name("witness").joinpath("go").touch()
    assert letstune.resume(path, progress=False).finished
    other = path.with_name("other.db")
    tune(Waiting(), 6, other, rounds=[2, 1], dataset=str(path.with_name("witness")))
    found, wanted = facts(path), facts(other)
    for table in ("trials", "epochs", "failures", "stops", "deletions"):
        assert found[table] == wanted[table], table


def test_the_first_signal_lets_the_epochs_in_flight_end(path: Path) -> None:
    with waiting(path) as process:
        before = recorded_epochs(path)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert "finishing the epoch" in told(process)
        assert all(map(alive, processes(path)))
        path.with_name("witness").joinpath("go").touch()
        _, err = process.communicate()
        assert process.returncode == 75
    assert "letstune resume" in err
    assert recorded_epochs(path) == before + 2
    assert gone(processes(path))
    assert_resumes_exactly(path)


def test_the_second_signal_ends_all_at_once(path: Path) -> None:
    with waiting(path) as process:
        before = recorded_epochs(path)
        os.kill(process.pid, signal.SIGINT)
        told(process)
        os.kill(process.pid, signal.SIGTERM)
        process.communicate()
        assert process.returncode in (130, -signal.SIGINT)
        assert gone(processes(path), within=0)
    assert recorded_epochs(path) == before
    assert len(processes(path)) == 6
    assert_resumes_exactly(path)


def test_nothing_survives_an_owner_that_is_killed(path: Path) -> None:
    with waiting(path) as process:
        process.kill()
        process.wait()
        assert len(processes(path)) == 6
        assert gone(processes(path), within=10)
    assert_resumes_exactly(path)


def test_nothing_of_a_worker_survives_its_supervisor(path: Path) -> None:
    with waiting(path) as process:
        worker, supervisor, grandchild = pids(here(path.with_name("witness"))[0])
        os.kill(supervisor, signal.SIGKILL)
        assert gone([worker, grandchild])
        wait_for(lambda: query(path, "SELECT code, memory FROM deaths") == [(-9, None)])
        path.with_name("witness").joinpath("go").touch()
        process.communicate()
        assert process.returncode == 0
    assert_resumes_exactly(path)


def test_a_trial_of_a_live_run_is_skipped(path: Path) -> None:
    with waiting(path) as process:
        ((trial,), *_) = query(path, "SELECT trial FROM epochs ORDER BY seq DESC")
        (params,) = query(path, f"SELECT params FROM trials WHERE trial = {trial}")[0]
        skipped = pids(path.with_name("witness") / f"{params} here")
        done = command("skip", path, trial, cwd=path.parent)
        assert done.returncode == 0, done.stderr
        assert "is asked to skip" in done.stdout
        assert gone(skipped)
        wait_for(lambda: query(path, "SELECT trial, epoch FROM stops") == [(trial, 0)])
        for number, why in [(trial, "stopped, so there is nothing to skip"), (6, "no trial 6")]:
            done = command("skip", path, number, cwd=path.parent)
            assert done.returncode == 1
            assert why in done.stderr
        path.with_name("witness").joinpath("go").touch()
        process.communicate()
        assert process.returncode == 0
    assert query(path, f"SELECT count(*) FROM epochs WHERE trial = {trial}") == [(1,)]
    assert letstune.load(path).finished
    assert not path.with_name("run.db.skip").exists()
    assert check_run(path) == []


def test_a_trial_of_a_run_that_nobody_works_on_is_skipped(path: Path) -> None:
    with waiting(path) as process:
        process.kill()
    (trial,) = query(path, "SELECT trial FROM epochs ORDER BY seq DESC")[0]
    done = command("skip", path, trial, cwd=path.parent)
    assert (done.returncode, done.stdout) == (0, f"Trial {trial} is skipped.\n")
    assert query(path, "SELECT trial, epoch FROM stops") == [(trial, 0)]
    assert letstune.resume(path, progress=False).finished
    assert command("skip", path, 0, cwd=path.parent).returncode == 1


class Asking(Climb):
    """Asks for the end of its own trial, and of others, in its second epoch."""

    trials: tuple[int, ...] = (0, 0, 1)

    def load_dataset(self, dataset: Any) -> None:
        self.path = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            for trial in self.trials:
                assert not skip_trial(self.path, trial)
        return super().train_epoch(epoch)


def test_a_run_in_its_own_process_is_asked_between_two_epochs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("letstune.runs.loop.LOOK", 0)
    tune(Asking(), 2, path, rounds=[4], dataset=str(path))
    assert query(path, "SELECT trial, epoch FROM stops") == [(0, 1), (1, -1)]
    assert not path.with_name("run.db.skip").exists()


class AskingAtTheEnd(Asking):
    """Asks for the end of its own trial in its last epoch."""

    trials = (0,)


def test_what_is_asked_for_as_a_run_ends_is_not_left_to_whoever_extends_it(path: Path) -> None:
    tune(AskingAtTheEnd(), 1, path, rounds=[2], dataset=str(path))
    assert not path.with_name("run.db.skip").exists()
    assert letstune.resume(path, rounds=[4], progress=False).finished
    assert query(path, "SELECT * FROM stops") == []


def test_requests_to_a_run_that_is_gone_are_not_for_one_of_the_same_name(path: Path) -> None:
    path.with_name("run.db.skip").write_text("0\n")
    tune(Climb(), 2, path, rounds=[2])
    assert query(path, "SELECT * FROM stops") == []
    assert [file.name for file in path.parent.glob("*.skip")] == []


def test_requests_that_cannot_be_read_are_told_of_once_and_the_run_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("letstune.runs.loop.LOOK", 0)
    path.with_name("run.db.skip").mkdir()
    assert tune(Climb(), 2, path, rounds=[4], progress=True).finished
    assert capsys.readouterr().err.count("run.db.skip cannot be read: Is a directory.") == 1


def test_requests_of_somebody_else_are_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    told: list[str] = []
    monkeypatch.setattr(Path, "open", refuse)
    with requests(path, told.append) as trials:
        assert trials == []
    assert "Permission denied" in told[0]


class Loading(Climb):
    """Takes for ever to load its dataset."""

    def load_dataset(self, dataset: Any) -> None:
        Path(dataset).write_text(str(os.getpid()))
        signal.pause()


LOAD = """
import sys, letstune, test_workers
letstune.tune(test_workers.Loading(), 6, workers=1, journal=sys.argv[1], dataset=sys.argv[2])
"""


def test_the_first_signal_does_not_wait_for_a_dataset(path: Path) -> None:
    witness = path.with_name("witness")
    with subprocess.Popen(
        [sys.executable, "-c", LOAD, str(path), str(witness)],
        env=environment(TESTS),
        stderr=subprocess.PIPE,
    ) as process:
        try:
            wait_for(lambda: witness.exists() and witness.read_text())
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            assert process.returncode == 75
        finally:
            process.kill()
    assert gone(pids(witness), within=0)


class Slow(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        time.sleep(0.03)
        return super().train_epoch(epoch)


def test_a_trial_may_take_so_long_and_no_longer(path: Path) -> None:
    tune(Slow(), 1, path, rounds=[100_000], trial_timeout=0.5)
    ((epoch, kind, message, told),) = query(
        path, "SELECT epoch, kind, message, traceback FROM failures"
    )
    (row,) = query(path, "SELECT count(*), sum(seconds) FROM epochs")
    assert (kind, message) == ("timed out", "It took longer than trial_timeout, 0.5 s.")
    assert epoch == row[0] > 0
    assert row[1] < 5  # not 0.5: on a busy machine, the owner may be late
    assert "in train_epoch" in told


class Late(Climb):
    """Ends its epochs, and saves, when their time is up and their stacks are written."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        time.sleep(0.6)
        return super().train_epoch(epoch)


def test_what_is_saved_too_late_is_deleted(path: Path) -> None:
    tune(Late(), 1, path, rounds=[1], epoch_timeout=0.2)
    assert query(path, "SELECT epoch, kind FROM failures") == [(0, "timed out")]
    assert not list(path.with_name("run.checkpoints").iterdir())
    assert check_run(path) == []


class Stuck(Climb):
    """Hangs in its very first epoch, and ignores SIGTERM. ``dataset`` is a folder.

    If there is a file "stop", its supervisor is stopped, and so does not obey.
    """

    def load_dataset(self, dataset: Any) -> None:
        self.folder = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        stuck = self.folder / "stuck"
        if not stuck.exists():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if (self.folder / "stop").exists():
                os.kill(os.getppid(), signal.SIGSTOP)
            stuck.write_text(f"{os.getpid()} {os.getppid()}")
            while True:
                time.sleep(1000)
        return super().train_epoch(epoch)


FEEBLE = """
import os, signal, sys

def feebly(kill):
    return lambda pid, which: None if which == signal.SIGKILL else kill(pid, which)

os.kill, os.killpg = feebly(os.kill), feebly(os.killpg)
with open({source!r}) as file:
    source = file.read().replace("PATIENCE: float = 5.0", "PATIENCE: float = 0.3")
exec(compile(source, "supervisor.py", "exec"))
"""
"""A supervisor whose SIGKILL does nothing, as it is with a process that hangs in the kernel."""


def test_a_process_that_cannot_be_killed_does_not_hold_up_the_run(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    feeble = path.with_name("feeble.py")
    feeble.write_text(FEEBLE.format(source=supervisor.__file__))
    monkeypatch.setattr(supervisor, "__file__", str(feeble))
    monkeypatch.setattr(slots, "GRACE", 0.2)
    monkeypatch.setattr(slots, "DUMPING", 0.5)
    tune(Stuck(), 2, path, rounds=[1], workers=1, epoch_timeout=1, dataset=str(path.parent))
    assert query(path, "SELECT trial, kind FROM failures") == [(0, "timed out")]
    assert query(path, "SELECT trial FROM epochs") == [(1,)]
    worker, beside = pids(path.with_name("stuck"))
    assert f"process {worker} cannot be killed" in capfd.readouterr().err
    assert gone([worker, beside])  # this one can be: it was killed along with its supervisor


def test_a_supervisor_that_does_not_answer_does_not_hold_up_the_run(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.with_name("stop").touch()
    monkeypatch.setattr(slots, "GRACE", 0.2)
    monkeypatch.setattr(slots, "DUMPING", 0.2)
    monkeypatch.setattr(slots, "LAST", 0.2)
    tune(Stuck(), 2, path, rounds=[1], workers=1, epoch_timeout=1, dataset=str(path.parent))
    assert query(path, "SELECT trial, kind FROM failures") == [(0, "timed out")]
    assert query(path, "SELECT trial FROM epochs") == [(1,)]
    assert gone(pids(path.with_name("stuck")))


def test_a_supervisor_that_does_not_answer_does_not_hold_up_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.with_name("stop").touch()
    monkeypatch.setattr(pool, "GRACE", 0.2)
    monkeypatch.setattr(worker_processes, "LAST", 0.2)
    store = DirectoryStore(path.with_name("store"))
    job = Job.of(Stuck(), str(path.parent), store, journal=path, seed=1)
    with closing(ProcessExecutor(job, 1, "token")) as executor:
        executor.start(Task(0, "a", Point(x=0.5, n=1).to_json(), 0, 0.0, 1, False))
        wait_for(lambda: path.with_name("stuck").exists())
    assert gone(pids(path.with_name("stuck")))


def test_timeouts_are_recorded_and_may_change(path: Path) -> None:
    limits = {"epoch_timeout": timedelta(minutes=5), "trial_timeout": 900, "max_deaths": 7}
    tune(Climb(), 2, path, rounds=[1], **limits)
    assert letstune.resume(path, n_trials=3, trial_timeout=0, workers=1, progress=False).finished
    facts = query(path, "SELECT fact, value FROM plan ORDER BY seq")
    wanted = {"epoch_timeout": "300.0", "trial_timeout": "null", "max_deaths": "7", "workers": "1"}
    assert dict(facts) == {**dict(facts), **wanted}


# Wherever it runs


SCRIPT = """
import sys, letstune, tiny

class Model:
    pass

class OfScript(letstune.SimpleTrainer[tiny.Point]):
    metric = "x"

    def load_dataset(self, dataset):
        pass

    def train(self, params):
        return Model(), {"x": params.x}

tuning = letstune.tune(OfScript(), 1, journal=sys.argv[1], workers=1, seed=1, progress=False)
if type(tuning[0].checkpoint.load_pickle()) is Model:
    print("the same class")
"""

DAEMON = """
import multiprocessing, sys

def tune():
    import letstune, tiny
    letstune.tune(tiny.Climb(), 2, rounds=[1], journal=sys.argv[1], workers=1, seed=1)

process = multiprocessing.get_context("fork").Process(target=tune, daemon=True)
process.start()
process.join()
sys.exit(process.exitcode)
"""


def test_a_script_needs_no_guard_and_its_classes_are_its_own(path: Path) -> None:
    script = path.with_name("script.py")
    script.write_text(SCRIPT)
    done = python(script, path, cwd=path.parent)
    assert done.stdout == "the same class\n", done.stderr


def test_daemonic_processes_may_have_workers(path: Path) -> None:
    done = python("-c", DAEMON, path, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    assert letstune.load(path).finished


def test_the_command_line_takes_it_all(path: Path) -> None:
    options = "--workers=2 --epoch-timeout=1.5m --trial-timeout=900 --max-deaths=4 --gpus=0,1"
    done = command(
        *("tune", "tiny:Climb", "-n2", "--rounds=1", f"--journal={path}", *options.split()),
        cwd=path.parent,
        paths=(TESTS,),
    )
    assert done.returncode == 0, done.stderr
    facts = dict(query(path, "SELECT fact, value FROM plan"))
    wanted = {"workers": "2", "epoch_timeout": "90.0", "trial_timeout": "900.0"}
    wanted |= {"max_deaths": "4", "gpus": '["0", "1"]'}
    assert facts == {**facts, **wanted}
    for wrong in ("--workers=0", "--epoch-timeout=soon"):
        done = command("resume", path, wrong, cwd=path.parent)
        assert done.returncode == 2
        assert wrong.partition("=")[2] in done.stderr


def test_a_worker_that_dies_while_it_has_nothing_to_do_is_nobodys_loss(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    job = Job.of(Climb(), None, store, journal=tmp_path / "run.db", seed=1)
    params = Point(x=0.5, n=1).to_json()
    with closing(ProcessExecutor(job, 1, "token")) as executor:
        found = []
        for trial in (0, 1):
            executor.start(Task(trial, f"a{trial}", params, 0, 0.0, 1, False))
            events: list[Any] = []
            while not (events and isinstance(events[-1], TaskEnded)):
                events += [event for d in executor.deliveries() for event in d.events]
                executor.recorded()
            found.append([type(event).__name__ for event in events])
            (process,) = [slot._process for slot in executor._slots]
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            wait_for(process.ended)
    assert found == [["EpochFinished", "TaskEnded"]] * 2


# The same answer


class Uneven(WalkTrainer):
    """Epochs of very different length, up to 40 ms."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        begun = time.perf_counter()
        values = super().train_epoch(epoch)
        until = begun + random.Random(f"{self.params} {epoch}").random() ** 6 * 0.04
        while time.perf_counter() < until:
            pass
        return values


UNEVEN: dict[str, dict[str, Any]] = {
    "random": {"rounds": [1, 2, 4], "seed": 4},
    "learning": {
        "rounds": letstune.Rounds([1, 2, 3], keep=0.4, cohort=[5, 3]),
        "sampler": NearBest(),
        "lag": 2,
        "seed": 5,
        "keep_checkpoints": 2,
    },
}


def assert_same(path: Path, other: Path) -> None:
    found, wanted = facts(path), facts(other)
    for table in wanted:
        if table != "pickles":
            assert found[table] == wanted[table], table


@pytest.mark.parametrize("name", [pytest.param("random", marks=pytest.mark.slow), "learning"])
def test_the_journal_is_the_same_for_any_number_of_workers(name: str, tmp_path: Path) -> None:
    straight = tmp_path / "straight.db"
    tune(Uneven(), 24, straight, **UNEVEN[name])
    for workers in (1, 2, 4, 8):
        path = tmp_path / f"{workers}.db"
        tune(Uneven(), 24, path, workers=workers, **UNEVEN[name])
        assert_same(path, straight)
        assert check_run(path) == []


def test_a_run_may_be_resumed_with_another_number_of_workers(tmp_path: Path) -> None:
    path, straight = tmp_path / "run.db", tmp_path / "straight.db"
    tune(Uneven(), 4, path, workers=3, **UNEVEN["learning"])
    assert letstune.resume(path, n_trials=10, workers="auto", progress=False).finished
    assert letstune.resume(path, n_trials=14, progress=False).finished
    assert letstune.resume(path, workers=7, progress=False).finished  # nothing to do
    recorded = query(path, "SELECT value FROM plan WHERE fact = 'workers'")
    assert recorded == [("3",), ('"auto"',)]
    tune(Uneven(), 4, straight, **UNEVEN["learning"])
    letstune.resume(straight, n_trials=10, progress=False)
    letstune.resume(straight, n_trials=14, progress=False)
    assert_same(path, straight)


DEADLY = """
import sys, letstune, test_workers
letstune.tune(
    test_workers.Witnessed(), int(sys.argv[4]), dataset=sys.argv[2], journal=sys.argv[1],
    workers=int(sys.argv[3]) or None, progress=False, **test_workers.DEADLY_OPTIONS[{name!r}],
)
"""

DEADLY_OPTIONS: dict[str, dict[str, Any]] = {
    "random": {"rounds": [2, 3, 4], "seed": 3, "max_deaths": 1000},
    "learning": {
        "rounds": letstune.Rounds([1, 2, 3], keep=0.4, cohort=[5, 3]),
        "sampler": NearBest(),
        "lag": 2,
        "seed": 5,
        "max_deaths": 1000,
    },
}

DEADLY_EXAMPLE = """
import os, sys, letstune
from pathlib import Path
from letstune.training.pickling import load_object

Trainer = type(load_object({trainer!r}))
begin = "train" if issubclass(Trainer, letstune.SimpleTrainer) else "train_epoch"

class Witnessed(Trainer):
    def load_dataset(self, dataset):
        self.folder = Path(dataset)
        (self.folder / f"{{os.getpid()}} {{os.getppid()}}").touch()
        super().load_dataset(None)

    def begin(self, what):
        with (self.folder / "epochs").open("a") as file:
            file.write(f"{{what}}\\n")
        return getattr(super(), begin)(what)

setattr(Witnessed, begin, Witnessed.begin)
letstune.tune(
    Witnessed(), int(sys.argv[4]), dataset=sys.argv[2], journal=sys.argv[1], seed=2,
    workers=int(sys.argv[3]) or None, progress=False, max_deaths=1000, **{options!r},
)
"""


class Witnessed(WalkTrainer):
    """Leaves its number in ``dataset``, a folder, which gets a line for each epoch begun."""

    def load_dataset(self, dataset: Any) -> None:
        (Path(dataset) / f"{os.getpid()} {os.getppid()}").touch()
        super().load_dataset(Path(dataset) / "epochs")

    def train_epoch(self, epoch: int) -> dict[str, float]:
        values = super().train_epoch(epoch)
        time.sleep(random.Random(f"{self.params} {epoch}").random() * 0.02)
        return values


def witnesses(folder: Path) -> list[int]:
    """Workers and supervisors of a run that still run, and nobody else."""
    found = [int(word) for file in folder.glob("* *") for word in file.name.split()]
    return [pid for pid in found if alive(pid, f"WITNESSES={folder}")]


def kill_at_random(
    script: str, path: Path, folder: Path, n_trials: int, kills: int, most: int
) -> None:
    """Run to the end, killing the owner and its workers at random; check that nothing is left."""
    rng, left, finished = random.Random(kills), kills, False
    while not finished:
        workers = rng.choice([n for n in (1, 2, 3, 5) if n <= most])
        owner = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, (path, folder, workers, n_trials))],
            env=environment(TESTS, WITNESSES=str(folder)),
            stderr=subprocess.PIPE,
            text=True,
        )
        while left and owner.poll() is None:
            begun = lines(folder)
            # So few that the epochs of a run suffice for all kills.
            target = begun + rng.randint(1, max(1, n_trials // kills))
            wait_for(lambda: lines(folder) >= target or owner.poll() is not None)  # noqa: B023
            if owner.poll() is None:
                owners = [owner.pid]
                found = owners if rng.random() < 0.25 else [*witnesses(folder), *owners]
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(found), signal.SIGKILL)
                    left -= 1
        told = owner.communicate()[1]
        assert owner.returncode in (0, -signal.SIGKILL), told
        finished = owner.returncode == 0
        wait_for(lambda: not witnesses(folder))
    assert left == 0


def lines(folder: Path) -> int:
    file = folder / "epochs"
    return file.read_text().count("\n") if file.exists() else 0


@pytest.mark.parametrize(
    ("name", "n_trials", "kills"),
    [
        ("random", 16, 5),
        ("learning", 12, 4),
        pytest.param("random", 80, 40, marks=pytest.mark.slow),
        pytest.param("learning", 60, 30, marks=pytest.mark.slow),
    ],
)
def test_workers_and_owner_killed_at_random_change_nothing(
    name: str, n_trials: int, kills: int, tmp_path: Path
) -> None:
    deadly_run(DEADLY.format(name=name), n_trials, kills, 5, tmp_path)


EXAMPLE_TRAINERS = {"digits": "DigitsTrainer", "digits_mlp": "DigitsMLPTrainer"}


@pytest.mark.parametrize("example", EXAMPLE_TRAINERS)
@pytest.mark.parametrize(
    ("n_trials", "kills"), [(6, 3), pytest.param(40, 30, marks=pytest.mark.slow)]
)
def test_examples_come_out_the_same_whoever_is_killed(
    example: str, n_trials: int, kills: int, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    trainer = f"{EXAMPLES / example}.py:{EXAMPLE_TRAINERS[example]}"
    options: dict[str, Any] = {} if example == "digits" else {"rounds": [1, 2]}
    script = DEADLY_EXAMPLE.format(trainer=trainer, options=options)
    deadly_run(script, n_trials, kills, 2, tmp_path)  # each process imports scikit-learn


def deadly_run(script: str, n_trials: int, kills: int, most: int, tmp_path: Path) -> None:
    """Run with and without kills, with up to so many workers, and compare."""
    folder, path, straight = tmp_path / "pids", tmp_path / "run.db", tmp_path / "straight.db"
    folder.mkdir()
    kill_at_random(script, path, folder, n_trials, kills, most)
    trained = lines(folder)
    done = python("-c", script, straight, folder, 0, n_trials, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same(path, straight)
    assert all(finding.mended for finding in check_run(path, fix=True))
    assert check_run(path) == []
    # A death costs the epoch in flight; that of the owner, those of its workers.
    ended = len(query(path, "SELECT 1 FROM failures UNION ALL SELECT 1 FROM stops"))
    assert recorded_epochs(path) <= trained <= recorded_epochs(path) + ended + 5 * kills


def test_what_workers_deliver_together_is_recorded_in_one_transaction(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered: list[int] = []
    appended: list[int] = []
    deliveries, append = ProcessExecutor.deliveries, Journal.append

    def count(events: Any) -> int:
        return sum(isinstance(event, EpochFinished) for event in events)

    def seen(self: ProcessExecutor) -> list[Delivery]:
        found = deliveries(self)
        delivered.append(sum(count(delivery.events) for delivery in found))
        return found

    def slow(self: Journal, events: Any) -> None:
        time.sleep(0.02)  # so that others come to the end of their epochs meanwhile
        append(self, events)
        appended.append(count(events))

    monkeypatch.setattr(ProcessExecutor, "deliveries", seen)
    monkeypatch.setattr(Journal, "append", slow)
    tune(Climb(), 4, path, rounds=[20], workers=4)
    assert [number for number in appended if number] == [number for number in delivered if number]
    assert sum(appended) == 80
    assert max(appended) > 1


@pytest.mark.slow  # each of the processes imports scikit-learn
@pytest.mark.parametrize(
    ("example", "numbers"),
    [
        ("digits", [1, 2, 4, 8]),
        ("digits_mlp", [1, 2, 4, 8]),
    ],
)
def test_examples_come_out_the_same_for_any_number_of_workers(
    example: str, numbers: list[int], tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    simple = example == "digits"
    trainer = load_object(f"{EXAMPLES / example}.py:Digits{'' if simple else 'MLP'}Trainer")
    options: dict[str, Any] = {} if simple else {"rounds": [1, 2]}
    straight = tmp_path / "straight.db"
    tune(trainer, 8, straight, **options)
    for workers in numbers:
        path = tmp_path / f"{workers}.db"
        tune(trainer, 8, path, workers=workers, **options)
        assert_same(path, straight)


# What the runner does with many at a time


class Scrambled(Executor):
    """Trains in this process, and lets what came about arrive in any order, together or apart.

    Workers die in the middle of tasks, or, if ``late``, when they are through with them.
    """

    slots = 4

    def __init__(
        self, make: Callable[[str], Worker], rng: random.Random, store: Any, late: bool
    ) -> None:
        self.make, self.rng, self.store, self.late = make, rng, store, late
        self.busy: dict[int, tuple[Task, Worker, Iterator[Any]]] = {}
        self.loading: dict[int, Task] = {}
        self.made = 0

    def start(self, task: Task) -> None:
        self.made += 1
        worker = self.make(f"made{self.made}")
        self.busy[task.trial] = (task, worker, worker.train(task))
        if task.checkpoint is not None:
            self.loading[task.trial] = task

    def deliveries(self) -> list[Delivery]:
        found = []
        there = set(self.store.list())
        for task in self.loading.values():  # nobody knows when a worker gets round to it
            assert task.checkpoint is not None
            assert task.checkpoint.uri in there
        running = sorted(self.busy)
        for trial in self.rng.sample(running, self.rng.randint(0, len(running))):
            task, worker, outcomes = self.busy[trial]
            died = WorkerDied(trial, self.at(trial), task.attempt, -9, None, "", now())
            if self.dies(trial, task):
                found.append(Delivery(trial, task.attempt, [died, TaskEnded(trial)]))
                del self.busy[trial]
                self.loading.pop(trial, None)
                worker.close()
                continue
            events, error = next(outcomes)
            self.loading.pop(trial, None)
            if isinstance(events[-1], TaskEnded):
                del self.busy[trial]
                worker.close()
            found.append(Delivery(trial, task.attempt, events, error))
            if self.rng.random() < 0.1:  # a ghost of an attempt that was given up
                found.append(Delivery(trial, "stale", events, error))
        return found

    def dies(self, trial: int, task: Task) -> bool:
        if not self.late:
            return self.rng.random() < 0.05
        return self.at(trial) >= task.limit and self.rng.random() < 0.5

    def at(self, trial: int) -> int:
        return self.state().trials[trial].epochs

    state: Callable[[], Any]

    def cancel(self, trial: int) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        for _, worker, _ in self.busy.values():
            worker.close()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """Runs in one process, none of which was interrupted."""
    folder = tmp_path_factory.mktemp("straight")
    paths = {(name, d): folder / f"{name}{d}.db" for name in UNEVEN for d in (1, 1000)}
    for (name, max_deaths), path in paths.items():
        tune(Quick(), 20, path, max_deaths=max_deaths, **UNEVEN[name])
    return paths


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), name=st.sampled_from(sorted(UNEVEN)), late=st.booleans())
def test_order_deaths_and_ghosts_change_nothing_and_no_checkpoint_in_use_is_deleted(
    seed: int,
    name: str,
    late: bool,
    straight: dict[tuple[str, int], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("scrambled") / "run.db"
    max_deaths = 1 if late else 1000
    appended: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        made: list[Scrambled] = []

        def make_executor(run: Any, plan: Any, *_: Any) -> Any:
            def make(token: str) -> Worker:
                return Worker(
                    lambda: pickling.clone(run.trainer),
                    run.dataset,
                    run.trainer.params_cls,
                    plan.metric,
                    plan.seed,
                    run.store,
                    token,
                )

            made.append(Scrambled(make, random.Random(seed), run.store, late))
            return made[0]

        running, append = Runner.run, Journal.append

        def run(self: Runner) -> None:
            made[0].state = lambda: self.state
            running(self)

        def counted(self: Journal, events: Any) -> None:
            appended.append(len([e for e in events if isinstance(e, EpochFinished)]))
            append(self, events)

        patched.setattr("letstune.runs.tuning._make_executor", make_executor)
        patched.setattr(Runner, "run", run)
        patched.setattr(Journal, "append", counted)
        # A death after the last epoch does not count, even if a single one is one too many.
        tune(Quick(), 20, path, max_deaths=max_deaths, **UNEVEN[name])
    assert_same(path, straight[name, max_deaths])
    assert check_run(path) == []
    assert max(appended) > 1  # what arrives together is recorded together
    with closing(Journal(path)) as journal:
        replayed = journal.load()[1]
    live = made[0].state()
    assert (live.podium, live.leader[0]) == (replayed.podium, replayed.leader[0])
    assert live.deaths == replayed.deaths == {}
    ends = [[(trial.status, trial.round) for trial in state.trials] for state in (live, replayed)]
    assert ends[0] == ends[1]


class Quick(WalkTrainer):
    params_cls = WalkParams
