"""What is asked for is checked once, before anything is written, and means the same each time."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_trainers import Climb, Hill, tune

import letstune
from letstune import Params, Rounds, Sampler, Space
from letstune.errors import JournalNotFoundError, PlanError
from letstune.journal.journal import Journal
from letstune.runs.backend import Backend
from letstune.samplers import RandomSampler


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sampler": None}, "sampler=None: expected a name such as 'random'"),
        ({"observers": None}, "observers=None: expected a list of names"),
        ({"keep_checkpoints": None}, "keep_checkpoints=None: expected a whole number"),
    ],
)
def test_none_is_no_way_to_leave_out_what_has_a_default(
    options: dict[str, Any], told: str, path: Path
) -> None:
    for _ in range(2):  # the second time, there is a journal
        with pytest.raises(PlanError, match=told):
            tune(Climb(), 2, path, rounds=[1], **options)
        tune(Climb(), 2, path, rounds=[1])


def test_rounds_may_be_an_iterator(path: Path) -> None:
    tuning = tune(Climb(), 4, path, rounds=iter([1, 2]))
    assert [len(trial.epochs) for trial in tuning] == [3, 1, 1, 1]
    assert letstune.resume(path, rounds=iter([1, 3]), progress=False).finished


def test_a_missing_journal_is_told_before_anything_else_is_looked_for(path: Path) -> None:
    with pytest.raises(JournalNotFoundError):
        letstune.resume(path, observers=["nobody"])


def test_another_dataset_is_noted_of_a_finished_run_too(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tune(Hill(), 2, path, dataset=[1, 2])
    capfd.readouterr()
    tune(Hill(), 2, path, dataset=[1, 3])
    assert "the dataset is pickled differently" in capfd.readouterr().err


@dataclass
class Wrapped(Sampler):
    """Has an object of letstune's in a public field."""

    inner: Any

    def propose(self, space: Space, history: Any, rng: np.random.Generator, trial: int) -> Params:
        proposed: Params = self.inner.propose(space, history, rng, trial)
        return proposed


@pytest.mark.parametrize("field", ["inner", "rounds"])
def test_fields_that_were_recorded_by_old_names_are_the_same(field: str, path: Path) -> None:
    inner = RandomSampler() if field == "inner" else Rounds([1])
    now = Backend.of("sampler", Wrapped(inner), path)
    old = {"inner": "letstune.samplers:RandomSampler", "rounds": "letstune.records:Rounds"}[field]
    fact = now.fact()
    digest = fact["fields"]["inner"].partition(" ")[2]
    was = Backend.recorded("sampler", {**fact, "fields": {"inner": f"{old} {digest}"}}, path)
    assert list(now.differs(was)) == []
    other = Backend.recorded("sampler", {**fact, "fields": {"inner": f"{old} 0"}}, path)
    assert len(list(now.differs(other))) == 1


def test_a_new_trainer_and_the_retries_that_it_brings_are_one_step(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Hill):
        def train(self, params: Any) -> Any:
            raise ValueError("typo")

    class Mended(Hill):
        pass

    Mended.__qualname__ = Failing.__qualname__
    failed = tune(Failing(), 2, path, max_failures=0).errors
    assert len(failed) == 2

    def crash(journal: Journal, event: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "_insert", crash)
        with pytest.raises(KeyboardInterrupt):
            tune(Mended(), 2, path)
    assert letstune.load(path).errors == failed
    assert tune(Mended(), 2, path).errors == []
