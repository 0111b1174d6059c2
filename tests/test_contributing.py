"""What is said to those who carry on the work is true: files, stages, commands, checks."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import click
import pytest
from test_docs import loaded

from letstune import rand
from letstune.cli.main import main
from letstune.rounds.cohorts import Cohort
from letstune.rounds.events import Event
from letstune.rounds.plan import Rounds
from letstune.space.distributions import Ints, Normal, Uniform
from letstune.testing import ExecutorSuite
from letstune.workers.process_executor import ProcessExecutor

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (ROOT / ".ci" / "run").is_file(), reason="an sdist has letstune only"
)


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def section(title: str, text: str) -> str:
    """Return a section of Markdown, with the sections below it."""
    marks, _, name = title.partition(" ")
    found = re.search(rf"^{marks} {re.escape(name)}\n(.*?)(?=^#{{1,{len(marks)}}} |\Z)", text,
                      re.M | re.S)  # fmt: skip
    assert found, f"there is no section {title!r}"
    return found[1]


CONTRIBUTING = read("CONTRIBUTING.md") if (ROOT / "CONTRIBUTING.md").is_file() else ""
PATH = re.compile(r"`([.\w/-]+(?:\.\w+|/)|\.ci/run)`")
"""A path of a file, or of a folder, which ends with a slash."""


def listed(title: str) -> set[str]:
    """Return the files that a section lists."""
    items = re.findall(r"^- (`.*?`): ", section(title, CONTRIBUTING), re.M | re.S)
    return {path for item in items for path in PATH.findall(item)}


def sources(*folders: str) -> Iterator[str]:
    """Yield the paths of the Python files below folders."""
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield file.relative_to(ROOT).as_posix()


def pages(*folders: str) -> Iterator[str]:
    """Yield the paths of the pages in Markdown below folders."""
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.md")):
            yield file.relative_to(ROOT).as_posix()


THIS = f"tests/{Path(__file__).name}"
LIBRARY = [path for path in sources("letstune") if not path.startswith("letstune/testing/")]
PLUGINS = [path for path in sources("plugins") if "/tests/" not in path]
CODE = [*LIBRARY, *PLUGINS]


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names that the code of a file uses; those in texts are none."""
    found = set()
    for node in ast.walk(ast.parse(read(path))):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                found.add(name)
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found.add(name)
    return frozenset(found)


def using(files: Iterable[str], *names: str, all_of_them: bool = False) -> set[str]:
    """Return the files whose code uses one of some names, or all of them."""
    wanted = set(names)
    return {
        path
        for path in files
        if (wanted <= names_in(path) if all_of_them else wanted & names_in(path))
    }


def say_same(title: str, named: set[str], found: set[str]) -> None:
    """Fail if the files that a section names are not those that the code says."""
    add, take_out = sorted(found - named), sorted(named - found)
    assert not add + take_out, f"CONTRIBUTING.md, {title!r}: add {add}, take out {take_out}"


def test_every_file_that_is_named_is_there() -> None:
    paths = {path for path in PATH.findall(CONTRIBUTING) if "/" in path or path.endswith(".md")}
    paths |= set(re.findall(r"\]\(([\w/.-]+)\)", CONTRIBUTING))
    assert len(paths) > 40
    assert not {path for path in paths if not (ROOT / path).exists()}
    assert all((ROOT / path).is_dir() for path in paths if path.endswith("/"))


# The lists of files


def words(path: str) -> set[str]:
    return set(re.findall(r"\w+", read(path)))


def test_a_distribution_touches_the_files_that_name_those_there_are() -> None:
    files = listed("### A distribution")
    classes = [cls.__name__ for cls in (Uniform, Normal, Ints)]
    say_same("A distribution", files & {*CODE}, using(CODE, *classes))
    named = [f for f in vars(rand).values() if inspect.isfunction(f)]
    functions = {f.__name__ for f in named if f.__module__ == rand.__name__}
    beside = [*sources("tests", "letstune/testing"), *pages("docs", "plugins")]
    found = {path for path in beside if functions <= words(path)}
    found |= using(sources("tests"), *classes, all_of_them=True) - {THIS}
    say_same("A distribution", files - {*CODE}, found)


def columns(table: str) -> set[str]:
    """Return the names of the columns of a table."""
    db = loaded("hooks").new_journal()
    rows = list(db.execute(f"PRAGMA table_info({table})"))
    db.close()
    return {row[1] for row in rows}


def test_a_journal_column_touches_the_files_that_name_all_those_of_a_table() -> None:
    # Of the table with the most of them. What all tables have, or is always NULL, goes by itself.
    names = columns("epochs") - {"seq", "session", "signature"}
    assert len(names) > 8
    candidates = [*LIBRARY, *sources("docs")]
    found = {path for path in candidates if names <= words(path)}
    files = listed("### A journal column")
    say_same("A journal column", files & {*candidates}, found)
    assert "def write_golden_journal" in read("tests/test_journal.py")
    assert "tests/golden/" in files


def test_an_event_touches_the_files_that_name_all_events_there_are() -> None:
    assert isinstance(Event, UnionType)
    names = [event.__name__ for event in get_args(Event)]
    files = listed("### An event")
    found = using([*LIBRARY, *sources("tests")], *names, all_of_them=True)
    say_same("An event", files, found)


def commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from commands(command)


def test_every_command_is_in_the_folder_of_the_command_line() -> None:
    files = listed("### A command")
    for command in commands(main):
        callback: Any = inspect.unwrap(command.callback or print)
        place = Path(inspect.getfile(callback)).parent.relative_to(ROOT)
        assert f"{place.as_posix()}/" in files
        # What it is called in a test, though of some only what they call is tested.
        assert any(f'"{command.name}"' in read(path) for path in sources("tests")), command.name


def test_an_executor_touches_the_files_that_name_the_one_of_processes() -> None:
    files = listed("### An executor")
    found = using(LIBRARY, ProcessExecutor.__name__)
    outside = {path for path in found if not path.startswith("letstune/workers/")}
    say_same("An executor", {path for path in files if path in LIBRARY}, outside)
    assert found - outside
    assert "letstune/workers/" in files
    names = (ProcessExecutor.__name__, ExecutorSuite.__name__)
    assert using(sources("tests"), *names, all_of_them=True) - {THIS} <= files


def test_an_executor_for_other_machines_has_the_files_of_that_for_ray() -> None:
    files = listed("### An executor")
    plugin = "plugins/letstune-ray/"
    found = {f"{plugin}pyproject.toml", f"{plugin}README.md", ".ci/run"}
    found |= using(sources(plugin), "register_executors", ExecutorSuite.__name__)
    found |= {path for path in sources(plugin) if path.endswith("/executor.py")}
    say_same("An executor", {path for path in files if path[0] == "." or plugin in path}, found)
    assert '"executor.ray"' in read(f"{plugin}pyproject.toml")
    assert "letstune-ray" in read(".ci/run")


def test_the_promotion_rule_is_in_the_files_that_name_cohorts_and_quotas() -> None:
    files = listed("### Another promotion rule")
    names = (Cohort.__name__, Rounds.quotas.__name__)
    say_same("Another promotion rule", files & {*LIBRARY}, using(LIBRARY, *names))
    tests = using(sources("tests"), *names, all_of_them=True) - {THIS}
    tests |= using(sources("tests/benchmarks"), "next_tasks")
    say_same("Another promotion rule", {path for path in files if path[:6] == "tests/"}, tests)


# Commands and stages


def test_what_ci_does_is_told_stage_by_stage() -> None:
    stages = re.findall(r'^ *stage "([^"]+)"$', read(".ci/run"), re.M)
    assert stages.pop() == "All is well"
    told = re.findall(r"^\d+\. `(.*?)`: ", section("## What CI does", CONTRIBUTING), re.M)
    assert told == stages


def test_the_commands_are_ones_that_work() -> None:
    lines = re.findall(r"^\$ (.*)$", CONTRIBUTING, re.M)
    assert "pip install -e '.[dev]'" in lines[1]
    assert f"pip install --quiet -e {lines[1].split()[-1]}" in read(".ci/run")
    for path, test in re.findall(r"(tests/\w+\.py)::(\w+)", CONTRIBUTING):
        assert test in names_in(path)
    for path, word in re.findall(r"(tests/\w+\.py) -k (\w+)", CONTRIBUTING):
        assert [name for name in names_in(path) if name.startswith("test_") and word in name]


def test_the_checks_before_a_commit_are_those_of_ci() -> None:
    yaml = pytest.importorskip("yaml")
    (repo,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repo["repo"] == "local"
    assert all(hook["language"] == "system" for hook in repo["hooks"])
    assert not any(hook["pass_filenames"] for hook in repo["hooks"])
    ci = read(".ci/run").splitlines()
    quick = [line for line in ci if re.match(r"(ruff|mypy)\b", line)]
    assert [hook["entry"] for hook in repo["hooks"]] == quick


def test_every_version_is_on_the_list_for_a_release() -> None:
    releasing = section("## Releasing", CONTRIBUTING)
    versions = [path.relative_to(ROOT) for path in ROOT.glob("plugins/*/pyproject.toml")]
    for path in (Path("letstune/_version.py"), *versions):
        assert f"`{path.as_posix()}`" in releasing
        assert re.search(r'^(__version__|version) = "', read(path.as_posix()), re.M)


# Templates


def test_the_templates_are_forms_and_ask_for_commands_that_exist() -> None:
    yaml = pytest.importorskip("yaml")
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = [path for path in folder.glob("*.yml") if path.name != "config.yml"]
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert form["name"]
        assert form["description"]
        ids = [field["id"] for field in form["body"]]
        assert len(set(ids)) == len(ids)
        assert any(field.get("validations", {}).get("required") for field in form["body"])
    bug = (folder / "bug_report.yml").read_text()
    asked = re.findall(r"`letstune (\w+)(?: run\.db)?( --json)?`", bug)
    assert dict(asked) == {"status": " --json", "check": "", "plugins": ""}
    for name, option in asked:
        options = [opt for param in main.commands[name].params for opt in param.opts]
        assert not option or option.strip() in options
    assert set(yaml.safe_load((folder / "config.yml").read_text())) == {"blank_issues_enabled"}
    assert ".ci/run" in read(".github/pull_request_template.md")


def test_the_readme_leads_here() -> None:
    assert "(CONTRIBUTING.md)" in section("## More", read("README.md"))
