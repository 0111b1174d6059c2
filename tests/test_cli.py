import csv
import io
import json
import math
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
from checkpoint_files import unhidden
from click.testing import CliRunner, Result
from files import in_all
from journal_facts import facts, metrics_of
from processes import TESTS, command, python
from small_trainers import Climb, Folders, Hill, tune
from stateful_trainer import WalkTrainer

import letstune.cli
from letstune import Rounds, __version__
from letstune.cli.main import main
from letstune.journal.lock import JournalLock
from letstune.plugins.kinds import HOOKS, WITH_LAWS, WITH_TEMPLATE
from letstune.results.export import exported
from letstune.results.facts import facts_of_trial, status_of
from letstune.telling.formats import to_json
from letstune.testing.verdicts import SUITES

NAMES = {
    name: {parameter.name for parameter in command.params}
    for name, command in sorted(main.commands.items())
}
"""The commands, and the names of the arguments and options of each."""

OF_A_JOURNAL = [
    name
    for name, command in sorted(main.commands.items())
    if any(isinstance(p, click.Argument) and p.name == "journal" for p in command.params)
]
READING = [name for name in OF_A_JOURNAL if "as_json" in NAMES[name]]


def run(*arguments: object, code: int = 0) -> Result:
    """Call the command line in this process."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output + repr(done.exception)
    return done


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to be read, of which no test changes anything."""
    path = tmp_path_factory.mktemp("walked") / "run.db"
    tune(WalkTrainer(), 30, path, seed=5, rounds=[6, 3])
    return path


def reading(name: str, path: Path) -> list[object]:
    return [name, path, 3] if "trial" in NAMES[name] else [name, path]


def table(text: str) -> list[dict[str, str]]:
    """Parse tab-separated values."""
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


# Help


@pytest.mark.parametrize("name", sorted(main.commands))
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help_with_examples(name: str, option: str) -> None:
    shown = run(name, option).stdout
    assert "Example" in shown
    assert f"letstune {name} " in shown.partition("Example")[2]


def test_the_commands_are_those_that_are_promised() -> None:
    promised = "tune resume status trials show best export check"
    assert set(main.commands) >= set(promised.split())
    assert all(name in run("--help").stdout for name in promised.split())


def test_the_kinds_of_plugins_that_are_offered_are_those_that_there_are() -> None:
    assert tuple(SUITES) == WITH_LAWS
    assert set(WITH_TEMPLATE) <= set(WITH_LAWS) <= set(HOOKS)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_option_says_what_it_does(name: str) -> None:
    for parameter in main.commands[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_version_is_that_of_the_package() -> None:
    assert __version__ in run("--version").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str, tmp_path: Path) -> None:
    words = {"COMP_WORDS": "letstune st", "COMP_CWORD": "1" if shell != "fish" else "st"}
    runner = CliRunner(env={"_LETSTUNE_COMPLETE": f"{shell}_complete", **words})
    done = runner.invoke(main, [], prog_name="letstune")
    assert "status" in done.stdout


def test_a_command_is_added_by_the_file_that_it_is_in() -> None:
    files = [file.stem for file in Path(letstune.cli.__path__[0]).glob("[a-z]*.py")]
    found = [import_module(f"letstune.cli.{name}") for name in files]
    groups = [part.commands.commands for part in found if hasattr(part, "commands")]
    assert sorted(name for group in groups for name in group) == sorted(main.commands)


# Reading commands


@pytest.mark.parametrize("name", READING)
def test_json_is_json(name: str, walked: Path) -> None:
    def refuse(text: str) -> None:
        raise ValueError(text)

    done = run(*reading(name, walked), "--json")
    assert json.loads(done.stdout, parse_constant=refuse) is not None
    assert done.stderr == ""


@pytest.mark.parametrize("name", READING)
def test_reading_changes_nothing(name: str, walked: Path) -> None:
    before = in_all(walked.parent)
    run(*reading(name, walked))
    assert in_all(walked.parent) == before


