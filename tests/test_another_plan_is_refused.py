"""Another plan, trainer, sampler or store is refused, with the differences; the same is none."""

import re
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from sqlite3 import connect
from typing import Any

import numpy as np
import pytest
from files import in_all
from processes import python
from small_trainers import Climb, Hill, Point, tune
from stateful_trainer import NearBest

import letstune
from letstune import Params, Rounds, Sampler, rand
from letstune.errors import (
    PlanChangedError,
)
from letstune.samplers.sampler import GridSampler, Observation
from letstune.training.stores import DirectoryStore

# Another plan


class Renamed(Climb):
    metric = "epoch"


class Widened(Params):
    x: float = rand.uniform(-2, 1)
    n: int = rand.ints(1, 9)
    new: bool


class OtherSpace(Climb):
    params_cls = Widened  # type: ignore[assignment]


BASE: dict[str, Any] = {
    "trainer": Climb(),
    "n_trials": 4,
    "rounds": Rounds([1, 2], keep=0.5, cohort=4),
    "dataset": "digits",
    "lag": 0,
}
CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "trainer": (
        {"trainer": Renamed()},
        ["trainer: was small_trainers:Climb, is test_another_plan_is_refused:Renamed"],
    ),
    "metric": ({"trainer": Renamed()}, ["metric: was height, is epoch"]),
    "space": ({"trainer": OtherSpace()}, ["search space, .*x.*-1.*-2", "search space, .*new"]),
    "simple": ({"trainer": Hill(), "rounds": None}, ["simple: was false, is true"]),
    "sampler": (
        {"sampler": NearBest()},
        [r'sampler: was .*"random".*, is .*stateful_trainer:NearBest'],
    ),
    "n_trials": ({"n_trials": 3}, ["n_trials: was 4, is 3; it can only grow"]),
    "rounds": (
        {"rounds": Rounds([2, 2], keep=0.5, cohort=4)},
        [r"rounds: .*\[1, 2\].*\[2, 2\]"],
    ),
    "fewer rounds": ({"rounds": Rounds([1], keep=0.5, cohort=4)}, [r"rounds: was .*, is .*\[1\]"]),
    "shorter rounds": ({"rounds": Rounds([1, 1], keep=0.5, cohort=4)}, ["rounds: was"]),
    "timed rounds": (
        {"rounds": Rounds([timedelta(1), timedelta(2)], keep=0.5, cohort=4)},
        ["rounds: was .*epochs.*, is .*seconds"],
    ),
    "keep": ({"rounds": Rounds([1, 2], keep=0.25, cohort=4)}, ["0.5.*0.25"]),
    "cohort": ({"rounds": Rounds([1, 2], keep=0.5, cohort=2)}, [r"\[4\].*\[2\]"]),
    "seed": ({"seed": 2}, ["seed: was 1, is 2"]),
    "lag": ({"lag": 1}, ["lag: was 0, is 1"]),
    "dataset": ({"dataset": "other"}, ['dataset: was .*"digits".*, is .*"other"']),
    "keep_checkpoints": ({"keep_checkpoints": 3}, ["keep_checkpoints: was 10, is 3"]),
    "store": ({"store": "elsewhere"}, ["store: was .*, is .*elsewhere"]),
    "many": (
        {"n_trials": 2, "seed": 7, "dataset": 3, "keep_checkpoints": "all"},
        ["n_trials: was 4, is 2", "seed: was 1, is 7", "dataset: was", "is all"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_plan_is_refused_listing_the_differences(
    change: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    tune(journal=path, **BASE)
    before = in_all(path.parent)
    changes, lines = CHANGES[change]
    with pytest.raises(PlanChangedError) as caught:
        tune(journal=path, **{**BASE, **changes})
    told = str(caught.value)
    assert told.startswith(f"{path} was started with another plan, and nothing was changed:\n  ")
    for line in lines:
        assert re.search(line, told), told
    assert in_all(path.parent) == before


@pytest.mark.parametrize("options", [{"n_trials": 3}, {"rounds": [2, 2]}, {"trainer": Renamed()}])
def test_resuming_with_another_plan_is_refused_as_well(options: Any, path: Path) -> None:
    tune(journal=path, **BASE)
    before = in_all(path.parent)
    with pytest.raises(PlanChangedError):
        letstune.resume(path, **options, progress=False)
    assert in_all(path.parent) == before


def test_what_is_not_asked_for_is_no_difference(path: Path) -> None:
    tune(Hill(), 2, path, seed=77, lag=None)
    assert len(tune(Hill(), 3, path, seed=None)) == 3


@pytest.mark.parametrize("dataset", ["digits", None, 3, 0.5, True, Path("x"), [1], float("nan")])
def test_the_same_dataset_is_no_difference(dataset: Any, path: Path) -> None:
    for n in (1, 2):
        assert len(tune(Hill(), n, path, dataset=dataset)) == n


# Samplers and stores that are objects


class Near(Sampler):
    """Proposes near a place; the fields of the place are no plain values."""

    def __init__(self, place: Any, memory: Any = None) -> None:
        self.place = place
        self._memory = memory  # a cache: which one is no difference

    def propose(
        self, space: Any, history: Sequence[Observation], rng: np.random.Generator, trial: int
    ) -> Any:
        return space.sample(rng)


class Place:
    def __init__(self, at: Any) -> None:
        self.at = at


PAIRS = [
    (GridSampler({"x": 3, "n": 2}), GridSampler({"x": 5, "n": 2})),
    (Near(Place(np.array([1.0, 2.0]))), Near(Place(np.array([1.0, 3.0])))),
    (Near(Place({"a": [1]})), Near(Place({"a": [2]}))),
    (Near(Place({1, 2})), Near(Place({1, 3}))),
    (Near(max), Near(min)),
    (Near(lambda n: n + 1), Near(lambda n: n + 2)),
]


def test_a_cache_is_no_difference(path: Path) -> None:
    tune(Hill(), 3, path, sampler=Near(1, memory=None))
    assert len(tune(Hill(), 4, path, sampler=Near(1, memory={"a": object}))) == 4


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_an_object_with_other_fields_is_another_plan(first: Any, second: Any, path: Path) -> None:
    tune(Hill(), 3, path, sampler=first)
    before = in_all(path.parent)
    with pytest.raises(PlanChangedError, match=r"sampler: was .* is "):
        tune(Hill(), 4, path, sampler=second)
    assert in_all(path.parent) == before
    assert len(tune(Hill(), 4, path, sampler=first)) == 4


def test_a_store_at_another_place_is_another_plan(path: Path, tmp_path: Path) -> None:
    tune(Climb(), 3, path, rounds=[1], store=DirectoryStore(tmp_path / "a"))
    with pytest.raises(PlanChangedError, match=r"store: was .*/a.* is .*/b"):
        tune(Climb(), 4, path, rounds=[1], store=DirectoryStore(tmp_path / "b"))
    assert tune(Climb(), 4, path, rounds=[1], store=DirectoryStore(tmp_path / "a"))[0].checkpoint


def pickles(path: Path) -> list[str]:
    with closing(connect(path)) as db:
        return [name for (name,) in db.execute("SELECT name FROM pickles ORDER BY seq")]


def test_an_equal_object_is_kept_once_and_a_mended_one_again(path: Path) -> None:
    tune(Hill(), 3, path, sampler=Near(Place(1)))
    assert pickles(path) == ["trainer", "sampler", "dataset"]
    tune(Hill(), 4, path, sampler=Near(Place(1)))
    assert "sampler" not in pickles(path)[3:]


SCRIPT = """
import sys
from typing import Any

import letstune
from small_trainers import Hill

class Fixed(letstune.Sampler):
    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return space.build(lambda path, d: 1 + trial if path == "n" else AT)

letstune.tune(Hill(), int(sys.argv[1]), journal="run.db", sampler=Fixed(), progress=False)
"""


def test_what_a_script_has_mended_is_what_goes_on(tmp_path: Path) -> None:
    for n, at in ((2, "0.25"), (4, "0.5")):
        (tmp_path / "script.py").write_text(SCRIPT.replace("AT", at))
        done = python("script.py", n, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    letstune.resume(tmp_path / "run.db", n_trials=6, progress=False)
    tuning = letstune.load(tmp_path / "run.db")
    assert [tuning.trial(n).params.x for n in range(6)] == [0.25, 0.25, 0.5, 0.5, 0.5, 0.5]


class Plus(Hill):
    def __init__(self, more: float) -> None:
        self.more = more

    def train(self, params: Point) -> Any:
        return params, {"height": params.x + self.more}


def test_another_trainer_is_noted(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tune(Plus(1), 2, path)
    tune(Plus(1), 3, path)
    assert capfd.readouterr().err == ""
    tune(Plus(100), 4, path)
    told = capfd.readouterr().err
    assert "the trainer, or the script that it is in, has changed" in told
    assert f"since {path} recorded 3 epochs" in told
