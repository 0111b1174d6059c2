"""The documentation is true: its code runs, its outputs are real, nothing public is left out."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import click
import cloudpickle
import pytest
from click.testing import CliRunner
from processes import environment
from strategies import declarations

import letstune
import letstune.errors
from letstune.cli.main import main
from letstune.journal import schema

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)


def loaded(name: str) -> ModuleType:
    """A module of the documentation's folder."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    return loaded("hooks")


@pytest.fixture(scope="module")
def rendered(hooks: ModuleType) -> dict[str, str]:
    """The pages, with what the hooks put in."""
    return {page.stem: hooks.on_page_markdown(page.read_text()) for page in PAGES}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to run in, and an interpreter that is left as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield tmp_path
    for name in cloudpickle.list_registry_pickle_by_value():
        cloudpickle.unregister_pickle_by_value(sys.modules[name])
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def blocks(page: str) -> list[tuple[str, str, str]]:
    return BLOCK.findall((DOCS / f"{page}.md").read_text())


RUN = [
    "index",
    "tutorial",
    "sampler",
    "store",
    "rounds",
    "pickling",
    "plugins",
    "workers",
    "scripts",
]


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.slow if p == "tutorial" else ()) for p in RUN],
)
def test_the_blocks_of_a_page_run(
    page: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace = {"__name__": "__main__"}
    printed = ""
    ran = 0
    for language, title, code in blocks(page):
        if language == "python":
            if title:
                (elsewhere / title).write_text(code)
            exec(compile(code, f"{page}.md", "exec"), namespace)
            printed = capsys.readouterr().out
            ran += 1
        elif title == "Output":
            assert printed == code
        elif language == "console":
            for line in code.splitlines():
                if line.startswith("$ letstune"):
                    result = CliRunner().invoke(main, shlex.split(line)[2:])
                    assert result.exit_code == 0, f"{line}: {result.output}{result.exception}"
    assert ran
    for journal in elsewhere.glob("*.db"):
        assert letstune.load(journal).errors == []


def test_every_output_in_the_docs_follows_a_block_that_runs() -> None:
    for page in PAGES:
        name = page.relative_to(DOCS).with_suffix("").as_posix()
        if name not in RUN:
            assert not [title for _, title, _ in blocks(name) if title == "Output"]


@pytest.mark.parametrize("name", letstune.__all__)
def test_every_public_name_is_in_the_api_reference(name: str) -> None:
    lines = (DOCS / "api.md").read_text().splitlines()
    assert f"::: letstune.{name}" in lines or f"::: letstune.errors.{name}" in lines


@pytest.mark.parametrize("wing", ["plugins", "samplers", "testing", "training", "workers"])
def test_every_name_for_plugins_is_in_the_api_reference(wing: str) -> None:
    page = (DOCS / "api.md").read_text()
    for name in importlib.import_module(f"letstune.{wing}").__all__:
        assert f"`{name}`" in page or f"::: letstune.{wing}.{name}\n" in page, name


def test_every_distribution_is_in_the_tutorial(hooks: ModuleType, rendered: dict[str, str]) -> None:
    assert set(hooks.declaring()) == set(declarations())
    for name in declarations():
        assert f"| `rand.{name}(" in rendered["tutorial"]


def test_every_error_is_documented(rendered: dict[str, str]) -> None:
    names = [
        name
        for name, found in vars(letstune.errors).items()
        if isinstance(found, type) and issubclass(found, BaseException)
    ]
    assert len(names) >= 16
    for name in names:
        assert f"| `{name}` |" in rendered["errors"]


def test_every_command_and_option_is_documented(
    hooks: ModuleType, rendered: dict[str, str]
) -> None:
    page = rendered["cli"]
    commands = dict(hooks.walk(main, "letstune"))
    assert {"letstune tune", "letstune check", "letstune"} <= set(commands)
    for path, command in commands.items():
        assert f"## `{path}`" in page
        section = page.split(f"## `{path}`")[1].split("\n## ")[0]
        for param in command.params:
            if isinstance(param, click.Option):
                for option in param.opts:
                    assert f"{option}" in section
        if isinstance(command, click.Group):
            assert all(name in section for name in command.commands)
        else:
            assert "Example" in section


@pytest.mark.parametrize("function", [letstune.tune, letstune.resume, letstune.load])
def test_every_argument_is_explained_in_the_api_reference(function: Callable[..., object]) -> None:
    explained = str(inspect.getdoc(function))
    for name in inspect.signature(function).parameters:
        assert f"\n    {name}: " in explained


def test_the_journal_page_has_every_table_and_real_rows(rendered: dict[str, str]) -> None:
    page = rendered["journal"]
    for table in schema.TABLES:
        section = page.split(f"### `{table}`")[1].split("\n### ")[0]
        rows = [
            line for line in section.split("of the example:")[1].splitlines() if line[:1] == "|"
        ]
        # Nothing is killed for an example, nor tried again.
        least = 2 if table in ("deaths", "retries") else 3
        assert len(rows) >= least, f"{table} has no row in the example"
    for view in schema.VIEWS:
        section = page.split(f"### `{view}`")[1].split("\n### ")[0]
        assert "```sql" in section
        assert section.count("\n| ") >= 3


def test_the_journal_page_shows_what_the_example_gives(
    hooks: ModuleType, elsewhere: Path, rendered: dict[str, str]
) -> None:
    namespace = {"__name__": "__main__"}
    exec(compile((DOCS / "example.py").read_text(), "example.py", "exec"), namespace)
    best = letstune.load("walk.db").best
    first = next(row for row in hooks.example_run()["leaderboard"] if row[0] == 1)
    assert first[1:3] == (best.trial_id, best.metric_value)
    assert f"| 1 | {best.trial_id} | {best.metric_value:.6g} |" in rendered["journal"]

    queries = re.findall(r"^```sql\n(.*?)^```$", rendered["journal"], re.M | re.S)
    assert len(queries) == len(schema.VIEWS) + 3
    db = sqlite3.connect("walk.db")
    assert all(db.execute(query).fetchall() for query in queries)
    db.close()


def test_the_journal_page_explains_each_column_by_its_declaration(
    rendered: dict[str, str],
) -> None:
    for table in schema.TABLES.values():
        section = rendered["journal"].split(f"### `{table.name}`")[1].split("\n### ")[0]
        assert table.holds in section
        for name, column in table.columns.items():
            assert re.search(rf"\| `{name}` \| .* \| {re.escape(column.holds)} \|\n", section)


def test_no_page_names_the_machine(rendered: dict[str, str]) -> None:
    for page in rendered.values():
        assert str(DOCS.parent) not in page
        assert not re.search(r"/(home|tmp|root|work)/", page)
        assert f'"{socket.gethostname()}"' not in page
        assert f"`{socket.gethostname()}`" not in page


def test_every_mark_is_filled(rendered: dict[str, str]) -> None:
    assert not [name for name, page in rendered.items() if "<!-- letstune" in page]


def test_every_page_is_in_the_navigation() -> None:
    config = (DOCS.parent / "mkdocs.yml").read_text()
    assert all(f": {page.relative_to(DOCS).as_posix()}\n" in config for page in PAGES)


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([\w./-]+\.md)", page.read_text()):
            assert (page.parent / target).is_file(), f"{page.name}: {target}"


def test_the_first_quota_formula_of_the_rounds_page() -> None:
    assert letstune.Rounds().quotas(64) == (64, 16, 4)
    assert letstune.Rounds().quotas(10) == (10, 3, 1)


def test_examples_in_docstrings_are_shown_as_code() -> None:
    pytest.importorskip("griffe")
    fenced = loaded("doctests").fenced
    assert fenced("One.\n\n>>> 1 + 1\n2\n\nTwo.") == "One.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nTwo."
    assert fenced("None.") == "None."


# Exit codes, as documented, of real processes

SCRIPT = """
import time, letstune
from letstune import EpochTrainer, Params, rand

class P(Params):
    x: float = rand.uniform(0, 1)

class T(EpochTrainer[P]):
    metric = "x"
    def load_dataset(self, dataset):
        pass
    def create_model(self, params):
        self.model = params.x
    def train_epoch(self, epoch):
        print("epoch", flush=True)
        time.sleep({sleep})
        return {{"x": self.model}}

if __name__ == "__main__":
    letstune.tune(T(), 5, journal="run.db", rounds=[2], seed=1)
"""


def started(folder: Path, sleep: float, epoch: int) -> subprocess.Popen[str]:
    """A process that is in an epoch, counted from 1."""
    (folder / "slow.py").write_text(SCRIPT.format(sleep=sleep))
    process = subprocess.Popen(
        [sys.executable, "slow.py"], cwd=folder, text=True, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    for _ in range(epoch):
        process.stdout.readline()
    return process


def recorded(folder: Path) -> int:
    db = sqlite3.connect(f"file:{folder / 'run.db'}?mode=ro", uri=True)
    ((count,),) = db.execute("SELECT count(*) FROM epochs")
    db.close()
    return int(count)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_signal_lets_the_epoch_in_flight_finish_and_ends_with_75(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = started(tmp_path, 0.1, 2)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 75
    assert f"letstune resume {tmp_path / 'run.db'}" in told
    assert recorded(tmp_path) == 2
    assert not (tmp_path / "run.db.lock").exists()
    journal = str(tmp_path / "run.db")
    assert '"finished": false' in CliRunner().invoke(main, ["status", journal, "--json"]).output

    # The file is enough: neither the script nor its folder is needed.
    (tmp_path / "slow.py").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = CliRunner().invoke(main, ["resume", journal])
    assert result.exit_code == 0, result.output
    assert recorded(tmp_path) == 10


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_two_signals_stop_at_once_and_lose_nothing_recorded(tmp_path: Path) -> None:
    process = started(tmp_path, 30, 1)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "once more" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGINT)  # what a shell shows as 130
    assert recorded(tmp_path) == 0


def test_a_journal_that_is_worked_on_is_refused(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class P(letstune.Params):
        x: float = letstune.rand.uniform(0, 1)

    class T(letstune.SimpleTrainer[P]):
        metric = "x"

        def load_dataset(self, dataset: object) -> None:
            result = CliRunner().invoke(main, ["resume", "run.db"])
            self.refused = result.exit_code, result.output

        def train(self, params: P) -> tuple[object, dict[str, float]]:
            return self.refused, {"x": params.x}

    tuning = letstune.tune(T(), 1, journal="run.db", progress=False)
    code, told = tuning[0].checkpoint.load_pickle()
    assert code == 1
    assert "is already being worked on" in told


def test_exit_codes_of_errors_and_usage(elsewhere: Path) -> None:
    assert CliRunner().invoke(main, ["trials", "nothing.db"]).exit_code == 1
    assert CliRunner().invoke(main, ["trials"]).exit_code == 2
    assert CliRunner().invoke(main, ["--help"]).exit_code == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_there_as_documented(shell: str) -> None:
    assert f"_LETSTUNE_COMPLETE={shell}_source letstune" in (DOCS / "cli.md").read_text()
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    completions = found(main, {}, "letstune", "_LETSTUNE_COMPLETE").get_completions([], "st")
    assert [item.value for item in completions] == ["status", "stop"]
