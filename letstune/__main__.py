"""``python -m letstune`` is ``letstune``."""

from letstune.cli import main

main()
