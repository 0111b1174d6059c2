"""Runs on a real cluster, whose workers and whose scheduler are killed."""

from __future__ import annotations

import importlib
import os
import secrets
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import pytest
from conftest import TESTS, LocalCluster, recorded_epochs, training, wait_until
from letstune_dask import DaskExecutor
from letstune_dask.bench import LEASE
from letstune_dask.cluster import TRIES, Cluster
from trainers import HangsOnce, Here, Walk

import letstune
from letstune.errors import CheckpointError, Interrupted, PickleError, PlanError, WorkerError
from letstune.testing import facts
from letstune.training import DirectoryStore
from letstune.workers import Job

TRIALS = 12


def tune(path: Path, seconds: float = 0.0, **options: Any) -> Any:
    """Tune without a word, with a seed."""
    given = {"rounds": [2, 4, 6], "seed": 3, "progress": False, **options}
    dataset = (str(path.with_suffix(".loads")), seconds)
    trainer = given.pop("trainer", Walk())
    return letstune.tune(trainer, TRIALS, journal=path, dataset=dataset, **given)


def wanted(folder: Path) -> dict[str, list[str]]:
    """Return the facts of a run in this process."""
    tune(folder / "wanted.db")
    return facts(folder / "wanted.db")


def loads(path: Path) -> list[str]:
    """Return a line for each load of the dataset."""
    return path.with_suffix(".loads").read_text().splitlines()


def meanwhile(work: Callable[[], object]) -> threading.Thread:
    """Do something in another thread."""
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_journal_is_that_of_a_run_in_process(cluster: LocalCluster, tmp_path: Path) -> None:
    tune(tmp_path / "run.db", 0.05, workers=cluster.address)
    assert facts(tmp_path / "run.db") == wanted(tmp_path)
    assert len(loads(tmp_path / "run.db")) == 3  # one a Dask worker
    assert not training()
    # Neither probes nor what was half saved
    kept = {path.name.split("-")[0] for path in (tmp_path / "run.checkpoints").glob("[!.]*")}
    assert all(name.startswith("t0") for name in kept)


