import math
import pickle
import random
import sys
import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

import numpy as np
import pytest
from facts import metrics_of
from tiny import Climb, Hill, Point, python, tune

import letstune
from letstune import EpochTrainer, Params, Rounds, SimpleTrainer, StopTraining, rand
from letstune.errors import SpaceError, TrainerError
from letstune.training.checkpoints import Checkpoint
from letstune.training.trainer import metric_values, params_class, without_metric

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


# The lifecycle


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
    letstune.resume(path, rounds=[3], progress=False)
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


# Defaults


class Modelled(Params):
    model_cls = dict

    x: float = rand.uniform(0, 1)


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


# Metric values


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0.1, 0.1),
        (1, 1.0),
        (True, 1.0),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.int64(-3), -3.0),
        (np.bool_(True), 1.0),
        (np.array(0.25), 0.25),
        (np.array(7), 7.0),
        (Fraction(1, 4), 0.25),
        pytest.param(10**400, math.inf, id="huge"),
        pytest.param(-(10**400), -math.inf, id="-huge"),
        (math.inf, math.inf),
        (-0.0, -0.0),
    ],
)
def test_real_numbers_are_metric_values(value: Any, number: float) -> None:
    found = metric_values({"m": value}, "m", "Training")["m"]
    assert type(found) is float
    assert repr(found) == repr(number)


def test_nan_is_a_metric_value() -> None:
    assert math.isnan(metric_values({"m": np.float32("nan")}, "m", "Training")["m"])


