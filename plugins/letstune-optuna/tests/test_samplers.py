import logging
import pickle
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import cloudpickle
import numpy as np
import optuna
import pytest
from histories import observations, walks
from hypothesis import given, settings
from hypothesis import strategies as st
from letstune import Observation, Params, Sampler, Space, rand
from letstune.errors import MissingPackageError, PlanError, SpaceError
from letstune.samplers import Purpose, generator
from letstune.testing import Child, spaces
from trainers import Linear, Tree, recorded

from letstune_optuna import CMAES, GP, NSGAII, QMC, TPE, OptunaSampler
from letstune_optuna.samplers import factory


def nsga3() -> optuna.samplers.NSGAIIISampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.NSGAIIISampler(population_size=2)


# With few trials before a sampler does what it is for, so that short histories get there.
SAMPLERS: dict[str, Callable[[], OptunaSampler]] = {
    "tpe": lambda: TPE(n_startup_trials=2),
    "tpe, multivariate": lambda: TPE(n_startup_trials=2, multivariate=True),
    "tpe, group": lambda: TPE(n_startup_trials=2, group=True),
    "tpe, no liar": lambda: TPE(n_startup_trials=2, constant_liar=False, multivariate=True),
    "cmaes": lambda: CMAES(popsize=4),
    "cmaes, separable": lambda: CMAES(popsize=5, n_startup_trials=0, use_separable_cma=True),
    "cmaes, margin": lambda: CMAES(popsize=4, n_startup_trials=2, with_margin=True),
    "nsgaii": lambda: NSGAII(population_size=2),
    "nsgaii, pruned": lambda: OptunaSampler(
        optuna.samplers.NSGAIISampler(population_size=3), dropped="pruned"
    ),
    "nsgaiii": lambda: OptunaSampler(nsga3()),
    "tpe, ignoring": lambda: TPE(n_startup_trials=2, failures="ignore"),
    "cmaes, ignoring": lambda: CMAES(popsize=4, failures="ignore"),
    "qmc": QMC,
    "halton": lambda: QMC(qmc_type="halton", scramble=False),
    "random": lambda: OptunaSampler(optuna.samplers.RandomSampler(seed=3)),
}
if find_spec("torch"):
    SAMPLERS["gp"] = lambda: GP(n_startup_trials=2)
NAMES = sorted(set(SAMPLERS) - {"gp"})


def propose(sampler: Sampler, space: Space, history: Any, seed: int, trial: int = -1) -> Any:
    trial = len(history) if trial < 0 else trial
    return sampler.propose(space, history, np.random.default_rng(seed), trial)


def assert_pure(name: str, data: st.DataObject) -> None:
    """Whatever was asked before, and whatever is kept from it, the same comes out."""
    space = data.draw(spaces())
    used, dropping = SAMPLERS[name](), SAMPLERS[name]()
    for history in data.draw(walks(space)):
        seed = data.draw(st.integers(0, 2**32))
        wanted = propose(SAMPLERS[name](), space, history, seed)
        assert space.contains(wanted)
        assert propose(used, space, history, seed).to_json() == wanted.to_json()
        assert propose(used, space, list(history), seed).to_json() == wanted.to_json()
        if data.draw(st.booleans()):
            dropping.drop_caches()
        assert propose(dropping, space, history, seed).to_json() == wanted.to_json()
        dropping = pickle.loads(cloudpickle.dumps(dropping))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25)
@given(data=st.data())
def test_proposals_are_pure_and_in_the_space(name: str, data: st.DataObject) -> None:
    assert_pure(name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60)
@given(data=st.data())
def test_proposals_are_pure_and_in_the_space_much_longer(name: str, data: st.DataObject) -> None:
    assert_pure(name, data)


@pytest.mark.slow
@pytest.mark.skipif("gp" not in SAMPLERS, reason="needs torch")
@settings(max_examples=8)
@given(data=st.data())
def test_proposals_of_gp_are_pure_and_in_the_space(data: st.DataObject) -> None:
    assert_pure("gp", data)


