"""What is recorded comes back to the last bit, whatever it is."""

import math
import struct
from pathlib import Path
from typing import Any

import pytest
from small_trainers import Climb, Hill, Odd, Point, tune

import letstune

VALUES = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e22, 2.0, 1 / 3, math.pi * 1e-300]
STRANGE = [math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("value", [*VALUES, *STRANGE])
def test_metric_values_come_back_to_the_last_bit(value: float, path: Path) -> None:
    fresh = tune(Odd(), 1, path, rounds=[1], dataset=[value])
    for tuning in (fresh, letstune.load(path)):
        epoch = tuning[0].epochs[0]
        for found, wanted in [
            (epoch.metric_value, value),
            (epoch.metric_values["height"], value),
            (epoch.metric_values["negated"], -value),
        ]:
            if math.isnan(wanted):
                assert math.isnan(found)
            else:
                assert struct.pack("<d", found) == struct.pack("<d", wanted)


@pytest.mark.parametrize(
    "text",
    [
        "\ud800 lone",
        "nul \0 byte",
        "emoji 🙂",
        "'; DROP TABLE epochs; --",
        "a\nb\r\tc",
        "[red]",
        "",
    ],
)
def test_odd_text_in_an_error_is_recorded(text: str, path: Path) -> None:
    class Raising(Hill):
        def train(self, params: Point) -> Any:
            raise ValueError(text)

    tuning = tune(Raising(), 2, path)
    assert tuning.finished
    assert len(letstune.load(path).errors) == 2


def test_odd_names_of_metrics_are_recorded(path: Path) -> None:
    names = ["höhe", "a.b", "", "\ud800", "'", "n\0l", "$type"]

    class Named(Hill):
        def train(self, params: Point) -> Any:
            return None, {"height": 1.0} | dict.fromkeys(names, 2.0)

    tune(Named(), 1, path)
    assert set(letstune.load(path)[0].metric_values) == {"height", *names}


@pytest.mark.parametrize("name", ["a b.db", "odd?name#%41.db", "日本.db", "no suffix", "it's.db"])
def test_a_journal_may_have_any_name(name: str, path: Path) -> None:
    odd = path.with_name(name)
    tune(Climb(), 4, odd, rounds=[1])
    assert len(letstune.resume(odd, rounds=[2], progress=False)) == 4
    assert letstune.load(odd)[0].checkpoint.load_pickle()
    assert {entry.name for entry in path.parent.iterdir() if entry.is_file()} == {name}