@pytest.mark.parametrize(
    "value",
    [
        *("0.9", None, 1j, [0.9], object),
        *(np.array([0.9]), np.array([[1]]), np.array(1j), np.str_("1")),
        *(np.timedelta64(1, "s"), np.datetime64("2020-01-01")),
    ],
)
def test_what_is_no_real_number_is_shown(value: Any) -> None:
    with pytest.raises(TrainerError) as caught:
        metric_values({"m": 0.5, "other": value}, "m", "Training")
    assert "'other'" in str(caught.value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("returned", [None, 0.9, [("m", 0.9)], "m", {1: 0.5, "m": 0.5}])
def test_what_is_no_dict_of_names_is_shown(returned: Any) -> None:
    with pytest.raises(TrainerError) as caught:
        metric_values(returned, "m", "Training")
    assert repr(returned)[:200] in str(caught.value)


def test_a_missing_metric_is_told_with_those_that_are_there() -> None:
    told = without_metric({"b": 1.0, "a": 2.0}, "-m", "Training")
    assert told == "Training returned no 'm', which is the trainer's metric, but ['a', 'b']."


class Returning(Hill):
    def __init__(self, value: Any) -> None:
        self.value = value

    def train(self, params: Point) -> Any:
        return self.value


def test_a_simple_trainer_must_return_a_tuple(path: Path) -> None:
    told = r"train returned \{'height': 1\}; expected a tuple"
    with pytest.raises(TrainerError, match=told) as caught:
        tune(Returning({"height": 1}), 1, path)
    assert caught.type is TrainerError  # a name that is documented


def test_a_trainer_that_breaks_its_contract_ends_the_run_and_can_be_mended(path: Path) -> None:
    with pytest.raises(TrainerError, match="'height'"):
        tune(Returning((None, {"depth": 1})), 2, path)
    assert letstune.load(path).errors == []
    mended = letstune.resume(path, trainer=Returning((None, {"height": 1})), progress=False)
    assert [trial.metric_value for trial in mended] == [1.0, 1.0]


# The params class

P = TypeVar("P", bound=Params)
Q = TypeVar("Q")


class Middle(EpochTrainer[P], Generic[P]):
    metric = "m"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def train_epoch(self, epoch: int) -> dict[str, float]:
        return {"m": 0.0}


class FromParameter(Middle[Point]):
    pass


class FromBase(FromParameter):
    pass


class FromAttribute(Middle[Any]):
    params_cls = Point


class Narrowed(FromParameter):
    params_cls = Modelled


class Second(Generic[Q, P], Middle[P]):
    pass


class FromSecondParameter(Second[int, Point]):
    pass


@pytest.mark.parametrize(
    ("trainer", "cls"),
    [
        (Climb(), Point),
        (Hill(), Point),
        (FromParameter(), Point),
        (FromBase(), Point),
        (FromAttribute(), Point),
        (Narrowed(), Modelled),
        (FromSecondParameter(), Point),
    ],
)
def test_the_params_class_is_found(trainer: Any, cls: type[Params]) -> None:
    assert params_class(trainer) is cls


@pytest.mark.parametrize(
    ("trainer", "text"),
    [
        (Middle(), r"Middle: which Params.*EpochTrainer\[YourParams\], or set params_cls"),
        (Climb, "the class Climb"),
        (object(), "<object object"),
        (None, "None"),
    ],
)
def test_what_is_no_trainer_is_refused(trainer: Any, text: str, path: Path) -> None:
    with pytest.raises(TrainerError, match=text):
        tune(trainer, 1, path)
    assert not path.exists()


class Nameless(Hill):
    metric = ""


def test_a_trainer_needs_a_metric(path: Path) -> None:
    with pytest.raises(TrainerError, match=r"Nameless\.metric is ''"):
        tune(Nameless(), 1, path)


def test_abstract_methods_must_be_there() -> None:
    with pytest.raises(TypeError, match="abstract"):
        SimpleTrainer()  # type: ignore[abstract]


# Randomness


class Dice(EpochTrainer[Point]):
    """Draws from every source, in every call."""

    metric = "seed"

    def draw(self) -> list[float]:
        own = [float(self.seed), float(self.rng.random()), float(self.rng.random())]
        return [*own, random.random(), float(np.random.random())]

    def load_dataset(self, dataset: Any) -> None:
        self.first = self.draw()

    def create_model(self, params: Point) -> None:
        self.model = self.draw()

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        self.model = self.draw()

    def train_epoch(self, epoch: int) -> dict[str, float]:
        drawn = self.draw()
        groups = {"dataset": self.first, "model": self.model, "train": drawn}
        random.seed(1)  # what an epoch does to them does not reach the next one
        np.random.seed(1)
        named = {f"{name}{i}": v for name, vs in groups.items() for i, v in enumerate(vs)}
        return {"seed": drawn[0], **named}


def test_seeds_do_not_depend_on_what_ran_before(path: Path) -> None:
    tune(Dice(), 8, path, rounds=[2, 1])
    other = path.with_name("other.db")
    for n in (2, 5, 8):  # in several goes
        tune(Dice(), n, other, rounds=letstune.Rounds([2, 1], cohort=[8]))
    found, wanted = metrics_of(other), metrics_of(path)
    assert len(wanted) == 8 * 2 + 2
    assert {at: found[at] for at in wanted} == wanted


def test_seeds_are_the_same_in_another_process(path: Path) -> None:
    tune(Dice(), 4, path, rounds=[1, 1])
    script = (
        "import sys, pathlib, tiny, test_trainer\n"
        "tiny.tune(test_trainer.Dice(), 4, pathlib.Path(sys.argv[1]), rounds=[1, 1])"
    )
    other = path.with_name("other.db")
    done = python("-c", script, other, cwd=path.parent)
    assert done.returncode == 0, done.stderr
    assert metrics_of(other) == metrics_of(path)


def test_every_call_has_randomness_of_its_own(path: Path) -> None:
    tune(Dice(), 4, path, rounds=[2, 1])
    rows = metrics_of(path)
    for source in range(5):
        trains = [row[f"train{source}"] for row in rows.values()]
        creates = [row[f"model{source}"] for (_, epoch), row in rows.items() if epoch == 0]
        loads = [row[f"model{source}"] for (_, epoch), row in rows.items() if epoch == 2]
        dataset = {row[f"dataset{source}"] for row in rows.values()}
        drawn = [*trains, *creates, *loads, *dataset]
        assert len(set(drawn)) == len(drawn) == 9 + 4 + 1 + 1


def test_the_seed_is_one_that_every_framework_takes(path: Path) -> None:
    tune(Dice(), 4, path, rounds=[2])
    seeds = [row["train0"] for row in metrics_of(path).values()]
    assert all(0 <= seed < 2**31 and seed == int(seed) for seed in seeds)


@pytest.mark.parametrize("seed", [2**31, 2**32, 2**100])
def test_big_seeds_are_fine(path: Path, seed: int) -> None:
    assert len(tune(Dice(), 2, path, rounds=[1], seed=seed)) == 2


class Torch(Hill):
    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        return None, {"height": float(SEEDED[-1] == self.seed)}


SEEDED: list[int] = []


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("torch", SimpleNamespace(manual_seed=SEEDED.append)),
        ("tensorflow", SimpleNamespace(random=SimpleNamespace(set_seed=SEEDED.append))),
    ],
)
def test_imported_frameworks_are_seeded(
    name: str, module: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SEEDED.clear()
    monkeypatch.setitem(sys.modules, name, module)
    assert [trial.metric_value for trial in tune(Torch(), 2, path)] == [1.0, 1.0]


def test_rng_outside_of_a_run_says_when_it_is_there() -> None:
    with pytest.raises(TrainerError, match=r"Climb\.rng is there during a run only"):
        _ = Climb().rng


# Failures, and trials that end early


class Stopping(EpochTrainer[Point]):
    """Stops in the given call, in epoch 1, with or without metric values."""

    metric = "height"

    def __init__(self, where: str, *metrics: dict[str, float]) -> None:
        self.where = where
        self.metrics = metrics

    def stop(self, where: str) -> None:
        if where == self.where:
            raise StopTraining(*self.metrics)

    def load_dataset(self, dataset: Any) -> None:
        pass

    def create_model(self, params: Point) -> None:
        self.stop("create_model")
        self.model = "model"

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        self.stop("load")
        self.model = "loaded"

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 1:
            self.stop("train_epoch")
        self.model = f"model {epoch}"
        return {"height": float(epoch)}


@pytest.mark.parametrize(
    ("trainer", "heights"),
    [
        (Stopping("train_epoch"), [0.0]),
        (Stopping("train_epoch", {"height": 7.0}), [0.0, 7.0]),
        (Stopping("create_model"), []),
        (Stopping("load"), [0.0]),
    ],
)
def test_a_trial_that_stops_is_finished_and_not_failed(
    trainer: Any, heights: list[float], path: Path
) -> None:
    tuning = tune(trainer, 1, path, rounds=[1, 3])
    assert tuning.finished
    assert tuning.errors == []
    assert tuning[0].status == "stopped"
    assert [epoch.metric_value for epoch in tuning[0].epochs] == heights


def test_what_a_trial_stops_with_is_saved(path: Path) -> None:
    tuning = tune(Stopping("train_epoch", {"height": 7.0}), 1, path, rounds=[4])
    assert tuning[0].checkpoint.load_pickle() == "model 0"


def test_stopping_without_the_metric_is_told(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuning = tune(Stopping("train_epoch", {"depth": 7.0}), 1, path, rounds=[4], progress=None)
    assert "returned no 'height'" in capsys.readouterr().err
    assert tuning[0].status == "stopped"
    assert math.isnan(tuning[0].epochs[-1].metric_value)


class StoppingSimply(Hill):
    """Every other trial stops."""

    def __init__(self, *metrics: dict[str, float]) -> None:
        self.metrics = metrics

    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        if params.n % 2:
            raise StopTraining(*self.metrics)
        return params, {"height": params.n}


def test_a_simple_trainer_may_stop_without_metric_values(path: Path) -> None:
    tuning = tune(StoppingSimply(), 8, path)
    assert tuning.errors == []
    assert {(t.status, len(t.epochs)) for t in tuning} == {("stopped", 0), ("trained", 1)}


def test_a_simple_trainer_may_stop_with_metric_values_and_without_a_model(path: Path) -> None:
    tuning = tune(StoppingSimply({"height": 99.0}), 8, path)
    assert tuning.errors == []
    stopped = [trial for trial in tuning if trial.status == "stopped"]
    assert [trial.metric_value for trial in stopped] == [99.0] * len(stopped) != []
    for trial in stopped:  # certainly not the model of another trial
        with pytest.raises(letstune.LetstuneError, match="never there"):
            trial.checkpoint.load_pickle()


class RaisingSpaceError(Hill):
    def train(self, params: Point) -> tuple[Any, dict[str, float]]:
        if params.n % 2:
            params.replace(x="wrong")
        return params, {"height": params.n}


def test_an_error_of_letstune_that_a_trainer_runs_into_is_its_trials_failure(path: Path) -> None:
    tuning = tune(RaisingSpaceError(), 8, path)
    assert tuning.finished
    assert 0 < len(tuning.errors) < 8
    assert all(SpaceError.__name__ in error.traceback for error in tuning.errors)


class StoppingInSave(Climb):
    def save(self, checkpoint: Checkpoint) -> None:
        super().save(checkpoint)
        if len(self.model) == 3 and self.model[0] < 0:
            raise StopTraining


def test_to_stop_in_save_is_to_stop_after_the_epoch(path: Path) -> None:
    tuning = tune(StoppingInSave(), 8, path, rounds=[3])
    assert tuning.finished
    assert tuning.errors == []
    stopped = {t.trial_id for t in tuning if t.params.x < 0}
    assert 0 < len(stopped) < 8
    assert {t.trial_id for t in tuning if t.status == "stopped"} == stopped
    assert {(t.status, len(t.epochs)) for t in tuning} == {("stopped", 2), ("trained", 3)}
    assert all(t.checkpoint.load_pickle() for t in tuning)


class Exiting(Stopping):
    """Ends the program."""

    def stop(self, where: str) -> None:
        if where == self.where:
            sys.exit("no GPU")


@pytest.mark.parametrize("where", ["create_model", "load", "train_epoch"])
def test_an_exit_is_the_trials_failure(where: str, path: Path) -> None:
    tuning = tune(Exiting(where), 3, path, rounds=Rounds([1, 3], keep=1))
    assert tuning.finished
    assert [error.message for error in tuning.errors] == ["SystemExit: no GPU"] * 3


class LateTorch(Climb):
    def train_epoch(self, epoch: int) -> dict[str, float]:
        if epoch == 0:
            sys.modules["torch"] = SimpleNamespace(manual_seed=SEEDED.append)  # type: ignore[assignment]
        return super().train_epoch(epoch)


def test_a_framework_that_is_imported_in_the_middle_is_told_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())  # to be put back
    del sys.modules["torch"]
    told = r"torch was first imported in the middle of trial 0.*load_dataset"
    with pytest.warns(UserWarning, match=told) as warned:
        tune(LateTorch(), 2, path, rounds=[3])
    assert len(warned) == 1


class TorchInTime(Hill):
    def load_dataset(self, dataset: Any) -> None:
        sys.modules["torch"] = SimpleNamespace(manual_seed=SEEDED.append)  # type: ignore[assignment]


def test_a_framework_may_be_imported_in_load_dataset(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())  # to be put back
    del sys.modules["torch"]
    tune(TorchInTime(), 2, path)  # a warning would be an error


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


def test_a_time_span_is_no_metric_value() -> None:
    with pytest.raises(TrainerError, match="real number"):
        metric_values({"m": np.timedelta64(3)}, "m", "It")
