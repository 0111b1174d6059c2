"""Real processes, real SIGKILL: in mid-upload, and in mid-run."""

import os
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from folders import contents, empty, fill, noise
from journal_facts import facts, recorded_epochs
from letstune.training import Stored, fetch
from proxy import CUT, CUT_LATE, Proxy, Request

from letstune_fsspec import FsspecStore
from letstune_fsspec.manifest import INLINE

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")

FILES = {"a": noise(INLINE + 1, 1), "b": noise(INLINE + 1, 2), "c": b"3"}

PUT = """
import pickle, sys
from pathlib import Path
store = pickle.loads(Path(sys.argv[1]).read_bytes())
print(store.put("t1", Path(sys.argv[2])))
"""

RUN = """
import sys
import letstune
from letstune_fsspec import FsspecStore
from stateful_trainer import WalkTrainer

if __name__ == "__main__":
    journal, uri, endpoint = sys.argv[1:]
    letstune.tune(
        WalkTrainer(),
        12,
        journal=journal,
        seed=3,
        rounds=[2, 3, 4],
        store=FsspecStore(uri, endpoint_url=endpoint),
        progress=False,
    )
"""

RESUME = "import sys, letstune; letstune.resume(sys.argv[1], progress=False)"


def start(*arguments: object, cwd: Path, **variables: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


class Killer:
    """A rule of the proxy: kills a process at a request, before or after the server has it."""

    def __init__(self, at: int, late: bool) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.left = at
        self.late = late
        self.killed: Request | None = None

    def __call__(self, request: Request) -> object:
        self.left -= 1
        if self.left == 0 and self.process is not None:
            self.process.kill()
            self.process.wait()
            self.killed = request
            return CUT_LATE if self.late else CUT
        return None


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 6))
def test_killed_in_mid_upload_nothing_is_whole(
    at: int, late: bool, bucket: str, proxy: Proxy, s3: Any, tmp_path: Path
) -> None:
    """At each request of an upload: two objects, their listing, the manifest, its reading back."""
    fragile = FsspecStore(f"s3://{bucket}/runs/1", endpoint_url=proxy.url, parallel=1)
    (tmp_path / "store").write_bytes(pickle.dumps(fragile))
    fill(tmp_path / "in", FILES)
    killer = Killer(at, late)
    proxy.rule = killer
    killer.process = start("-c", PUT, tmp_path / "store", tmp_path / "in", cwd=tmp_path)
    printed, errors = killer.process.communicate()
    assert killer.process.returncode == -signal.SIGKILL, errors
    assert printed == b""
    assert killer.killed is not None
    proxy.settle()  # what it had sent before it died arrives

    proxy.rule = lambda request: None
    objects = s3.find(fragile.root)
    found = list(fragile.list())
    assert len(found) == (1 if at > 1 or late else 0)
    assert {path.split("/")[-2] for path in objects} == set(found)  # all of it is listed
    manifested = any(path.endswith("/manifest") for path in objects)
    assert manifested == (at > 4 or (at == 4 and late))
    for uri in found:
        if manifested:  # whole, if nobody knows of it
            fragile.get(uri, empty(tmp_path / "out"))
            assert contents(tmp_path / "out") == FILES
        else:
            with pytest.raises(FileNotFoundError):
                fragile.get(uri, empty(tmp_path / "out"))
        fragile.delete(uri)
    s3.invalidate_cache()
    assert s3.find(fragile.root) == []


@pytest.mark.parametrize("at", range(1, 5))
def test_killed_in_mid_deletion_it_is_not_whole_and_can_be_deleted_again(
    at: int, fragile: FsspecStore, proxy: Proxy, s3: Any, tmp_path: Path
) -> None:
    uri = fragile.put("t1", fill(tmp_path / "in", FILES))
    (tmp_path / "store").write_bytes(pickle.dumps(fragile))
    killer = Killer(at, late=False)
    proxy.rule = killer
    delete = (
        "import pickle, sys; from pathlib import Path;"
        "pickle.loads(Path(sys.argv[1]).read_bytes()).delete(sys.argv[2])"
    )
    killer.process = start("-c", delete, tmp_path / "store", uri, cwd=tmp_path)
    killer.process.communicate()
    assert killer.process.returncode == -signal.SIGKILL
    proxy.rule = lambda request: None
    assert list(fragile.list()) == [uri]
    if at > 2:  # the listing, the manifest
        with pytest.raises(FileNotFoundError):
            fragile.get(uri, empty(tmp_path / "out"))
    fragile.delete(uri)
    assert list(fragile.list()) == []


