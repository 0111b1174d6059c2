"""A file beside a trainer named like one of Python's modules is for workers what it is for all."""

import sys
from pathlib import Path

import pytest
from processes import command, python

import letstune

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="worker processes need POSIX")

PLANTED = ["random", "secrets", "json", "typing", "statistics", "numpy", "cloudpickle", "queue"]

NET = """
import json, random, secrets, typing
import own_module
import letstune
from letstune import Params, rand

class P(Params):
    x: float = rand.uniform(0, 1)

class T(letstune.EpochTrainer[P]):
    metric = "m"
    def load_dataset(self, dataset): pass
    def create_model(self, params): self.model = params.x
    def train_epoch(self, epoch):
        import own_module, random
        return {"m": random.random(), "own": own_module.FORTY_TWO}
"""


@pytest.fixture
def folder(path: Path) -> Path:
    """A trainer, with files beside it that tell when they are imported, and by whom."""
    folder = path.parent
    for name in PLANTED:
        (folder / f"{name}.py").write_text(
            f"import os\nopen({str(folder / 'imported')!r}, 'a').write('{name} ')\n"
        )
    (folder / "own_module.py").write_text("FORTY_TWO = 42\n")
    (folder / "net.py").write_text(NET)
    return folder


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_command_line_takes_pythons_own(workers: int, folder: Path, path: Path) -> None:
    done = command(
        *("tune", folder / "net.py:T", "-n2", "--rounds=2", f"--journal={path}"),
        f"--workers={workers}",
        cwd=folder.parent,
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "imported").exists(), (folder / "imported").read_text()
    assert letstune.load(path).errors == []


SCRIPT = """
import sys
import random, json, secrets, typing, numpy.random, cloudpickle, queue
from letstune import tune
sys.path.insert(0, sys.argv[1])
import net
tune(net.T(), 2, rounds=[2], workers=2, journal=sys.argv[2], progress=False)
"""


@pytest.mark.slow
def test_a_script_takes_what_it_has_imported_before(folder: Path, path: Path) -> None:
    done = python("-c", SCRIPT, folder, path, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert not (folder / "imported").exists(), (folder / "imported").read_text()
    assert letstune.load(path).errors == []


OWN = """
import letstune
import queue
from letstune import Params, rand

class P(Params):
    x: float = rand.uniform(0, 1)

class T(letstune.SimpleTrainer[P]):
    metric = "m"
    def load_dataset(self, dataset): pass
    def train(self, params):
        import queue
        return None, {"m": queue.MINE}

if __name__ == "__main__":
    letstune.tune(T(), 2, workers=2, journal="run.db", progress=False)
"""


@pytest.mark.slow
def test_what_the_owner_has_from_beside_the_trainer_its_workers_have_from_there(
    path: Path,
) -> None:
    folder = path.parent
    (folder / "graphlib.py").write_text("MINE = 1.0\n")
    (folder / "net.py").write_text(OWN.replace("queue", "graphlib"))
    done = python("net.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert [trial.metric_value for trial in letstune.load(path)] == [1.0, 1.0]


UUID = """
import itertools

MINE, COUNT = 2.0, itertools.count()

class UUID:
    hex = property(lambda self: str(next(COUNT)))

uuid4 = UUID
"""


def test_a_module_that_letstune_has_from_python_may_be_the_trainers_own(path: Path) -> None:
    # cloudpickle imports Python's; the owner has the trainer's by then.
    folder = path.parent
    (folder / "uuid.py").write_text(UUID)
    (folder / "net.py").write_text(OWN.replace("queue", "uuid"))
    done = python("net.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert [trial.metric_value for trial in letstune.load(path)] == [2.0, 2.0]
