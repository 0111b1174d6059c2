"""letstune's command line, in a process of its own."""

import subprocess
import sys
from pathlib import Path


def checked(journal: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Have a run checked."""
    command = [sys.executable, "-m", "letstune", "check", str(journal), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)
