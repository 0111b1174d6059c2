"""Runs on a real cluster."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import letstune_ray.executor
import pytest
import trainers
from letstune_ray import RayExecutor
from letstune_ray.cluster import connect
from trainers import (
    Climb,
    Hangs,
    HangsOnce,
    KillsItsActor,
    KillsItself,
    Raises,
    SeesDevices,
    Slow,
    drained,
    task,
)

import letstune
from letstune import Store
from letstune.errors import (
    CheckpointError,
    MissingPackageError,
    PickleError,
    PlanError,
    TrainerError,
    WorkerError,
)
from letstune.testing import ExecutorSuite, Preemption, Victim, by_signals, facts
from letstune.training import DirectoryStore
from letstune.workers import EpochFinished, Job, TaskEnded, TrialFailed

MakeExecutor = Callable[..., RayExecutor]


@pytest.fixture
def make(ray: Any, make_job: Callable[..., Job]) -> Iterator[MakeExecutor]:
    made: list[RayExecutor] = []

    def executor(trainer: Any, *, dataset: object = None, **options: Any) -> RayExecutor:
        job = options.pop("job", None) or make_job(trainer, dataset)
        given = {"token": secrets.token_hex(4), "workers": 1, **options}
        made.append(RayExecutor("ray://auto", job, **given))
        return made[-1]

    yield executor
    for each in made:
        each.close()


class TestRayExecutor(ExecutorSuite):
    @pytest.fixture
    def made(self) -> list[RayExecutor]:
        return []

    @pytest.fixture
    def make_executor(self, ray: Any, tmp_path: Path, made: list[RayExecutor]) -> Any:
        def make(job: Any) -> RayExecutor:
            own = Job.of(
                job.trainer, job.dataset, job.store, journal=tmp_path / "x.db", seed=job.seed
            )
            made.append(RayExecutor("ray://auto", own, token=secrets.token_hex(4), workers=2))
            return made[-1]

        return make

    @pytest.fixture
    def preemptions(self, ray: Any, made: list[RayExecutor]) -> Sequence[Preemption]:
        """Actors are ended, by Ray and by whoever needs their machine."""

        def kill_actor(victim: Victim) -> None:
            actor = parent(parent(victim.trains))
            (place,) = (p for p in made[-1]._places if p.here and p.here.pid == actor)
            ray.kill(place.actor)

        def end_actor(victim: Victim) -> None:
            os.kill(parent(parent(victim.trains)), signal.SIGTERM)

        return [*by_signals(), *[kill_actor, end_actor] * 2]


def parent(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def tune(journal: Path, trainer: Any = None, **options: Any) -> Any:
    given = {"rounds": [2, 3], "seed": 1, "progress": False, **options}
    return letstune.tune(trainer or Climb(), 8, journal=journal, **given)


def deaths(journal: Path) -> set[Any]:
    """Return how workers died."""
    return rows(journal, "SELECT trial, epoch, code FROM deaths")


def rows(path: Path, query: str) -> set[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return set(db.execute(query))


def letstune_says(*arguments: object) -> str:
    """Return what the command line prints."""
    command = [sys.executable, "-m", "letstune", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# Without Ray


def test_it_is_registered() -> None:
    plugged = json.loads(letstune_says("plugins", "--json"))
    (mine,) = [entry for entry in plugged if (entry["kind"], entry["name"]) == ("executor", "ray")]
    assert mine["distribution"] == "letstune-ray"
    assert mine["problem"] is None


def test_without_ray_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match="pip install ray"):
        tune(tmp_path / "run.db", workers="ray://auto")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workers": 0}, "workers=0"),
        ({"num_cpus": -1}, "num_cpus=-1"),
        ({"num_gpus": "all"}, "num_gpus='all'"),
        ({"resources": {"TPU": None}}, "TPU=None"),
        ({"patience": float("nan")}, "patience=nan"),
        ({"num_cpus": 0}, "workers=N must be given"),
    ],
)
def test_an_option_that_is_none_is_refused(
    options: dict[str, Any], told: str, make_job: Callable[..., Job], store: Store
) -> None:
    with pytest.raises(PlanError, match=told):
        RayExecutor("ray://auto", make_job(Climb()), token="t", **options)
    assert list(store.list()) == []


# Runs


def test_the_journal_is_that_of_a_run_in_process(ray: Any, tmp_path: Path) -> None:
    tune(tmp_path / "plain.db")
    tune(tmp_path / "run.db", workers=("ray://auto", {"num_cpus": 0.5}))
    assert facts(tmp_path / "run.db") == facts(tmp_path / "plain.db")
    while RayExecutor.count("ray://auto") != 2:  # Ray takes its time to free what was killed
        pass


def test_actors_are_counted_that_have_room(ray: Any) -> None:
    count = RayExecutor.count
    while count("ray://auto", num_cpus=0.5, patience=0) != 4:  # see above
        pass
    assert count("ray://auto", num_cpus=2) == 1
    assert count("ray://auto", num_cpus=0.1, num_gpus=0.5) == 4
    assert count("ray://auto", resources={"TPU": 1}) == 1  # that is to come
    assert count("ray://auto", workers=7) == 7
    with pytest.raises(PlanError, match="TPU=None"):
        count("ray://auto", resources={"TPU": None})


def test_actors_are_counted_before_there_is_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setattr(module, "is_initialized", lambda: False)
    monkeypatch.setattr("letstune_ray.executor.usable_cores", lambda: 8)
    assert RayExecutor.count("ray://local") == 8
    assert RayExecutor.count("ray://local", num_cpus=3) == 2


def test_a_trial_that_is_trained_is_skipped(ray: Any, tmp_path: Path) -> None:
    path, witness = tmp_path / "run.db", tmp_path / "x"
    asked: list[int] = []

    def skip() -> None:
        while not (witness.exists() and (x := witness.read_text())):
            time.sleep(0.02)
        trials = rows(path, "SELECT trial, params FROM trials")
        asked.extend(trial for trial, params in trials if repr(json.loads(params)["x"]) == x)
        letstune_says("skip", path, asked[0])

    thread = threading.Thread(target=skip)
    thread.start()
    # One actor: if it does not become free, the run does not end.
    options = {"dataset": str(tmp_path), "workers": ("ray://auto", {"workers": 1})}
    tune(path, HangsOnce(), rounds=[3], **options)
    thread.join()
    tune(tmp_path / "plain.db", rounds=[3])
    assert rows(path, "SELECT trial, epoch FROM stops") == {(asked[0], 0)}
    query = "SELECT trial, epoch, value FROM epochs"
    missing = rows(tmp_path / "plain.db", query) - rows(path, query)
    assert sorted(row[:2] for row in missing) == [(asked[0], 1), (asked[0], 2)]
    assert len(rows(path, query)) == 8 * 3 - 2


def test_a_run_goes_on_in_a_cluster_and_out_of_it(ray: Any, tmp_path: Path) -> None:
    tune(tmp_path / "plain.db", rounds=[2, 5])
    tune(tmp_path / "run.db", rounds=[2], workers="ray://auto")
    letstune.resume(tmp_path / "run.db", rounds=[2, 3], progress=False)
    letstune.resume(tmp_path / "run.db", rounds=[2, 5], workers=2, progress=False)
    assert facts(tmp_path / "run.db") == facts(tmp_path / "plain.db")


def training(path: Path) -> dict[str, list[str]]:
    """Return a journal's facts but those that tell which trainer and dataset it is of."""
    return {table: rows for table, rows in facts(path).items() if table not in ("plan", "pickles")}


