import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from journal_facts import query
from memory_store import MemoryStore
from own_keys import keep_apart
from small_trainers import tune
from stateful_trainer import WalkTrainer

from letstune.journal.journal import Journal, now
from letstune.journal.schema import TABLES
from letstune.plugins import installed as plugins
from letstune.rounds.events import TrialRetried, WorkerDied
from letstune.training.checkpoints import Keeper
from letstune.training.stores import DirectoryStore

# Journals sync after every epoch: in memory, that takes no time.
if os.access("/dev/shm", os.W_OK):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")
keep_apart()


@pytest.fixture(autouse=True)
def no_plugins_but_those_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever plugins are installed where the tests run, they are not to be seen here."""
    installed = plugins.installed
    theirs = {plugged.distribution for plugged in installed()} - {"letstune"}
    monkeypatch.setattr(
        plugins, "installed", lambda: (p for p in installed() if p.distribution not in theirs)
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal may come to be, in a folder that holds nothing else."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder / "run.db"


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which all happens: failures, retries, stops, deletions, NaN, deaths, growth."""
    path = tmp_path_factory.mktemp("walked") / "run.db"
    tune(WalkTrainer(), 30, path, seed=5, rounds=[2, 3, 4], keep_checkpoints=2)
    with closing(Journal(path, write=True)) as journal:
        journal.append([WorkerDied(0, 0, "0-1", -9, 2**20, "", now())])
        journal.end_session("interrupted")
    tune(WalkTrainer(), 36, path, seed=5, rounds=[2, 3, 4], keep_checkpoints=2)
    with closing(Journal(path, write=True)) as journal:
        journal.append([TrialRetried(journal.failures()[0].trial)])
        journal.end_session("retried")
    tune(WalkTrainer(), 36, path, seed=5, rounds=[2, 3, 4], keep_checkpoints=2)
    assert all(query(path, f"SELECT count(*) FROM {table}") != [(0,)] for table in TABLES)
    return path


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def keeper(store: DirectoryStore) -> Keeper:
    return Keeper(store, "token")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder on the import path, whose modules are forgotten in the end."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    monkeypatch.setattr(MemoryStore, "kept", {})
    return MemoryStore()
