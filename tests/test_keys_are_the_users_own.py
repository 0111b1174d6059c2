"""The key that signs runs is made once, is nobody else's, and stays where it is."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import tree
from journal_facts import assert_same, recorded_epochs
from own_keys import new_key
from processes import TESTS, environment, python
from small_trainers import Climb, Hill, tune

import letstune
from letstune.errors import TrustError
from letstune.runs import keys
from letstune.runs.check import check_run

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
as_root = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="only root can act as another user"
)
OTHER = 1234

TUNE = """
import sys, letstune
from small_trainers import Hill
letstune.tune(Hill(), 2, journal=sys.argv[1], progress=False)
"""
RESUME = """
import sys, letstune
assert len(letstune.resume(sys.argv[1], n_trials=3, progress=False)) == 3
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's home, in which there is nothing yet."""
    found = tmp_path / "home"
    found.mkdir()
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(found))
    monkeypatch.setattr(keys, "_of_this_process", [])
    yield found
    for folder, _, _ in os.walk(found):
        Path(folder).chmod(0o700)


def key_of(home: Path) -> Path:
    return next(home.rglob("key"))


def in_a_process(code: str, path: Path, **variables: str) -> str:
    done = python("-c", code, path, cwd=path.parent, **variables)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_reading_makes_no_key(path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("LETSTUNE_KEY_FILE", str(path.with_name("key")))
        tune(Hill(), 2, path)
    assert check_run(path) == []
    assert letstune.load(path)[0].params
    with pytest.raises(TrustError):
        letstune.resume(path, progress=False)
    assert not list(home.rglob("*"))


@posix
def test_the_first_tune_makes_a_key_for_the_user_alone(path: Path, home: Path) -> None:
    before = os.umask(0)
    try:
        tune(Hill(), 2, path)
    finally:
        os.umask(before)
    key = key_of(home)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    assert re.fullmatch("[0-9a-f]{64}\n", key.read_text())
    assert [entry.name for entry in key.parent.iterdir()] == ["key"]
    tune(Hill(), 2, path.with_name("other.db"))
    assert len(keys.all_keys()) == 1


def test_the_key_is_where_the_user_says(
    path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "mine"))
    assert keys.key_file() == home / "mine" / "letstune" / "key"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert keys.key_file().is_relative_to(home)
    monkeypatch.setenv("LETSTUNE_KEY_FILE", str(home / "deep" / "there"))
    tune(Hill(), 2, path)
    assert (home / "deep" / "there").is_file()
    assert keys.list_file() == home / "deep" / "there.trusted"


@pytest.mark.slow
def test_two_first_tunes_at_once_make_one_key(path: Path, home: Path) -> None:
    code = (
        "import sys, letstune.runs.keys as keys, letstune.runs.session\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(keys.signing_key()[0].hex())"
    )
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    several = [
        subprocess.Popen([sys.executable, "-c", code], env=environment(), **pipes) for _ in range(4)
    ]
    for process in several:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in several:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    made = {process.communicate()[0] for process in several}
    assert made == {key_of(home).read_text()}
    assert [entry.name for entry in key_of(home).parent.iterdir()] == ["key"]


def test_who_comes_second_takes_the_key_of_the_first(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, first = keys._write_new, "ab" * 32

    def overtaken(path: Path, text: str) -> None:
        real(path, text)
        real(keys.key_file(), f"{first}\n")  # by then, another process has made it

    monkeypatch.setattr(keys, "_write_new", overtaken)
    assert keys.signing_key()[0].hex() == first
    assert [entry.name for entry in key_of(home).parent.iterdir()] == ["key"]


def test_it_is_made_once_where_there_are_no_hard_links(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    key, note = keys.signing_key()
    assert bytes.fromhex(key_of(home).read_text()) == key
    assert note.startswith(f"letstune: made a key to sign your runs with, {key_of(home)}. Where")
    assert keys.signing_key() == (key, "")


# Whose it is


def refused(path: Path, match: str) -> None:
    before = tree(path.parent)
    with pytest.raises(TrustError, match=match):
        tune(Hill(), 2, path)
    assert tree(path.parent) == before


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o601])
def test_a_key_that_is_open_to_others_is_refused(mode: int, path: Path, home: Path) -> None:
    tune(Hill(), 2, path)
    key_of(home).chmod(mode)
    refused(path.with_name("new.db"), rf"key is open to others \(mode {mode:o}\).*chmod 600")
    with pytest.raises(TrustError, match="open to others"):
        letstune.resume(path, progress=False)


