"""The examples run, and run again without doing anything again."""

import hashlib
import importlib
import importlib.util
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import letstune

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
LETSTUNE = [sys.executable, "-m", "letstune"]
ENVIRONMENT = os.environ | {
    # Another process must find this checkout from any folder, installed or not.
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    # On a busy machine, threads that wait for each other take longer than so small a model.
    "OMP_NUM_THREADS": "1",
}

# Runs a script in which no trainer can load, train or save anything.
IDLE = """
import runpy, sys
import letstune

def idle(trainer, *args, tune=letstune.tune, **options):
    def refuse(*args):
        raise SystemExit("the trainer was put to work")
    for name in {"load_dataset", "train", "create_model", "train_epoch", "save", "load"}:
        if callable(getattr(trainer, name, None)):
            setattr(type(trainer), name, refuse)
    return tune(trainer, *args, **options)

letstune.tune = idle
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

slow = pytest.mark.slow


def require(*packages: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stderr}"
    return done.stdout


def counts(journal: Path) -> dict[str, int]:
    with closing(sqlite3.connect(journal)) as connection:
        return {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("trials", "epochs", "failures", "sessions", "deletions")
        }


def outcome(journal: Path) -> list[tuple[object, ...]]:
    """Return all that a run found out, but no clocks."""
    with closing(sqlite3.connect(journal)) as connection:
        return connection.execute(
            "SELECT trial, params, epoch, value, metrics, bytes, sha256 "
            "FROM trials JOIN epochs USING (trial) ORDER BY trial, epoch"
        ).fetchall()


def contents(folder: Path) -> dict[str, tuple[str, int]]:
    """Return the digest and the time of change of every file of a folder."""
    return {
        str(file.relative_to(folder)): (
            hashlib.sha256(file.read_bytes()).hexdigest(),
            file.stat().st_mtime_ns,
        )
        for file in folder.rglob("*")
        if file.is_file()
    }


@pytest.mark.parametrize(
    ("example", "trials", "epochs", "package"),
    [
        pytest.param("digits", 64, 64, "sklearn", marks=slow),
        pytest.param("digits_mlp", 32, 160, "sklearn", marks=slow),
        pytest.param("boosting", 32, 400, "xgboost", marks=slow),
        pytest.param("torch_mlp", 16, 72, "torch", marks=slow),
        pytest.param("command/tune", 8, 24, "yaml", marks=slow),
    ],
)
def test_second_run_of_an_example_does_nothing_again(
    tmp_path: Path, example: str, trials: int, epochs: int, package: str
) -> None:
    require("sklearn", package)
    script, journal = EXAMPLES / f"{example}.py", tmp_path / f"{Path(example).name}.db"
    printed = run(sys.executable, script, cwd=tmp_path)
    assert "The winner is trial" in printed
    before, found = contents(tmp_path), counts(journal)
    assert found == found | {"trials": trials, "epochs": epochs, "failures": 0}

    again = run(sys.executable, "-c", IDLE, script, cwd=tmp_path)

    assert again == printed
    assert contents(tmp_path) == before
    assert counts(journal) == found


@slow
@pytest.mark.parametrize(
    ("example", "trainer", "package"),
    [
        ("digits_mlp", "DigitsMLPTrainer", "sklearn"),
        ("boosting", "BoostingTrainer", "xgboost"),
        ("torch_mlp", "TorchTrainer", "torch"),
        ("command/tune", "Script", "yaml"),
    ],
)
def test_checkpoints_of_an_example_hold_all_that_the_next_epoch_depends_on(
    monkeypatch: pytest.MonkeyPatch, example: str, trainer: str, package: str
) -> None:
    require("sklearn", package)
    script = EXAMPLES / f"{example}.py"
    monkeypatch.syspath_prepend(script.parent)
    trainer_cls = getattr(importlib.import_module(script.stem), trainer)
    assert letstune.rehearse(trainer_cls(), epochs=4, seed=2) == []


@pytest.mark.slow
def test_example_by_command_line_resumes_from_another_folder(tmp_path: Path) -> None:
    require("sklearn")
    start, elsewhere = tmp_path / "start", tmp_path / "elsewhere"
    start.mkdir()
    elsewhere.mkdir()
    trainer = f"{os.path.relpath(EXAMPLES, start)}/digits.py:DigitsTrainer"
    run(*LETSTUNE, "tune", trainer, "-n", 2, "--journal", "run.db", "--seed", 1, cwd=start)

    run(*LETSTUNE, "resume", "../start/run.db", "-n", 5, cwd=elsewhere)

    listed = json.loads(run(*LETSTUNE, "trials", "../start/run.db", "--json", cwd=elsewhere))
    assert sorted(trial["trial_id"] for trial in listed) == [0, 1, 2, 3, 4]
    assert all(trial["metric_value"] > 0.5 for trial in listed)
    assert counts(start / "run.db")["epochs"] == 5


@slow
def test_readme_code_runs(tmp_path: Path) -> None:
    require("sklearn")
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

    printed = run(sys.executable, "-W", "error", "-c", code, cwd=tmp_path)

    assert "readme.db: 16 trials, 0 failed, finished" in printed


@slow
def test_interrupted_example_comes_out_as_if_it_never_was(tmp_path: Path) -> None:
    require("sklearn", "xgboost")
    start, elsewhere = tmp_path / "start", tmp_path / "elsewhere"
    start.mkdir()
    elsewhere.mkdir()
    options = ["-n", "24", "--rounds", "5,15,60", "--seed", "3", "--keep-checkpoints", "all"]
    command = [*LETSTUNE, "tune", str(EXAMPLES / "boosting.py:BoostingTrainer"), *options]
    run(*command, "--journal", "whole.db", cwd=start)

    journal = start / "cut.db"
    process = subprocess.Popen(
        [*command, "--journal", "cut.db"],
        cwd=start,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (
        journal.exists() and len(letstune.load(journal)) > 0 and outcome(journal)
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75
    assert f"letstune resume {journal}" in told
    assert 0 < len(outcome(journal)) < len(outcome(start / "whole.db"))

    run(*LETSTUNE, "resume", journal, cwd=elsewhere)

    assert outcome(journal) == outcome(start / "whole.db")
    assert counts(journal)["sessions"] > counts(start / "whole.db")["sessions"]
