"""New plugins, as they are written out: they install, register, and pass their suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny import environment

from letstune.errors import PluginError
from letstune.template import KINDS, write_plugin


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_plugin_is_built_installed_and_passes_its_own_tests(kind: str, tmp_path: Path) -> None:
    root = write_plugin(tmp_path, "my-own", kind)
    target = tmp_path / "installed"

    def run(*command: object) -> str:
        done = subprocess.run(
            list(map(str, command)),
            cwd=root,
            env=environment(target),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # Into a folder of its own rather than a fresh venv: it is as isolated, and takes a second.
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    run(*pip, "--target", target, root)
    listed = (
        "from importlib.metadata import distribution\n"
        "d = distribution('letstune-my-own')\n"
        "print(d.version, [(e.group, e.name, e.value) for e in d.entry_points])\n"
        "module = d.entry_points['" + kind + ".my-own'].load()\n"
        "found = {}\n"
        f"module.register_{kind}s(found.setdefault)\n"
        "print(*found, module.__file__)"
    )
    told = run(sys.executable, "-P", "-c", listed)
    assert f"('letstune', '{kind}.my-own', 'letstune_my_own')" in told
    assert f"my-own {target}" in told
    assert "passed" in run(sys.executable, "-P", "-m", "pytest", "-q", "-W", "error")
