"""A journal that somebody else made, and what lies beside it, is read safely or refused."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hostile_journals import (
    ENDLESS,
    FOREIGN,
    KINDS,
    LARGE,
    OWN,
    SUFFIXES,
    loop,
    names_another,
    run,
    tree,
    view_instead,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_facts import assert_same, recorded_epochs
from processes import TESTS, environment, python
from small_trainers import Climb, made, tune

import letstune
from letstune.cli.main import main
from letstune.errors import JournalError, JournalLockedError, LetstuneError
from letstune.journal import held, sqlite
from letstune.journal.journal import Journal, now
from letstune.journal.lock import JournalLock
from letstune.journal.schema import TABLES
from letstune.journal.sqlite import explained
from letstune.rounds.events import TrialStopped
from letstune.runs.check import check_run
from letstune.runs.skip import skip_trial, stop_run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files are others there")

USES: dict[str, Callable[[Path], Any]] = {
    "load": letstune.load,
    "resume": lambda path: letstune.resume(path, rounds=[1, 2], progress=False),
    "tune": lambda path: tune(Climb(), 6, path, rounds=[1, 2]),
    "check": check_run,
    "check --fix": lambda path: check_run(path, fix=True),
    "skip": lambda path: skip_trial(path, 0),
    "stop": stop_run,
}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of the user's that is no part of any run."""
    file = tmp_path / "home" / "diary"
    file.parent.mkdir()
    file.write_text("dear diary")
    return file


# The schema


@pytest.mark.parametrize("name", FOREIGN)
def test_what_could_run_is_refused_by_its_name(name: str, path: Path) -> None:
    said, make = FOREIGN[name]
    made(path)
    make(path)
    before = path.read_bytes()
    for use in ("load", "resume", "check --fix"):
        began = time.monotonic()
        with pytest.raises(JournalError) as caught:
            USES[use](path)
        assert said in str(caught.value), use
        assert str(path) in str(caught.value)
        assert time.monotonic() - began < 10
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", OWN)
def test_what_users_do_to_their_own_journals_is_left_to_them(name: str, path: Path) -> None:
    made(path)
    with closing(sqlite3.connect(path)) as db:
        for statement in OWN[name]:
            db.execute(statement)
        db.commit()
    assert len(letstune.load(path)) == 6
    assert check_run(path) == []
    other = path.with_name("other.db")
    made(other)
    for either in (path, other):
        assert letstune.resume(either, rounds=[1, 2], progress=False).finished
    assert_same(path, other)


def test_the_command_line_says_so_in_a_line(path: Path) -> None:
    made(path)
    FOREIGN["a view for a table"][1](path)
    for words in (["status"], ["trials"], ["best"], ["show", "0"], ["check"], ["export"]):
        done = CliRunner().invoke(main, [words[0], str(path), *words[1:]])
        assert done.exit_code == 1, words
        assert isinstance(done.exception, SystemExit), words
        assert "holds the view 'epochs'" in done.output


@pytest.mark.parametrize("table", ["trials", "epochs", "failures", "plan"])
def test_rows_without_an_end_are_told(table: str, path: Path) -> None:
    tune(Climb(), 2, path, rounds=[1])
    run(path, "INSERT INTO failures VALUES (1000, 1, 1, 'raised', 'a', 'b', 1)")
    loop(path, table)
    began = time.monotonic()
    told = []
    for use in (letstune.load, lambda path: check_run(path)[0]):
        try:
            told.append(str(use(path)))
        except JournalError as error:
            told.append(str(error))
    signs = "more steps than", "does not follow", "out of order"
    assert any(sign in line for line in told for sign in signs), told
    assert time.monotonic() - began < 10


def test_a_value_of_absurd_length_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LONGEST_VALUE", 1_000_000)
    made(path)
    run(path, "INSERT INTO failures VALUES (1000, 1, 1, 'raised', hex(zeroblob(1000000)), '', 1)")
    with pytest.raises(JournalError, match="a value that is longer than any that letstune writes"):
        letstune.load(path)


