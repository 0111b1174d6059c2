"""The tutorial "Write a plugin", command by command, in an environment of its own."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from processes import ROOT

import letstune

PAGE = (ROOT / "docs" / "write-a-plugin.md").read_text()
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)


@pytest.fixture
def bin(tmp_path: Path) -> Path:
    """Return the folder of commands of a new environment, which sees the packages of this one."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=True)
    there = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    (Path(there) / "letstune_and_what_it_needs.pth").write_text(
        "\n".join([str(ROOT), *(path for path in sys.path if "site-packages" in path)])
    )
    commands = folder / "bin"
    for name, module in [("letstune", "letstune"), ("pytest", "pytest")]:
        script = commands / name
        script.write_text(f'#!/bin/sh\nexec "{commands / "python"}" -m {module} "$@"\n')
        script.chmod(0o755)
    return commands


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the tutorial's commands are those of a shell")
def test_every_command_of_the_tutorial(bin: Path, tmp_path: Path) -> None:
    folder = tmp_path / "letstune-climb"
    folder.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LETSTUNE", "PYTEST"))}
    environment = {**kept, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}
    ran = []
    for language, title, code in BLOCK.findall(PAGE):
        if title:
            (folder / title).write_text(code)
        if title or language == "text":
            continue
        for line in code.splitlines():
            assert line.startswith("$ ")
            done = subprocess.run(
                line[2:], shell=True, cwd=folder, env=environment, capture_output=True, text=True,
                check=False, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            ran.append((line[2:], done.stdout))
    told = dict(ran)
    assert re.search(r"sampler\s+climb\s+letstune-climb", told["letstune plugins"])
    assert "nothing is wrong" in told["letstune check zipped.db"]
    assert len(letstune.load(folder / "run.db")) == 16
    assert {e.params.to_dict()["x"] for e in letstune.load(folder / "zipped.db")}
    assert len(letstune.load(folder / "threaded.db")) == 8
    for name in ("my-sampler", "my-store"):
        done = subprocess.run(
            "pip install -e . && pytest -q", shell=True, cwd=folder / f"letstune-{name}",
            env=environment, capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
