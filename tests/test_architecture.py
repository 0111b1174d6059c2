import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import ROOT, environment

HOUSE = [
    "_version",
    # What a user describes an experiment with
    "errors",
    "hookspecs",
    "template",
    "values",
    "distributions",
    "recorded",
    "space",
    "annotations",
    "rand",
    "params",
    # What decides: values in, values out
    "records",
    "cohorts",
    "state",
    "rounds",
    "seeding",
    "trainer",
    "grid",
    "sobol",
    "samplers",
    # Edges, each hiding one outside thing
    "machine",
    "pickler",
    "stores",
    "checkpoints",
    "schema",
    "journal",
    "pickling",
    "locks",
    "progress",
    "worker",
    "jobs",
    "executors",
    "supervisor",
    "child",
    "processes",
    "slots",
    "pool",
    "builtin",
    "plugins",
    "observers",
    # What does and records, and what a user sees of it
    "arguments",
    "workplaces",
    "belongings",
    "skips",
    "runner",
    "results",
    "tuning",
    "rehearsal",
    "checks",
    "tables",
    "conformance",
    "options",
    "cli",
    "__init__",
    "__main__",
]
"""The modules, bottom-up: each imports only those above it in this list."""

PURE = [module for module in HOUSE[: HOUSE.index("machine")] if module != "template"]

HEAVY = ["numpy", "click", "rich", "cloudpickle", "sqlite_utils", "pandas", "pluggy"]

FOLDER = ROOT / "letstune"
MODULES = {file.stem: ast.parse(file.read_text()) for file in FOLDER.glob("*.py")}


def imported(tree: ast.AST, *, typing: bool) -> Iterator[str]:
    """Yield the dotted names of all imports, those inside functions included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not typing:
            for child in node.orelse:
                yield from imported(child, typing=typing)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imported(node, typing=typing)


def own(name: str) -> str | None:
    """Return the module of letstune that an import is from."""
    top, _, rest = name.partition(".")
    if top != "letstune":
        return None
    first = rest.partition(".")[0]
    return first if first in MODULES else "__init__"


def test_the_list_is_that_of_the_modules() -> None:
    assert sorted(HOUSE) == sorted(MODULES)


@pytest.mark.parametrize("module", HOUSE)
def test_imports_point_one_way_only(module: str) -> None:
    above = HOUSE[: HOUSE.index(module)]
    found = {own(name) for name in imported(MODULES[module], typing=False)} - {None}
    # The command line calls the functions that users call; and the kit is used as they use it.
    allowed = {*above, "__init__"} if module in ("cli", "conformance") else {*above}
    assert found <= allowed, f"{module} imports {sorted(found - allowed)}, which come later"


@pytest.mark.parametrize("module", PURE)
def test_what_decides_touches_nothing_outside(module: str) -> None:
    outside = {"os", "pathlib", "sqlite3", "time", "tempfile", "shutil", "subprocess", "threading"}
    tops = {name.partition(".")[0] for name in imported(MODULES[module], typing=False)}
    assert not tops & outside


def test_only_the_journal_knows_sql() -> None:
    knowing = {
        module
        for module, tree in MODULES.items()
        if any(
            name.startswith(("sqlite3", "sqlite_utils")) for name in imported(tree, typing=False)
        )
    }
    assert knowing == {"journal", "schema"}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_validated_with_assert(module: str) -> None:
    asserts = [n.lineno for n in ast.walk(MODULES[module]) if isinstance(n, ast.Assert)]
    assert asserts == []


@pytest.mark.parametrize("module", sorted(set(HOUSE) - {"conformance"}))
def test_only_one_module_knows_the_kit_that_proves_plugins(module: str) -> None:
    found = imported(MODULES[module], typing=True)
    assert not [name for name in found if name.startswith("letstune.testing")]


def test_there_are_no_utils() -> None:
    assert not {"utils", "util", "helpers", "common", "misc", "base"} & MODULES.keys()


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
        "from letstune.cli import main\nimport contextlib, io\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main(['--help'])"
    )
    assert modules_after(helping) & set(HEAVY) == {"click"}


def test_every_public_name_is_there() -> None:
    import letstune

    for name in letstune.__all__:
        assert getattr(letstune, name) is not None
    assert set(letstune.__all__) <= set(dir(letstune))
    with pytest.raises(AttributeError, match="no attribute 'tun'"):
        _ = letstune.tun


def test_public_names_are_sorted() -> None:
    import letstune

    assert list(letstune.__all__) == sorted(letstune.__all__)


def test_the_package_is_typed() -> None:
    assert Path(FOLDER / "py.typed").exists()
