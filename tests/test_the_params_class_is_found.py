"""The params class of a trainer is found, and what is no trainer is refused."""

from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
from small_trainers import Climb, Hill, Modelled, Point, tune

from letstune import EpochTrainer, Params, SimpleTrainer
from letstune.errors import TrainerError
from letstune.training.trainer import params_class

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
