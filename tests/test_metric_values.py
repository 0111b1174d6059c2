"""Metric values are real numbers by name; anything else is shown."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_trainers import Hill, Point, tune

import letstune
from letstune.errors import TrainerError
from letstune.training.trainer import metric_values, without_metric


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


def test_a_time_span_is_no_metric_value() -> None:
    with pytest.raises(TrainerError, match="real number"):
        metric_values({"m": np.timedelta64(3)}, "m", "It")
