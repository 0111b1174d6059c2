"""Whatever a journal holds, no control character of it reaches a terminal, HTML or CSV."""

import ast
import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from evil_journals import EVIL, NAMES, TEXTS, make, renamed, replaced
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from processes import ROOT, environment
from rich.console import Console
from rich.text import Text
from rooms import ROOMS, wing

import letstune
from letstune._visible import visible
from letstune.cli.main import main
from letstune.errors import JournalError, JournalLockedError, LetstuneError
from letstune.journal.lock import JournalLock
from letstune.rounds.events import TrialFailed
from letstune.rounds.state import State
from letstune.telling import formats, lines
from letstune.telling.formats import print_rich, to_csv
from letstune.telling.progress import Progress

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
COMMANDS = [
    *(["status"], ["status", "--json"], ["trials"], ["trials", "--json"], ["best"]),
    *(["show", "0"], ["show", "1"], ["show", "1", "--json"], ["check"], ["check", "--json"]),
    *(["export"], ["export", "--format", "json"], ["export", "--epochs"], ["skip", "1"]),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run, in which a trial failed."""
    path = tmp_path_factory.mktemp("evil") / "run.db"
    make(path)
    return path


@pytest.fixture(params=[False, True], ids=["pipe", "terminal"])
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    for module in (formats, sys.modules["letstune.cli.read"], sys.modules["letstune.cli.run"]):
        monkeypatch.setattr(module, "on_terminal", lambda: request.param)
    return bool(request.param)


def told(path: Path) -> dict[str, str]:
    """Return all that is said of a journal: by commands, by values, by errors."""
    found = {}
    for name, *options in COMMANDS:
        done = CliRunner().invoke(main, [name, str(path), *options], color=True)
        found[" ".join([name, *options])] = done.output
        if isinstance(done.exception, LetstuneError):
            raise AssertionError("the command line shows errors of letstune's")
    try:
        tuning = letstune.load(path)
        shown: list[Any] = [tuning, *tuning, *(trial.epochs for trial in tuning), *tuning.errors]
        shown += [trial.checkpoint for trial in tuning]
        found["repr"] = "\n".join(map(repr, shown))
        found["html"] = tuning._repr_html_()
        found["verdicts"] = "\n".join(map(visible, tuning.verdicts))
        try:
            _ = [trial.params.nothing for trial in tuning]
        except AttributeError as error:
            found["attribute"] = str(error)
    except LetstuneError as error:
        found["error"] = "".join(traceback.format_exception_only(error))
    return found


def assert_harmless(found: dict[str, str]) -> None:
    assert not {what: text for what, text in found.items() if CONTROL.search(text)}


def test_names_and_messages_show_their_control_characters(
    source: Path, tmp_path: Path, terminal: bool
) -> None:
    path = tmp_path / "run.db"
    renamed(source, path, {name: f"{name}{EVIL}" for name in NAMES})
    found = told(path)
    assert_harmless(found)
    assert all("␛]52;c;ZXZpbA==␇" in found[what] for what in ("export", "html", "repr", "show 1"))
    assert "␛]52;c" in found["trials"] or terminal  # where a narrow table folds it
    assert "\\u202egnp.exe" in found["show 1"]
    assert json.loads(found["show 1 --json"])["metric"] == f"METRIC{EVIL}"


@pytest.mark.parametrize("which", range(0, len(TEXTS), 6))
def test_some_columns_show_their_control_characters(
    source: Path, tmp_path: Path, terminal: bool, which: int
) -> None:
    path = tmp_path / "run.db"
    replaced(source, path, *TEXTS[which], EVIL)
    assert_harmless(told(path))


@pytest.mark.slow
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    column=st.sampled_from(TEXTS),
    names=st.sets(st.sampled_from(NAMES)),
    text=st.text(st.characters(max_codepoint=0x206F) | st.sampled_from(EVIL), min_size=1),
)
def test_whatever_is_written_in_any_column_does_nothing(
    source: Path,
    tmp_path: Path,
    terminal: bool,
    column: tuple[str, str],
    names: set[str],
    text: str,
) -> None:
    text = text.encode("utf-8", "replace").decode()
    path, other = tmp_path / "run.db", tmp_path / "other.db"
    renamed(source, other, {name: f"{name}{text}" for name in names})
    assert_harmless(told(other))
    replaced(source, path, *column, text)
    assert_harmless(told(path))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no terminals like that")
def test_a_real_terminal_gets_the_styles_of_rich_only(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    renamed(source, path, {name: f"{name}{EVIL}" for name in NAMES})
    owner, shown = pty.openpty()
    command = [sys.executable, "-m", "letstune", "show", str(path), "1"]
    subprocess.run(command, stdout=shown, stderr=shown, env=environment(), check=True)
    os.close(shown)
    text = b""
    while True:
        try:
            more = os.read(owner, 65536)
        except OSError:  # what Linux says at its end
            break
        if not more:
            break
        text += more
    os.close(owner)
    styled = re.sub(r"\x1b\[[0-9;]*m", "", text.decode())
    assert "␛]52" in styled
    assert not CONTROL.search(styled.replace("\r\n", "\n"))


def test_a_formula_is_quoted_in_csv_and_a_number_is_not(source: Path, tmp_path: Path) -> None:
    cells = {
        "=1+1": "'=1+1",
        "@SUM(A1)": "'@SUM(A1)",
        " =cmd|' /C calc'!A0": "' =cmd|' /C calc'!A0",
        "-2+3": "'-2+3",
        "\t=1": "'\t=1",
        "\r=1": "'␍=1",
        "\uff1d1": "'\uff1d1",
        **dict.fromkeys(["-0.5", "+5", "-inf", "1e-9", "a=b", "", "-1E+300"]),
    }
    rows = [{"=name": text, "number": -0.5} for text in cells]
    head, *found = csv.reader(io.StringIO(to_csv(rows)))
    assert head == ["'=name", "number"]
    assert found == [[new or text, "-0.5"] for text, new in cells.items()]
    raw = csv.reader(io.StringIO(to_csv([row for row in rows if row["=name"] != "\r=1"], raw=True)))
    assert [row[0] for row in raw] == ["=name", *(text for text in cells if text != "\r=1")]


def test_raw_exports_text_as_it_is(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    renamed(source, path, {"OTHER": "=cmd|A0\x07"})
    assert ",'=cmd|A0␇" in CliRunner().invoke(main, ["export", str(path)]).stdout
    assert ",=cmd|A0\x07" in CliRunner().invoke(main, ["export", str(path), "--raw"]).stdout


def test_json_escapes_them_by_its_own_rules(source: Path, tmp_path: Path) -> None:
    evil = EVIL + "\ud800ä"
    text = formats.to_json({evil: [evil]})
    assert not CONTROL.search(text)
    assert "ä" in text
    assert json.loads(text) == {evil: [evil]}


def test_a_lock_file_cannot_write_on_the_terminal(path: Path) -> None:
    beside = path.with_name("run.db.lock")
    script = (
        "import fcntl, json, sys\n"
        f"file = open({str(beside)!r}, 'w')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX)\n"
        f"file.write(json.dumps(dict(host={EVIL!r}, pid='1\\nError: gone', since='now')))\n"
        "file.flush(); print('held', flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(JournalLockedError, match="process 1␊Error: gone on ␛") as raised:
            JournalLock(path, "now")
        assert not CONTROL.search(str(raised.value))
        holder.communicate()


def test_errors_show_them_wherever_they_are_printed() -> None:
    assert str(JournalError(f"at {EVIL}\nnext")) == f"at {visible(EVIL)}\nnext"
    shown = "".join(traceback.format_exception(JournalError(EVIL)))
    assert not CONTROL.search(shown)


def test_an_error_of_click_shows_them(source: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["export", str(source), "-o", f"{tmp_path}/no\x1b[2J/a.csv"])
    assert done.exit_code == 1
    assert "no␛[2J" in done.output
    assert not CONTROL.search(done.output)


def test_a_bug_shows_them_in_its_traceback(tmp_path: Path) -> None:
    script = (
        "import letstune.runs.tuning as tuning\n"
        "def broken(journal): raise RuntimeError(chr(27) + '[2J')\n"
        "tuning.load = broken\n"
        "from letstune.cli.main import main\n"
        "main(['trials', 'a.db'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 1
    assert "RuntimeError: ␛[2J" in done.stderr
    assert "in broken" in done.stderr


def test_progress_shows_them_and_takes_nothing_for_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, walk: State
) -> None:
    failure = TrialFailed(0, 0, "raised", f"ValueError: {EVIL}[red]", "")
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda there=terminal: there)
        shown = Progress(walk)
        shown.recorded([failure], walk)
        shown.close()
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", capsys.readouterr().err)
        assert "ValueError:␛]52" in re.sub(r"\s", "", text)
        assert "[link=x]" in text.replace("\n", "")
        assert not CONTROL.search(text)


@pytest.fixture
def walk(source: Path) -> State:
    from letstune.journal.journal import Journal

    return Journal(source).load()[1]


def test_rich_gets_no_links_and_no_controls_from_anything_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert Console().is_terminal
    print_rich(Text.from_markup("[bold][link=http://evil]a[/link][/bold]") + Text("\x1b]52;"))
    shown = capsys.readouterr().out
    assert "\x1b]8" not in shown
    assert "\x1b[1m" in shown
    assert "␛]52;" in shown


def test_what_stdout_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    lines.put("\x1b ü")
    assert written.getvalue() == b"\\u241b \\xfc\n"


PRINTING = {"print", "echo", "secho", "echo_via_pager", "confirm", "prompt", "print_exc"}
ALLOWED = {
    "telling.lines": {"print", "os.write"},
    "telling.formats": {"print"},
    "telling.progress": {"print"},
}
ALLOWED |= {"training.supervisor": {"os.write"}, "cli.trust": {"confirm"}}
ALLOWED["workers.stage"] = {"print_exc"}
"""`print` of progress is that of rich, to the display that it has made; the supervisor, which
imports nothing of letstune's, writes a sentence of its own with the number of a process; `confirm`
asks a sentence of its own; and a fork of a rehearsal tells of a bug of letstune's."""


def prints(tree: ast.AST) -> set[str]:
    """Return the names of all calls that write on a terminal."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            last = name.rpartition(".")[2]
            if last in PRINTING:
                found.add(last)
            if re.search(r"\b(stdout|stderr)\b.*\.write", name):
                found.add(name)
            if name == "os.write" and ast.unparse(node.args[0]) in ("1", "2"):
                # A handler of signals may do no more than that.
                found |= set() if isinstance(node.args[1], ast.Constant) else {name}
    return found


@pytest.mark.parametrize("name", [name for name in ROOMS if wing(name) != "testing"])
def test_nothing_else_prints(name: str) -> None:
    own = {"sys.stdout.buffer.write"} if name == "telling.lines" else set()
    assert prints(ROOMS[name]) <= ALLOWED.get(name, set()) | own


def test_no_plugin_prints() -> None:
    files = [*ROOT.glob("plugins/*/letstune_*/*.py")]
    assert files
    assert not [file for file in files if prints(ast.parse(file.read_text()))]
