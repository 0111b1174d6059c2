"""New plugins, as they are written out: they install, register, and pass their suite."""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest
from processes import ROOT

from letstune.errors import PluginError
from letstune.plugins.kinds import WITH_TEMPLATE
from letstune.plugins.template import write_plugin


@pytest.mark.parametrize("kind", WITH_TEMPLATE)
def test_a_plugin_has_a_project_a_module_a_readme_and_a_test(kind: str, tmp_path: Path) -> None:
    root = write_plugin(tmp_path, "my-own", kind)
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert files == ["README.md", "letstune_my_own.py", "pyproject.toml", "tests/test_my_own.py"]
    assert all("$" not in (root / path).read_text().replace("$ ", "") for path in files)
    compile((root / "letstune_my_own.py").read_text(), "letstune_my_own.py", "exec")


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        ("My", "sampler", "is no name for a plugin"),
        ("a--b", "sampler", "is no name for a plugin"),
        ("class", "store", "is no name for a plugin"),
        ("../x", "store", "is no name for a plugin"),
        ("x", "trainer", "There is no template for a 'trainer'; there are sampler, store"),
        ("there", "store", "letstune-there exists already"),
    ],
)
def test_what_cannot_be_written_is_refused(
    name: str, kind: str, wanted: str, tmp_path: Path
) -> None:
    (tmp_path / "letstune-there").mkdir()
    with pytest.raises(PluginError, match=wanted):
        write_plugin(tmp_path, name, kind)
    assert [path.name for path in tmp_path.iterdir()] == ["letstune-there"]


@pytest.fixture(scope="module")
def bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of commands of a new environment with letstune and its kit."""
    folder = tmp_path_factory.mktemp("template") / "venv"
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "python", "-m", "pip", "install", "-q", f"{ROOT}[testing]", "mypy")
    return folder / "bin"


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if not k.startswith(("LETSTUNE", "PYTHON"))},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


TRAINER = """
from letstune import EpochTrainer, Params, rand

class Point(Params):
    x: float = rand.uniform(-1, 1)

class Climb(EpochTrainer[Point]):
    metric = "height"

    def load_dataset(self, dataset):
        pass

    def create_model(self, params):
        self.model = params.x

    def train_epoch(self, epoch):
        self.model += self.rng.normal()
        return {"height": self.model}
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", WITH_TEMPLATE)
def test_a_plugin_is_built_installed_checked_and_used(kind: str, bin: Path, tmp_path: Path) -> None:
    name = f"my-{kind}"
    run(bin / "letstune", "plugins", "new", name, "--kind", kind, cwd=tmp_path)
    root = tmp_path / f"letstune-{name}"
    run(bin / "python", "-m", "pip", "install", "-q", "--no-deps", root)
    assert "passed" in run(bin / "python", "-m", "pytest", "-q", "-W", "error", cwd=root)
    run(bin / "mypy", "--strict", f"letstune_my_{kind}.py", "tests", cwd=root)
    listed = json.loads(run(bin / "letstune", "plugins", "--json"))
    (mine,) = [row for row in listed if row["name"] == name]
    assert (mine["kind"], mine["distribution"]) == (kind, f"letstune-{name}")
    assert mine["problem"] is None
    verdicts = run(bin / "letstune", "plugins", "check", name).splitlines()
    assert len(verdicts) > 8
    assert not [line for line in verdicts if line.startswith("failed")]

    (tmp_path / "climb.py").write_text(TRAINER)
    tune = [bin / "letstune", "tune", "climb.py:Climb", "-n", 6, "--rounds", "1,2", "--seed", 1]
    used = ["--sampler", name] if kind == "sampler" else ["--store", f"{name}://{tmp_path}/kept"]
    run(*tune, *used, "--journal", "run.db", cwd=tmp_path)
    (elsewhere := tmp_path / "elsewhere").mkdir()
    run(bin / "letstune", "resume", tmp_path / "run.db", "-n", 8, cwd=elsewhere)
    told = json.loads(run(bin / "letstune", "status", "--json", tmp_path / "run.db"))
    assert (told["n_trials"], told["finished"]) == (8, True), told
    if kind == "store":
        assert any((tmp_path / "kept").rglob("*"))