@pytest.mark.parametrize("name", ["status", "trials", "best"])
def test_what_is_piped_is_plain(name: str, walked: Path) -> None:
    text = run(*reading(name, walked)).stdout
    assert not set(text) & set("│┃─━┏\x1b")
    assert "\t" in text.splitlines()[0]


def test_status_tells_how_far_a_run_is(walked: Path) -> None:
    told = json.loads(run("status", walked, "--json").stdout)
    tuning = letstune.load(walked)
    assert told["finished"] is True
    assert (told["n_trials"], told["proposed"], told["left"]) == (30, 30, 0)
    assert told["failed"] == len(tuning.errors)
    assert told["epochs"] == sum(len(trial.epochs) for trial in tuning)
    assert (told["best"], told["best_trial"]) == (tuning.best.metric_value, tuning.best.trial_id)
    assert told["metric"] == "height"
    assert told["rounds"]["lengths"] == [6, 3]
    assert told["last_session"]["ended"] == "finished"
    rows = {row["fact"]: row["value"] for row in table(run("status", walked).stdout)}
    assert rows["epochs"] == str(told["epochs"])


def test_what_is_printed_is_what_python_users_get(walked: Path) -> None:
    assert json.loads(run("status", walked, "--json").stdout) == status_of(walked)
    told = json.loads(run("show", walked, 3, "--json").stdout)
    facts = facts_of_trial(letstune.load(walked), 3)
    assert told == json.loads(to_json(facts))
    assert run("export", walked, "--epochs").stdout_bytes == (
        exported(letstune.load(walked), "csv", epochs=True)
    )


def test_status_of_a_run_that_has_not_begun(path: Path) -> None:
    class Stuck(Hill):
        def load_dataset(self, dataset: Any) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tune(Stuck(), 3, path)
    told = json.loads(run("status", path, "--json").stdout)
    assert (told["finished"], told["best"], told["best_trial"]) == (False, None, None)
    assert run("best", path, code=1).stderr.startswith("Error: ")


def test_trials_are_listed_best_first(walked: Path) -> None:
    wanted = [str(trial.trial_id) for trial in letstune.load(walked)]
    assert [row["trial_id"] for row in table(run("trials", walked).stdout)] == wanted
    assert [row["trial_id"] for row in table(run("trials", walked, "--limit", 3).stdout)] == (
        wanted[:3]
    )
    rows = json.loads(run("trials", walked, "--json", "--limit", 4).stdout)
    assert [str(row["trial_id"]) for row in rows] == wanted[:4]


def test_show_tells_a_trial_with_all_its_epochs(walked: Path) -> None:
    trial = letstune.load(walked)[0]
    told = json.loads(run("show", walked, trial.trial_id, "--json").stdout)
    assert told["params"] == trial.params.to_dict()
    assert told["place"] == 1
    assert [epoch["epoch"] for epoch in told["epochs"]] == list(range(len(trial.epochs)))
    assert [epoch["metrics.height"] for epoch in told["epochs"]] == [
        epoch.metric_value for epoch in trial.epochs
    ]
    assert run("best", walked, "--json").stdout == (
        run("show", walked, trial.trial_id, "--json").stdout
    )


def test_show_tells_how_a_trial_failed(walked: Path) -> None:
    error = letstune.load(walked).errors[0]
    assert error.traceback.strip() in run("show", walked, error.trial_id).stdout
    told = json.loads(run("show", walked, error.trial_id, "--json").stdout)
    assert told["failures"][0]["traceback"] == error.traceback


class Confusing(Hill):
    metric = "epoch"

    def train(self, params: Any) -> Any:
        return None, {"epoch": 0.5, "duration": -1.0, "started_at": 7.0, "a\tb\nc": 1.0}


@pytest.mark.parametrize("name", ["best", "show", "trials", "export"])
def test_any_name_of_a_metric_is_shown_as_itself(name: str, path: Path) -> None:
    tune(Confusing(), 1, path)
    arguments = [name, path, 0] if name == "show" else [name, path]
    text = run(*arguments).stdout
    assert "0.5" in text
    assert "-1.0" in text
    if name in ("best", "show"):
        (epoch,) = json.loads(run(*arguments, "--json").stdout)["epochs"]
        assert epoch["epoch"] == 0
        assert epoch["metrics.epoch"] == 0.5


