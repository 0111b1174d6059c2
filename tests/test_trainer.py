"""A trainer is cloned, loads its dataset once, and trains, saves and loads in order."""

import pickle
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_trainers import Climb, Hill, Modelled, Point, tune

import letstune
from letstune import EpochTrainer, SimpleTrainer
from letstune.training.checkpoints import Checkpoint

CALLS: list[tuple[Any, ...]] = []


@pytest.fixture
def calls() -> list[tuple[Any, ...]]:
    CALLS.clear()
    return CALLS


class Spy(EpochTrainer[Point]):
    """Tells every call; trial 2 is the best."""

    metric = "height"

    def load_dataset(self, dataset: Any) -> None:
        CALLS.append(("load_dataset", dataset))
        self.lock = threading.Lock()  # cannot be pickled

    def create_model(self, params: Point) -> None:
        CALLS.append(("create_model",))
        self.model: list[int] = []

    def train_epoch(self, epoch: int) -> dict[str, float]:
        CALLS.append(("train_epoch", epoch))
        self.model.append(epoch)
        creations = sum(call[0] == "create_model" for call in CALLS)
        return {"height": float(creations == 3)}

    def save(self, checkpoint: Checkpoint) -> None:
        CALLS.append(("save", list(self.model)))
        checkpoint.save_pickle(self.model)

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        self.model = checkpoint.load_pickle()
        CALLS.append(("load", list(self.model)))


class SimpleSpy(SimpleTrainer[Point]):
    metric = "height"

    def load_dataset(self, dataset: Any) -> None:
        CALLS.append(("load_dataset", dataset))

    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        CALLS.append(("train", params))
        return params.x, {"height": params.x}

    def save(self, checkpoint: Checkpoint, model: Any) -> None:
        CALLS.append(("save", model))


def trained(*epochs: int) -> list[tuple[Any, ...]]:
    """What is called for each epoch: it is trained, then saved."""
    return [call for e in epochs for call in (("train_epoch", e), ("save", list(range(e + 1))))]


def test_a_trial_is_created_then_trained_and_saved_epoch_by_epoch(
    path: Path, calls: list[tuple[Any, ...]]
) -> None:
    tune(Spy(), 1, path, rounds=[3], dataset="data")
    assert calls == [("load_dataset", "data"), ("create_model",), *trained(0, 1, 2)]


def test_a_trial_that_advances_is_loaded_and_not_created(
    path: Path, calls: list[tuple[Any, ...]]
) -> None:
    tune(Spy(), 4, path, rounds=[1, 2])
    each = [("create_model",), *trained(0)]
    assert calls == [("load_dataset", None), *each * 4, ("load", [0]), *trained(1, 2)]


def test_load_dataset_is_called_once_on_a_trainer_and_never_on_the_users_own(
    path: Path, calls: list[tuple[Any, ...]]
) -> None:
    trainer = Spy()
    tune(trainer, 4, path, rounds=[1, 1, 1])
    assert [call for call in calls if call[0] == "load_dataset"] == [("load_dataset", None)]
    assert vars(trainer) == {}


def test_a_run_that_goes_on_loads_the_dataset_into_a_new_clone(
    path: Path, calls: list[tuple[Any, ...]]
) -> None:
    tune(Spy(), 1, path, rounds=[1], dataset="data")
    calls.clear()
    letstune.resume(path, rounds=[3], progress=False, rehearse=False)
    assert calls == [("load_dataset", "data"), ("load", [0]), *trained(1, 2)]


def test_a_finished_run_needs_no_dataset(path: Path, calls: list[tuple[Any, ...]]) -> None:
    tune(Spy(), 2, path, rounds=[1])
    calls.clear()
    tune(Spy(), 2, path, rounds=[1])
    assert calls == []


def test_a_simple_trainer_trains_and_saves_each_params(
    path: Path, calls: list[tuple[Any, ...]]
) -> None:
    tuning = tune(SimpleSpy(), 3, path, dataset="data")
    params = [tuning.trial(i).params for i in range(3)]
    each = [call for p in params for call in (("train", p), ("save", p.x))]
    assert calls == [("load_dataset", "data"), *each]


class Configured(Hill):
    def __init__(self, scale: float) -> None:
        self.scale = scale

    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        return params, {"height": self.scale}


def test_a_clone_has_the_fields_of_the_trainer(path: Path) -> None:
    assert tune(Configured(3.5), 1, path)[0].metric_value == 3.5


def test_a_trainer_before_load_dataset_is_cloned_by_pickle() -> None:
    trainer = Configured(2.0)
    assert vars(pickle.loads(pickle.dumps(trainer))) == {"scale": 2.0}


class Defaults(EpochTrainer[Modelled]):
    """Has the defaults of create_model, save and load."""

    metric = "n"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train_epoch(self, epoch: int) -> dict[str, float]:
        self.model.setdefault("epochs", []).append(epoch)
        return {"n": len(self.model["epochs"])}


def test_by_default_the_model_is_made_by_params_and_pickled(path: Path) -> None:
    tuning = tune(Defaults(), 4, path, rounds=[2, 2])
    winner = tuning[0]
    assert winner.checkpoint.load_pickle() == {"x": winner.params.x, "epochs": [0, 1, 2, 3]}


def test_by_default_a_simple_trainers_model_is_pickled(path: Path) -> None:
    tuning = tune(Hill(), 2, path)
    assert tuning[1].checkpoint.load_pickle() == tuning[1].params


class LeavesAField(Climb):
    """Sets a field in create_model that load does not set."""

    def create_model(self, params: Point) -> None:
        super().create_model(params)
        self.pace = params.n

    def train_epoch(self, epoch: int) -> dict[str, float]:
        return {"height": self.pace}


def test_a_trial_never_goes_on_with_the_fields_of_another(path: Path) -> None:
    tuning = tune(LeavesAField(), 4, path, rounds=[1, 2])
    (error,) = tuning.errors
    assert error.epoch == 1
    assert "has no attribute 'pace'" in error.message


@dataclass(frozen=True)
class Frozen(SimpleTrainer[Point]):
    metric = "height"
    slope: float = 1.0

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train(self, params: Point) -> Any:
        return params, {"height": self.slope * params.x + self.seed}


def test_a_frozen_dataclass_may_be_a_trainer(path: Path) -> None:
    assert tune(Frozen(), 1, path).finished
