"""What a sampler proposes is checked; a slow or failing one is named, and never in the way."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from journal_facts import facts
from small_trainers import Climb, Hill, tune

import letstune
from letstune import Params, rand
from letstune.errors import PluginError
from letstune.runs import proposals
from letstune.telling.progress import Progress


class Inner(Params):
    depth: int = rand.ints(1, 4)


class Other(Params):
    rate: float = rand.uniform(0, 1)


class Outer(Params):
    lr: float = rand.uniform(0, 1)
    kind: Inner | Other
    maybe: Inner | None


class Deep(letstune.SimpleTrainer[Outer]):
    metric = "lr"

    def load_dataset(self, dataset: object) -> None: ...

    def train(self, params: Outer) -> tuple[object, dict[str, float]]:
        return None, {"lr": params.lr}


class Says(letstune.Sampler):
    """Proposes what it is made with, or calls it."""

    adaptive = True

    def __init__(self, says: Any) -> None:
        self.says = says

    def propose(self, space: Any, history: Any, rng: np.random.Generator, trial: int) -> Any:
        return self.says(space, rng, trial) if callable(self.says) else self.says


INNER = Inner(depth=2)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        (Outer(lr=2.0, kind=INNER, maybe=None), r"lr is 2\.0, expected one of uniform\(0.*1"),
        (Outer(lr=0.5, kind=Inner(depth=9), maybe=None), r"kind\.depth is 9, expected one of ints"),
        (Outer(lr=0.5, kind=INNER, maybe=Inner(depth=0)), r"maybe\.depth is 0, expected one of"),
        (INNER, "a Inner, expected a Outer"),
    ],
)
def test_params_outside_of_the_space_are_refused(params: Any, why: str, path: Path) -> None:
    with pytest.raises(PluginError, match=f"Sampler Says proposed params for trial 0.*: {why}"):
        tune(Deep(), 2, path, sampler=Says(params))
    assert not path.exists() or not facts(path)["trials"]


def test_an_exception_says_who_was_asked_and_where(path: Path) -> None:
    def fail(space: Any, rng: Any, trial: int) -> Any:
        if trial == 2:
            raise ZeroDivisionError("as asked for")
        return space.sample(rng)

    with pytest.raises(ZeroDivisionError) as caught:
        tune(Hill(), 4, path, sampler=Says(fail))
    (note,) = caught.value.__notes__
    assert note.startswith("It was raised by sampler 'test_a_sampler_is_asked:Says'")
    assert f"asked for trial 2, in {__file__}, line " in note


def test_an_interruption_does_not_wait_for_a_slow_cohort(path: Path) -> None:
    asked: list[int] = []

    def slow(space: Any, rng: Any, trial: int) -> Any:
        asked.append(trial)
        if trial == 2 and len(asked) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return space.sample(rng)

    options: dict[str, Any] = {"rounds": letstune.Rounds([1, 1], cohort=8), "sampler": Says(slow)}
    with pytest.raises(letstune.errors.Interrupted):
        tune(Climb(), 16, path, **options)
    assert asked == [0, 1, 2]
    assert not facts(path)["trials"]
    tune(Climb(), 16, path, **options)
    tune(Climb(), 16, path.with_name("b.db"), **options)
    assert facts(path) == facts(path.with_name("b.db"))


def test_who_is_asked_is_shown(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(Progress, "doing", lambda self, line: shown.append(line))
    tune(Hill(), 2, path)
    assert shown == [f"asking sampler 'random' for trial {trial}" for trial in (0, 1)]


@pytest.mark.parametrize(("seconds", "told"), [(0.02, 1), (0.0, 0)])
def test_a_sampler_that_takes_longer_than_its_trainings_is_told(
    seconds: float,
    told: int,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(proposals, "DEAR", 0.05)

    def slow(space: Any, rng: Any, trial: int) -> Any:
        time.sleep(seconds)
        return space.sample(rng)

    tune(Hill(), 4, path, sampler=Says(slow), progress=None)
    assert capsys.readouterr().err.count("Says took 0 s to propose trials, ") == told


class Own(Params):
    x: float = rand.uniform(0, 1)

    @classmethod
    def get_random_params(cls, rng: np.random.Generator) -> "Own":
        return cls(x=5.0)


class Holds(Params):
    y: float = rand.uniform(0, 1)
    own: Own


def test_what_a_class_of_ones_own_returns_is_in_its_space() -> None:
    space = Holds.space()
    assert space.stray(Holds(y=0.5, own=Own(x=5.0))) == ""
    assert space.stray(Holds(y=1.5, own=Own(x=5.0))).startswith("y is 1.5, expected one of")
