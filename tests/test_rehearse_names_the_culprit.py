"""`rehearse` names what a trainer has forgotten, and has nothing to say of one that has not."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import forgetful
import numpy as np
import pytest
from click.testing import CliRunner
from forgetful import Saving, Start
from small_trainers import Climb, Folders
from stateful_trainer import WalkTrainer

import letstune
from letstune import EpochTrainer
from letstune.cli.main import main
from letstune.cli.options import path_or_value
from letstune.training.checkpoints import Checkpoint

EXAMPLES = Path(__file__).parents[1] / "examples"
FORGOTTEN = "After an epoch, `save` and `load` did not bring back all: "
ANEW = (
    "It starts over after a load: in epoch 1 of trial 0, loss is 4.145, as in epoch 0 (4.132), and "
    "not 0.8605 as straight on. Let `load` bring back the model, and hand the checkpoint on to "
    "what trains it, such as ckpt_path or resume_from_checkpoint."
)
LEFT_BEHIND = (
    "Trial 1 came out differently in its first epoch if no other trial had been trained before it "
    "in its process: an earlier trial has changed something that load_dataset loaded, or that is "
    "global. Then results depend on who trained what before, resume or no resume. A training has "
    "changed: target differs. Copy in create_model and load what an epoch changes, or make it anew "
    "there."
)
RELOAD = (
    "With reload = True, the trial comes out the same; a load takes N seconds an epoch here. It is "
    "for frameworks in which a model is not the same after it was loaded, and it hides what `save` "
    "forgets: look for that first."
)


def rehearsed(trainer: Any) -> tuple[list[Any], list[str]]:
    found = letstune.rehearse(trainer)
    remarks = [re.sub(r"takes \S+ seconds", "takes N seconds", line) for line in found.remarks]
    return [difference[:3] for difference in found], remarks


LATER = [(0, 1, "loss"), (2, 1, "loss")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "differences", "remarks"),
    [
        (
            "WithoutOptimizer",
            [*LATER, (0, 0, "optimizer.state")],
            [FORGOTTEN + "optimizer.state: 2 keys became 0."],
        ),
        (
            "WithoutScheduler",
            [(0, 0, "scheduler.best")],
            [FORGOTTEN + "scheduler.best: 4.13178 became inf."],
        ),
        ("WithoutScaler", [(0, 0, "scaler.good")], [FORGOTTEN + "scaler.good: 5 became 0."]),
        (
            "WithoutGenerator",
            [*LATER, (0, 0, "loader.generator")],
            [FORGOTTEN + "loader.generator differs."],
        ),
        (
            "WithWorkers",
            [*LATER, (0, 0, "loader.workers")],
            [FORGOTTEN + "loader.workers: a Workers became None."],
        ),
        (
            "StartingOver",
            [
                *LATER,
                *(
                    (0, 0, field)
                    for field in (
                        *("loader.generator", "weights", "scheduler.best", "scaler.good"),
                        "optimizer.state",
                    )
                ),
            ],
            [
                FORGOTTEN + "loader.generator differs; weights differs; scheduler.best: 4.13178 "
                "became inf; scaler.good: 5 became 0; optimizer.state: 2 keys became 0.",
                ANEW,
            ],
        ),
        (
            "ChangingTheDataset",
            [(0, 1, "loss"), (1, 0, "loss"), (2, 0, "loss"), (0, 0, "target")],
            [LEFT_BEHIND],
        ),
        (
            "Library",
            LATER,
            [
                "Not the same after a load, and perhaps the reason: predictions: 1 key became 0; "
                "losses: 1 item became 0.",
                RELOAD,
            ],
        ),
        ("InAFunction", [(0, 0, "scaler.good")], [FORGOTTEN + "scaler.good: 2 became 1."]),
    ],
)
def test_what_is_forgotten_is_named(name: str, differences: list[Any], remarks: list[str]) -> None:
    assert rehearsed(getattr(forgetful, name)()) == (differences, remarks)


class Frozen(Saving):
    """Loads a loader that goes on in load_dataset, where nobody saves it."""

    saved = ("weights", "optimizer", "scheduler", "scaler")

    def load_dataset(self, dataset: Any) -> None:
        super().load_dataset(dataset)
        self.shared = forgetful.Loader()

    def create_model(self, params: Start) -> None:
        super().create_model(params)
        self.loader = self.shared


class Remade(Saving):
    """Makes anew in each epoch what others save: a right trainer."""

    saved = ("weights",)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.optimizer, self.scheduler = forgetful.Adam(), forgetful.Plateau()
        self.scaler, self.loader = forgetful.Scaler(), forgetful.Loader()
        return super().train_epoch(epoch)


class Pickled(EpochTrainer[Start]):
    """Has all that there is in its model, with parts that are shared, and a ring."""

    metric = "-loss"

    def load_dataset(self, dataset: Any) -> None:
        self.lock = __import__("threading").Lock()
        self.calls = 0

    def create_model(self, params: Start) -> None:
        self.model: dict[str, Any] = {"x": params.x, "rng": np.random.default_rng(self.seed)}
        self.model["self"] = self.model
        self.twice = [self.model["rng"]] * 2

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.path, self.first = Path.cwd(), epoch == 0
        self.model["x"] *= float(self.model["rng"].random())
        return {"loss": self.model["x"]}

    def load(self, checkpoint: Checkpoint, params: Start) -> None:
        super().load(checkpoint, params)
        self.resumed_from = str(checkpoint.path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "trainer",
    [
        *(Saving(), Remade(), Pickled(), forgetful.Reloading(), Climb(), Folders()),
        WalkTrainer(),
    ],
    ids=lambda trainer: type(trainer).__name__,
)
def test_there_is_no_false_alarm(trainer: Any) -> None:
    assert rehearsed(trainer) == ([], [])


@pytest.mark.slow
def test_what_goes_on_in_the_dataset_is_told_apart() -> None:
    _, remarks = rehearsed(Frozen())
    assert any("load_dataset loaded" in line and "shared.generator" in line for line in remarks)


@pytest.mark.slow
def test_a_trainer_of_scikit_learn_gets_no_false_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    monkeypatch.syspath_prepend(EXAMPLES)
    trainer = importlib.import_module("digits_mlp").DigitsMLPTrainer()
    assert rehearsed(trainer) == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forgotten", "told"),
    [
        ("", []),
        ("opt", ["opt.state_dict()['state']: 6 keys became 0"]),
        (
            "plateau",
            [
                "plateau.state_dict()['last_epoch']: 1 became 0; "
                "plateau.state_dict()['best']: V became inf"
            ],
        ),
        ("scaler", ["scaler.state_dict()['_growth_tracker']: 4 became 0"]),
        ("generator", ["generator differs"]),
    ],
)
def test_what_a_trainer_of_pytorch_forgets_is_named(forgotten: str, told: list[str]) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from forgetful_torch import TorchTrainer

    trainer = TorchTrainer()
    trainer.forgotten = forgotten
    _, remarks = rehearsed(trainer)
    remarks = [re.sub(r"\d+\.\d+ became inf", "V became inf", line) for line in remarks]
    assert remarks == [f"{FORGOTTEN}{line}." for line in told]


class Threaded(Saving):
    """Has a thread, so that its process cannot be forked."""

    def load_dataset(self, dataset: Any) -> None:
        import threading

        super().load_dataset(dataset)
        self.thread = threading.Thread(target=threading.Event().wait, daemon=True)
        self.thread.start()


class ThreadedWithoutScaler(Threaded):
    saved = forgetful.WithoutScaler.saved


@pytest.mark.slow
def test_where_forks_are_not_safe_processes_do() -> None:
    assert rehearsed(Threaded()) == ([], [])
    assert rehearsed(ThreadedWithoutScaler())[1] == [FORGOTTEN + "scaler.good: 5 became 0."]


class Dying(Saving):
    """Ends its process when it has been loaded."""

    def load(self, checkpoint: Checkpoint, params: Start) -> None:
        __import__("os")._exit(3)


@pytest.mark.slow
def test_a_process_that_dies_is_a_failure_of_the_trial() -> None:
    found = letstune.rehearse(Dying(), n_trials=1, epochs=2)
    assert found[0][:3] == (0, 1, "status")
    assert "The process died" in str(found[0].resumed)


@pytest.mark.slow
def test_the_command_tells_what_is_behind_it() -> None:
    done = CliRunner().invoke(main, ["rehearse", "forgetful:WithoutScheduler"])
    assert done.exit_code == 1
    assert "scheduler.best: 4.13178 became inf" in done.stderr
    assert "what `load` brings back" in done.stderr


class Given(Climb):
    def load_dataset(self, dataset: Any) -> None:
        if dataset != 600:
            raise ValueError(repr(dataset))


@pytest.mark.slow
def test_the_command_says_what_it_took_the_dataset_for() -> None:
    options = ["-n", "1", "--epochs", "2", "--dataset", "600"]
    name = "test_rehearse_names_the_culprit:Given"
    done = CliRunner().invoke(main, ["rehearse", name, *options])
    assert done.exit_code == 0
    assert done.stderr == "--dataset: taken as a Python value, 600.\n"


def test_a_dataset_on_the_command_line_is_a_path_a_value_or_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "600").touch()
    assert path_or_value("600") == ("600", "a path, which is there")
    assert path_or_value("601") == (601, "a Python value, 601")
    assert path_or_value("'601'") == ("601", "a Python value, '601'")
    assert path_or_value("{'a': [1]}")[0] == {"a": [1]}
    text = f"text, since there is no such path in {tmp_path}, and it is no Python value"
    assert path_or_value("small.csv") == ("small.csv", text)
