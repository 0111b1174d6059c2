"""A row that cannot have happened costs the rows after it, and not those before."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from files import in_all
from journal_facts import facts
from small_trainers import Climb, tune

import letstune
from letstune.cli.main import main
from letstune.errors import IllegalEventError, JournalError
from letstune.journal import legal

OPTIONS: dict[str, Any] = {"rounds": [2, 2]}

ROWS: dict[str, tuple[str, str]] = {
    "an epoch too far": (
        "INSERT INTO epochs SELECT {seq}, 0, 77, value, metrics, started, seconds, NULL, NULL, "
        "NULL, NULL, session FROM epochs LIMIT 1",
        "epoch 77 is recorded, but epoch",
    ),
    "an epoch of nobody": (
        "INSERT INTO epochs SELECT {seq}, -1, 0, value, metrics, started, seconds, NULL, NULL, "
        "NULL, NULL, session FROM epochs LIMIT 1",
        "epoch 0 is recorded, but there is no such trial",
    ),
    "a trial too many": (
        "INSERT INTO trials SELECT {seq}, 99, params, sampler, session FROM trials LIMIT 1",
        "Trial 99 is proposed, but",
    ),
    "a failure of nobody": (
        "INSERT INTO failures VALUES ({seq}, 99, 0, 'raised', 'no', 'no', 1)",
        "Trial 99 was never proposed",
    ),
    "a stop of nobody": ("INSERT INTO stops VALUES ({seq}, 99, 0, 1)", "Trial 99 was never"),
    "a death of nobody": (
        "INSERT INTO deaths (seq, trial, epoch, attempt, code, stack, at, session) "
        "VALUES ({seq}, 99, 0, 'a', -9, '', '', 1)",
        "Trial 99 was never proposed",
    ),
}


def spoil(path: Path, sql: str) -> int:
    """Add a row that does not follow in the middle of a finished run; return its place."""
    with closing(sqlite3.connect(path)) as db:
        ((seq,),) = db.execute("SELECT seq FROM epochs ORDER BY seq LIMIT 1 OFFSET 3")
        # Make room: letstune's triggers refuse updates, so the run is written again.
        script = db.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in names:
            db.execute(f"DROP TRIGGER {name}")
        tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            if "seq" in columns:
                db.execute(f"UPDATE {table} SET seq = -seq - 1 WHERE seq > {seq}")
                db.execute(f"UPDATE {table} SET seq = -seq WHERE seq < 0")
        db.execute(sql.format(seq=seq + 1))
        for (text,) in script:
            db.execute(text)
        db.commit()
    return int(seq) + 1


@pytest.fixture
def spoiled(path: Path) -> Callable[[str], int]:
    tune(Climb(), 4, path, **OPTIONS)
    return lambda kind: spoil(path, ROWS[kind][0])


@pytest.mark.parametrize("kind", ROWS)
def test_readers_read_what_is_before_it_and_say_so(
    kind: str, spoiled: Callable[[str], int], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seq = spoiled(kind)
    before = in_all(path.parent)
    results = letstune.load(path)
    assert f"row {seq}, in its table " in capsys.readouterr().err
    assert sum(len(trial.epochs) for trial in results) == 4
    for command in (["status"], ["trials"], ["best"], ["show"], ["export", "--format", "csv"]):
        more = ["0"] if command == ["show"] else []
        done = CliRunner().invoke(main, [command[0], str(path), *more, *command[1:]])
        assert done.exit_code == 0, (command, done.output)
    assert in_all(path.parent) == before


@pytest.mark.parametrize("kind", ROWS)
def test_a_resume_is_refused_and_check_says_how_to_go_on(
    kind: str, spoiled: Callable[[str], int], path: Path, tmp_path: Path
) -> None:
    seq = spoiled(kind)
    with pytest.raises(IllegalEventError, match=f"{ROWS[kind][1]}.*`letstune check` says how"):
        letstune.resume(path, progress=False)
    for fix in ([], ["--fix"]):
        done = CliRunner().invoke(main, ["check", str(path), *fix])
        assert done.exit_code == 1
        words = " ".join(done.stdout.split())
        assert f"row {seq} of table " in words
        assert "-o " in words
    mended = tmp_path / "mended.db"
    done = CliRunner().invoke(main, ["check", str(path), "-o", str(mended)])
    assert done.exit_code == 0, done.output
    assert f"before row {seq}" in done.stdout
    mended.replace(path)
    letstune.resume(path, progress=False)
    tune(Climb(), 4, path.with_name("b.db"), **OPTIONS)
    assert facts(path) == facts(path.with_name("b.db"))


def test_a_copy_is_not_written_over_a_file_or_for_nothing(
    spoiled: Callable[[str], int], path: Path, tmp_path: Path
) -> None:
    other = tmp_path / "mended.db"
    done = CliRunner().invoke(main, ["check", str(path), "-o", str(other)])
    assert isinstance(done.exception, SystemExit | JournalError)
    assert "each of its rows follows" in done.output
    spoiled("an epoch too far")
    other.write_text("mine")
    done = CliRunner().invoke(main, ["check", str(path), "-o", str(other)])
    assert "cannot be written" in done.output
    assert other.read_text() == "mine"


def test_a_copy_that_fails_half_way_is_not_in_the_way_of_another(
    spoiled: Callable[[str], int], path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled("an epoch too far")
    mended = tmp_path / "mended.db"

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(legal, "_copy_before", fail)
        done = CliRunner().invoke(main, ["check", str(path), "-o", str(mended)])
    assert "disk is full" in done.output
    assert not mended.exists()
    assert CliRunner().invoke(main, ["check", str(path), "-o", str(mended)]).exit_code == 0
