"""Distributions that are installed in a folder of the import path, as pip does it."""

import sys
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any


def install(
    folder: Path, name: str, code: str, *entries: str, version: str = "1.0", api: object = 1
) -> None:
    """Install a plugin of one module.

    Args:
        folder: on the import path.
        name: of the distribution; the module is called the same, with underscores.
        code: of the module, which gets letstune's hookimpl and LETSTUNE_API before it.
        entries: the names of its entry points, such as "sampler.mine".
        version: of the distribution.
        api: its LETSTUNE_API.
    """
    module = name.replace("-", "_")
    head = f"from letstune import hookimpl\n\nLETSTUNE_API = {api!r}\n"
    (folder / f"{module}.py").write_text(head + dedent(code))
    for old in folder.glob(f"{module}-*.dist-info"):
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    about = folder / f"{module}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{entry} = {module}" for entry in entries]
    (about / "entry_points.txt").write_text("\n".join(["[letstune]", *lines, ""]))


MIDDLE = """
    from letstune import Sampler

    class Middle(Sampler):
        def __init__(self, shift=0.0):
            self.shift = shift

        def propose(self, space, history, rng, trial):
            return space.build(
                lambda path, d: 1 + trial if path == "n" else self.shift + trial / 100
            )

    @hookimpl
    def register_samplers(register):
        register("middle", Middle)
    """
"""A sampler that goes its way in small steps, for `small_trainers.Point`."""

FOLDERS = """
    from pathlib import Path
    from letstune.training.stores import DirectoryStore

    class Shelf(DirectoryStore):
        harmless_options = ["base"]

        def __init__(self, uri, *, base):
            super().__init__(Path(base) / uri.removeprefix("shelf://"))

    @hookimpl
    def register_stores(register):
        register("shelf", Shelf)
    """
"""A store with a scheme."""

LONE = """
    from letstune.workers.in_process import InProcessExecutor

    class Lone(InProcessExecutor):
        def __init__(self, address, job, *, token, epoch_timeout, trial_timeout, many=1):
            super().__init__(job.worker(token))

        @staticmethod
        def count(address, **options):
            return 4 * options.get("many", 1)

    class Address:
        pass

    @hookimpl
    def register_executors(register):
        register("lone", Lone)
        register("letstune_lone", Lone)
    """
"""An executor with a scheme, and for an object; it says that it has many workers."""


def recorded(path: Path, fact: str) -> Any:
    from letstune.journal.journal import Journal

    journal = Journal(path)
    try:
        return journal.facts()[fact]
    finally:
        journal.close()


def imported(site: Path, name: str) -> Any:
    """Return a module that was installed in a test, as a user's script imports it."""
    sys.modules.pop(name, None)
    return import_module(name)