def test_a_client_is_as_good_as_an_address(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("letstune_dask.cluster.CHUNK", 100)  # the job is sent in many parts
    with cluster.client() as client:
        tune(tmp_path / "run.db", workers=client)
        assert client.status == "running"
    assert facts(tmp_path / "run.db") == wanted(tmp_path)


def test_a_scheduler_file_is_as_good_as_an_address(cluster: LocalCluster, tmp_path: Path) -> None:
    assert DaskExecutor.count(f"dask://{cluster.scheduler_file}") == 3


def test_slots_are_counted_where_the_resources_are(own_cluster: LocalCluster) -> None:
    own_cluster.start_worker()
    own_cluster.start_worker("--resources", "GPU=2")
    own_cluster.wait_for(2)
    address = own_cluster.address
    assert DaskExecutor.count(address, slots_per_worker=3) == 6
    assert DaskExecutor.count(address, slots_per_worker=3, resources={"GPU": 2}) == 3
    assert DaskExecutor.count(address, resources={"GPU": 3}) == 1  # that is to come
    assert DaskExecutor.count(address, epoch_timeout=1.0) == 2
    with pytest.raises(PlanError, match="slots_per_worker=0: expected a whole number"):
        DaskExecutor.count(address, slots_per_worker=0)


def test_workers_die_and_join(own_cluster: LocalCluster, tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "run.db"
    names = [own_cluster.start_worker(nanny=number == 2) for number in range(3)]
    own_cluster.wait_for(3)

    def trouble() -> None:
        wait_until(lambda: recorded_epochs(path) >= 4)
        own_cluster.kill(names[0])
        own_cluster.start_worker()
        wait_until(lambda: recorded_epochs(path) >= 12)
        own_cluster.kill(names[1])
        own_cluster.kill(names[2])
        own_cluster.start_worker()

    thread = meanwhile(trouble)
    tune(path, 0.2, workers=own_cluster.address)
    thread.join()
    assert facts(path) == wanted(tmp_path)
    assert len(loads(path)) >= 4  # a worker that joined has trained
    assert capfd.readouterr().err.count("is gone: ") == 3
    wait_until(lambda: not training())


def test_a_worker_is_to_be_retired(own_cluster: LocalCluster, tmp_path: Path) -> None:
    """Dask gives that up, since there is an actor; the trials have gone elsewhere by then."""
    path = tmp_path / "run.db"
    own_cluster.start_worker(PLACE="first")
    own_cluster.wait_for(1)

    def trouble() -> None:
        wait_until(lambda: recorded_epochs(path) >= 3)
        with own_cluster.client() as client:
            (first,) = client.nthreads()
            own_cluster.start_worker(PLACE="second")
            own_cluster.wait_for(2)
            client.retire_workers([first])

    thread = meanwhile(trouble)
    tune(path, 0.2, workers=own_cluster.address)
    thread.join()
    assert facts(path) == wanted(tmp_path)
    assert [line.split()[1] for line in loads(path)][:2] == ["first", "second"]


def test_all_workers_die_and_another_one_joins(
    own_cluster: LocalCluster, tmp_path: Path, capfd: Any
) -> None:
    path = tmp_path / "run.db"
    name = own_cluster.start_worker()
    own_cluster.wait_for(1)

    def trouble() -> None:
        wait_until(lambda: recorded_epochs(path) >= 3)
        own_cluster.kill(name)
        own_cluster.wait_for(0)
        own_cluster.start_worker()

    thread = meanwhile(trouble)
    tune(path, 0.05, workers=own_cluster.address)
    thread.join()
    assert facts(path) == wanted(tmp_path)


def test_the_scheduler_is_restarted(own_cluster: LocalCluster, tmp_path: Path, capfd: Any) -> None:
    path = tmp_path / "run.db"
    own_cluster.start_worker()
    own_cluster.start_worker()
    own_cluster.wait_for(2)

    def trouble() -> None:
        wait_until(lambda: recorded_epochs(path) >= 8)
        own_cluster.kill_scheduler()

    thread = meanwhile(trouble)
    with pytest.raises(Interrupted) as interrupted:
        tune(path, 0.2, workers=own_cluster.address)
    thread.join()
    assert interrupted.value.code == 75
    told = capfd.readouterr().err
    assert "The Dask scheduler is lost" in told
    assert "letstune resume" in told
    assert 8 <= recorded_epochs(path) < len(wanted(tmp_path)["epochs"])

    own_cluster.start_scheduler()
    own_cluster.start_worker()
    own_cluster.wait_for(1)
    letstune.resume(path, workers=own_cluster.address, progress=False)
    assert facts(path) == wanted(tmp_path)


@pytest.mark.slow
def test_a_cluster_with_all_sorts_of_trouble(own_cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    names = [own_cluster.start_worker(nanny=number == 2) for number in range(3)]
    own_cluster.wait_for(3)

    def kill_and_replace(name: str, after: int) -> None:
        wait_until(lambda: recorded_epochs(path) >= after)
        own_cluster.kill(name)
        names.append(own_cluster.start_worker())

    def first_trouble() -> None:
        kill_and_replace(names[0], after=3)
        kill_and_replace(names[2], after=8)
        wait_until(lambda: recorded_epochs(path) >= 14)
        own_cluster.kill_scheduler()

    thread = meanwhile(first_trouble)
    with pytest.raises(Interrupted):
        tune(path, 0.2, workers=own_cluster.address)
    thread.join()
    epochs = len(wanted(tmp_path)["epochs"])
    assert 14 <= recorded_epochs(path) <= epochs - 3

    own_cluster.start_scheduler()
    names[:] = [own_cluster.start_worker() for _ in range(3)]
    own_cluster.wait_for(3)
    before = recorded_epochs(path)
    thread = meanwhile(lambda: kill_and_replace(names[1], after=before + 3))
    letstune.resume(path, workers=own_cluster.address, progress=False)
    thread.join()
    assert facts(path) == facts(tmp_path / "wanted.db")
    wait_until(lambda: not training())


def lose_actors(monkeypatch: pytest.MonkeyPatch, lost: Callable[[str, int], bool]) -> list[float]:
    """Have calls fail as when a link is cut for a while; return when that began.

    Args:
        monkeypatch: undoes it.
        lost: whether a call of a Dask worker fails, by its address and how many have failed.
    """
    moments: list[float] = []
    insist, reach = Cluster._insist, Cluster._calling

    async def insisting(self: Cluster, member: Any, method: str, *others: Any, **how: Any) -> Any:
        if method == "hear" and lost(member.address, len(moments)):
            moments.append(time.monotonic())
            raise OSError("the link is cut")
        return await insist(self, member, method, *others, **how)

    async def reaching(self: Cluster, member: Any, method: str, *arguments: Any) -> Any:
        if method == "close" and moments and time.monotonic() < moments[-1] + 1.0:
            raise OSError("the link is still cut")
        return await reach(self, member, method, *arguments)

    monkeypatch.setattr(Cluster, "_insist", insisting)
    monkeypatch.setattr(Cluster, "_calling", reaching)
    return moments


def test_a_worker_that_stays_and_loses_its_actor_goes_on_at_once(
    own_cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    path = tmp_path / "run.db"
    own_cluster.start_worker("--nthreads", "1")  # what the last actor holds, the next one needs
    own_cluster.wait_for(1)
    # As often as would be too often in a row, but with epochs in-between
    moments = lose_actors(
        monkeypatch, lambda _, times: times <= TRIES and recorded_epochs(path) >= 2 + 3 * times
    )
    tune(path, workers=own_cluster.address)
    # Each time for itself: on a busy machine, all of them may take that long.
    assert all(b - a < LEASE for a, b in pairwise([*moments, time.monotonic()]))
    assert facts(path) == wanted(tmp_path)
    told = capfd.readouterr().err
    assert told.count("is gone: ") == TRIES + 1
    assert "tried again every" not in told


def test_a_worker_that_loses_its_actor_again_and_again_is_told_of(
    own_cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    path = tmp_path / "run.db"
    monkeypatch.setattr("letstune_dask.cluster.REST", 1.0)
    own_cluster.start_worker(PLACE="bad")
    own_cluster.wait_for(1)
    with own_cluster.client() as client:
        (bad,) = client.nthreads()
    moments = lose_actors(monkeypatch, lambda address, times: address == bad and times <= TRIES)

    def trouble() -> None:
        wait_until(lambda: len(moments) > TRIES)  # it is tried again then
        own_cluster.start_worker(PLACE="good")

    thread = meanwhile(trouble)
    tune(path, 0.05, workers=own_cluster.address)
    thread.join()
    assert facts(path) == wanted(tmp_path)
    assert capfd.readouterr().err.count(f"{bad} was lost {TRIES} times") == 1


def test_a_client_that_is_closed_in_mid_run_is_an_interruption(
    cluster: LocalCluster, tmp_path: Path, capfd: Any
) -> None:
    path = tmp_path / "run.db"
    client = cluster.client()

    def trouble() -> None:
        wait_until(lambda: recorded_epochs(path) >= 3)
        client.close()

    thread = meanwhile(trouble)
    with pytest.raises(Interrupted):
        tune(path, 0.2, workers=client)
    thread.join()
    assert "The Dask scheduler is lost: " in capfd.readouterr().err
    wait_until(lambda: not training(), within=LEASE / 4)
    letstune.resume(path, workers=cluster.address, progress=False)
    assert facts(path) == wanted(tmp_path)


def test_a_trial_that_is_trained_is_skipped(own_cluster: LocalCluster, tmp_path: Path) -> None:
    path, note = tmp_path / "run.db", tmp_path / "hangs"
    own_cluster.start_worker()  # one: if its slot does not become free, the run does not end
    own_cluster.wait_for(1)
    asked: list[int] = []

    def skip() -> None:
        wait_until(lambda: note.exists() and note.read_text())
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            query = "SELECT trial FROM trials WHERE params = ?"
            asked.extend(db.execute(query, [note.read_text()]).fetchone())
        skipping = [sys.executable, "-m", "letstune", "skip", str(path), str(asked[0])]
        subprocess.run(skipping, check=True, capture_output=True)

    thread = meanwhile(skip)
    tune(path, rounds=[3], workers=own_cluster.address, trainer=HangsOnce())
    thread.join()
    tune(tmp_path / "wanted.db", rounds=[3])
    run, others = facts(path), facts(tmp_path / "wanted.db")
    assert run["stops"] == [repr((asked[0], 0))]
    missing = set(others["epochs"]) - set(run["epochs"])
    assert {row.split(",")[0] for row in missing} == {f"({asked[0]}"}
    assert len(run["epochs"]) == len(others["epochs"]) - 2


def test_training_does_not_survive_its_owner(cluster: LocalCluster, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    call = f"tune(Path({str(path)!r}), 0.5, workers={cluster.address!r})"
    code = f"from test_run import Path, tune; {call}"
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    owner = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths})
    try:
        wait_until(lambda: recorded_epochs(path) >= 2)
        assert training()
    finally:
        owner.kill()
        owner.wait()
    wait_until(lambda: not training(), within=LEASE / 4)  # Dask tells of it, not the lease
    letstune.resume(path, workers=cluster.address, progress=False)
    assert facts(path) == wanted(tmp_path)


def test_a_store_that_a_worker_does_not_reach_is_an_error(
    own_cluster: LocalCluster, tmp_path: Path
) -> None:
    own_cluster.start_worker(PLACE="owner")
    own_cluster.start_worker(PLACE="elsewhere")
    own_cluster.wait_for(2)
    with pytest.raises(
        CheckpointError, match=r"The Dask worker tcp://127.0.0.1:\d+ does not reach"
    ):
        tune(tmp_path / "run.db", workers=own_cluster.address, store=Here(tmp_path / "store"))
    assert recorded_epochs(tmp_path / "run.db") == 0
    assert not list((tmp_path / "store" / "owner").glob("probe*"))


def job_of(folder: Path, trainer: Any = None) -> Job:
    store = DirectoryStore(folder / "store")
    return Job.of(trainer or Walk(), None, store, journal=folder / "run.db", seed=1)


def test_another_version_of_letstune_is_an_error(cluster: LocalCluster, tmp_path: Path) -> None:
    job = replace(job_of(tmp_path), versions={"letstune": "0.0.7", "python": "3.11.0"})
    with pytest.raises(
        PickleError, match=r"tcp://127.0.0.1:\d+ has letstune .*, but the run is of letstune 0.0.7"
    ):
        DaskExecutor(cluster.address, job, token=secrets.token_hex(4))


def test_a_trainer_whose_module_a_worker_lacks_is_an_error(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("from trainers import Walk\nclass Mine(Walk): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    job = job_of(tmp_path, importlib.import_module("only_here").Mine())
    (tmp_path / "only_here.py").unlink()
    with pytest.raises(PickleError, match=r"tcp://127.0.0.1:\d+ cannot train.*No module named"):
        DaskExecutor(cluster.address, job, token=secrets.token_hex(4))


def test_a_worker_that_joins_and_cannot_train_is_left_alone(
    own_cluster: LocalCluster, tmp_path: Path, capfd: Any
) -> None:
    path = tmp_path / "run.db"
    own_cluster.start_worker(PLACE="owner")
    own_cluster.wait_for(1)

    def trouble() -> None:
        wait_until(lambda: recorded_epochs(path) >= 1)
        own_cluster.start_worker(PLACE="elsewhere")

    thread = meanwhile(trouble)
    tune(path, 0.2, workers=own_cluster.address, store=Here(tmp_path / "store"))
    thread.join()
    assert facts(path) == wanted(tmp_path)
    assert {line.split()[1] for line in loads(path)} == {"owner"}
    assert capfd.readouterr().err.count("does not reach the run's checkpoint store") == 1


def test_only_workers_with_the_resources_train(own_cluster: LocalCluster, tmp_path: Path) -> None:
    own_cluster.start_worker(PLACE="without")
    own_cluster.start_worker("--resources", "GPU=1", PLACE="with")
    own_cluster.wait_for(2)
    options = {"resources": {"GPU": 1}, "slots_per_worker": 2}
    tune(tmp_path / "run.db", workers=(own_cluster.address, options))
    assert facts(tmp_path / "run.db") == wanted(tmp_path)
    assert [line.split()[1] for line in loads(tmp_path / "run.db")] == ["with", "with"]


def test_resources_may_be_annotations(own_cluster: LocalCluster, tmp_path: Path) -> None:
    own_cluster.start_worker(PLACE="without")
    own_cluster.start_worker("--resources", "GPU=1", PLACE="with")
    own_cluster.wait_for(2)
    with dask.annotate(resources={"GPU": 1}):
        assert DaskExecutor.count(own_cluster.address) == 1
        tune(tmp_path / "run.db", workers=own_cluster.address)
    assert facts(tmp_path / "run.db") == wanted(tmp_path)
    assert [line.split()[1] for line in loads(tmp_path / "run.db")] == ["with"]


def test_a_wrong_address_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("letstune_dask.executor.CONNECTING", 1.0)
    with pytest.raises(WorkerError, match="there is no Dask scheduler"):
        tune(tmp_path / "run.db", workers="dask://127.0.0.1:9")
    with pytest.raises(PlanError, match="slots_per_worker=0: expected a whole number"):
        tune(tmp_path / "b.db", workers=("dask://127.0.0.1:9", {"slots_per_worker": 0}))
    with pytest.raises(PlanError, match=r"resources=\['GPU'\]: expected names with numbers"):
        tune(tmp_path / "c.db", workers=("dask://127.0.0.1:9", {"resources": ["GPU"]}))