class Nan(Hill):
    def train(self, params: Any) -> Any:
        return None, {"height": math.nan, "inf": -math.inf}


class Mostly(Hill):
    def train(self, params: Any) -> Any:
        return None, {"height": 1.0, "nan": math.nan, "inf": -math.inf}


@pytest.mark.parametrize("name", [*READING, "export"])
def test_numbers_that_json_has_not_are_text(name: str, path: Path) -> None:
    tune(Nan() if name != "best" else Mostly(), 4, path)
    arguments = reading(name, path) + (["--format", "json"] if name == "export" else ["--json"])
    text = run(*arguments).stdout
    assert "NaN" not in text
    assert "Infinity" not in text
    json.loads(text)


# Export


def test_csv_is_read_by_pandas(walked: Path) -> None:
    for options, wanted in (([], "to_df"), (["--epochs"], "epochs_df")):
        frame = pd.read_csv(io.StringIO(run("export", walked, *options).stdout))
        other = getattr(letstune.load(walked), wanted)()
        assert list(frame.columns) == list(other.columns)
        assert list(frame["trial_id"]) == list(other["trial_id"])
        assert list(frame["metric_value"].dropna()) == list(other["metric_value"].dropna())


def test_json_has_the_same_rows(walked: Path) -> None:
    rows = json.loads(run("export", walked, "--format", "json").stdout)
    assert rows == json.loads(run("trials", walked, "--json").stdout)
    epochs = json.loads(run("export", walked, "--format", "json", "--epochs").stdout)
    assert len(epochs) == len(metrics_of(walked))