@posix
def test_a_folder_in_which_others_can_swap_the_key_is_refused(path: Path, home: Path) -> None:
    tune(Hill(), 2, path)
    key_of(home).parent.chmod(0o770)
    refused(path.with_name("new.db"), "can be written by others.*chmod 700")
    key_of(home).parent.chmod(0o1777)  # as /tmp is: there, nobody can take another's place
    tune(Hill(), 2, path.with_name("new.db"))


@as_root
def test_a_key_of_another_user_is_refused(path: Path, home: Path) -> None:
    tune(Hill(), 2, path)
    os.chown(key_of(home), OTHER, OTHER)
    refused(path.with_name("new.db"), "belongs to user 1234, expected 0")


@as_root
def test_a_group_may_share_a_key(path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune(Hill(), 2, path)
    key_of(home).chmod(0o640)
    os.chown(key_of(home), OTHER, 0)
    monkeypatch.setenv("LETSTUNE_SHARE", "group")
    assert letstune.resume(path, n_trials=3, progress=False)
    for gid, mode in ((OTHER, 0o640), (0, 0o644)):
        os.chown(key_of(home), OTHER, gid)
        key_of(home).chmod(mode)
        with pytest.raises(TrustError, match=r"belongs to user|open to others"):
            letstune.resume(path, n_trials=3, progress=False)


@as_root
def test_what_another_user_trusts_is_not_trusted(path: Path, home: Path) -> None:
    tune(Hill(), 2, path)
    listed = keys.list_file()
    listed.touch(0o600)
    os.chown(listed, OTHER, OTHER)
    with pytest.raises(TrustError, match="belongs to user 1234"):
        keys.is_trusted("0" * 64)
    with pytest.raises(TrustError, match="belongs to user 1234"):
        keys.add_trusted("0" * 64, "x")
    assert listed.read_bytes() == b""


@pytest.mark.parametrize("text", ["", "# a comment\n", "zz" * 32, "00" * 31, "00" * 32 + "\nmore"])
def test_what_is_no_key_is_refused_and_not_shown(text: str, path: Path, home: Path) -> None:
    tune(Hill(), 2, path)
    key_of(home).write_text(text)
    with pytest.raises(TrustError, match="holds something else than keys") as told:
        tune(Hill(), 2, path.with_name("new.db"))
    assert "0000" not in str(told.value)
    assert "zz" not in str(told.value)


@posix
def test_a_pipe_is_no_key(path: Path, home: Path) -> None:
    tune(Hill(), 2, path)
    key = key_of(home)
    key.unlink()
    os.mkfifo(key, 0o600)
    refused(path.with_name("new.db"), "is no plain file")


def test_a_line_that_a_crash_has_cut_short_hides_no_other(home: Path) -> None:
    keys.add_trusted("1" * 64, "a.db")
    with keys.list_file().open("a") as file:
        file.write("2" * 40)
    keys.add_trusted("3" * 64, "evil\n4444.db")
    assert [keys.is_trusted(digit * 64) for digit in "1234"] == [True, False, True, False]
    assert not keys.is_trusted("")


# Where there is no place for it


@posix
@pytest.mark.parametrize("why", ["no folder", "not writable", "full", "is a file"])
def test_without_a_place_for_a_key_runs_begin_all_the_same(
    why: str, path: Path, home: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if why == "no folder":
        monkeypatch.setattr(Path, "home", classmethod(lambda _: Path("~")))
    elif why == "is a file":
        home.rmdir()
        home.touch()
    else:
        real = os.open

        def fails(name: Any, flags: int, *more: Any, **named: Any) -> int:
            if str(name).startswith(str(home)) and flags & os.O_CREAT:
                raise OSError(30 if why == "not writable" else 28, why)
            return real(name, flags, *more, **named)

        monkeypatch.setattr(os, "open", fails)
    assert len(tune(Climb(), 2, path, rounds=[2])) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no key to sign the run with can be kept" in line
    assert "set LETSTUNE_KEY_FILE" in line
    assert len(letstune.resume(path, n_trials=3, progress=False)) == 3  # as this process began it
    assert letstune.load(path)[0].checkpoint.load_pickle()
    monkeypatch.undo()
    monkeypatch.setenv("LETSTUNE_KEY_FILE", str(new_key(path.with_name("keys") / "key")))
    monkeypatch.setattr(keys, "_of_this_process", [])
    with pytest.raises(TrustError, match="`letstune trust"):
        letstune.resume(path, n_trials=4, progress=False)


def test_a_file_that_is_named_and_cannot_be_made_is_an_error(
    path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").touch()
    monkeypatch.setenv("LETSTUNE_KEY_FILE", str(home / "file" / "key"))
    refused(path, "LETSTUNE_KEY_FILE names .*file/key, which cannot be made")


# Workers, and what others see


class Spy(Climb):
    """Looks for the key in all that its process has in memory."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        masks, owner = self.dataset
        return {"height": sum(map(in_memory, masks)), "apart": float(os.getpid() != owner)}


def mask(secret: bytes) -> bytes:
    return secret.translate(SHIFT)


SHIFT = bytes((byte + 1) % 256 for byte in range(256))


def in_memory(masked: bytes) -> float:
    """Tell whether this process has a secret in its memory, without having it there itself."""
    found = False
    with Path("/proc/self/maps").open() as maps, Path("/proc/self/mem").open("rb", 0) as memory:
        for line in maps:
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            if "rw" in line:
                memory.seek(begin)
                found = found or masked in memory.read(end - begin).translate(SHIFT)
    return float(found)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.slow
def test_workers_have_no_key(
    path: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.signing_key()[0]
    masks = [mask(key.hex().encode()), mask(key)]
    assert in_memory(masks[1])  # here, it is found
    log = tmp_path / "log"
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def watch(event, args):\n"
        f"    if event == 'open' and args[0] in ({str(key_of(home))!r}, {str(log)!r} + '-tried'):\n"
        f"        with open({str(log)!r}, 'a') as file: file.write(f'{{args[0]}}\\n')\n"
        "sys.addaudithook(watch)\n"
        f"open({str(log)!r} + '-tried', 'w').close()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(TESTS)]))
    for workers in (1, 2):
        path = path.with_name(f"{workers}.db")
        tuning = tune(Spy(), 3, path, rounds=[2], workers=workers, dataset=(masks, os.getpid()))
        assert tuning.errors == []
        found = {
            (epoch.metric_values["height"], epoch.metric_values["apart"])
            for trial in tuning
            for epoch in trial.epochs
        }
        assert found == {(0.0, 1.0)}
    assert set(log.read_text().split()) == {f"{log}-tried"}


def test_the_key_is_in_no_file_and_in_no_line(
    path: Path, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tune(Climb(), 3, path, rounds=[2], workers=1, progress=True)
    letstune.resume(path, n_trials=4, progress=True)
    key = key_of(home).read_text().strip()
    told = capfd.readouterr()
    assert key not in told.out + told.err
    for file in path.parent.rglob("*"):
        if file.is_file():
            assert key.encode() not in file.read_bytes()
            assert bytes.fromhex(key) not in file.read_bytes()


# Kills


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_first_run_that_is_killed_at_any_moment_goes_on(tmp_path: Path, home: Path) -> None:
    code = TUNE.replace("2,", "40,").replace("progress", "seed=1, progress")
    straight = tmp_path / "straight.db"
    in_a_process(code, straight)
    key_of(home).unlink()
    key_of_first: set[str] = set()
    for number in range(8):
        path = tmp_path / f"{number}.db"
        began = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], env=environment(TESTS), cwd=tmp_path
        )
        until = time.monotonic() + 30
        # In turn: as soon as there is a key, a folder to build in, a journal, an epoch.
        seen = [
            lambda: list(home.rglob("key")),
            lambda number=number: list(tmp_path.glob(f".{number}.db.*")),
            path.exists,
            lambda path=path: recorded_epochs(path),
        ][number % 4]
        while not seen() and began.poll() is None and time.monotonic() < until:
            pass
        began.kill()
        began.wait()
        assert in_a_process(code, path) == ""
        assert_same(path, straight)
        key_of_first.add(key_of(home).read_text())
    assert len(key_of_first) == 1
