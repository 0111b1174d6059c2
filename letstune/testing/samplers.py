"""The laws for a sampler."""

from __future__ import annotations

import math
import pickle
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from letstune.errors import LetstuneError
from letstune.rounds.seeding import Purpose, generator
from letstune.samplers.proposer import Proposer
from letstune.samplers.sampler import Observation, Sampler
from letstune.space.params import Params, RecordedParams, Space
from letstune.testing.children import Child
from letstune.testing.runs import (
    Corners,
    CrashError,
    Experiment,
    Job,
    Landscape,
    ShuffledExecutor,
    facts,
)
from letstune.testing.spaces import any_spaces, spaces
from letstune.training.stores import DirectoryStore

SEEDS = st.integers(0, 2**31 - 1)
ELSEWHERE = ("HOME", "USER", "LOGNAME", "HOSTNAME", "PWD", "TMPDIR", "LETSTUNE_SOMEWHERE")
"""Variables of the environment that differ for another user, or on another machine."""
_KILLS = 3


def for_all(examples: int, **strategies: st.SearchStrategy[Any]) -> Callable[[Any], None]:
    """Return a decorator that calls a law at once, with values that Hypothesis generates.

    The same values each time, so that a verdict is not a matter of luck.
    """

    def run(law: Callable[..., None]) -> None:
        chosen = settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        chosen(given(**strategies)(law))()

    return run


def make_history(sampler: Sampler, space: Space, seed: int, length: int) -> list[Observation]:
    """Return what a sampler might see: trials of all kinds, NaN and infinity among their values.

    It is empty for a sampler that does not look at it, as in a run.
    """
    if not sampler.adaptive:
        return []
    rng, found, seen = np.random.default_rng(seed), list[Observation](), set[str]()
    for _ in range(length):
        params = space.sample(rng)
        if params.to_json() in seen:
            continue
        seen.add(params.to_json())
        status = str(rng.choice(["trained", "trained", "trained", "stopped", "failed", "pending"]))
        epochs = 0 if status == "pending" else int(rng.integers(status != "failed", 4))
        odd = rng.choice([math.nan, math.inf, -math.inf], epochs)
        drawn = np.where(rng.random(epochs) < 0.1, odd, rng.normal(size=epochs))
        values = tuple(map(float, drawn))
        metrics = tuple({"height": value, "epoch": float(i)} for i, value in enumerate(values))
        found.append(Observation(len(found), params, status, values, metrics))
    return found


def propose(
    sampler: Sampler, space: Space, history: Sequence[Observation], seed: int, trial: int
) -> str:
    """Return the JSON of the params that a sampler proposes in a run of that seed."""
    rng = generator(seed, Purpose.PROPOSE, trial, 0)
    return sampler.propose(space, history, rng, trial).to_json()


def proposals(sampler: Sampler, space: Space, seed: int, trials: int) -> list[str]:
    """Return the JSON of some proposals, each with the history before it."""
    history = make_history(sampler, space, seed, trials)
    return [propose(sampler, space, history[:trial], seed, trial) for trial in range(trials)]


def accepts(sampler: Sampler, space: Space) -> bool:
    """Tell whether a sampler can drive a space, by what its `check` says."""
    try:
        sampler.check(space)
    except LetstuneError:
        return False
    return True


def _copy(sampler: Sampler) -> Sampler:
    copied: Sampler = pickle.loads(cloudpickle.dumps(sampler))
    return copied


