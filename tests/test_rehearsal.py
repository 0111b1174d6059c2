import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from small_trainers import Climb, Hill, Point

import letstune
from letstune import StopTraining
from letstune.cli.main import main
from letstune.errors import PlanError, TrainerError
from letstune.runs.rehearsal import Difference
from letstune.training.checkpoints import Checkpoint


class ByAllSeeds(Climb):
    """Uses everything that is seeded, and ends early."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        values = super().train_epoch(epoch)
        values["height"] += random.random() + float(np.random.rand()) + self.seed
        if epoch == 1 and self.model[0] > 0:
            raise StopTraining(values)
        return {**values, "nan": float("nan")}


@pytest.mark.parametrize("trainer", [Hill(), ByAllSeeds()])
def test_who_depends_on_nothing_else_comes_out_the_same(trainer: Any) -> None:
    assert letstune.rehearse(trainer, n_trials=4) == []


class KeepsASeed(Climb):
    """Makes a generator of the seed, which in load is another one."""

    def create_model(self, params: Point) -> None:
        super().create_model(params)
        self.kept = np.random.default_rng(self.seed)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.model.append(self.model[-1] + float(self.kept.normal()))
        return {"height": self.model[-1]}

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        self.create_model(params)
        self.model = checkpoint.load_pickle()


class ForgetsAField(Climb):
    """Has a field that only create_model sets."""

    def create_model(self, params: Point) -> None:
        super().create_model(params)
        self.pace = params.n

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.model.append(self.model[-1] + self.pace)
        return {"height": self.model[-1]}


class LeavesBehind(Climb):
    """Changes what all trials share, so that each depends on those before."""

    def load_dataset(self, dataset: Any) -> None:
        self.heights: list[float] = []

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.heights.append(super().train_epoch(epoch)["height"])
        return {"height": sum(self.heights)}


class BySet(Hill):
    """Depends on the order of a set of strings, which is another one in each process."""

    def train(self, params: Point) -> Any:
        order = list({f"feature {i}" for i in range(1000)})
        return params, {"height": order.index("feature 7")}


@pytest.mark.parametrize(
    ("make", "epoch", "what"),
    [
        (KeepsASeed, 1, "height"),
        (ForgetsAField, 1, "status"),
        pytest.param(LeavesBehind, 1, "height", marks=pytest.mark.slow),
        pytest.param(BySet, 0, "height", marks=pytest.mark.slow),
    ],
)
def test_what_is_forgotten_is_found(
    make: Callable[[], Any], epoch: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    found = letstune.rehearse(make(), epochs=2)
    assert found
    assert found[0][1:3] == (epoch, what)
    assert all(difference.straight != difference.resumed for difference in found)


@pytest.mark.slow
def test_a_failure_in_load_tells_why() -> None:
    found = letstune.rehearse(ForgetsAField(), n_trials=1, epochs=2)
    message = "failed: AttributeError: 'ForgetsAField' object has no attribute 'pace'"
    assert found == [Difference(0, 1, "status", "trained", message)]


class NeverTheSame(Hill):
    def train(self, params: Point) -> Any:
        raise ValueError("never")


def test_nothing_to_compare_is_an_error() -> None:
    with pytest.raises(TrainerError, match=r"(?s)All of the 2 trials failed.*ValueError: never"):
        letstune.rehearse(NeverTheSame(), n_trials=2)


def test_one_epoch_is_refused() -> None:
    with pytest.raises(PlanError, match="epochs=1"):
        letstune.rehearse(Climb(), epochs=1)


def test_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    letstune.rehearse(Climb(), n_trials=1, epochs=2)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_the_command_ends_with_1_if_there_is_a_difference() -> None:
    done = CliRunner().invoke(main, ["rehearse", "small_trainers:Hill", "-n", "1"])
    assert (done.exit_code, done.output) == (
        0,
        "small_trainers:Hill comes out the same in pieces.\n",
    )
    forgetful = ["rehearse", "test_rehearsal:ForgetsAField", "-n", "1", "--epochs", "2", "--json"]
    done = CliRunner().invoke(main, forgetful)
    assert done.exit_code == 1
    assert [row["what"] for row in json.loads(done.stdout)] == ["status"]
    assert "what `load` brings back" in done.stderr