@pytest.mark.parametrize("epochs", [[], ["--epochs"]])
def test_parquet_is_read_by_pandas(epochs: list[str], walked: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    done = run("export", walked, "--format", "parquet", *epochs, "-o", out)
    assert done.stdout == ""
    tuning = letstune.load(walked)
    wanted = tuning.epochs_df() if epochs else tuning.to_df()
    assert list(pd.read_parquet(out)["metric_value"].dropna()) == (
        list(wanted["metric_value"].dropna())
    )
    piped = run("export", walked, "--format", "parquet", *epochs).stdout_bytes
    assert list(pd.read_parquet(io.BytesIO(piped))["trial_id"]) == list(wanted["trial_id"])


def test_an_unknown_format_is_a_usage_error(walked: Path) -> None:
    assert "There is no export 'xml'" in run("export", walked, "--format", "xml", code=2).stderr


# Errors


@pytest.mark.parametrize("name", OF_A_JOURNAL)
def test_an_error_is_a_line_and_code_1(name: str, path: Path) -> None:
    done = run(*reading(name, path), code=1)
    assert done.stdout == ""
    assert done.stderr.startswith(f"Error: There is no journal at {path}")
    assert done.stderr.count("\n") == 1
    assert in_all(path.parent) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["status"],
        ["tune", "small_trainers:Hill"],
        ["tune", "small_trainers:Hill", "-n", "0"],
        ["tune", "small_trainers:Hill", "-n", "x"],
        ["tune", "small_trainers:Climb", "-n", "1", "--rounds", "3,x"],
        ["tune", "small_trainers:Climb", "-n", "1", "--rounds", ""],
        ["tune", "small_trainers:Climb", "-n", "1", "--rounds", "3,5m"],
        ["tune", "small_trainers:Climb", "-n", "1", "--keep", "x"],
        ["tune", "small_trainers:Climb", "-n", "1", "--cohort", "x"],
        ["tune", "small_trainers:Climb", "-n", "1", "--seed", "-1"],
        ["tune", "small_trainers:Climb", "-n", "1", "--keep-checkpoints", "some"],
        ["show", "run.db", "x"],
        ["trials", "run.db", "--limit", "0"],
        ["resume", "run.db", "-n", "0"],
    ],
)
def test_wrong_usage_is_code_2(arguments: list[str]) -> None:
    done = run(*arguments, code=2)
    assert done.stdout == ""
    assert "Error: " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["tune", "nowhere.py:T", "-n", "1"], "There is no file nowhere.py"),
        (["tune", "nowhere:T", "-n", "1"], "There is no module 'nowhere'"),
        (["tune", "small_trainers:Nope", "-n", "1"], "small_trainers has no 'Nope'"),
        (["tune", "small_trainers", "-n", "1"], "expected MODULE:NAME"),
        (["tune", "small_trainers:Point", "-n", "1"], "small_trainers:Point|Point"),
        (["tune", "small_trainers:tune", "-n", "1"], "Expected a trainer"),
        (["tune", "small_trainers:Hill", "-n", "1", "--rounds", "3"], "SimpleTrainer.*no rounds"),
        (["tune", "small_trainers:Climb", "-n", "1", "--rounds", "0"], "0 is no length"),
        (["tune", "small_trainers:Climb", "-n", "1", "--keep", "0"], "keep=0"),
        (["tune", "small_trainers:Climb", "-n", "1", "--cohort", "0"], "cohort="),
        (
            ["tune", "small_trainers:Climb", "-n", "1", "--sampler", "nope"],
            "There is no sampler 'nope'",
        ),
        (
            ["tune", "small_trainers:Climb", "-n", "1", "--store", "s4://x"],
            "There is no store 's4'",
        ),
        (
            ["tune", "small_trainers:Climb", "-n", "1", "--sampler-option", "a=1"],
            "sampler 'random' of letstune 0.1.0 with the options a",
        ),
        (["tune", "test_pickling:Scaled", "-n", "1"], "Scaled"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(
    arguments: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments, code=1 if text == "Expected a trainer" or "Point" in text else 2)
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert re.search(text, done.stderr), done.stderr
    assert list(tmp_path.rglob("*.db")) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--store-option", "a=1"], "--store-option needs a --store"),
        (["--sampler-option", "a"], "expected KEY=VALUE"),
    ],
)
def test_options_of_a_plugin_that_are_no_options(arguments: list[str], text: str) -> None:
    assert text in run("tune", "small_trainers:Climb", "-n", "1", *arguments, code=2).stderr


def test_a_trial_that_is_not_there(walked: Path) -> None:
    assert "has no trial 99" in run("show", walked, 99, code=1).stderr


# Tuning


OPTIONS: list[tuple[list[object], dict[str, Any]]] = [
    ([], {}),
    (["--rounds", "1,2"], {"rounds": [1, 2]}),
    (["--rounds", "1, 2", "--keep", "0.5"], {"rounds": Rounds([1, 2], keep=0.5)}),
    (["--rounds", "2", "--cohort", "2"], {"rounds": Rounds([2], cohort=2)}),
    (["--rounds", "1,1", "--cohort", "3,1"], {"rounds": Rounds([1, 1], cohort=[3, 1])}),
    (["--keep", "1"], {"rounds": Rounds(keep=1)}),
    (["--sampler", "random", "--lag", "2", "--rounds", "1"], {"lag": 2, "rounds": [1]}),
    (["--rounds", "2", "--keep-checkpoints", "all"], {"rounds": [2], "keep_checkpoints": "all"}),
    (["--rounds", "2", "--keep-checkpoints", "0"], {"rounds": [2], "keep_checkpoints": 0}),
    (["--rounds", "1", "--dataset", "digits"], {"rounds": [1], "dataset": "digits"}),
]


