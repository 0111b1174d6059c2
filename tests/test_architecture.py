"""Wings import one way only, what decides touches nothing, and little is imported."""

import ast
import importlib
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from processes import environment
from rooms import FOLDER, PUBLIC, ROOMS, imported, rooms_imported, wing

WINGS = [
    "errors",
    "space",
    "rounds",
    "telling",
    "journal",
    "samplers",
    "training",
    "results",
    "workers",
    "plugins",
    "runs",
    "testing",
    "cli",
]
"""The wings, bottom-up: each imports only those above it in this list. It is the architecture."""

GROUND = ["_version", "_public", "_visible", "_private"]
"""What any wing may import."""

PURE = ["errors", "space", "rounds", "samplers"]

HEAVY = ["numpy", "click", "rich", "cloudpickle", "sqlite_utils", "pandas", "pluggy"]


def test_the_list_is_that_of_the_wings() -> None:
    there = {wing(name) for name in ROOMS} - {"__init__", "__main__", *GROUND}
    assert there == set(WINGS)


@pytest.mark.parametrize("name", sorted(set(ROOMS) - {"__init__", "__main__"}))
def test_wings_import_one_way_only(name: str) -> None:
    below = [*GROUND, *WINGS[: WINGS.index(wing(name)) + 1]] if wing(name) in WINGS else GROUND
    # The command line calls the functions that users call; and the kit is used as they use it.
    above = {"__init__"} if wing(name) in ("cli", "testing") else set()
    astray = {room for room in rooms_imported(name) - above if wing(room) not in below}
    assert not astray, f"{name} imports {sorted(astray)}, of wings further up"


def test_no_room_imports_itself_in_a_circle() -> None:
    graph = {name: rooms_imported(name) - {name, *WINGS} for name in ROOMS}
    assert len(list(TopologicalSorter(graph).static_order())) == len(ROOMS)


@pytest.mark.parametrize("name", ROOMS)
def test_rooms_import_from_rooms_and_not_from_what_others_import_from(name: str) -> None:
    faces = {path.removeprefix("letstune.") for path in PUBLIC} - {
        *("errors", "rand", "trainer", "letstune")
    }
    mine = {"testing"} if wing(name) == "testing" or name.startswith("cli") else set()
    assert not rooms_imported(name) & faces - mine - {name}


@pytest.mark.parametrize("name", [name for name in WINGS if name != "errors"])
def test_a_wing_says_what_it_knows_and_what_it_must_not_know(name: str) -> None:
    said = (ast.get_docstring(ROOMS[name]) or "").splitlines()
    assert said[0].endswith((".", ":"))
    if name != "testing":  # it is a kit, which explains itself to its users
        assert "Knows " in said[2]
        assert any(line.startswith("Must not ") for line in said)


@pytest.mark.parametrize("name", [name for name in ROOMS if wing(name) in PURE])
def test_what_decides_touches_nothing_outside(name: str) -> None:
    outside = {"os", "pathlib", "sqlite3", "time", "tempfile", "shutil", "subprocess", "threading"}
    tops = {dotted.partition(".")[0] for dotted in imported(ROOMS[name], typing=False)}
    assert not tops & outside


def test_only_the_journal_knows_sql() -> None:
    knowing = {
        wing(name)
        for name, tree in ROOMS.items()
        if any(
            dotted.startswith(("sqlite3", "sqlite_utils"))
            for dotted in imported(tree, typing=False)
        )
    }
    assert knowing == {"journal"}


@pytest.mark.parametrize("name", [name for name in ROOMS if wing(name) != "testing"])
def test_nothing_is_validated_with_assert(name: str) -> None:
    asserts = [n.lineno for n in ast.walk(ROOMS[name]) if isinstance(n, ast.Assert)]
    assert asserts == []


def test_only_the_command_line_knows_the_kit_that_proves_plugins() -> None:
    knowing = {wing(name) for name in ROOMS if "testing" in map(wing, rooms_imported(name))}
    assert knowing == {"testing", "cli"}


@pytest.mark.parametrize("name", ["training", "workers"])
def test_who_trains_knows_no_journal(name: str) -> None:
    knowing = {room for room in ROOMS if wing(room) == name}
    assert not [r for r in knowing if "journal" in map(wing, rooms_imported(r))]


def test_there_are_no_utils() -> None:
    names = {name.rpartition(".")[2] for name in ROOMS}
    assert not {"utils", "util", "helpers", "common", "misc", "base"} & names


@pytest.mark.parametrize("path", PUBLIC)
def test_a_public_module_has_the_names_that_it_lists(path: str) -> None:
    module = importlib.import_module(path)
    names = getattr(module, "__all__", [])
    assert list(names) == sorted(names, key=lambda name: (not name.isupper(), name))
    for name in names:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_every_error_is_letstunes_and_one_that_users_would_catch_anyway() -> None:
    from letstune import errors

    found = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    apart = {errors.LetstuneError, errors.StopTraining}
    for error in set(found) - apart:
        assert issubclass(error, errors.LetstuneError)
        builtin = [base for base in error.__mro__ if base.__module__ == "builtins"]
        assert builtin[0] not in (Exception, BaseException), error


def modules_after(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{statement}\nprint(*sys.modules)"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_letstune_imports_nothing_heavy() -> None:
    assert not modules_after("import letstune") & set(HEAVY)


def test_describing_an_experiment_imports_nothing_heavy() -> None:
    described = (
        "import letstune\nfrom letstune import Params, rand, SimpleTrainer\n"
        "class P(Params):\n    x: float = rand.uniform(0, 1)\n"
        "class T(SimpleTrainer[P]):\n    metric = 'm'\n"
        "    def load_dataset(self, dataset): pass\n    def train(self, params): pass\n"
    )
    assert not modules_after(described) & set(HEAVY)


def test_the_command_lines_help_imports_click_only() -> None:
    helping = (
        "from letstune.cli.main import main\nimport contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main(['--help'])"
    )
    assert modules_after(helping) & set(HEAVY) == {"click"}


def test_every_public_name_is_found_by_completion() -> None:
    import letstune

    assert set(letstune.__all__) <= set(dir(letstune))


def test_the_package_is_typed() -> None:
    assert Path(FOLDER / "py.typed").exists()