def has_torch(sampler: OptunaSampler) -> bool:
    return "torch" in sys.modules and sampler.sampler == "GPSampler"


@pytest.mark.slow
@pytest.mark.skipif("gp" not in SAMPLERS, reason="needs torch")
def test_gp_imports_torch_before_a_run_begins() -> None:
    # And not with its first proposal but random ones: trials before had no seed for it.
    assert has_torch(GP())
    assert Child(has_torch, GP()).result()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10)
@given(data=st.data())
def test_recorded_params_lead_to_the_same_proposal(name: str, data: st.DataObject) -> None:
    space = data.draw(spaces())
    recorded = Space.from_json(space.to_json())
    history = [data.draw(observations(space, i)) for i in range(8)]
    read = [
        Observation(o.trial, recorded.decode(o.params.to_json()), o.status, o.values)
        for o in history
    ]
    wanted = propose(SAMPLERS[name](), space, history, 1)
    assert propose(SAMPLERS[name](), recorded, read, 1).to_json() == wanted.to_json()


class Model(Params):
    model: Linear | Tree
    x: float = rand.uniform(-5, 5)
    y: float = rand.uniform(0, 1, step=0.1)
    kind: str = rand.oneof(["a", "b", "c"])


class Plane(Params):
    x: float = rand.uniform(-5, 5)
    y: float = rand.uniform(-5, 5)
    n: int = rand.ints(0, 10)


def plane(p: Any) -> float:
    return -((p.x - 2) ** 2) - (p.y + 1) ** 2 - 0.1 * abs(p.n - 7)


def optimize(sampler: Sampler, space: Space, function: Callable[[Any], float], n: int) -> Any:
    history: list[Observation] = []
    for trial in range(n):
        seen = history if sampler.adaptive else []
        params = sampler.propose(space, seen, generator(0, Purpose.PROPOSE, trial, 0), trial)
        history.append(Observation(trial, params, "trained", (function(params),)))
    return history


@pytest.mark.parametrize(
    ("sampler", "made"),
    [
        (TPE(failures="ignore"), lambda: optuna.samplers.TPESampler(multivariate=False)),
        (
            TPE(multivariate=True, failures="ignore"),
            lambda: optuna.samplers.TPESampler(multivariate=True),
        ),
        (CMAES(failures="ignore"), optuna.samplers.CmaEsSampler),
        (
            CMAES(n_startup_trials=7, failures="ignore"),
            lambda: optuna.samplers.CmaEsSampler(n_startup_trials=7),
        ),
        (
            NSGAII(population_size=5, failures="ignore"),
            lambda: optuna.samplers.NSGAIISampler(population_size=5),
        ),
    ],
    ids=["tpe", "multivariate", "cmaes", "cmaes 7", "nsgaii"],
)
def test_proposes_what_optuna_does(sampler: OptunaSampler, made: Callable[[], Any]) -> None:
    # Optuna's own study, with its own state; only the generators are seeded for each trial.
    from letstune_optuna.seeding import Generators, dumps

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    theirs = made()
    generators = Generators(dumps(theirs)[1], [])
    study = optuna.create_study(direction="maximize", sampler=theirs)
    history: list[Observation] = []
    for number in range(40):
        params = propose(sampler, Plane.space(), history, number)
        generators.seed(int(np.random.default_rng(number).integers(2**63)))
        trial = study.ask()
        x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5)
        assert (params.x, params.y, params.n) == (x, y, trial.suggest_int("n", 0, 10)), number
        # Not the first of a generation of NSGA-II: that one makes Optuna choose its parents, and
        # the next one, though it is the first to count, then gets them in another order.
        if number in (4, 15):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            history.append(Observation(number, params, "failed"))
        else:
            study.tell(trial, plane(params))
            history.append(Observation(number, params, "trained", (plane(params),)))