def test_a_pickle_may_be_longer_than_a_text(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LONGEST_VALUE", 100_000)
    tune(Climb(), 2, path, rounds=[1], dataset=bytes(1_000_000))
    assert letstune.resume(path, rounds=[2], progress=False).finished
    assert check_run(path) == []


def test_what_does_not_fit_into_memory_is_told(path: Path) -> None:
    with pytest.raises(JournalError, match="more than fits into memory"), explained(path):
        raise MemoryError


READING = """
import sys, time
from pathlib import Path
from letstune.cli.main import main

path, longest = sys.argv[1], 0.0
commands = "status", "trials", "show 0", "show 6", "show 6 --json", "best", "export", "check"
for words in map(str.split, commands):
    began = time.monotonic()
    try:
        main([words[0], path, *words[1:]])
    except SystemExit as end:
        assert end.code in (None, 0, 1), (words, end.code)
    longest = max(longest, time.monotonic() - began)
# Not getrusage, which begins with what the process had that has started this one.
peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
print("\\nended", longest, int(peak) * 1024, file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("name", [*LARGE, "an endless view", "pages in a loop"])
def test_reading_ends_within_bounds_of_time_and_memory(name: str, path: Path) -> None:
    tune(Climb(), 6, path, rounds=[2, 1])
    if name == "an endless view":
        view_instead(path, "epochs", ENDLESS)
    elif name == "pages in a loop":
        loop(path, "epochs")
    else:
        with closing(sqlite3.connect(path)) as db, db:
            LARGE[name](db)
    done = python("-c", READING, path, cwd=path.parent)
    assert done.returncode == 0, done.stderr[-2000:]
    longest, peak = map(float, done.stderr.rpartition("ended ")[2].split())
    assert longest < 10
    assert peak < 500e6


# The journal's own file


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "links in a ring"])
def test_what_is_no_file_is_no_journal(kind: str, use: str, path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made_here:
            made_here.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to(path.name)
    began = time.monotonic()
    told = "leads to itself" if kind == "links in a ring" else "Expected a journal of letstune, a "
    with pytest.raises(LetstuneError, match=told):
        USES[use](path)
    assert time.monotonic() - began < 10
    assert [entry.name for entry in path.parent.iterdir()] == ["run.db"]


# The files beside it


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_lies_beside_a_journal_leads_nowhere(
    suffix: str, kind: str, path: Path, victim: Path
) -> None:
    made(path)
    KINDS[kind](path.with_name(path.name + suffix), victim)
    before = tree(victim.parent)
    began = time.monotonic()
    for use in ("load", "check --fix", "skip", "stop", "resume"):
        with suppress(LetstuneError):
            USES[use](path)
        assert tree(victim.parent) == before, use
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal", ".lock"])
def test_it_is_told_what_lies_there(suffix: str, path: Path, victim: Path) -> None:
    made(path)
    path.with_name(path.name + suffix).symlink_to(victim)
    use = USES["resume" if suffix == ".lock" else "load"]
    with pytest.raises(JournalError, match=rf"run\.db{suffix} is a symbolic link; .* Move it"):
        use(path)


def test_a_rollback_journal_that_names_another_file_is_refused(path: Path, victim: Path) -> None:
    made(path)
    victim.write_bytes(b"\0")  # so that it holds no journal's name
    names_another(path, victim)
    before = tree(victim.parent)
    for use in USES.values():
        with pytest.raises(JournalError, match="names another file, which SQLite would delete"):
            use(path)
    assert tree(victim.parent) == before
    # So it would.
    with closing(sqlite3.connect(path)) as db:
        db.execute("SELECT * FROM plan").fetchall()
    assert not victim.exists()


KILLED = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA cache_size = 2")
db.execute("BEGIN")
for i in range(400):
    db.execute("INSERT INTO plan VALUES (?, 'x', ?)", (1000 + i, '"' + 200 * "y" + '"'))
os._exit(0)
"""


def test_a_rollback_journal_as_a_killed_migration_leaves_one_is_rolled_back(path: Path) -> None:
    made(path)
    wanted = recorded_epochs(path)
    assert python("-c", KILLED, path, cwd=path.parent).returncode == 0
    assert path.with_name("run.db-journal").stat().st_size > 512
    with pytest.raises(JournalError, match=r"a change that was killed.*resume the run"):
        letstune.load(path)
    assert letstune.resume(path, progress=False).finished
    assert recorded_epochs(path) == wanted


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="gives files away")
def test_requests_of_another_user_are_told_and_not_heard(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("letstune.runs.loop.LOOK", 0)
    requests = path.with_name("run.db.skip")
    CREATED.append(requests)
    tuning = tune(Asked(), 2, path, rounds=[3], progress=True)
    assert all(len(trial.epochs) == 3 for trial in tuning)
    assert capsys.readouterr().err.count("is a file of another user (uid 12345)") == 1
    assert requests.read_text() == "0\n1\nstop\n"


class Asked(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        CREATED[-1].write_text("0\n1\nstop\n")
        os.chown(CREATED[-1], 12345, 12345)
        return super().train_epoch(epoch)


CREATED: list[Path] = []


HOLDING = """
import fcntl, sys
file = open(sys.argv[1], "ab")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


def test_who_holds_on_to_the_requests_holds_up_no_run(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(Climb(), 2, path, rounds=[1])
    command_line = [sys.executable, "-c", HOLDING, str(path.with_name("run.db.skip"))]
    with subprocess.Popen(
        command_line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        assert letstune.resume(path, rounds=[2]).finished
        assert time.monotonic() - began < 5
        holder.communicate("\n")
    assert "Something else holds its lock" in capsys.readouterr().err


# The owner


def test_a_journal_with_several_names_is_not_gone_on_with(path: Path, tmp_path: Path) -> None:
    made(path)
    other = tmp_path / "other.db"
    os.link(path, other)
    before = path.read_bytes()
    for either in (path, other):
        assert len(letstune.load(either)) == 6
        with pytest.raises(JournalError, match="2 names"):
            letstune.resume(either, rounds=[1, 2], progress=False)
    assert path.read_bytes() == before
    other.unlink()
    assert letstune.resume(path, rounds=[1, 2], progress=False).finished


OWNING = """
import sys, pathlib, small_trainers

class Holding(small_trainers.Climb):
    def train_epoch(self, epoch):
        if epoch == 1:
            print("training", flush=True)
            sys.stdin.readline()
        return super().train_epoch(epoch)

small_trainers.tune(Holding(), 2, pathlib.Path(sys.argv[1]), rounds=[2])
"""


@pytest.fixture
def owner(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process in the middle of its run."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNING, str(path)],
        env=environment(TESTS),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        yield process
        process.communicate("\n\n")
        assert process.returncode == 0


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="such locks are Linux's")


@linux_only
@pytest.mark.slow
def test_an_owner_whose_lock_file_was_removed_is_still_met(
    path: Path, owner: "subprocess.Popen[str]"
) -> None:
    path.with_name("run.db.lock").unlink()
    with pytest.raises(JournalLockedError, match="somebody else, under another name"):
        letstune.resume(path, progress=False)


MOUNTED = """
touch "$2" && mount --bind "$1" "$2" && exec "$3" -m letstune resume "$2" --rounds=3
"""


@linux_only
@pytest.mark.slow
def test_an_owner_is_met_under_a_mount_of_the_single_file(
    path: Path, tmp_path: Path, owner: "subprocess.Popen[str]"
) -> None:
    other = tmp_path / "mounted" / "run.db"
    other.parent.mkdir()
    can = subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True)
    if shutil.which("unshare") is None or can.returncode:
        pytest.skip("mounts cannot be made here")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", MOUNTED, "sh", str(path), str(other), sys.executable],
        env=environment(TESTS),
        capture_output=True,
        text=True,
        check=False,
    )
    if "mount:" in done.stderr:
        pytest.skip("mounts cannot be made here")
    assert done.returncode == 1
    assert "is being worked on by somebody else, under another name" in done.stderr


def test_where_there_are_no_such_locks_the_last_session_is_the_owner(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(Climb(), 2, path, rounds=[2])
    monkeypatch.setattr(held, "_lock", lambda file: False)
    with closing(Journal(path, write=True)) as first:
        first.append([TrialStopped(0, 1)])
        monkeypatch.setattr(held.HeldFile, "own", lambda self: False)  # this process owns it
        with closing(Journal(path, write=True)) as second:
            second.append([TrialStopped(1, 1)])
            with pytest.raises(JournalLockedError, match="another session as well, 3"):
                first.append([TrialStopped(1, 0)])
            second.end_session("finished")
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT trial, epoch FROM stops").fetchall() == [(0, 1), (1, 1)]


def test_a_lock_file_that_is_anothers_by_now_is_left_to_them(path: Path) -> None:
    lock = JournalLock(path, now())
    beside = path.with_name("run.db.lock")
    beside.unlink()
    beside.write_text("another's")
    lock.release()
    assert beside.read_text() == "another's"


# All of it together

TEXTS = {
    (name, column)
    for name, table in TABLES.items()
    for column, made_of in table.columns.items()
    if made_of.sql.startswith("TEXT")
}

values = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["null", "[]", "{}", "1e999", "[" * 5000, '{"a": ' * 3000, "9" * 5000, "/etc", "../..", "~"]
    ),
)
deeds = st.one_of(
    st.tuples(st.just("schema"), st.sampled_from(sorted(FOREIGN))),
    st.tuples(st.just("own"), st.sampled_from(sorted(OWN))),
    st.tuples(st.just("beside"), st.tuples(st.sampled_from(SUFFIXES), st.sampled_from([*KINDS]))),
    st.tuples(st.just("row"), st.tuples(st.sampled_from(sorted(TEXTS)), values)),
    st.tuples(st.just("loop"), st.sampled_from(["trials", "epochs", "plan", "sessions"])),
    st.tuples(st.just("super"), st.none()),
    st.tuples(st.just("bytes"), st.tuples(st.integers(100, 40_000), st.binary(min_size=1))),
)


def do(path: Path, victim: Path, what: str, how: Any) -> None:
    with suppress(sqlite3.Error, OSError):  # an earlier deed may stand in its way
        if what == "schema":
            FOREIGN[how][1](path)
        elif what == "own":
            run(path, *OWN[how][:1])
        elif what == "beside":
            KINDS[how[1]](path.with_name(path.name + how[0]), victim)
        elif what == "row":
            (table, column), value = how
            run(path, f"DROP TRIGGER {table}_refuses_update")
            quoted = value.replace("'", "''").replace("\0", "")
            run(path, f"UPDATE {table} SET {column} = '{quoted}'")
        elif what == "loop":
            loop(path, how)
        elif what == "super":
            names_another(path, victim)
        elif what == "bytes":
            data = bytearray(path.read_bytes())
            data[how[0] : how[0] + len(how[1])] = how[1]
            path.write_bytes(data)


@pytest.mark.slow
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(deeds=st.lists(deeds, min_size=1, max_size=4))
def test_whoever_made_it_reading_it_touches_nothing_else(
    deeds: list[tuple[str, Any]], walked: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    top = tmp_path_factory.mktemp("hostile")
    victim, path = top / "home" / "diary", top / "runs" / "run.db"
    victim.parent.mkdir()
    victim.write_text("dear diary")
    path.parent.mkdir()
    shutil.copy(walked, path)
    # First what SQLite writes for us, which in damaged pages may go on for ever; what is beside it
    # last, since a pipe would hold up SQLite itself.
    order = ["schema", "own", "row", "loop", "bytes", "super", "beside"]
    for what, how in sorted(deeds, key=lambda deed: order.index(deed[0])):
        do(path, victim, what, how)
    before = tree(victim.parent)
    began = time.monotonic()
    for words in (["status"], ["show", "0"], ["check"]):
        done = CliRunner().invoke(main, [words[0], str(path), *words[1:]])
        assert done.exception is None or isinstance(done.exception, SystemExit), words
    refused = False
    try:
        list(letstune.load(path).rows())
    except LetstuneError:
        refused = True
    if refused:
        with suppress(LetstuneError):
            letstune.resume(path, progress=False)
    assert tree(victim.parent) == before
    assert time.monotonic() - began < 10
    shutil.rmtree(top)
