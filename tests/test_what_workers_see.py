"""Workers see what their owner sees, and share cores and devices."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_trainers import Climb, Point, tune

import letstune
from letstune import SimpleTrainer
from letstune.errors import PlanError
from letstune.workers import machine
from letstune.workers.machine import THREADS, usable_cores

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


class Seeing(SimpleTrainer[Point]):
    """Its model is the environment, and its dataset."""

    metric = "x"

    def load_dataset(self, dataset: Any) -> None:
        self.dataset = dataset

    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        meet(Path(self.dataset["meeting"]), self.dataset["size"])
        seen = dict(os.environ), sys.path, str(Path.cwd()), os.getsid(0)
        return seen, {"x": params.x}


def meet(folder: Path, size: int) -> None:
    """Wait until so many processes have come here, so that each gets a task."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < size:
        time.sleep(0.01)


def seen(path: Path, size: int, **options: Any) -> list[Any]:
    meeting = path.with_name("meeting")
    meeting.mkdir()
    dataset = {"meeting": str(meeting), "size": size, "large": bytes(2**20)}
    tuning = tune(Seeing(), size, path, dataset=dataset, **options)
    found = [trial.checkpoint.load_pickle() for trial in tuning]
    meeting_pids = [int(file.name) for file in meeting.iterdir()]
    assert sorted(session for *_, session in found) == sorted(meeting_pids)
    return found


def test_workers_have_the_import_path_and_folder_of_their_owner(path: Path) -> None:
    ((_, import_path, folder, session),) = seen(path, 1, workers=1)
    assert import_path[: len(sys.path)] == sys.path
    assert folder == str(Path.cwd())
    assert session != os.getsid(0)


@pytest.mark.parametrize(("user", "threads"), [({}, None), ({"OMP_NUM_THREADS": "5"}, "5")])
def test_workers_share_the_cores(
    user: dict[str, str], threads: str | None, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    for name, value in {**user, "MKL_NUM_THREADS": "7"}.items():
        monkeypatch.setenv(name, value)
    for variables, *_ in seen(path, 2, workers=2):
        share = threads or str(max(1, usable_cores() // 2))
        assert {variables[name] for name in THREADS if name != "MKL_NUM_THREADS"} == {share}
        assert variables["MKL_NUM_THREADS"] == "7"
    assert "OPENBLAS_NUM_THREADS" not in os.environ


class Threads(SimpleTrainer[Point]):
    """Its metric is how many threads it may have."""

    metric = "threads"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        return None, {"threads": float(os.environ.get("OPENBLAS_NUM_THREADS", "nan"))}


@pytest.mark.slow
def test_a_run_keeps_its_number_of_threads(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("letstune.workers.machine.usable_cores", lambda: 6)
    monkeypatch.setattr("letstune.runs.how.usable_cores", lambda: 6)
    tune(Threads(), 2, path, workers=2)
    letstune.resume(path, n_trials=4, workers=1, progress=False)
    assert capsys.readouterr().err == ""
    letstune.resume(path, n_trials=6, workers=3)
    assert "each of 3 workers has 3 threads, on 6 cores" in capsys.readouterr().err
    threads = [trial.metric_value for trial in letstune.load(path)]
    assert threads == [3.0] * 6  # and not 3, 6 and 2
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    letstune.resume(path, n_trials=7, progress=False)
    assert letstune.load(path).trial(6).metric_value == 1.0


def test_each_worker_sees_a_device_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-b,7")
    found = seen(path, 3, gpus="auto")
    assert sorted(e["CUDA_VISIBLE_DEVICES"] for e, *_ in found) == ["3", "7", "GPU-b"]


def test_workers_share_devices_in_turns(path: Path) -> None:
    found = seen(path, 3, gpus=[1, 0], workers=3)
    assert sorted(e["CUDA_VISIBLE_DEVICES"] for e, *_ in found) == ["0", "1", "1"]


def test_no_device_is_an_error_before_anything_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(PlanError, match="no device is visible"):
        tune(Climb(), 3, path, rounds=[1], gpus="auto")
    assert list(path.parent.iterdir()) == []


def test_the_quota_of_a_container_counts(tmp_path: Path) -> None:
    assert machine._quota(tmp_path) == float("inf")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine._quota(tmp_path) == float("inf")
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert machine._quota(tmp_path) == 2.5