@pytest.mark.parametrize(("options", "wanted"), OPTIONS)
def test_tune_does_what_the_function_does(
    options: list[object], wanted: dict[str, Any], path: Path
) -> None:
    run("tune", "small_trainers:Climb", "-n", 4, "--seed", 1, "--journal", path, *options)
    other = path.with_name("other.db")
    tune(Climb(), 4, other, **wanted)
    assert facts(path) == facts(other)


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("30s,5m", [30.0, 300.0]),
        ("0.5s", [0.5]),
        ("1h,2d", [3600.0, 172800.0]),
        ("3,9,36", [3, 9, 36]),
    ],
)
def test_rounds_are_epochs_or_times(
    text: str, lengths: list[float], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    tuning = tune(Climb(), 1, path, rounds=[1])

    def instead(trainer: Any, n_trials: int, **options: Any) -> Any:
        given.update(options)
        return tuning

    monkeypatch.setattr(letstune, "tune", instead)
    run("tune", "small_trainers:Climb", "-n", 1, "--rounds", text)
    found = Rounds(given["rounds"])
    assert found.to_dict()["lengths"] == lengths


def test_tune_prints_the_best_trials_and_progress_apart(path: Path) -> None:
    done = run("tune", "small_trainers:Hill", "-n", 3, "--journal", path)
    assert done.stdout == f"{letstune.load(path)!r}\n"
    assert "finished, 0 of 3 trials left" in done.stderr


def test_quiet_is_quiet(path: Path) -> None:
    assert run("tune", "small_trainers:Hill", "-n", 3, "--journal", path, "--quiet").stderr == ""
    assert run("resume", path, "-n", 4, "--quiet").stderr == ""


def test_tune_again_goes_on(path: Path) -> None:
    for n in (2, 4, 4):
        run("tune", "small_trainers:Hill", "-n", n, "--journal", path, "--quiet")
        assert len(letstune.load(path)) == n
    done = run("tune", "small_trainers:Hill", "-n", 3, "--journal", path, "--quiet", code=1)
    assert "n_trials: was 4, is 3" in done.stderr


def test_resume_goes_on(path: Path) -> None:
    tune(Climb(), 2, path, rounds=[1])
    done = run("resume", path, "-n", 4, "--rounds", "2")
    assert len(letstune.load(path)) == 4
    assert {len(trial.epochs) for trial in letstune.load(path)} == {2}
    assert done.stdout == f"{letstune.load(path)!r}\n"


def test_resume_with_less_is_refused(path: Path) -> None:
    tune(Climb(), 4, path, rounds=[2])
    before = in_all(path.parent)
    assert "it can only grow" in run("resume", path, "-n", 3, code=1).stderr
    assert "rounds" in run("resume", path, "--rounds", "1", code=1).stderr
    assert in_all(path.parent) == before


def test_resume_takes_another_dataset(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LETSTUNE_DATASET_LIMIT", "10")
    tune(Hill(), 1, path, dataset="a dataset longer than that")
    assert "was not kept" in run("resume", path, "-n", 2, code=1).stderr
    run("resume", path, "-n", 2, "--dataset", "other")
    assert len(letstune.load(path)) == 2


def test_the_first_error_ends_it_if_asked_for(path: Path) -> None:
    arguments = ["tune", "failing_trainer:Hopeless", "-n", 3, "--journal", path]
    done = CliRunner().invoke(main, [*map(str, arguments), "--passthrough-errors"])
    assert done.exit_code == 1
    assert "ValueError" in done.output
    assert len(letstune.load(path).errors) == 1


@pytest.mark.slow
def test_without_a_winner_it_is_an_error(path: Path) -> None:
    run("tune", "failing_trainer:Hopeless", "-n", 3, "--journal", path, code=1)
    done = run("resume", path, code=1)
    assert "3 trials, 3 failed, finished" in done.stdout
    run(
        "tune", "failing_trainer:Unlucky", "-n", 6, "--journal", path.with_name("b.db"), "--seed", 1
    )


# Check


def kept(path: Path) -> list[Path]:
    return unhidden(path.with_name("run.checkpoints"))


def remove(file: Path) -> None:
    shutil.rmtree(file) if file.is_dir() else file.unlink()


def alter(file: Path) -> None:
    if file.is_dir():
        file = next(entry for entry in sorted(file.rglob("*")) if entry.is_file())
    file.write_bytes(b"nonsense")


def add(file: Path) -> None:
    file.with_name("t00009-e00009-dead-1--model.pickle").touch()


def add_folder(file: Path) -> None:
    (file.parent / ".new" / "dead").mkdir(parents=True)
    (file.parent / ".new" / "dead" / "half").touch()


@pytest.mark.parametrize("trainer", [Climb(), Folders()])
def test_a_whole_run_is_fine(trainer: Any, path: Path) -> None:
    tune(trainer, 4, path, rounds=[1, 2])
    before = in_all(path.parent)
    assert run("check", path).stdout == f"{path}: nothing is wrong.\n"
    assert run("check", path, "--fix").stdout == f"{path}: nothing is wrong.\n"
    assert json.loads(run("check", path, "--json").stdout) == []
    assert in_all(path.parent) == before


@pytest.mark.parametrize("trainer", [Climb(), Folders()])
@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (remove, "is missing"),
        (alter, "not what was saved"),
        (add, "no row points"),
        (add_folder, "no row points"),
    ],
)
def test_what_is_wrong_is_found_and_mended_and_the_run_goes_on(
    harm: Callable[[Path], None], text: str, trainer: Any, path: Path
) -> None:
    tune(trainer, 4, path, rounds=[2])
    harm(kept(path)[0])
    before = in_all(path.parent)
    (found,) = json.loads(run("check", path, "--json", code=1).stdout)
    assert text in found["what"]
    assert found["mended"] is False
    assert in_all(path.parent) == before
    mended = json.loads(run("check", path, "--fix", "--trust", "--json").stdout)
    assert text in mended[0]["what"]
    assert all(row["mended"] for row in mended)
    assert "nothing is wrong" in run("check", path).stdout

    run("resume", path, "--rounds", "2,3", "--quiet")
    other = path.with_name("other.db")
    tune(type(trainer)(), 4, other, rounds=[2])
    tune(type(trainer)(), 4, other, rounds=[2, 3])
    assert metrics_of(path) == metrics_of(other)
    assert facts(path)["trials"] == facts(other)["trials"]
    assert letstune.load(path)[0].checkpoint.path.is_dir()