@pytest.mark.parametrize(
    "sampler",
    [TPE(), TPE(multivariate=True), TPE(group=True), CMAES(), NSGAII(population_size=10)],
    ids=["tpe", "multivariate", "group", "cmaes", "nsgaii"],
)
def test_beats_random(sampler: OptunaSampler) -> None:
    def late(history: list[Observation]) -> float:
        return float(np.median([o.values[0] for o in history[50:]]))

    drawn = OptunaSampler(optuna.samplers.RandomSampler())
    random = late(optimize(drawn, Plane.space(), plane, 80))
    assert late(optimize(sampler, Plane.space(), plane, 80)) > 0.5 * random  # both are below 0


def test_learns_from_trials_that_were_dropped() -> None:
    def told(x: float, trial: int) -> Observation:
        # Nobody but one trial gets to the last round, so all there is to learn is early.
        values = (-abs(x - 3),) if trial else (-100.0,) * 9
        return Observation(trial, Plane(x=x, y=0.0, n=1), "trained", values)

    history = [told(x, i) for i, x in enumerate(np.linspace(-5, 5, 60).tolist())]
    for sampler in (TPE(), TPE(multivariate=True)):
        found = [propose(sampler, Plane.space(), history, seed).x for seed in range(25)]
        assert np.median(np.abs(np.array(found) - 3)) < 1


def test_keeps_away_from_pending_trials() -> None:
    class Line(Params):
        x: float = rand.uniform(0, 1)

    space = Line.space()
    history = [
        Observation(i, Line(x=x), "trained", (-abs(x - 0.5),))
        for i, x in enumerate(np.linspace(0, 1, 30).tolist())
    ]
    pending = [Observation(30 + i, Line(x=0.5), "pending") for i in range(20)]
    sampler = TPE()
    alone = [abs(propose(sampler, space, history, s, 50).x - 0.5) for s in range(20)]
    crowd = [abs(propose(sampler, space, [*history, *pending], s, 50).x - 0.5) for s in range(20)]
    assert np.median(crowd) > 1.5 * np.median(alone)


def test_does_not_go_where_metrics_are_not_finite() -> None:
    def told(x: float, trial: int) -> Observation:
        value = (float("nan"), float("inf"))[trial % 2] if x > 0 else 0.001 * trial
        return Observation(trial, Plane(x=x, y=0.0, n=1), "trained", (value,))

    history = [told(x, i) for i, x in enumerate(np.linspace(-5, 5, 40).tolist())]
    found = [propose(TPE(), Plane.space(), history, seed).x for seed in range(20)]
    assert sum(x <= 0.5 for x in found) >= 18


def test_qmc_spreads_evenly_and_follows_choices() -> None:
    history = optimize(QMC(), Model.space(), lambda p: 0.0, 64)
    xs = sorted(o.params.x for o in history)
    assert all(-5 + 10 * i / 64 <= x <= -5 + 10 * (i + 1) / 64 for i, x in enumerate(xs))
    trees = [o.params.model for o in history if isinstance(o.params.model, Tree)]
    assert len(trees) == 32
    assert len({tree.leaf for tree in trees}) == 32
    other = optimize(QMC(seed=1), Model.space(), lambda p: 0.0, 4)
    assert [o.params for o in other] != [o.params for o in history[:4]]


def test_a_sampler_is_copied() -> None:
    theirs = optuna.samplers.TPESampler(seed=1, n_startup_trials=0)
    before = pickle.dumps(theirs._rng.rng.get_state())
    ours = OptunaSampler(theirs)
    optimize(ours, Plane.space(), plane, 5)
    assert pickle.dumps(theirs._rng.rng.get_state()) == before


def test_what_a_plan_says_does_not_change_by_use() -> None:
    sampler = TPE(n_startup_trials=3)
    before = recorded(sampler)
    optimize(sampler, Plane.space(), plane, 5)
    assert recorded(sampler) == before == recorded(TPE(n_startup_trials=3))
    assert recorded(TPE(n_startup_trials=4)) != before
    assert recorded(QMC(seed=1)) != recorded(QMC(seed=2))