class SamplerSuite:
    """The laws for a sampler. Subclass it, and override the fixture `sampler`.

    A sampler that drives only some spaces refuses the others in its `check`, and overrides the
    fixture `spaces`, for example with `letstune.testing.finite_spaces()`.
    """

    @pytest.fixture
    def scratch(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return a folder of this law's own, apart from the plugin's ``tmp_path``."""
        return tmp_path_factory.mktemp("scratch")

    @pytest.fixture
    def sampler(self) -> Sampler:
        """Return a new sampler. Override this."""
        raise NotImplementedError("override the fixture 'sampler': return a new sampler")

    @pytest.fixture
    def spaces(self) -> st.SearchStrategy[Space]:
        """Return the spaces that the sampler can drive; by default, all that have structure."""
        return spaces()

    @pytest.fixture
    def params_cls(self, sampler: Sampler) -> type[Params]:
        """Return the search space of the runs; by default one that has it all, or a finite one."""
        return next((cls for cls in (Landscape, Corners) if accepts(sampler, cls.space())), Corners)

    @pytest.fixture
    def examples(self) -> int:
        """Return how many random cases each law tries. Lower it for a sampler that is slow."""
        return 30

    def test_accepts_the_spaces_that_it_can_drive(
        self, sampler: Sampler, spaces: st.SearchStrategy[Space], examples: int
    ) -> None:
        """Its `check` accepts every space of the fixture `spaces`."""

        @for_all(examples, space=spaces)
        def law(space: Space) -> None:
            sampler.check(space)

    def test_stays_within_the_space(
        self, sampler: Sampler, spaces: st.SearchStrategy[Space], examples: int
    ) -> None:
        """Whatever the space, what it proposes is in it, and comes back from JSON."""

        @for_all(examples, space=spaces, seed=SEEDS, length=st.integers(0, 20))
        def law(space: Space, seed: int, length: int) -> None:
            part = sampler.narrow(space)
            trial = length if part.size is None else length % part.size
            history = make_history(sampler, space, seed, trial)
            rng = generator(seed, Purpose.PROPOSE, trial, 0)
            params = sampler.propose(space, history, rng, trial)
            assert isinstance(params, Params | RecordedParams)
            assert space.contains(params), f"{params} is not in {space.to_json()}"
            assert space.decode(params.to_json()) == params

    def test_same_inputs_give_the_same_params(
        self, sampler: Sampler, spaces: st.SearchStrategy[Space], examples: int
    ) -> None:
        """It is pure: whatever it proposed before, the same inputs give the same params."""
        original = cloudpickle.dumps(sampler)

        @for_all(examples, space=spaces, seed=SEEDS, length=st.integers(0, 8))
        def law(space: Space, seed: int, length: int) -> None:
            part = sampler.narrow(space)
            trial = length if part.size is None else length % part.size
            history = make_history(sampler, space, seed, trial)
            told = repr(history)
            wanted = propose(pickle.loads(original), space, history, seed, trial)
            # The sampler itself has a past: all the cases before, and whatever these bring.
            propose(sampler, space, history[: trial // 2], seed + 1, trial // 2)
            assert propose(sampler, space, history, seed, trial) == wanted
            assert propose(sampler, space, history, seed, trial) == wanted
            assert repr(history) == told, "it changed the history"

    def test_a_cache_may_be_dropped_at_any_moment(
        self, sampler: Sampler, spaces: st.SearchStrategy[Space], examples: int
    ) -> None:
        """It proposes the same if it is pickled, or made anew, between any two proposals."""
        original = cloudpickle.dumps(sampler)

        @for_all(max(1, examples // 3), space=spaces, seed=SEEDS, drops=st.randoms())
        def law(space: Space, seed: int, drops: random.Random) -> None:
            size = sampler.narrow(space).size
            trials = 10 if size is None else min(10, size)
            straight = proposals(pickle.loads(original), space, seed, trials)
            history = make_history(sampler, space, seed, trials)
            current: Sampler = pickle.loads(original)
            for trial in range(trials):
                match drops.choice(["keep", "pickle", "make anew"]):
                    case "pickle":
                        current = _copy(current)
                    case "make anew":
                        current = pickle.loads(original)
                assert propose(current, space, history[:trial], seed, trial) == straight[trial]

    def test_looks_at_the_history_only_if_it_says_so(
        self, sampler: Sampler, spaces: st.SearchStrategy[Space], examples: int
    ) -> None:
        """If it is not `adaptive`, the history makes no difference, since it is not shown any."""

        class Eager(Sampler):
            adaptive = True

            def propose(self, *_: Any) -> Any:
                raise NotImplementedError

        @for_all(max(1, examples // 3), space=spaces, seed=SEEDS)
        def law(space: Space, seed: int) -> None:
            if not sampler.adaptive:
                history = make_history(Eager(), space, seed, 6)
                assert propose(sampler, space, history, seed, 0) == propose(
                    sampler, space, [], seed, 0
                )

    def test_draws_from_the_given_generator_only(
        self,
        sampler: Sampler,
        params_cls: type[Params],
        examples: int,
        scratch: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Neither global generators, nor the clock, the working directory or the user matter."""
        space, original = params_cls.space(), cloudpickle.dumps(sampler)
        states = random.getstate(), np.random.get_state()

        def at(moment: int, seed: int) -> list[str]:
            random.seed(moment)
            np.random.seed(moment)
            fresh: Sampler = pickle.loads(original)
            home = scratch / f"home{moment}"
            home.mkdir(exist_ok=True)
            with monkeypatch.context() as patch:
                patch.chdir(home)
                for variable in ELSEWHERE:
                    patch.setenv(variable, str(home))
                for name in ("time", "monotonic", "perf_counter"):
                    patch.setattr(time, name, lambda: 1e9 + moment * 86_400.5)
                    patch.setattr(time, f"{name}_ns", lambda: 10**18 + moment * 86_400_500_000_007)
                return proposals(fresh, space, seed, 8)

        try:
            for seed in range(max(1, examples // 10)):
                assert at(1, seed) == at(2, seed)
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])

    def test_proposes_the_same_in_another_process(
        self, sampler: Sampler, params_cls: type[Params]
    ) -> None:
        """It can be pickled, options and all, and proposes the same in a process of its own."""
        space = params_cls.space()
        child = Child(proposals, sampler, space, 5, 12)
        assert child.result() == proposals(sampler, space, 5, 12)

    def test_refuses_what_it_cannot_drive(self, sampler: Sampler, examples: int) -> None:
        """Its `check` refuses a space with a LetstuneError, or else it proposes params of it."""

        @for_all(examples, space=any_spaces(), seed=SEEDS)
        def law(space: Space, seed: int) -> None:
            if accepts(sampler, space):
                rng = generator(seed, Purpose.PROPOSE, 0, 0)
                assert space.contains(sampler.propose(space, [], rng, 0))

    def test_a_finite_space_comes_to_its_end(
        self, sampler: Sampler, spaces: st.SearchStrategy[Space], examples: int
    ) -> None:
        """In a finite space, every point is proposed once, and then there are no more."""

        @for_all(max(1, examples // 3), space=spaces, seed=SEEDS)
        def law(space: Space, seed: int) -> None:
            size = space.size
            assume(size is not None and size <= 12)
            points = {space.point(i).to_json() for i in range(size or 0)}
            taken: list[str] = []
            history: list[Observation] = []
            attempts = 3 if sampler.adaptive else None  # so that it is told what was refused
            proposer = Proposer(sampler, space, seed, attempts=attempts)
            for trial in range((size or 0) + 1):
                params = proposer.propose(history, trial)
                if params is None:
                    break
                taken.append(params.to_json())
                if sampler.adaptive:
                    history.append(Observation(trial, params, "pending"))
            assert sorted(taken) == sorted(points)

    @pytest.mark.parametrize("lag", [0, 2])
    def test_results_may_arrive_in_any_order(
        self, sampler: Sampler, params_cls: type[Params], scratch: Path, lag: int
    ) -> None:
        """In a real run, the order in which workers deliver results changes nothing."""
        experiment = Experiment(params_cls=params_cls, lag=lag)
        wanted = _straight(experiment, sampler, scratch)
        for slots, seed in [(2, 1), (4, 2), (8, 3)]:
            path = scratch / f"{slots}.db"
            experiment.play(path, _copy(sampler), partial(_shuffled, slots, seed, None))
            assert facts(path) == wanted, f"with {slots} workers"

    def test_resumes_exactly(
        self, sampler: Sampler, params_cls: type[Params], scratch: Path
    ) -> None:
        """A run that crashes at random points, and is resumed, ends like one that never crashed."""
        experiment, rng = Experiment(params_cls=params_cls, lag=1), random.Random(3)
        wanted = _straight(experiment, sampler, scratch)
        path, finished = scratch / "run.db", False
        while not finished:
            executor = partial(_shuffled, rng.choice([1, 3]), rng.randrange(99), rng.randint(3, 20))
            try:
                experiment.play(path, _copy(sampler), executor)
                finished = True
            except CrashError:
                assert len(facts(path)["trials"]) <= experiment.n_trials
        assert facts(path) == wanted

    def test_resumes_exactly_after_sigkill(
        self, sampler: Sampler, params_cls: type[Params], scratch: Path
    ) -> None:
        """A run whose process is killed again and again ends like one that was never killed."""
        experiment, rng = Experiment(params_cls=params_cls), random.Random(5)
        wanted = _straight(experiment, sampler, scratch)
        path, witness = scratch / "run.db", scratch / "witness"
        witness.touch()
        for _ in range(_KILLS):
            target = witness.stat().st_size + 2 * rng.randint(2, 15)  # two bytes an epoch
            child = Child(_play, experiment, path, sampler, witness)
            while not child.ended() and witness.stat().st_size < target:
                pass
            child.kill()
        Child(_play, experiment, path, sampler, witness).result()
        assert facts(path) == wanted


def _shuffled(slots: int, seed: int, crash_after: int | None, job: Job) -> ShuffledExecutor:
    return ShuffledExecutor(job, slots, seed, crash_after)


def _straight(experiment: Experiment, sampler: Sampler, folder: Path) -> dict[str, list[str]]:
    """Return the facts of a run in one go, with one worker."""
    path = folder / "straight.db"
    experiment.play(path, _copy(sampler), partial(_shuffled, 1, 0, None))
    return facts(path)


def _play(experiment: Experiment, path: Path, sampler: Sampler, witness: Path) -> None:
    """Run on, in a process that may be killed."""
    store = DirectoryStore(path.with_suffix(".checkpoints"))
    experiment.play(path, sampler, partial(_shuffled, 1, 0, None), store, witness)
