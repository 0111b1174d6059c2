"""Commands train in a process of its own; Python does in the one that calls it."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from journal_facts import query
from processes import TESTS, command
from small_trainers import Climb, tune

import letstune
from letstune.errors import PlanError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no workers here")


class Where(Climb):
    """Its metric tells which process it is in."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        return {"height": os.getpid(), "parent": os.getppid()}


class Leaving(Climb):
    """Ends its process, as if all were well."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        os._exit(0)


def on_the_command_line(*arguments: Any, path: Path) -> str:
    done = command(*arguments, cwd=path.parent, paths=(TESTS,))
    assert done.returncode == 0, done.stderr
    return done.stdout


def recorded(path: Path) -> Any:
    return dict(query(path, "SELECT fact, value FROM plan"))["workers"]


def processes(path: Path) -> int:
    return len(query(path, "SELECT DISTINCT value FROM epochs"))


def test_a_command_trains_in_one_process_of_its_own(path: Path) -> None:
    options = ["-n", 2, "--rounds", "1", "--journal", path]
    on_the_command_line("tune", "test_who_trains:Where", *options, path=path)
    assert (recorded(path), processes(path)) == ("1", 1)
    on_the_command_line("resume", path, "-n", 3, path=path)
    assert (recorded(path), processes(path)) == ("1", 2)


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["0", "2"])
def test_what_is_recorded_stays(asked: str, path: Path) -> None:
    options = ["--rounds", "1", "--journal", path]
    first = ["-n", 1, *options, "--workers", asked]
    on_the_command_line("tune", "test_who_trains:Where", *first, path=path)
    assert recorded(path) == asked
    on_the_command_line("tune", "test_who_trains:Where", "-n", 2, *options, path=path)
    on_the_command_line("resume", path, "-n", 3, path=path)
    assert recorded(path) == asked


def test_a_script_trains_where_it_is_and_a_command_that_resumes_it_elsewhere(path: Path) -> None:
    tuning = tune(Where(), 1, path, rounds=[1])
    assert tuning[0].metric_value == os.getpid()
    assert recorded(path) == "null"
    on_the_command_line("resume", path, "-n", 2, path=path)
    assert (recorded(path), processes(path)) == ("1", 2)


def test_a_trainer_that_exits_does_not_end_the_command_as_if_all_were_well(path: Path) -> None:
    options = ["-n", 1, "--rounds", "1", "--journal", path, "--max-deaths", 2]
    done = command("tune", "test_who_trains:Leaving", *options, cwd=path.parent, paths=(TESTS,))
    assert done.returncode == 1
    assert "exit code 0" in done.stderr


def test_no_workers_are_this_process(path: Path) -> None:
    tuning = tune(Where(), 1, path, rounds=[1], workers=0, dataset=(n for n in ()))  # not pickled
    assert tuning[0].metric_value == os.getpid()
    assert recorded(path) == "0"


@pytest.mark.parametrize("asked", [{"epoch_timeout": 4}, {"trial_timeout": 4}, {"gpus": [0]}])
def test_what_needs_processes_is_refused_without(asked: dict[str, Any], path: Path) -> None:
    with pytest.raises(PlanError, match=f"workers=0 .* no {next(iter(asked))}"):
        tune(Where(), 1, path, rounds=[1], workers=0, **asked)
    assert not path.exists()
    tune(Where(), 1, path, rounds=[1], **asked, workers=1)
    with pytest.raises(PlanError, match="Give workers=1"):
        letstune.resume(path, n_trials=2, workers=0, progress=False)
    assert recorded(path) == "1"