def test_an_actor_that_is_killed_costs_its_epoch_only(ray: Any, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    tune(tmp_path / "plain.db", Climb())
    tune(tmp_path / "run.db", KillsItsActor(), dataset=str(notes), workers="ray://auto")
    assert training(tmp_path / "run.db") == training(tmp_path / "plain.db")
    # A machine that is lost is not the trial's fault.
    assert deaths(tmp_path / "run.db") == set()
    assert not Path("/proc", (notes / "me").read_text()).exists()
    staging = tmp_path / "run.checkpoints" / ".new"
    assert not staging.exists() or list(staging.iterdir()) == []


def test_a_worker_that_dies_is_recorded(ray: Any, tmp_path: Path) -> None:
    tune(tmp_path / "plain.db", Climb())
    tune(tmp_path / "run.db", KillsItself(), dataset=str(tmp_path), workers="ray://auto")
    assert training(tmp_path / "run.db") == training(tmp_path / "plain.db")
    ((*_, code),) = deaths(tmp_path / "run.db")
    assert code == -signal.SIGKILL


def test_an_error_of_a_trainer_comes_with_its_traceback(ray: Any, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"(?s)in train_epoch.*ArithmeticError: no way on"):
        tune(tmp_path / "run.db", Raises(), workers="ray://auto", passthrough_errors=True)


def test_a_hung_epoch_is_timed_out(make: MakeExecutor) -> None:
    executor = make(Hangs(), epoch_timeout=1.0)
    executor.start(task(1))
    *_, failed, ended = drained(executor, {1})
    assert isinstance(failed, TrialFailed)
    assert (failed.kind, ended) == ("timed out", TaskEnded(1))
    assert "pause" in failed.traceback or "train_epoch" in failed.traceback


# Actors


def test_an_actor_that_ray_kills_is_replaced(make: MakeExecutor, ray: Any) -> None:
    executor = make(Slow())
    executor.start(task(1, limit=10_000))
    while not (first := executor.deliveries()):
        pass
    assert isinstance(first[0].events[0], EpochFinished)
    before = executor._places[0].here
    ray.kill(executor._places[0].actor)
    executor.recorded()
    assert drained(executor, {1})[-1] == TaskEnded(1)
    executor.start(task(2))
    events = drained(executor, {2})
    assert [type(event) for event in events] == [EpochFinished] * 3 + [TaskEnded]
    assert executor._places[0].here.pid != before.pid


@pytest.mark.parametrize("name", ["ObjectLostError", "OwnerDiedError", "GetTimeoutError"])
def test_an_actor_whose_answer_is_lost_is_replaced(
    make: MakeExecutor, ray: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    executor = make(Slow())
    executor.start(task(1, limit=10_000))
    before = executor._places[0].here
    get, lost = ray.get, []

    def losing(answer: Any, **options: Any) -> Any:
        if not lost:
            lost.append(answer)
            error = getattr(ray.exceptions, name)
            raise error() if name == "GetTimeoutError" else error(answer.hex(), "x:1", "here")
        return get(answer, **options)

    monkeypatch.setattr(ray, "get", losing)
    assert drained(executor, {1}) == [TaskEnded(1)]
    executor.start(task(2))
    events = drained(executor, {2})
    assert [type(event) for event in events] == [EpochFinished] * 3 + [TaskEnded]
    assert executor._places[0].here.pid != before.pid


class Unswept(DirectoryStore):
    """A directory that this process cannot tidy up, once it is gone."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._owner = os.getpid()

    def _check(self) -> None:
        if os.getpid() == self._owner and (self.root / "gone").exists():
            raise RuntimeError("the store is gone")

    def stage(self, name: str) -> Path:
        self._check()
        return super().stage(name)

    def delete(self, uri: str) -> None:
        self._check()
        super().delete(uri)


def test_what_cannot_be_tidied_up_does_not_hide_another_error(
    make: MakeExecutor, make_job: Callable[..., Job], tmp_path: Path, capfd: Any
) -> None:
    executor = make(Slow(), job=make_job(Slow(), store=Unswept(tmp_path / "mine")))
    executor.start(task(1, limit=10_000))
    while not executor.deliveries():
        pass
    (tmp_path / "mine" / "gone").touch()
    executor.close()  # it raises nothing
    assert "the store is gone" in capfd.readouterr().err


def test_what_is_given_up_delivers_nothing_more(make: MakeExecutor) -> None:
    executor = make(Slow())
    executor.start(task(1, limit=10_000))
    while not executor.deliveries():
        pass
    executor.recorded()
    executor.cancel(1)
    executor.start(task(2))
    assert {event.trial for event in drained(executor, {2})} == {2}


def test_gpus_and_threads_are_those_that_ray_gives(make: MakeExecutor, tmp_path: Path) -> None:
    executor = make(SeesDevices(), dataset=str(tmp_path), workers=2, num_gpus=1)
    for trial in (1, 2):
        executor.start(task(trial, limit=1))
    drained(executor, {1, 2})
    seen = [path.read_text() for path in tmp_path.iterdir() if path.name.isdigit()]
    assert sorted(seen) == ["0 1", "1 1"]


def test_an_actor_joins_when_there_is_room(
    make: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letstune_ray.executor, "SETTLING", 0.0)
    first = make(Slow(), workers=1)
    second = make(Slow(), workers=2)
    assert second.slots == 1
    first.close()
    while second.slots < 2:
        second.deliveries()
    for trial in (1, 2):
        second.start(task(trial))
    events = drained(second, {1, 2})
    assert sum(isinstance(event, EpochFinished) for event in events) == 6


# What must end the run


class NotShared(DirectoryStore):
    """A directory that other processes do not have, as another machine would not."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._owner = os.getpid()

    def get(self, uri: str, folder: Path) -> None:
        if os.getpid() != self._owner:
            raise FileNotFoundError(f"there is no {uri}")
        super().get(uri, folder)


def test_a_store_that_is_not_reachable_is_refused(
    ray: Any, make_job: Callable[..., Job], tmp_path: Path
) -> None:
    store = NotShared(tmp_path / "mine")
    job = make_job(Climb(), store=store)
    with pytest.raises(CheckpointError, match=r"Node .* \(Ray node \w+\) cannot reach") as caught:
        RayExecutor("ray://auto", job, token="t", workers=1)
    assert "is missing" in str(caught.value)
    assert list(store.list()) == []


def test_another_version_on_a_node_is_refused(
    make: MakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {**letstune_ray.executor.versions(), "letstune": "0.0.1"}
    monkeypatch.setattr(letstune_ray.executor, "versions", lambda: other)
    with pytest.raises(PickleError, match=r"\(Ray node \w+\) has letstune .* run is of .* 0\.0\.1"):
        make(Climb())


def test_no_room_is_told(make: MakeExecutor) -> None:
    with pytest.raises(WorkerError, match=r"no room .*'CPU': 64.*it has .*'CPU': 2\.0"):
        make(Climb(), num_cpus=64, patience=0)


def test_an_address_that_does_not_go_with_the_connection_is_refused(ray: Any) -> None:
    with pytest.raises(PlanError, match="connected to a Ray cluster already"):
        connect("ray://127.0.0.1:10001")
    with pytest.raises(PlanError, match="expected 'ray://auto'"):
        connect("ray://")
    assert connect("ray://auto") is False


@pytest.mark.slow
def test_a_cluster_of_its_own_ends_with_the_run(
    environment: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    tune(tmp_path / "plain.db")
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(trainers.__file__).parent)!r})\n"
        "import letstune, trainers, ray\n"
        f"letstune.tune(trainers.Climb(), 8, rounds=[2, 3], journal={str(tmp_path / 'run.db')!r}, "
        "seed=1, progress=False, workers='ray://local')\n"
        "assert not ray.is_initialized()\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert facts(tmp_path / "run.db") == facts(tmp_path / "plain.db")
