"""Workers run wherever a run is started: in scripts, in daemons, from the command line."""

import sys
from pathlib import Path

import pytest
from journal_facts import query
from processes import TESTS, command, python

import letstune

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


SCRIPT = """
import sys, letstune, small_trainers

class Model:
    pass

class OfScript(letstune.SimpleTrainer[small_trainers.Point]):
    metric = "x"

    def load_dataset(self, dataset):
        pass

    def train(self, params):
        return Model(), {"x": params.x}

tuning = letstune.tune(OfScript(), 1, journal=sys.argv[1], workers=1, seed=1, progress=False)
if type(tuning[0].checkpoint.load_pickle()) is Model:
    print("the same class")
"""

DAEMON = """
import multiprocessing, sys

def tune():
    import letstune, small_trainers
    letstune.tune(small_trainers.Climb(), 2, rounds=[1], journal=sys.argv[1], workers=1, seed=1)

process = multiprocessing.get_context("fork").Process(target=tune, daemon=True)
process.start()
process.join()
sys.exit(process.exitcode)
"""


def test_a_script_needs_no_guard_and_its_classes_are_its_own(path: Path) -> None:
    script = path.with_name("script.py")
    script.write_text(SCRIPT)
    done = python(script, path, cwd=path.parent)
    assert done.stdout == "the same class\n", done.stderr


def test_daemonic_processes_may_have_workers(path: Path) -> None:
    done = python("-c", DAEMON, path, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    assert letstune.load(path).finished


def test_the_command_line_takes_it_all(path: Path) -> None:
    options = "--workers=2 --epoch-timeout=1.5m --trial-timeout=900 --max-deaths=4 --gpus=0,1"
    done = command(
        *(
            "tune",
            "small_trainers:Climb",
            "-n2",
            "--rounds=1",
            f"--journal={path}",
            *options.split(),
        ),
        cwd=path.parent,
        paths=(TESTS,),
    )
    assert done.returncode == 0, done.stderr
    facts = dict(query(path, "SELECT fact, value FROM plan"))
    wanted = {"workers": "2", "epoch_timeout": "90.0", "trial_timeout": "900.0"}
    wanted |= {"max_deaths": "4", "gpus": '["0", "1"]'}
    assert facts == {**facts, **wanted}
    for wrong in ("--workers=some", "--epoch-timeout=soon"):
        done = command("resume", path, wrong, cwd=path.parent)
        assert done.returncode == 2
        assert wrong.partition("=")[2] in done.stderr