def test_says_nothing_and_leaves_everything_as_it_was(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    level, filters = optuna.logging.get_verbosity(), list(warnings.filters)
    logging.getLogger("optuna").addHandler(caplog.handler)
    state = np.random.get_state()[1].tolist()
    try:
        for name in NAMES:
            optimize(SAMPLERS[name](), Model.space(), lambda p: p.x, 12)
    finally:
        logging.getLogger("optuna").removeHandler(caplog.handler)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")
    assert (optuna.logging.get_verbosity(), list(warnings.filters)) == (level, filters)
    assert np.random.get_state()[1].tolist() == state


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("tpe", {"multivarate": True}, "no option 'multivarate'; it has multivariate, group"),
        ("tpe", {"n_startup_trials": "ten"}, "n_startup_trials is 'ten', expected a whole number"),
        ("tpe", {"group": 1}, "group is 1, expected True or False"),
        ("tpe", {"n_ei_candidates": 0}, "n_ei_candidates is 0, expected a whole number, 1 or"),
        ("tpe", {"group": True, "multivariate": False}, "multivariate"),
        ("cmaes", {"lr_adapt": True, "with_margin": True}, "lr_adapt"),
        ("nsgaii", {"crossover_prob": 2}, "crossover_prob"),
        ("nsgaii", {"population_size": 1}, "population_size is 1, expected .* 2 or more"),
        ("qmc", {"qmc_type": "lattice"}, "lattice"),
        ("tpe", {"failures": "best"}, "'tpe': failures is 'best', expected 'worst' or 'ignore'"),
        ("qmc", {"failures": "worst"}, "no option 'failures'"),
        ("qmc", {"seed": 1.5}, "seed is 1.5, expected a whole number"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        factory(name)(**options)
    assert name in str(caught.value)


def test_wrong_samplers_are_refused() -> None:
    wrong: Any = TPE
    with pytest.raises(PlanError, match=r"expected an object of one of the classes in optuna"):
        OptunaSampler(wrong)
    with pytest.raises(PlanError, match="expected 'pruned' or 'complete'"):
        OptunaSampler(optuna.samplers.RandomSampler(), dropped=wrong)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("letstune_optuna.samplers.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'letstune-optuna\[cmaes\]'"):
        CMAES()
    with pytest.raises(MissingPackageError, match=r"pip install 'letstune-optuna\[gp\]'"):
        GP()


def test_a_space_of_its_own_ways_is_refused() -> None:
    class Own(Params):
        x: float

        @classmethod
        def get_random_params(cls, rng: np.random.Generator) -> "Own":
            return cls(x=float(rng.random()))

    with pytest.raises(SpaceError, match=r"get_random_params, so sampler TPESampler can't"):
        TPE().check(Own.space())
    TPE().check(Model.space())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "random"])
@pytest.mark.parametrize(
    "distribution",
    [
        rand.Uniform(1e-6, 1.0000000000000004e-06, log=True),
        rand.Uniform(1e6, 1e6 + 1e-9),
        rand.Uniform(0, 5e-324),
        rand.Uniform(1e308, 1.7e308),
        rand.Uniform(1e-300, 1e300, log=True),
        rand.Ints(2**61 - 4, 2**61),
        rand.Ints(2**52, 2**52 + 3, log=True),
        rand.Ints(1, 2**61, log=True),
        rand.Ints(-(2**61), 2**61, step=3),
        rand.Normal(1e300, 1e308),
    ],
    ids=str,
)
def test_extreme_ranges(name: str, distribution: rand.Distribution) -> None:
    space = Space("P", (("p", distribution), ("q", rand.Uniform(0, 1))))
    history = optimize(SAMPLERS[name](), space, lambda p: p.q, 12)
    assert all(space.contains(seen.params) for seen in history)


def test_two_parameters_of_one_path_are_refused() -> None:
    one, two = Space("A", (("x", rand.Uniform(0, 1)),)), Space("A", (("x", rand.Uniform(0, 2)),))
    space = Space("P", (("m", rand.OneOf((one, two))),))
    with pytest.raises(PlanError, match=r"P\.m\.A\.x is two parameters"):
        TPE().check(space)