def kept(journal: Path) -> list[Stored]:
    """Return the checkpoints that a journal points to."""
    with closing(sqlite3.connect(journal)) as db:
        return [
            Stored(*row)
            for row in db.execute(
                "SELECT checkpoint, bytes, sha256 FROM epochs WHERE checkpoint IS NOT NULL "
                "AND (trial, epoch) NOT IN (SELECT trial, epoch FROM deletions)"
            )
        ]


@pytest.fixture
def straight(bucket: str, proxy: Proxy, tmp_path: Path) -> Path:
    """The journal of a run that was never interrupted."""
    (tmp_path / "run.py").write_text(RUN)
    path = tmp_path / "straight.db"
    process = start("run.py", path, f"s3://{bucket}/straight", proxy.url, cwd=tmp_path)
    assert process.communicate()[1] == b""
    assert process.returncode == 0
    return path


def assert_same(path: Path, straight: Path, store: FsspecStore, folder: Path) -> None:
    wanted, found = facts(straight), facts(path)
    for table in wanted:
        rows = [row.replace(str(path), str(straight)) for row in found[table]]
        assert rows == wanted[table], table
    pointed_at = kept(path)
    assert pointed_at
    for number, stored in enumerate(pointed_at):
        fetch(store, stored, empty(folder / str(number)), "It")
    left = set(store.list()) - {stored.uri for stored in pointed_at}
    for uri in left:  # by crashes
        store.delete(uri)
    assert set(store.list()) == {stored.uri for stored in pointed_at}


KILLS = 8


@pytest.mark.slow
def test_a_run_killed_at_random_ends_as_one_that_was_not(
    straight: Path, bucket: str, proxy: Proxy, tmp_path: Path
) -> None:
    rng, path, kills = random.Random(1), tmp_path / "run.db", 0
    elsewhere = empty(tmp_path / "elsewhere")
    uri = f"s3://{bucket}/killed"
    epochs = []
    for turn in range(100):
        killer = Killer(rng.randint(2, 25), late=rng.random() < 0.5)
        proxy.rule = killer if kills < KILLS else lambda request: None
        seeded = {"PYTHONHASHSEED": str(turn)}
        if path.exists():
            killer.process = start("-c", RESUME, path, cwd=elsewhere, **seeded)
        else:
            killer.process = start("run.py", path, uri, proxy.url, cwd=tmp_path, **seeded)
        errors = killer.process.communicate()[1]
        assert killer.process.returncode in (0, -signal.SIGKILL), errors.decode()
        if killer.process.returncode == 0:
            break
        kills += 1
        epochs.append(recorded_epochs(path))
    assert kills == KILLS
    assert len(set(epochs)) > KILLS / 2  # it got on between kills, and was not done before them
    proxy.rule = lambda request: None
    store = FsspecStore(uri, endpoint_url=proxy.url)
    assert_same(path, straight, store, tmp_path / "kept")


@pytest.mark.slow
def test_a_run_in_a_storm_ends_as_one_in_fair_weather(
    straight: Path, bucket: str, proxy: Proxy, tmp_path: Path
) -> None:
    """Whatever had to be tried again, not a bit of what was trained depends on it."""
    rng = random.Random(2)
    odds: list[object] = [500, 503, CUT, CUT_LATE]
    proxy.rule = lambda request: rng.choice(odds) if rng.random() < 0.3 else None
    path, uri = tmp_path / "run.db", f"s3://{bucket}/storm"
    process = start("run.py", path, uri, proxy.url, cwd=tmp_path)
    errors = process.communicate()[1]
    assert process.returncode == 0, errors.decode()
    proxy.rule = lambda request: None
    assert_same(path, straight, FsspecStore(uri, endpoint_url=proxy.url), tmp_path / "kept")
