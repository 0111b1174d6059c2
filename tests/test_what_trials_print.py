"""What a trial prints in a worker is in a log of its own, and costs the run nothing."""

import ctypes
import io
import os
import pty
import signal
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from journal_facts import assert_same
from live_processes import wait_for
from processes import TESTS, command, environment
from small_trainers import Climb, Point, tune

from letstune.cli.main import main
from letstune.errors import JournalError, PlanError
from letstune.results.logs import log_files, logs_folder, read_log
from letstune.runs.logs import TrialLogs
from letstune.telling.echo import Echo
from letstune.workers.output import Output

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers here")


@pytest.fixture(autouse=True)
def buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python and C have their buffers, as they usually do."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)


class Printing(Climb):
    """Prints in each way that there is. ``dataset`` says what else happens."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        me = f"trial {self.trial} epoch {epoch}"
        print(me, "printed")
        print(me, "to stderr", file=sys.stderr)
        os.write(1, f"{me} by a system call\n".encode())
        ctypes.CDLL(None).printf(f"{me} by C\n".encode())
        subprocess.run(["sh", "-c", f"echo {me} by a child"], check=True)
        if self.dataset == "dies" and epoch == 1 and self.trial == 1:
            ctypes.string_at(0)
        return super().train_epoch(epoch)


WAYS = ["printed", "to stderr", "by a system call", "by C", "by a child"]


def log(path: Path, trial: int) -> str:
    return b"".join(read_log(path, trial)).decode()


def test_all_that_a_trial_prints_is_in_its_log_and_nothing_else(path: Path) -> None:
    tuning = tune(Printing(), 6, path, rounds=[2], workers=2)
    for trial in tuning:
        me = trial.trial_id
        wanted = {f"trial {me} epoch {epoch} {way}" for epoch in (0, 1) for way in WAYS}
        lines = log(path, me).splitlines()
        assert sorted(lines) == sorted(wanted)
        # What was printed in an epoch is there before what was printed in the next.
        assert [line.split()[3] for line in lines] == ["0"] * 5 + ["1"] * 5


def test_it_reaches_stderr_as_it_always_has(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tune(Printing(), 2, path, rounds=[2], workers=2)
    printed = capfd.readouterr()
    assert printed.out == ""
    for trial in (0, 1):
        for way in WAYS:
            assert f"\ntrial {trial} epoch 1 {way}\n" in "\n" + printed.err


def test_in_this_process_it_goes_where_it_always_has(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tune(Printing(), 2, path, rounds=[1])
    assert "trial 0 epoch 0 printed\n" in capfd.readouterr().out
    assert not logs_folder(path).exists()
    with pytest.raises(JournalError, match=r"no log of trial 0\. It has printed nothing"):
        log(path, 0)


def test_a_worker_that_dies_has_told_its_last_words(path: Path) -> None:
    tuning = tune(Printing(), 2, path, rounds=[2], workers=1, dataset="dies", max_deaths=1)
    (error,) = tuning.errors
    assert error.kind == "worker died"
    # What C has in a buffer of its own, nobody else can know of.
    last = [f"trial 1 epoch 1 {way}" for way in WAYS if way != "by C"]
    assert log(path, 1).splitlines()[-4:] == last


@pytest.mark.slow
def test_the_run_is_the_same_with_a_log_and_without(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tune(Printing(), 3, path, rounds=[2], workers=1)
    monkeypatch.setenv("LETSTUNE_LOG_LIMIT", "0")
    other = path.with_name("other.db")
    capfd.readouterr()
    tune(Printing(), 3, other, rounds=[2], workers=1)
    assert "trial 2 epoch 1 by C\n" in capfd.readouterr().err
    assert_same(path, other)
    assert not logs_folder(other).exists()
    monkeypatch.setenv("LETSTUNE_LOG_LIMIT", "much")
    with pytest.raises(PlanError, match="LETSTUNE_LOG_LIMIT is 'much'; expected a number of byt"):
        tune(Printing(), 3, path.with_name("third.db"), rounds=[2], workers=1)


# What a log is


def test_the_newest_is_kept_up_to_the_limit(path: Path) -> None:
    path.touch()
    logs = TrialLogs(path, 1000)
    lines = [f"line {n}\n".encode() for n in range(1000)]
    for line in lines:
        logs.append(3, line)
        assert sum(file.stat().st_size for file in logs_folder(path).iterdir()) <= 1000
    kept = b"".join(read_log(path, 3))
    assert 500 <= len(kept) <= 1000
    assert b"".join(lines).endswith(kept)
    logs.append(3, b"x" * 5000)
    assert b"".join(read_log(path, 3)).endswith(b"x" * 500)


def test_a_trainer_that_prints_without_end_takes_no_memory() -> None:
    output = Output()
    with io.FileIO(output.file, "w", closefd=False) as file:
        read = 0
        for _ in range(40):
            file.write(b"x" * 2**20)
            read += sum(map(len, output.read()))
    assert read == 40 * 2**20
    if sys.platform == "linux":
        assert os.fstat(output.file).st_blocks * 512 < 4 * 2**20
    os.ftruncate(output.file, 0)  # as `> /dev/stderr` in some shells
    assert b"".join(output.read()) == b""
    os.write(output.file, b"more")
    assert b"".join(output.read()) == b"more"
    output.close()


def test_it_is_for_nobody_elses_eyes(path: Path) -> None:
    path.parent.chmod(0o777)
    path.touch()
    TrialLogs(path, 1000).append(0, b"a secret")
    new, _ = log_files(path, 0)
    assert stat.S_IMODE(new.parent.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(new.stat().st_mode) & 0o022 == 0


@pytest.mark.parametrize("what", ["a link", "a file", "links", "a pipe"])
def test_what_is_no_log_is_neither_written_nor_read(
    what: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.touch()
    folder, (new, old) = logs_folder(path), log_files(path, 0)
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "0.log").write_bytes(b"not yours")
    if what == "a link":
        folder.symlink_to(elsewhere)
    elif what == "a file":
        folder.touch()
    else:
        folder.mkdir()
        if what == "links":
            new.symlink_to(elsewhere / "0.log")
            old.hardlink_to(elsewhere / "0.log")
        else:
            os.mkfifo(new)
    logs = TrialLogs(path, 1000)
    logs.append(0, b"mine")
    logs.append(0, b"mine")
    assert (elsewhere / "0.log").read_bytes() == b"not yours"
    err = capsys.readouterr().err
    assert err.count("The run goes on without.") == 1
    with pytest.raises(JournalError):
        list(read_log(path, 0))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
def test_if_the_disk_is_full_the_log_gives_way(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(TrialLogs, "_open", lambda *_: os.dup(full))
    tuning = tune(Printing(), 2, path, rounds=[1], workers=1)
    os.close(full)
    assert tuning.finished
    assert not tuning.errors
    err = capfd.readouterr().err
    assert err.count("No space left on device The run goes on without.") == 1
    assert "trial 1 epoch 0 printed\n" in err


# Who reads it


class Colourful(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        print("\x1b[31mred", "10%\r50%\r100%", b"\xff", sep="\n", end="", flush=True)
        os.write(1, b"\xff")
        return super().train_epoch(epoch)


def test_the_command_prints_it_and_shows_control_characters(path: Path) -> None:
    tune(Colourful(), 1, path, rounds=[1], workers=1)
    result = CliRunner().invoke(main, ["log", str(path), "0"])
    assert (result.exit_code, result.stdout) == (0, "␛[31mred\n100%\nb'\\xff'\ufffd\n")
    raw = CliRunner().invoke(main, ["log", str(path), "0", "--raw"])
    assert raw.stdout_bytes == b"\x1b[31mred\n10%\r50%\r100%\nb'\\xff'\xff"
    missing = CliRunner().invoke(main, ["log", str(path), "7"])
    assert missing.exit_code == 1
    assert "trial 7" in missing.stderr


def test_on_a_terminal_each_line_bears_its_trial() -> None:
    told: list[str] = []
    echo = Echo(told.append)
    echo._terminal = True
    echo.show(3, b"one\ntw")
    echo.show(4, b"10%\r20%")
    echo.show(3, b"o\nthree")
    assert told == ["trial 3: one", "trial 3: two"]
    echo.show(4, b"")
    echo.show(3, b"")
    echo.show(3, b"")
    assert told[2:] == ["trial 4: 20%", "trial 3: three"]


TERMINAL = """
import sys
from small_trainers import tune
from test_what_trials_print import Printing
import letstune
letstune.tune(Printing(), 3, journal=sys.argv[1], rounds=[1], workers=2, rehearse=False)
"""


@pytest.mark.slow
def test_a_terminal_shows_whose_line_it_is(path: Path) -> None:
    mine, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", TERMINAL, str(path)],
        env=environment(TESTS, TERM="xterm", COLUMNS="200"),
        stderr=theirs,
        stdout=subprocess.DEVNULL,
    ) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # of a terminal that is gone
            while data := os.read(mine, 1000):
                shown += data
    os.close(mine)
    assert process.returncode == 0
    for trial in range(3):
        for way in WAYS:
            assert f"trial {trial}: trial {trial} epoch 0 {way}".encode() in shown


class Slowly(Climb):
    """Prints, and waits for a file of the name that the dataset is."""

    def create_model(self, params: Point) -> None:
        super().create_model(params)
        print("begun")

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            print("waiting")
            wait_for(Path(self.dataset).exists)
            print("gone on")
        return super().train_epoch(epoch)


SLOWLY = """
import sys
from small_trainers import tune
from test_what_trials_print import Slowly
tune(Slowly(), 1, sys.argv[1], rounds=[2], workers=1, dataset=sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["goes on", "is killed"])
def test_a_log_is_followed_until_nobody_works_on_the_run(how: str, path: Path) -> None:
    go = path.with_name("go")
    with subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(path), str(go)],
        env=environment(TESTS),
        stderr=subprocess.DEVNULL,
    ) as run:
        wait_for(lambda: path.exists() and log_files(path, 0)[0].exists())
        with subprocess.Popen(
            [sys.executable, "-m", "letstune", "log", str(path), "0", "--follow"],
            env=environment(TESTS),
            stdout=subprocess.PIPE,
            text=True,
        ) as follower:
            assert follower.stdout is not None
            assert [follower.stdout.readline() for _ in range(2)] == ["begun\n", "waiting\n"]
            if how == "is killed":
                run.send_signal(signal.SIGKILL)
            go.touch()
            rest = follower.stdout.read()
    assert follower.returncode == 0
    assert rest == ("" if how == "is killed" else "gone on\n")
    if how == "is killed":  # it goes on in the same log
        command("resume", path, "--quiet", "--no-rehearse", cwd=path.parent, paths=(TESTS,))
        assert log(path, 0) == "begun\nwaiting\nwaiting\ngone on\n"


def test_a_log_that_is_put_in_the_older_ones_place_is_followed_into_the_newer(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.touch()
    logs = TrialLogs(path, 200)
    going = [True]
    monkeypatch.setattr("letstune.results.logs.is_locked", lambda _: going[0])
    monkeypatch.setattr("letstune.results.logs._LOOK", 0.001)
    logs.append(0, b"0\n")
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.extend(read_log(path, 0, follow=True)))
    reader.start()
    for n in range(1, 200):
        logs.append(0, f"{n}\n".encode())
        wait_for(lambda n=n: b"".join(found).endswith(f"{n}\n".encode()))
    going[0] = False
    reader.join()
    assert b"".join(found).decode().split() == list(map(str, range(200)))
