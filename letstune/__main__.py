"""``python -m letstune`` is ``letstune``."""

from letstune.cli.main import main

main()