def test_a_lost_folder_of_checkpoints_is_told_and_mended(path: Path) -> None:
    tune(Folders(), 4, path, rounds=[2])
    shutil.rmtree(path.with_name("run.checkpoints"))
    before = in_all(path.parent)
    done = run("resume", path, "--rounds", "3", "--quiet", code=1)
    assert "none of the run's 4 checkpoints is in " in done.stderr
    assert "check --fix" in done.stderr
    assert in_all(path.parent) == before
    assert "There is no folder" in run("check", path, "--fix", code=1).stderr
    path.with_name("run.checkpoints").mkdir()
    assert len(json.loads(run("check", path, "--fix", "--trust", "--json").stdout)) == 4
    run("resume", path, "--rounds", "3", "--quiet")
    assert {len(trial.epochs) for trial in letstune.load(path)} == {3}


def test_new_trials_do_not_make_a_lost_folder_again(path: Path) -> None:
    tune(Folders(), 4, path, rounds=[2])
    away = path.with_name("away")
    path.with_name("run.checkpoints").rename(away)
    done = run("resume", path, "-n", 6, "--quiet", code=1)
    assert "none of the run's 4 checkpoints is in " in done.stderr
    assert not path.with_name("run.checkpoints").exists()
    away.rename(path.with_name("run.checkpoints"))
    run("resume", path, "-n", 6, "--quiet")
    assert len(letstune.load(path)) == 6
    assert "nothing is wrong" in run("check", path).stdout


def test_a_checkpoint_that_was_written_off_says_so(path: Path) -> None:
    tune(Hill(), 1, path)
    remove(kept(path)[0])
    run("check", path, "--fix", "--no-retrain")
    with pytest.raises(letstune.LetstuneError, match="was lost, and written off"):
        letstune.load(path)[0].checkpoint.load_pickle()


