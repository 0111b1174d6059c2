"""The doctests of classes that go by a public name, which pytest takes for another module's."""

import doctest
import importlib
import inspect
from typing import Any

import pytest
from rooms import ROOMS


def examples(name: str) -> list[Any]:
    """Return the doctests of the classes that a room defines, and that go by another's name."""
    room: Any = importlib.import_module(f"letstune.{name}")
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [
        test
        for cls in vars(room).values()
        if inspect.isclass(cls) and cls.__module__ != room.__name__
        if f"class {cls.__name__}" in inspect.getsource(room)
        for test in finder.find(cls, module=False, globs=dict(vars(room)))
        if test.examples
    ]


FOUND = [test for name in ROOMS if name != "__main__" for test in examples(name)]


def test_there_are_such_classes() -> None:
    assert {"Params", "Rounds", "Checkpoint", "Observer"} <= {test.name for test in FOUND}


@pytest.mark.parametrize("test", FOUND, ids=lambda test: test.name)
def test_examples_of_public_classes_are_true(test: doctest.DocTest) -> None:
    failed, tried = doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(test)
    assert tried > 0
    assert failed == 0
