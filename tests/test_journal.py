import contextlib
import json
import math
import os
import re
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from files import in_all
from journal_facts import facts, metrics_of
from processes import TESTS, python
from small_trainers import Climb, Hill, Point, tune
from stateful_trainer import WalkTrainer

import letstune
from letstune.cli.main import main
from letstune.errors import IllegalEventError, JournalError, JournalNotFoundError
from letstune.journal.journal import Journal, now
from letstune.journal.schema import APPLICATION_ID, TABLES, VERSION, VIEWS
from letstune.rounds.events import EpochFinished, WorkerDied
from letstune.samplers import RandomSampler
from letstune.training.checkpoints import Checkpoint


def query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


class Odd(Climb):
    """Returns the values of its dataset, one an epoch; None raises an exception."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        value = self.dataset[epoch]
        if value is None:
            raise ValueError("as asked for")
        return {"height": value, "negated": -value, "other": 0.1}


class ByTrial(Climb):
    """Trial i has the i-th list of values of its dataset; None is an exception."""

    made = 0

    def create_model(self, params: Point) -> None:
        self.model = self.dataset[ByTrial.made]
        ByTrial.made += 1

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if self.model[epoch] is None:
            raise ValueError("as asked for")
        return {"height": self.model[epoch]}


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which everything happens: failures, stops, deletions, NaN, deaths, growth."""
    path = tmp_path_factory.mktemp("walked") / "run.db"
    tune(WalkTrainer(), 30, path, seed=5, rounds=[2, 3, 4], keep_checkpoints=2)
    with closing(Journal(path, write=True)) as journal:
        journal.append([WorkerDied(0, 0, "0-1", -9, 2**20, "", now())])
        journal.end_session("interrupted")
    tune(WalkTrainer(), 36, path, seed=5, rounds=[2, 3, 4], keep_checkpoints=2)
    assert all(query(path, f"SELECT count(*) FROM {table}") != [(0,)] for table in TABLES)
    return path


# The tables


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_strict(table: str, walked: Path) -> None:
    assert query(walked, f"SELECT strict FROM pragma_table_list('{table}')") == [(1,)]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("sql", ["UPDATE {} SET seq = seq + 1000", "DELETE FROM {}"])
def test_tables_are_insert_only(table: str, sql: str, walked: Path) -> None:
    before = walked.read_bytes()
    with (
        closing(sqlite3.connect(walked)) as db,
        pytest.raises(sqlite3.IntegrityError, match="insert-only"),
    ):
        db.execute(sql.format(table))
    assert walked.read_bytes() == before


def test_seq_counts_the_rows_of_all_tables_without_gap_or_repeat(walked: Path) -> None:
    union = " UNION ALL ".join(f"SELECT seq FROM {table}" for table in TABLES)
    found = [seq for (seq,) in query(walked, f"SELECT seq FROM ({union}) ORDER BY seq")]
    assert found == list(range(1, len(found) + 1))


def test_seq_is_the_order_in_which_things_happened(walked: Path) -> None:
    late = query(
        walked,
        "SELECT 'epoch before its trial' FROM epochs e JOIN trials t USING (trial) "
        "WHERE e.seq < t.seq "
        "UNION ALL SELECT 'deletion before its epoch' FROM deletions d "
        "JOIN epochs e USING (trial, epoch) WHERE d.seq < e.seq "
        "UNION ALL SELECT 'epoch after an end' FROM epochs e JOIN failures f USING (trial) "
        "WHERE e.seq > f.seq",
    )
    assert late == []


@pytest.mark.parametrize("table", ["trials", "epochs", "stops", "failures", "deletions", "deaths"])
def test_every_event_names_its_session(table: str, walked: Path) -> None:
    rows = query(
        walked,
        f"SELECT x.seq FROM {table} x WHERE x.session <> (SELECT s.session FROM sessions s "
        "WHERE s.seq < x.seq AND s.ended IS NULL ORDER BY s.seq DESC LIMIT 1)",
    )
    assert rows == []