def test_a_damaged_journal_is_found(path: Path) -> None:
    tune(Climb(), 20, path, rounds=[3])
    data = bytearray(path.read_bytes())
    data[-2 * 4096 :] = b"\xaa" * (2 * 4096)
    path.write_bytes(data)
    done = run("check", path, code=1)
    assert "SQLite" in done.stdout or "damaged" in done.stderr
    assert path.read_bytes() == bytes(data)


def test_a_run_that_is_being_worked_on_can_be_checked_but_not_fixed(path: Path) -> None:
    tune(Climb(), 4, path, rounds=[1])
    with JournalLock(path, "2026-01-01T00:00:00+00:00"):
        assert "being worked on" in run("check", path, "--fix", code=1).stderr


class CheckingItself(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        CHECKED.append(CliRunner().invoke(main, ["check", self.dataset]).exit_code)
        return super().train_epoch(epoch)


CHECKED: list[int] = []


def test_what_a_run_is_doing_is_not_wrong(path: Path) -> None:
    CHECKED.clear()
    tune(CheckingItself(), 2, path, rounds=[2], dataset=str(path))
    assert CHECKED == [0] * 4


def test_tampering_is_found(path: Path) -> None:
    tune(Climb(), 2, path, rounds=[2])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO stops SELECT max(seq) + 5, 0, 9, 1 FROM sessions")
        db.execute(
            "INSERT INTO epochs SELECT max(seq) + 9, 1, 7, 1, '{\"height\": 1}', '2026-01-01', 1, "
            "NULL, NULL, NULL, NULL, 1 FROM sessions"
        )
    assert "epoch 7 is recorded, but epoch 2 comes next" in run("check", path, code=1).stdout


# Real processes


def test_real_processes_end_with_the_codes(path: Path) -> None:
    done = command("status", path, cwd=path.parent)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: There is no journal")
    assert command("status", cwd=path.parent).returncode == 2


@pytest.mark.slow
def test_a_file_is_tuned_and_resumed_from_elsewhere(path: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "helper.py").write_text("SCALE = 3\n")
    (project / "my-trainer.py").write_text(
        "import letstune\nfrom letstune import Params, rand\nfrom helper import SCALE\n"
        "class P(Params):\n    x: float = rand.uniform(0, 1)\n"
        "class T(letstune.SimpleTrainer[P]):\n    metric = 'm'\n"
        "    def load_dataset(self, dataset):\n        self.at = dataset\n"
        "    def train(self, params):\n        return params, {'m': SCALE * params.x}\n"
    )
    options = ["-n", 2, "--journal", path, "--dataset", "data"]
    done = command("tune", "project/my-trainer.py:T", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 trials, 0 failed, finished" in done.stdout
    done = command("resume", path, "-n", 3, cwd=Path("/"))
    assert done.returncode == 0, done.stderr
    for trial in letstune.load(path):
        assert trial.metric_value == 3 * trial.params.x


def test_an_error_of_ours_keeps_its_traceback(path: Path) -> None:
    broken = "import letstune.journal.journal as j\ndef load(self): raise ZeroDivisionError\n"
    broken += "j.Journal.load = load\nfrom letstune.cli.main import main\nmain()"
    tune(Hill(), 1, path)
    done = python("-c", broken, "status", path, cwd=path.parent, paths=(TESTS,))
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_a_format_may_be_that_of_the_files_name(walked: Path, tmp_path: Path) -> None:
    run("export", walked, "-o", tmp_path / "run.json")
    assert isinstance(json.loads((tmp_path / "run.json").read_text()), list)
    assert "which --format" in run("export", walked, "-o", tmp_path / "run.xlsx", code=2).stderr
    assert "csv, json, parquet" in run("export", walked, "--format", "xml", code=2).stderr
    told = run("export", walked, "-o", tmp_path / "nowhere" / "x.csv", code=1).stderr
    assert "cannot be written" in told
    assert "Did you mean 'sobol'?" in (
        run("tune", "small_trainers:Hill", "-n", 1, "--sampler", "Sobl", code=2).stderr
    )
