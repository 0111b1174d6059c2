"""Processes that run Python and the command line, as a user does."""

import os
import subprocess
import sys
from pathlib import Path

import letstune

ROOT = Path(letstune.__file__).parents[1]
TESTS = Path(__file__).parent


def environment(*folders: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a process that can import letstune, and from ``folders``."""
    paths = os.pathsep.join(map(str, [ROOT, *folders]))
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LETSTUNE")}
    return {**kept, "PYTHONPATH": paths, "PYTHONHASHSEED": "7", **variables}


def python(
    *arguments: object, cwd: Path, paths: tuple[Path, ...] = (TESTS,), **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run Python to its end, in a process of its own."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(*paths, **variables),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def command(
    *arguments: object, cwd: Path, paths: tuple[Path, ...] = (), **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command line, as a user in a folder of their own does."""
    return python("-m", "letstune", *arguments, cwd=cwd, paths=paths, **variables)


EXAMPLES = ROOT / "examples"
