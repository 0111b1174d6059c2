"""The journal is the same for any number of workers."""

import sys
from pathlib import Path
from typing import Any

import pytest
from journal_facts import assert_same, query
from processes import EXAMPLES
from small_trainers import tune
from uneven_trainer import UNEVEN, Uneven

import letstune
from letstune.runs.check import check_run
from letstune.training.pickling import load_object

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random", "learning"])
def test_the_journal_is_the_same_for_any_number_of_workers(name: str, tmp_path: Path) -> None:
    straight = tmp_path / "straight.db"
    tune(Uneven(), 24, straight, **UNEVEN[name])
    for workers in (1, 2, 4, 8):
        path = tmp_path / f"{workers}.db"
        tune(Uneven(), 24, path, workers=workers, **UNEVEN[name])
        assert_same(path, straight)
        assert check_run(path) == []


@pytest.mark.slow
def test_a_run_may_be_resumed_with_another_number_of_workers(tmp_path: Path) -> None:
    path, straight = tmp_path / "run.db", tmp_path / "straight.db"
    tune(Uneven(), 4, path, workers=3, **UNEVEN["learning"])
    assert letstune.resume(path, n_trials=10, workers="auto", progress=False).finished
    assert letstune.resume(path, n_trials=14, progress=False).finished
    assert letstune.resume(path, workers=7, progress=False).finished  # nothing to do
    recorded = query(path, "SELECT value FROM plan WHERE fact = 'workers'")
    assert recorded == [("3",), ('"auto"',)]
    tune(Uneven(), 4, straight, **UNEVEN["learning"])
    letstune.resume(straight, n_trials=10, progress=False)
    letstune.resume(straight, n_trials=14, progress=False)
    assert_same(path, straight)


@pytest.mark.slow  # each of the processes imports scikit-learn
@pytest.mark.parametrize(
    ("example", "numbers"),
    [
        ("digits", [1, 2, 4, 8]),
        ("digits_mlp", [1, 2, 4, 8]),
    ],
)
def test_examples_come_out_the_same_for_any_number_of_workers(
    example: str, numbers: list[int], tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    simple = example == "digits"
    trainer = load_object(f"{EXAMPLES / example}.py:Digits{'' if simple else 'MLP'}Trainer")
    options: dict[str, Any] = {} if simple else {"rounds": [1, 2]}
    straight = tmp_path / "straight.db"
    tune(trainer, 8, straight, **options)
    for workers in numbers:
        path = tmp_path / f"{workers}.db"
        tune(trainer, 8, path, workers=workers, **options)
        assert_same(path, straight)
