"""``python -m letstune`` is ``letstune``."""

import sys
from pathlib import Path

# Python puts the current folder first, and whatever lies there must be no plugin, and in nobody's
# way. Commands that are to import from there see to it.
if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[1]:
    del sys.path[0]

from letstune.cli.main import main

main()
