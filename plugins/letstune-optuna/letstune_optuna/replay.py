"""What a sampler must see of a study, to propose the parameters of a trial at once.

Two kinds of samplers keep their state in the study. Optuna's `CmaEsSampler` pickles its optimizer
into the attributes of a trial when it proposes it; `NSGAIISampler` and `NSGAIIISampler` note there
which generation the trial is of, and in the study, who its parents are. A history has no such
attributes. So they are made anew, as if its completed trials had been proposed and trained one
after another: the first ``n_startup_trials`` (of CMA-ES) belong to no generation, and of the
others, each ``population_size`` are a generation. In a run with cohorts of one trial and ``lag=0``,
that is what Optuna itself would have. In any other, where trials are proposed before the results of
those before them are known, no result is wasted, while Optuna leaves out what came after a
generation was full.

What is random in that (NSGA-III chooses parents at random) is seeded with the generation's number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

import numpy as np
from optuna._transform import _SearchSpaceTransform
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, QMCSampler, TPESampler
from optuna.samplers._ga import BaseGASampler
from optuna.search_space import IntersectionSearchSpace
from optuna.search_space.group_decomposed import _GroupDecomposedSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from letstune_optuna.parzen import keep_away
from letstune_optuna.seeding import Generators
from letstune_optuna.storage import make_study, make_trial, running
from letstune_optuna.told import Told

CACHES: Final = (IntersectionSearchSpace, _GroupDecomposedSearchSpace)
"""What samplers keep of the studies that they have seen."""


class Relative(ABC):
    """Asks a sampler for the parameters that it proposes at once.

    What it keeps are caches: a new one gives the same answers.

    Args:
        told: the trials, which change from one question to the next.
    """

    def __init__(self, told: Told) -> None:
        self.told = told

    @abstractmethod
    def ask(
        self, sampler: Any, study: Study, asked: FrozenTrial, generators: Generators
    ) -> dict[str, Any]:
        """Return coordinates by name: all, some or none of the trial's.

        Args:
            sampler: a fresh one.
            study: with all trials that are told, and the one asked for.
            asked: the trial asked for.
            generators: the sampler's, seeded for the trial.
        """


class Plain(Relative):
    """For a sampler that looks at params and values only.

    Optuna finds out by comparing all trials which parameters they have in common, and keeps that
    in the sampler; so we hand it on to the next one, as long as trials are only added.
    """

    def __init__(self, told: Told) -> None:
        super().__init__(told)
        self._caches: dict[str, Any] = {}
        self._rewrites = 0

    def ask(
        self, sampler: Any, study: Study, asked: FrozenTrial, generators: Generators
    ) -> dict[str, Any]:
        """Ask as `Study.ask` does."""
        if self._rewrites == self.told.rewrites:
            vars(sampler).update(self._caches)
        self._rewrites = self.told.rewrites
        search = sampler.infer_relative_search_space(study, asked)
        found: dict[str, Any] = sampler.sample_relative(study, asked, search)
        self._caches = {k: v for k, v in vars(sampler).items() if isinstance(v, CACHES)}
        return found


class Parzen(Plain):
    """For TPE. What it learns of trials without a result holds for all that it is asked next."""

    def ask(
        self, sampler: TPESampler, study: Study, asked: FrozenTrial, generators: Generators
    ) -> dict[str, Any]:
        """Ask as `Plain` does."""
        if self.told.lost:
            keep_away(sampler, self.told.lost)
        return super().ask(sampler, study, asked, generators)


class Everything(Relative):
    """For a sequence of points: it has all parameters, whether they are used or not.

    So params that are a matter of choice are from the sequence as well.
    """

    def ask(
        self, sampler: Any, study: Study, asked: FrozenTrial, generators: Generators
    ) -> dict[str, Any]:
        """Ask for the point that has the trial's number."""
        axes = self.told.axes.by_name
        search = {name: axes[name].distribution for name in sorted(axes)}
        numbered = make_study([], asked, sampler, _Numbered(asked.number))
        return dict(sampler.sample_relative(numbered, asked, search))


class _Numbered(dict[str, Any]):
    """Attributes of a study in which Optuna has counted that many points of any sequence."""

    def __init__(self, count: int) -> None:
        self.count = count

    def get(self, key: str, default: Any = None) -> Any:
        return self.count - 1 if key.startswith("qmc:") else default


class Common(Relative):
    """For a sampler whose parameters at once are those that all trials have.

    Optuna finds these out by comparing all trials; we know the space.
    """

    def __init__(self, told: Told) -> None:
        super().__init__(told)
        self.search = told.axes.always()

    def ask(
        self, sampler: Any, study: Study, asked: FrozenTrial, generators: Generators
    ) -> dict[str, Any]:
        """Ask for all parameters that are no matter of a choice."""
        return dict(sampler.sample_relative(study, asked, self.search))


