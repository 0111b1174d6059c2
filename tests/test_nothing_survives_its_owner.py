"""A signal ends a run between two epochs, and no process outlives the one that it works for."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from journal_facts import query, recorded_epochs
from live_processes import alive, gone, pids, wait_for
from processes import TESTS, environment
from small_trainers import Climb
from waiting_run import assert_resumes_exactly, here, processes, told, waiting

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def test_the_first_signal_lets_the_epochs_in_flight_end(path: Path) -> None:
    with waiting(path) as process:
        before = recorded_epochs(path)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert "finishing the epoch" in told(process)
        assert all(map(alive, processes(path)))
        path.with_name("witness").joinpath("go").touch()
        _, err = process.communicate()
        assert process.returncode == 75
    assert "letstune resume" in err
    assert recorded_epochs(path) == before + 2
    assert gone(processes(path))
    assert_resumes_exactly(path)


def test_the_second_signal_ends_all_at_once(path: Path) -> None:
    with waiting(path) as process:
        before = recorded_epochs(path)
        os.kill(process.pid, signal.SIGINT)
        told(process)
        os.kill(process.pid, signal.SIGTERM)
        process.communicate()
        assert process.returncode in (130, -signal.SIGINT)
        assert gone(processes(path), within=0)
    assert recorded_epochs(path) == before
    assert len(processes(path)) == 6
    assert_resumes_exactly(path)


def test_nothing_survives_an_owner_that_is_killed(path: Path) -> None:
    with waiting(path) as process:
        process.kill()
        process.wait()
        assert len(processes(path)) == 6
        assert gone(processes(path), within=10)
    assert_resumes_exactly(path)


def test_nothing_of_a_worker_survives_its_supervisor(path: Path) -> None:
    with waiting(path) as process:
        worker, supervisor, grandchild = pids(here(path.with_name("witness"))[0])
        os.kill(supervisor, signal.SIGKILL)
        assert gone([worker, grandchild])
        wait_for(lambda: query(path, "SELECT code, memory FROM deaths") == [(-9, None)])
        path.with_name("witness").joinpath("go").touch()
        process.communicate()
        assert process.returncode == 0
    assert_resumes_exactly(path)


class Loading(Climb):
    """Takes for ever to load its dataset."""

    def load_dataset(self, dataset: Any) -> None:
        Path(dataset).write_text(str(os.getpid()))
        signal.pause()


LOAD = """
import sys, letstune
from test_nothing_survives_its_owner import Loading
letstune.tune(Loading(), 6, workers=1, journal=sys.argv[1], dataset=sys.argv[2])
"""


@pytest.mark.slow
def test_the_first_signal_does_not_wait_for_a_dataset(path: Path) -> None:
    witness = path.with_name("witness")
    with subprocess.Popen(
        [sys.executable, "-c", LOAD, str(path), str(witness)],
        env=environment(TESTS),
        stderr=subprocess.PIPE,
    ) as process:
        try:
            wait_for(lambda: witness.exists() and witness.read_text())
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
            assert process.returncode == 75
        finally:
            process.kill()
    assert gone(pids(witness), within=0)
