"""Recorded params have it all but the class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from letstune.space.params import RecordedParams

if TYPE_CHECKING:
    pass
from example_params import recorded


def test_recorded_params_have_attributes():
    params = recorded()
    assert params.kind.color == "GREEN"
    assert params.tree.depth == 1
    assert params.layers == (50,)
    assert params.gamma != params.gamma


def test_recorded_params_are_named():
    assert repr(recorded().kind) == "Tree(depth=2, color='GREEN')"


def test_recorded_params_of_other_classes_are_unequal():
    assert RecordedParams("A", {"x": 1}) == RecordedParams("A", {"x": 1})
    assert RecordedParams("A", {"x": 1}) != RecordedParams("B", {"x": 1})
    assert RecordedParams("A", {"x": 1}) != RecordedParams("A", {"x": 1.0})


def test_recorded_params_help_with_a_missing_attribute():
    with pytest.raises(AttributeError, match="no 'alhpa', only: kind, flag"):
        recorded().alhpa  # noqa: B018


def test_recorded_params_are_read_only():
    with pytest.raises(AttributeError, match="can't be changed"):
        recorded().flag = False