class _Replay(Common):
    """Follows the completed trials, in order."""

    def __init__(self, told: Told) -> None:
        super().__init__(told)
        self.completed: list[FrozenTrial] = []
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.generation = 0
        self.attrs: dict[str, Any] = {}

    def follow(self) -> None:
        """Update the completed trials; begin anew, unless some were just added."""
        completed = [t for t in self.told.trials if t.state is TrialState.COMPLETE]
        if self.told.lost:
            # Among failures only, their order would be taken for their ranks.
            results = (i for i, t in enumerate(completed) if t.intermediate_values)
            completed = completed[next(results, len(completed)) :]
        if completed[: len(self.completed)] != self.completed:
            self.forget()
        self.completed = completed


class Generations(_Replay):
    """For a genetic algorithm. ``generation`` is the last one whose parents are chosen."""

    def ask(
        self, sampler: BaseGASampler, study: Study, asked: FrozenTrial, generators: Generators
    ) -> dict[str, Any]:
        """Number the generations, and ask for a child of the last one."""
        self.follow()
        size = sampler.population_size or 1
        key = sampler._get_generation_key()
        for place in range(self.generation * size, len(self.completed)):
            self.completed[place].system_attrs[key] = place // size
        # One after another, as each is chosen from the one before: asked for the last one only,
        # Optuna would recur through all of them. But not those of a generation without a trial
        # that is done: choosing them is part of the question.
        remembering = make_study(self.told.trials, asked, sampler, self.attrs)
        while (self.generation + 1) * size < len(self.completed):
            self.generation += 1
            with generators.seeded(self.generation):
                sampler.get_parent_population(remembering, self.generation)
        last = make_study(self.told.trials, asked, sampler, dict(self.attrs))
        return sampler.sample_relative(last, asked, self.search)


class Optimizer(_Replay):
    """For CMA-ES. ``attrs`` are those of a trial that has the optimizer, after ``generation``."""

    def __init__(self, told: Told) -> None:
        super().__init__(told)
        self.search = {
            name: distribution
            for name, distribution in self.search.items()
            if not isinstance(distribution, CategoricalDistribution)
        }
        self.size = 0

    def ask(
        self, sampler: CmaEsSampler, study: Study, asked: FrozenTrial, generators: Generators
    ) -> dict[str, Any]:
        """Tell the optimizer of all generations, and ask it."""
        self.follow()
        first = sampler._n_startup_trials
        if not self.search or len(self.completed) < first:
            return {}
        self.size = self.size or _population_size(sampler, len(self.search))
        # Not of one that is full but has no successor yet: telling of it is part of the question.
        while first + (self.generation + 1) * self.size < len(self.completed):
            teller = running(asked.number)
            with generators.seeded(self.generation):
                self._ask(sampler, teller, first)
            self.attrs = {k: v for k, v in teller.system_attrs.items() if "optimizer" in k}
            self.generation += 1
        return self._ask(sampler, asked, first)

    def _ask(self, sampler: CmaEsSampler, asked: FrozenTrial, first: int) -> dict[str, Any]:
        """Ask with a study of just what it looks at: the optimizer, and what is to be told to it.

        So a question costs the same, however long the history. Those that came before are only
        counted, and one of them has the optimizer.
        """
        start = first + self.generation * self.size
        told = self.completed[start : start + self.size]
        for trial in told:
            trial.system_attrs[sampler._attr_key_generation] = self.generation
            if sampler._with_margin:
                # What the optimizer drew, before it was rounded to the grid, is not recorded. What
                # was trained is as good a point of that cell as any.
                trial.system_attrs["x_for_tell"] = self._point(trial)
        carrier = make_trial(-1, TrialState.COMPLETE, 0.0)
        carrier.system_attrs.update(self.attrs)
        study = make_study([carrier] * max(first, 1) + told, asked, sampler)
        return sampler.sample_relative(study, asked, self.search)

    def _point(self, trial: FrozenTrial) -> list[float]:
        transform = _SearchSpaceTransform(self.search, transform_step=False, transform_0_1=True)
        point: list[float] = transform.transform(
            {name: trial.params[name] for name in self.search}
        ).tolist()
        return point


def _population_size(sampler: CmaEsSampler, dimensions: int) -> int:
    """Return what the optimizer will have; what its default is, the optimizer knows."""
    import cmaes

    if sampler._popsize is not None:
        return sampler._popsize
    return int(cmaes.CMA(mean=np.zeros(dimensions), sigma=1.0).population_size)


def relative_for(sampler: BaseSampler, told: Told) -> Relative:
    """Return what asks this sampler."""
    if isinstance(sampler, QMCSampler):
        return Everything(told)
    if isinstance(sampler, CmaEsSampler):
        return Optimizer(told)
    if isinstance(sampler, BaseGASampler):
        return Generations(told)
    if isinstance(sampler, TPESampler):
        return Parzen(told)
    return Common(told) if type(sampler).__name__ == "GPSampler" else Plain(told)