def test_sessions_tell_who_worked_when_and_how_it_ended(walked: Path) -> None:
    rows = query(walked, "SELECT session, pid, ended FROM sessions ORDER BY seq")
    pid = os.getpid()
    ends = {1: "finished", 2: "interrupted", 3: "finished"}
    assert rows == [(n, pid, e) for n, end in ends.items() for e in (None, end)]


def test_all_times_are_utc(walked: Path) -> None:
    rows = query(walked, "SELECT started FROM epochs UNION ALL SELECT at FROM sessions")
    times = [datetime.fromisoformat(text) for (text,) in rows]
    assert {time.utcoffset() for time in times} == {timedelta(0)}


def test_integrity_and_foreign_keys_hold(walked: Path) -> None:
    assert query(walked, "PRAGMA integrity_check") == [("ok",)]
    assert query(walked, "PRAGMA foreign_key_check") == []


def test_every_json_in_it_is_valid(walked: Path) -> None:
    for table, column in [
        ("plan", "value"),
        ("trials", "params"),
        ("epochs", "metrics"),
        ("pickles", "about"),
        ("sessions", "versions"),
    ]:
        bad = query(walked, f"SELECT {column} FROM {table} WHERE NOT json_valid({column})")
        assert bad == [], table


def test_it_says_what_file_it_is(walked: Path) -> None:
    assert query(walked, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert query(walked, "PRAGMA user_version") == [(VERSION,)]


# Values

VALUES = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e22, 2.0, 1 / 3, math.pi * 1e-300]
STRANGE = [math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("value", [*VALUES, *STRANGE])
def test_metric_values_come_back_to_the_last_bit(value: float, path: Path) -> None:
    fresh = tune(Odd(), 1, path, rounds=[1], dataset=[value])
    for tuning in (fresh, letstune.load(path)):
        epoch = tuning[0].epochs[0]
        for found, wanted in [
            (epoch.metric_value, value),
            (epoch.metric_values["height"], value),
            (epoch.metric_values["negated"], -value),
        ]:
            if math.isnan(wanted):
                assert math.isnan(found)
            else:
                assert struct.pack("<d", found) == struct.pack("<d", wanted)


@pytest.mark.parametrize(
    "text",
    [
        "\ud800 lone",
        "nul \0 byte",
        "emoji 🙂",
        "'; DROP TABLE epochs; --",
        "a\nb\r\tc",
        "[red]",
        "",
    ],
)
def test_odd_text_in_an_error_is_recorded(text: str, path: Path) -> None:
    class Raising(Hill):
        def train(self, params: Point) -> Any:
            raise ValueError(text)

    tuning = tune(Raising(), 2, path)
    assert tuning.finished
    assert len(letstune.load(path).errors) == 2


def test_odd_names_of_metrics_are_recorded(path: Path) -> None:
    names = ["höhe", "a.b", "", "\ud800", "'", "n\0l", "$type"]

    class Named(Hill):
        def train(self, params: Point) -> Any:
            return None, {"height": 1.0} | dict.fromkeys(names, 2.0)

    tune(Named(), 1, path)
    assert set(letstune.load(path)[0].metric_values) == {"height", *names}


@pytest.mark.parametrize("name", ["a b.db", "odd?name#%41.db", "日本.db", "no suffix", "it's.db"])
def test_a_journal_may_have_any_name(name: str, path: Path) -> None:
    odd = path.with_name(name)
    tune(Climb(), 4, odd, rounds=[1])
    assert len(letstune.resume(odd, rounds=[2], progress=False)) == 4
    assert letstune.load(odd)[0].checkpoint.load_pickle()
    assert {entry.name for entry in path.parent.iterdir() if entry.is_file()} == {name}


# The views

RANKED = [
    [0.5, 0.7, 0.7],  # ties with the next: its id is lower
    [0.7, 0.1, 0.2],
    [math.nan, math.inf, -math.inf],
    [-math.inf, math.nan, math.inf],
    [math.inf, 0.1, math.nan],
    [0.9, None],
    [None],
    [-5.0, -6.0, -4.0],
    [math.nan, math.nan, math.nan],
]


@pytest.fixture
def ranked(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ByTrial, "made", 0)
    tune(ByTrial(), len(RANKED), path, rounds=[3], dataset=RANKED)
    return path


def test_the_leaderboard_is_the_order_of_the_results(ranked: Path) -> None:
    tuning = letstune.load(ranked)
    rows = query(
        ranked, "SELECT place, trial, best_epoch, epochs, failure IS NULL FROM leaderboard"
    )
    assert rows == [
        (
            place,
            trial.trial_id,
            trial.best_epoch.epoch if trial.best_epoch else None,
            len(trial.epochs),
            int(trial.status != "failed"),
        )
        for place, trial in enumerate(tuning, 1)
    ]


def test_finite_values_come_first_then_the_others_then_failures(ranked: Path) -> None:
    assert [trial.trial_id for trial in letstune.load(ranked)] == [0, 1, 4, 7, 2, 3, 8, 5, 6]


def test_the_best_epoch_is_the_first_of_the_best(ranked: Path) -> None:
    best = {trial.trial_id: trial._state.best_epoch for trial in letstune.load(ranked)}
    assert best == {0: 1, 1: 0, 2: 0, 3: 0, 4: 1, 5: 0, 6: -1, 7: 2, 8: 0}


def test_the_learning_curves_are_all_epochs(walked: Path) -> None:
    rows = query(walked, "SELECT trial, epoch, metrics FROM learning_curves")
    assert rows == sorted(rows, key=lambda row: row[:2])
    found = {(t, e): {k: float(v) for k, v in json.loads(m).items()} for t, e, m in rows}
    assert repr(found) == repr(dict(sorted(metrics_of(walked).items())))


def test_the_checkpoints_tell_which_are_deleted_and_why(walked: Path) -> None:
    rows = query(walked, "SELECT checkpoint FROM checkpoints WHERE deleted IS NULL")
    folder = walked.with_name("run.checkpoints")
    assert {uri for (uri,) in rows} == {entry.name for entry in folder.iterdir()}
    reasons = query(walked, "SELECT DISTINCT deleted FROM checkpoints WHERE deleted IS NOT NULL")
    assert {why for (why,) in reasons} <= {"superseded", "outranked", "failed"}


@pytest.mark.parametrize("view", VIEWS)
def test_views_work_on_a_run_that_has_not_begun(view: str, path: Path) -> None:
    class Stuck(Hill):
        def load_dataset(self, dataset: Any) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tune(Stuck(), 3, path)
    assert len(query(path, f"SELECT * FROM {view}")) == (3 if view == "leaderboard" else 0)


# Files


def test_a_clean_end_leaves_a_single_file(path: Path) -> None:
    tune(Hill(), 3, path)
    assert {entry.name for entry in path.parent.iterdir()} == {"run.db", "run.checkpoints"}
    assert query(path, "PRAGMA journal_mode") == [("delete",)]


def test_an_error_leaves_a_single_file_as_well(path: Path) -> None:
    with pytest.raises(ValueError, match="as asked for"):
        tune(Odd(), 3, path, rounds=[2], dataset=[0.5, None], passthrough_errors=True)
    assert {entry.name for entry in path.parent.iterdir()} == {"run.db", "run.checkpoints"}
    assert {entry.parent.name for entry in path.parent.glob("*/*")} <= {"run.checkpoints"}


class Watched(Climb):
    """Notes how big the write-ahead log of its journal is; its dataset is the journal's path."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        LOGGED.append(Path(f"{self.dataset}-wal").stat().st_size)
        return super().train_epoch(epoch)

    def save(self, checkpoint: Checkpoint) -> None:
        """Save nothing, to be quick."""


LOGGED: list[int] = []


def test_the_log_is_written_from_its_beginning_again_before_it_is_long(path: Path) -> None:
    LOGGED.clear()
    tune(Watched(), 40, path, rounds=[6], dataset=str(path))
    assert query(path, "PRAGMA page_size") == [(1024,)]
    # Two pages an epoch, at least, would be twice as many.
    assert len(LOGGED) == 240
    assert max(LOGGED) < 250_000


def test_what_a_killed_run_left_is_not_taken_for_part_of_a_new_one(path: Path) -> None:
    killed = (
        "import os, sys, pathlib, small_trainers\n"
        "class Killed(small_trainers.Climb):\n"
        "    def train_epoch(self, epoch):\n"
        "        if epoch == 5: os.kill(os.getpid(), 9)\n"
        "        return super().train_epoch(epoch)\n"
        "small_trainers.tune(Killed(), 8, pathlib.Path(sys.argv[1]), rounds=[9])"
    )
    assert python("-c", killed, path, cwd=path.parent).returncode == -9
    assert path.with_name("run.db-wal").stat().st_size > 0
    path.unlink()  # what a user does to begin anew
    tuning = tune(Hill(), 3, path)
    assert len(tuning) == 3
    other = path.with_name("other.db")
    tune(Hill(), 3, other)
    assert {**facts(path), "plan": []} == {**facts(other), "plan": []}


# Readers


class Read(Climb):
    """Reads its own journal in the middle of each epoch, and holds on to a transaction."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        READ.append([(len(t.epochs), len(t._state.params)) for t in letstune.load(self.dataset)])
        with closing(sqlite3.connect(f"file:{self.dataset}?mode=ro", uri=True)) as db:
            db.execute("BEGIN")
            HELD.append(db.execute("SELECT count(*) FROM epochs").fetchone()[0])
            values = super().train_epoch(epoch)
        return values


READ: list[Any] = []
HELD: list[int] = []


def test_readers_see_all_that_was_recorded(path: Path) -> None:
    READ.clear()
    HELD.clear()
    tune(Read(), 4, path, rounds=[2, 1], dataset=str(path))
    assert [sum(epochs for epochs, _ in trials) for trials in READ] == list(range(9))
    assert list(range(9)) == HELD


class Held(Climb):
    """Leaves a reader in a transaction while epochs are recorded."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if not OPEN:
            OPEN.append(sqlite3.connect(f"file:{self.dataset}?mode=ro", uri=True))
            OPEN[0].execute("BEGIN")
            OPEN[0].execute("SELECT count(*) FROM epochs").fetchall()
        return super().train_epoch(epoch)


OPEN: list[sqlite3.Connection] = []


@pytest.fixture
def opened() -> Iterator[list[sqlite3.Connection]]:
    OPEN.clear()
    yield OPEN
    for connection in OPEN:
        connection.close()


def test_a_reader_blocks_nothing_and_keeps_its_snapshot(
    path: Path, opened: list[sqlite3.Connection]
) -> None:
    tuning = tune(Held(), 3, path, rounds=[2], dataset=str(path))
    assert tuning.finished
    assert sum(trial.duration for trial in tuning) < 2
    ((count,),) = opened[0].execute("SELECT count(*) FROM epochs").fetchall()
    assert count == 0
    session = "SELECT julianday(max(at)) - julianday(min(at)) FROM sessions"
    assert query(path, session)[0][0] * 86400 < 2


def test_a_reader_at_the_end_leaves_a_journal_that_goes_on(
    path: Path, opened: list[sqlite3.Connection]
) -> None:
    tune(Held(), 3, path, rounds=[2], dataset=str(path))
    opened[0].close()
    assert len(letstune.resume(path, rounds=[3], progress=False)[0].epochs) == 3
    assert {entry.name for entry in path.parent.iterdir()} == {"run.db", "run.checkpoints"}


def test_reading_changes_nothing(walked: Path) -> None:
    before = in_all(walked.parent)
    tuning = letstune.load(walked)
    list(tuning.rows())
    list(tuning.epoch_rows())
    assert tuning.errors
    assert in_all(walked.parent) == before


def test_a_run_that_was_killed_can_be_read(path: Path) -> None:
    script = (
        "import os, sys, pathlib, small_trainers\n"
        "class Killed(small_trainers.Hill):\n"
        "    def save(self, checkpoint, model):\n"
        "        if model.n == 4: os.kill(os.getpid(), 9)\n"
        "        super().save(checkpoint, model)\n"
        "small_trainers.tune(Killed(), 60, pathlib.Path(sys.argv[1]))"
    )
    assert python("-c", script, path, cwd=path.parent).returncode == -9
    tuning = letstune.load(path)
    assert not tuning.finished
    assert len(tuning) == 60


# What is no journal


def made(path: Path) -> None:
    tune(Climb(), 6, path, rounds=[1, 1])


def newer(path: Path) -> None:
    made(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")


def other_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE plan (a)")


def shortened(path: Path) -> None:
    made(path)
    os.truncate(path, path.stat().st_size // 4096 // 2 * 4096)


def scrambled(path: Path) -> None:
    made(path)
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xaa" * (len(data) - 4096)
    path.write_bytes(data)


NO_JOURNALS = {
    "missing": (lambda path: None, JournalNotFoundError, "There is no journal at .*letstune tune"),
    "empty": (lambda path: path.touch(), JournalError, "is empty; expected a journal"),
    "text": (
        lambda path: path.write_text("notes " * 1000),
        JournalError,
        "is not a SQLite database; expected a journal",
    ),
    "short": (lambda path: path.write_bytes(b"SQLite format 3\0"), JournalError, "not a SQLite"),
    "folder": (lambda path: path.mkdir(), letstune.LetstuneError, "[Ii]s a directory"),
    "other": (other_database, JournalError, "is a SQLite database, but not a journal"),
    "newer": (newer, JournalError, r"newer letstune: its schema is \d+.*pip install --upgrade"),
    "shortened": (shortened, JournalError, "damaged or truncated"),
    "scrambled": (scrambled, JournalError, "damaged or truncated"),
}


USES = {
    "tune": lambda path: tune(Climb(), 6, path, rounds=[1, 1]),
    "resume": lambda path: letstune.resume(path, progress=False),
    "load": letstune.load,
}


@pytest.mark.parametrize(
    ("use", "kind"),
    [(u, kind) for u in USES for kind in NO_JOURNALS if (u, kind) != ("tune", "missing")],
)
def test_what_is_no_journal_is_told_and_left_as_it_is(use: str, kind: str, path: Path) -> None:
    make, error, text = NO_JOURNALS[kind]
    make(path)
    before = in_all(path.parent)
    with pytest.raises(error, match=text) as caught:
        USES[use](path)
    assert str(path) in str(caught.value)
    assert in_all(path.parent) == before


@pytest.mark.parametrize(
    ("trial", "epoch", "text"),
    [
        (0, 77, r"epoch 77 is recorded, but epoch \d comes next\. .* changed by something else"),
        (99, 0, "Trial 99: epoch 0 is recorded, but there is no such trial"),
    ],
)
def test_events_that_do_not_follow_are_told(trial: int, epoch: int, text: str, path: Path) -> None:
    made(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO epochs SELECT 1000, ?, ?, value, metrics, started, seconds, NULL, "
            "NULL, NULL, NULL, session FROM epochs LIMIT 1",
            (trial, epoch),
        )
    with pytest.raises(IllegalEventError, match=text):
        letstune.load(path)


def test_a_damaged_pickle_is_not_unpickled(path: Path) -> None:
    made(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TRIGGER pickles_refuses_update")
        db.execute("UPDATE pickles SET pickle = zeroblob(length(pickle)) WHERE name = 'trainer'")
    with pytest.raises(JournalError, match="the pickled trainer is damaged"):
        letstune.resume(path, progress=False)


@pytest.mark.parametrize("name", ["", ".", "..", "/"])
def test_a_path_without_a_name_is_told(name: str) -> None:
    with pytest.raises(letstune.LetstuneError):
        tune(Hill(), 1, Path(name))


def test_a_folder_that_cannot_be_made_is_told(path: Path) -> None:
    path.touch()
    with pytest.raises(letstune.LetstuneError, match=r"run\.db"):
        tune(Hill(), 1, path / "run.db")


# What cannot be written

NOBODY = 65534


def unprivileged(script: str, path: Path, warm: Path) -> "subprocess.CompletedProcess[str]":
    """Run as a user whom file permissions bind; all modules are imported before."""
    begin = f"""
import os, sys, pathlib, letstune, small_trainers
small_trainers.tune(small_trainers.Climb(), 1, pathlib.Path(sys.argv[2]) / "warm.db", rounds=[1, 1])
letstune.load(sys.argv[2] + "/warm.db")
if os.getuid() == 0:
    os.setgid({NOBODY})
    os.setuid({NOBODY})
try:
"""
    end = """
except letstune.LetstuneError as error:
    print(type(error).__name__, error)
"""
    return python("-c", f"{begin}    {script}{end}", path, warm, cwd=path.parent)


@pytest.fixture
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that everybody can get at; pytest's own are private."""
    if os.name == "nt":
        pytest.skip("permissions are others here")
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("which", ["file", "folder"])
def test_a_journal_that_cannot_be_written_is_told_and_can_be_read(
    which: str, shared: Path, tmp_path: Path
) -> None:
    path = shared / "run.db"
    made(path)
    shared.chmod(0o777 if which == "file" else 0o755)
    path.chmod(0o444 if which == "file" else 0o666)
    before = in_all(shared)
    script = (
        "print(len(letstune.load(sys.argv[1])))\n"
        "    letstune.resume(sys.argv[1], rounds=[1, 2], progress=False)"
    )
    done = unprivileged(script, path, tmp_path)
    assert done.returncode == 0, done.stderr
    read, told = done.stdout.splitlines()
    assert read == "6"
    assert told.startswith("JournalError")
    assert str(path) in told
    assert "write" in told or "writable" in told
    assert in_all(shared) == before


def test_a_folder_in_which_no_journal_can_be_made_is_told(shared: Path, tmp_path: Path) -> None:
    script = "small_trainers.tune(small_trainers.Hill(), 1, pathlib.Path(sys.argv[1]))"
    done = unprivileged(script, shared / "run.db", tmp_path)
    assert done.stdout.startswith("JournalError"), done.stdout + done.stderr
    assert list(shared.iterdir()) == []


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import sys, pathlib, letstune, small_trainers
limit = int(sys.argv[2])
class Filling(small_trainers.Climb):
    def train_epoch(self, epoch):
        if LEFT and not LEFT.pop():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        return super().train_epoch(epoch)
    def save(self, checkpoint):
        pass
LEFT = [False] + [True] * 9
try:
    small_trainers.tune(Filling(), 12, pathlib.Path(sys.argv[1]), rounds=[3])
except letstune.LetstuneError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of file sizes")
@pytest.mark.parametrize("limit", [0, 60_000])
def test_a_full_disk_loses_nothing(limit: int, path: Path) -> None:
    done = python("-c", FULL, path, limit, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("JournalError"), done.stdout
    assert str(path) in done.stdout
    assert "full" in done.stdout
    assert len(metrics_of(path)) >= 9
    # Not the recorded trainer, which would fill the disk again.
    assert letstune.resume(path, trainer=Climb(), progress=False).finished
    other = path.with_name("other.db")
    tune(Climb(), 12, other, rounds=[3])
    assert metrics_of(path) == metrics_of(other)


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of file sizes")
@pytest.mark.parametrize("limit", [0, 20_000])
def test_a_disk_that_is_full_from_the_beginning_leaves_nothing(limit: int, path: Path) -> None:
    script = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import sys, pathlib, letstune, small_trainers
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    small_trainers.tune(small_trainers.Hill(), 3, pathlib.Path(sys.argv[1]))
except letstune.LetstuneError as error:
    print(type(error).__name__, error)
"""
    done = python("-B", "-c", script, path, limit, cwd=path.parent)
    assert done.stdout.startswith("JournalError"), done.stdout + done.stderr
    assert in_all(path.parent) == {}


# Golden journals


class Golden(Climb):
    """Of the golden journals; must never change. Does without NumPy, which may."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        x = (self.model[-1] * 48271 + self.seed) % 2147483647
        self.model.append(x)
        if x % 11 == 0:
            raise ValueError(f"{x}")
        return {"height": float(x), "nan": math.nan if x % 2 else -math.inf}

    def create_model(self, params: Point) -> None:
        self.model = [params.n]

    def save(self, checkpoint: Checkpoint) -> None:
        """Save nothing: a golden journal has no checkpoints beside it."""


GOLDEN = sorted((TESTS / "golden").glob("journal-v*.sql"))
GOLDEN_PLAN: dict[str, Any] = {"rounds": [2, 3], "seed": 11, "dataset": "golden"}


@pytest.fixture(autouse=True)
def names_in_golden_journals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What golden journals pickled by names that are no more is found beside them."""
    monkeypatch.syspath_prepend(TESTS / "golden")


def test_every_schema_has_a_golden_journal() -> None:
    assert {dump.name for dump in GOLDEN} >= {f"journal-v{i + 1}.sql" for i in range(VERSION)}


@pytest.mark.parametrize("dump", GOLDEN, ids=lambda dump: dump.stem)
def test_a_journal_of_any_released_version_is_resumed(dump: Path, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(dump.read_text())
    assert not letstune.load(path).finished
    assert letstune.resume(path, progress=False).finished
    fresh = path.with_name("fresh.db")
    # Before the wings, it was started with objects: a pickled one says what its class is called.
    sampler = RandomSampler() if "wings" in dump.name else "random"
    tune(Golden(), 9, fresh, sampler=sampler, **GOLDEN_PLAN)
    found, wanted = facts(path), facts(fresh)
    for table in ("trials", "epochs", "stops", "deletions"):
        assert found[table] == wanted[table]
    assert len(found["failures"]) == len(wanted["failures"]) > 0


def write_golden_journal() -> None:
    """Write the golden journal of today's schema, once, when it is new.

    (cd tests && python -c "import test_journal; test_journal.write_golden_journal()")
    """
    path = Path("golden.db")
    dump = TESTS / "golden" / f"journal-v{VERSION}.sql"
    if dump.exists():
        raise FileExistsError(dump)

    whole, left = Golden.train_epoch, [True] * 11

    def interrupted(self: Golden, epoch: int) -> dict[str, float]:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return whole(self, epoch)

    Golden.train_epoch = interrupted  # type: ignore[method-assign]
    with contextlib.suppress(KeyboardInterrupt):
        tune(Golden(), 9, path, **GOLDEN_PLAN)
    with closing(sqlite3.connect(path)) as db:
        lines = [
            *db.iterdump(),
            f"PRAGMA application_id = {APPLICATION_ID};",
            f"PRAGMA user_version = {VERSION};",
        ]
    text = re.sub(r'"folders": \[.*?\]', '"folders": []', "\n".join(lines))  # of no other machine
    dump.parent.mkdir(exist_ok=True)
    dump.write_text(text.replace(f"{TESTS.parent}{os.sep}", "") + "\n")
    path.unlink()


# What must not be written, and what was written wrongly


def test_what_is_refused_leaves_an_old_journal_as_it_was(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(GOLDEN[0].read_text())
    before = path.read_bytes()
    with closing(Journal(path, write=True)) as journal:
        journal.load()
    assert path.read_bytes() == before


def test_a_run_is_durable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename, append = os.fsync, os.rename, Journal.append

    def synced(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def renamed(source: Any, target: Any) -> None:
        done.append("rename")
        rename(source, target)

    def appended(journal: Journal, events: Any) -> None:
        append(journal, events)
        if any(isinstance(event, EpochFinished) for event in events):
            ((mode,),) = journal._db.execute("PRAGMA synchronous")
            done.append(f"row {mode}")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    monkeypatch.setattr(Journal, "append", appended)
    tune(Climb(), 1, path, rounds=[2])
    full = 2
    assert done[-8:] == ["file", "rename", "folder", f"row {full}"] * 2


@pytest.mark.parametrize(
    ("table", "column", "bad"),
    [
        ("plan", "value", "no JSON"),
        ("plan", "fact", "nothing that is known"),
        ("epochs", "metrics", "{}"),
        ("epochs", "metrics", '{"height": "'),
        ("epochs", "started", "yesterday"),
        ("pickles", "about", "no JSON"),
        ("pickles", "pickle", b"other bytes"),
        ("trials", "params", "{}"),
    ],
)
def test_a_damaged_row_is_told(table: str, column: str, bad: str | bytes, path: Path) -> None:
    tune(Climb(), 2, path, rounds=[1])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"DROP TRIGGER {table}_refuses_update")
        db.execute(f"UPDATE {table} SET {column} = ?", (bad,))
    done = CliRunner().invoke(main, ["check", str(path)])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "damaged" in done.output or "no JSON of params" in done.output
