import math
from pathlib import Path
from typing import Any

import letstune
import optuna
import pytest
from letstune import Params, SimpleTrainer, rand
from letstune.errors import PlanError
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from trainers import Climb, Hill

from letstune_optuna import QMC, TPE, export


def run(trainer: Any, path: Path, n_trials: int = 40, **options: Any) -> Any:
    return letstune.tune(trainer, n_trials, journal=path, seed=3, progress=False, **options)


def load(path: Path) -> optuna.Study:
    [summary] = optuna.get_all_study_summaries(f"sqlite:///{path}")
    return optuna.load_study(study_name=summary.study_name, storage=f"sqlite:///{path}")


@pytest.fixture
def sqlite(tmp_path: Path) -> Path:
    return tmp_path / "optuna.sqlite3"


def test_a_run_with_rounds(path: Path, sqlite: Path) -> None:
    tuning = run(Climb(), path, rounds=[1, 2, 2])
    export(tuning, sqlite)
    study = load(sqlite)
    assert (study.study_name, study.direction.name, study.metric_names) == (
        "run",
        "MAXIMIZE",
        ["height"],
    )
    assert study.user_attrs == {"letstune:journal": "run.db", "letstune:finished": True}
    assert study.best_trial.number == tuning[0].trial_id
    assert study.best_value == tuning[0].metric_value
    assert [t.number for t in study.trials] == list(range(40))
    seen = set()
    for theirs in study.trials:
        ours = tuning.trial(theirs.number)
        values = [epoch.metric_value for epoch in ours.epochs]
        assert list(theirs.intermediate_values) == list(range(len(values)))
        assert [repr(v) for v in theirs.intermediate_values.values()] == [repr(v) for v in values]
        assert theirs.params["x"] == ours.params.x
        assert theirs.params["y"] == pytest.approx(ours.params.y, abs=1e-9)
        assert theirs.params["kind"] == ours.params.kind
        assert theirs.params["noisy"] == ours.params.noisy
        model = type(ours.params.model).__name__
        assert theirs.params["model"] == model
        below = {k.removeprefix(f"model.{model}."): v for k, v in theirs.params.items() if "." in k}
        assert below == pytest.approx(ours.params.model.to_dict())
        failed = ours.status == "failed" or math.isnan(ours.metric_value)
        through = ours.status == "stopped" or ours.round == 2
        wanted = (
            TrialState.FAIL if failed else TrialState.COMPLETE if through else TrialState.PRUNED
        )
        assert theirs.state is wanted
        assert theirs.value == (None if failed else ours.metric_value)
        assert theirs.user_attrs["letstune:status"] == ours.status
        assert theirs.user_attrs["letstune:round"] == ours.round
        if ours.epochs:
            assert theirs.datetime_start is not None
            assert theirs.datetime_start.timestamp() == ours.epochs[0].started_at.timestamp()
            assert theirs.duration is not None
            # Optuna keeps microseconds.
            assert theirs.duration.total_seconds() >= ours.epochs[-1].duration - 1e-6
        seen.add((theirs.state.name, ours.status))
    assert seen == {
        ("COMPLETE", "trained"),
        ("COMPLETE", "stopped"),
        ("PRUNED", "trained"),
        ("FAIL", "trained"),
        ("FAIL", "failed"),
    }


def test_distributions_are_those_of_the_space(path: Path, sqlite: Path) -> None:
    export(run(Hill(), path, 12), sqlite)
    shown = {name: d for t in load(sqlite).trials for name, d in t.distributions.items()}
    leaf = shown.pop("model.Tree.leaf")
    assert shown == {
        "model": CategoricalDistribution(("Linear", "Tree")),
        "model.Linear.alpha": FloatDistribution(1e-4, 1, log=True),
        "model.Tree.depth": IntDistribution(1, 30, log=True),
        "x": FloatDistribution(-5, 5),
        "y": FloatDistribution(0, 1, step=0.1),
        "kind": CategoricalDistribution(("a", "b", 3)),
        "noisy": CategoricalDistribution((False, True)),
    }
    assert isinstance(leaf, FloatDistribution)
    assert leaf.log


def test_a_run_that_is_not_done(path: Path, sqlite: Path) -> None:
    class Broken(Exception):
        pass

    class Breaking(Hill):
        def train(self, params: Any) -> Any:
            if params.x > 3:
                raise Broken
            return super().train(params)

    with pytest.raises(Broken):
        run(Breaking(), path, passthrough_errors=True)
    tuning = letstune.load(path)
    assert not tuning.finished
    export(tuning, sqlite)
    study = load(sqlite)
    assert study.user_attrs["letstune:finished"] is False
    assert {t.state for t in study.trials} >= {TrialState.COMPLETE, TrialState.RUNNING}


def test_replaces_a_file_and_leaves_no_other(path: Path, sqlite: Path) -> None:
    tuning = run(Hill(), path, 3)
    sqlite.write_text("something else")
    export(tuning, str(sqlite))
    export(tuning, sqlite)
    assert len(load(sqlite).trials) == 3
    assert [p.name for p in sqlite.parent.iterdir() if p.is_file()] == [sqlite.name]


def test_a_file_that_cannot_be_written(path: Path, tmp_path: Path) -> None:
    tuning = run(Hill(), path, 2)
    with pytest.raises(PlanError, match=r"no folder .*missing; make it first"):
        export(tuning, tmp_path / "missing" / "optuna.sqlite3")


def test_labels_tell_all_candidates_apart(path: Path, sqlite: Path) -> None:
    class Odd(Params):
        same: bool | int | float | str | tuple[int, int] | None = rand.oneof(
            [1, 1.0, True, "1", "True", (1, 2), math.nan, None]
        )
        mixed: str | float = rand.oneof([rand.uniform(0, 1), "auto"])

    class OddTrainer(SimpleTrainer[Odd]):
        metric = "m"

        def load_dataset(self, dataset: Any) -> None: ...
        def train(self, params: Odd) -> Any:
            return None, {"m": 1.0}

    tuning = run(OddTrainer(), path)
    export(tuning, sqlite)
    found = {
        t.params["same"]: repr(tuning.trial(t.number).params.same) for t in load(sqlite).trials
    }
    assert sorted(found.values()) == sorted(
        ["1", "1.0", "True", "'1'", "'True'", "(1, 2)", "nan", "None"]
    )
    mixed = [t for t in load(sqlite).trials if "mixed[0]" in t.params]
    assert all(t.params["mixed[0]"] == tuning.trial(t.number).params.mixed for t in mixed)


def test_params_with_ways_of_their_own(path: Path, sqlite: Path) -> None:
    class Inner(Params):
        b: int

        @classmethod
        def get_random_params(cls, rng: Any) -> "Inner":
            return cls(b=int(rng.integers(10)))

    class Own(Params):
        a: float
        flag: bool
        inner: Inner

        @classmethod
        def get_random_params(cls, rng: Any) -> "Own":
            return cls(
                a=float(rng.normal()),
                flag=bool(rng.integers(2)),
                inner=Inner.get_random_params(rng),
            )

    class OwnTrainer(SimpleTrainer[Own]):
        metric = "m"

        def load_dataset(self, dataset: Any) -> None: ...
        def train(self, params: Own) -> Any:
            return None, {"m": params.a}

    tuning = run(OwnTrainer(), path, 10)
    export(tuning, sqlite)
    for theirs in load(sqlite).trials:
        ours = tuning.trial(theirs.number).params
        assert theirs.params == {"a": ours.a, "flag": ours.flag, "inner.b": ours.inner.b}


def test_optuna_goes_on_from_an_export(path: Path, sqlite: Path) -> None:
    export(run(Hill(), path, 20, sampler=TPE()), sqlite)
    study = load(sqlite)
    trial = study.ask()
    trial.suggest_float("x", -5, 5)
    study.tell(trial, 1.0)
    assert len(study.trials) == 21
    assert study.best_value == 1.0
    frame = study.trials_dataframe()
    assert frame["params_x"].notna().all()


def test_says_nothing(path: Path, sqlite: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export(run(Hill(), path, 3, sampler=QMC()), sqlite)
    assert capfd.readouterr() == ("", "")
