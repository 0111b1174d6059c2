"""Optuna's samplers as letstune's: pure functions of the history."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, Final

from letstune import Observation, Sampler, Space
from letstune.errors import MissingPackageError, PlanError
from letstune.samplers import Purpose, generator, run_seed
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    TPESampler,
)
from optuna.samplers._ga import BaseGASampler

from letstune_optuna.axes import Axes, Axis
from letstune_optuna.replay import Relative, relative_for
from letstune_optuna.seeding import Generators, Spare, dumps, loads
from letstune_optuna.settings import settings
from letstune_optuna.storage import make_study, running
from letstune_optuna.told import Dropped, Failures, Told

if TYPE_CHECKING:
    import numpy as np

_NEEDS: Final[Mapping[type, tuple[str, str]]] = {
    GPSampler: ("torch", "gp"),
    CmaEsSampler: ("cmaes", "cmaes"),
    QMCSampler: ("scipy", "qmc"),
}
"""What a sampler needs besides Optuna, and what installs it."""


@dataclass
class _Memory:
    """What is kept from one proposal to the next. All of it may be dropped at any moment."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    space: Space | None = None
    told: Told | None = None
    relative: Relative | None = None
    spare: Spare = field(default_factory=list)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Memory, ()


class OptunaSampler(Sampler):
    """Any sampler of Optuna.

    Each proposal is made by a fresh copy of it, whose generators are seeded for the trial, with a
    study that holds just what the history shows. So it is a function of the history, and a run is
    resumed exactly, with the same version of Optuna. The parameters that Optuna sees are named by
    their paths in the space, such as ``"model.Linear.alpha"``; those below a union are conditional.

    CMA-ES, NSGA-II and NSGA-III keep their state in the study. It is made anew from the history, as
    if its trials had been done one after another. Another sampler that keeps its state there finds
    none. `check` refuses a sampler that draws from anything but generators that it holds.

    Args:
        sampler: Optuna's sampler, which is copied, and not changed.
        dropped: how to tell the sampler of trials that others have outlasted in the rounds: as
            ``"pruned"``, or as ``"complete"`` with their best value so far. The default is "pruned"
            for `optuna.samplers.TPESampler`, which makes use of them, and "complete" for any other.
        failures: how to tell it of trials that failed: as ``"worst"``, worse than all that have a
            result, so that it learns where not to go; or ``"ignore"`` them, as Optuna does. The
            default is "worst", and "ignore" where a journal that was begun without it goes on.

    Raises:
        PlanError: `sampler` is no sampler of Optuna, cannot be pickled, or holds a generator that
            is neither NumPy's nor Python's.
        MissingPackageError: a package that the sampler needs is not installed.

    >>> import optuna
    >>> sampler = OptunaSampler(optuna.samplers.TPESampler(n_startup_trials=5))
    >>> sampler.adaptive
    True
    """

    adaptive: ClassVar[bool] = True

    # What was pickled before there was the option has neither, and goes on as it did.
    failures: Failures = "ignore"
    _given = True

    def __init__(
        self,
        sampler: BaseSampler,
        *,
        dropped: Dropped | None = None,
        failures: Failures | None = None,
    ) -> None:
        if not isinstance(sampler, BaseSampler):
            raise PlanError(
                f"OptunaSampler got {sampler!r:.200}, expected an object of one of the classes "
                "in optuna.samplers."
            )
        if dropped not in ("pruned", "complete", None):
            raise PlanError(f"dropped={dropped!r}: expected 'pruned' or 'complete'.")
        if failures not in ("worst", "ignore", None):
            names = (f"sampler {name!r}: " for name, kind in BY_NAME.items() if kind is type(self))
            raise PlanError(
                f"{next(names, '')}failures is {failures!r}, expected 'worst' or 'ignore'."
            )
        require_packages(type(sampler))
        if dropped is None:
            dropped = "pruned" if isinstance(sampler, TPESampler) else "complete"
        # The plan's fact about a sampler is its attributes that are plain values.
        self.dropped: Dropped = dropped
        if failures != "ignore":
            self.failures = "worst"
            self._given = failures is not None
        self.sampler = type(sampler).__name__
        self._import_framework()
        try:
            self._pickled, generators = dumps(sampler)
            loads(self._pickled, 0, [])
        except Exception as error:
            raise PlanError(
                f"{type(sampler).__name__} cannot be pickled, so a run could not be resumed with "
                f"it: {error!r}. Give it functions of a module instead of open objects, and "
                "generators of NumPy or Python."
            ) from error
        self.settings = settings(sampler, generators)
        self._memory = _Memory()

    # No attribute of the object: those are recorded.
    @property
    def begins_with(self) -> Mapping[str, Any]:  # type: ignore[override]
        """What a run need not have been begun with: what was left to a default that came later."""
        return {} if self._given else {"failures": self.failures}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._import_framework()

    def _import_framework(self) -> None:
        """Import now what Optuna would import when it first learns, in the middle of the run.

        By then, trials have been trained for which letstune did not seed it.
        """
        if self.sampler == GPSampler.__name__:
            import_module("torch")

    def propose(
        self,
        space: Space,
        history: Sequence[Observation],
        rng: np.random.Generator,
        trial: int,
    ) -> Any:
        """Return the params that Optuna's sampler proposes after that history."""
        seed = int(rng.integers(2**63))
        memory = self._memory
        with memory.lock, _quiet():
            sampler, generators = loads(self._pickled, run_seed(rng), memory.spare)
            # It says in a log, trial by trial, what the README says once.
            vars(sampler).update(dict.fromkeys(_TALKATIVE & vars(sampler).keys(), False))
            if memory.told is None or memory.relative is None or memory.space is not space:
                ranks = isinstance(sampler, CmaEsSampler | BaseGASampler)
                memory.told = Told(Axes(space), self.dropped, self.failures, ranks=ranks)
                memory.relative = relative_for(sampler, memory.told)
                memory.space = space
            try:
                return _propose(
                    sampler, generators, memory.told, memory.relative, history, seed, trial
                )
            except BaseException:
                self.drop_caches()  # which may be half done
                raise

    def check(self, space: Space) -> None:
        """Refuse a space whose distributions do not tell how params come about.

        A sampler that draws from what cannot be seeded is refused, too, as far as that shows: it is
        asked for some params of the space, each twice.

        Raises:
            PlanError: the sampler is not exact, or cannot propose params of the space.
        """
        space.require_structure(f"sampler {self.sampler}")
        Axes(space)
        if not isinstance(self, tuple(BY_NAME.values())):  # these are known
            self._require_exact(space)

    def _require_exact(self, space: Space) -> None:
        rng = generator(0, Purpose.PROPOSE, 0, 0)
        trained = [
            Observation(trial, space.sample(rng), "trained", (float(rng.random()),))
            for trial in range(_LEARNED)
        ]
        # Several first trials, since two may be alike by chance; and one for which it learns.
        questions = [*(([], trial) for trial in range(4)), (trained, _LEARNED)]
        for history, trial in questions:
            one, other = (self._propose_anew(space, history, trial) for _ in range(2))
            if one != other:
                raise PlanError(
                    f"{self.sampler} was asked twice the same, and proposed {one} and {other}. "
                    "It draws from something that cannot be seeded, so a run could not be resumed "
                    "exactly. Let it draw from generators of NumPy or Python that it holds as "
                    "attributes, and not look at the clock."
                )
        self.drop_caches()

    def _propose_anew(self, space: Space, history: list[Observation], trial: int) -> str:
        self.drop_caches()
        try:
            rng = generator(0, Purpose.PROPOSE, trial, 0)
            return str(self.propose(space, history, rng, trial).to_json())
        except Exception as error:
            raise PlanError(
                f"{self.sampler} cannot propose params of {space.name}: {error!r}. If it knows "
                f"parameters by name, they are {', '.join(Axes(space).by_name) or 'none'}."
            ) from error

    def drop_caches(self) -> None:
        """Forget what is kept between proposals; it costs time, and changes nothing."""
        self._memory.told = self._memory.relative = self._memory.space = None


def _propose(
    sampler: BaseSampler,
    generators: Generators,
    told: Told,
    relative: Relative,
    history: Sequence[Observation],
    seed: int,
    trial: int,
) -> Any:
    """Do what `optuna.Study.ask` and the ``suggest`` methods of its trial do."""
    told.update(history)
    asked = running(trial)
    study = make_study(told.trials, asked, sampler)
    generators.seed(seed)
    sampler.before_trial(study, asked)
    found = relative.ask(sampler, study, asked, generators)

    def ask(axis: Axis) -> Any:
        coordinate = found.get(axis.name)
        if coordinate is None:
            coordinate = sampler.sample_independent(study, asked, axis.name, axis.distribution)
        asked.params[axis.name] = coordinate
        asked.distributions[axis.name] = axis.distribution
        return coordinate

    return told.axes.build(ask)


_LEARNED: Final = 12
"""After how many trials most samplers do better than random."""
_TALKATIVE: Final = {"_warn_independent_sampling"}


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out Optuna's warnings of what is experimental, deprecated, clipped, or divided by 0.

    The user can do nothing about them, and would read them once per trial.
    """
    with warnings.catch_warnings():
        for category in (ExperimentalWarning, FutureWarning, UserWarning, RuntimeWarning):
            warnings.simplefilter("ignore", category)
        yield


def require_packages(kind: type) -> None:
    """Refuse a sampler that would fail for want of a package.

    Raises:
        MissingPackageError: it is not installed; the message says how to install it.
    """
    for needing, (package, extra) in _NEEDS.items():
        if issubclass(kind, needing) and find_spec(package) is None:
            raise MissingPackageError(
                f"optuna.samplers.{needing.__name__} needs {package}, which is not installed:  "
                f"pip install 'letstune-optuna[{extra}]'"
            )


def _make(kind: type[BaseSampler], name: str, **options: Any) -> BaseSampler:
    """Return a sampler of Optuna; options that are None are left to it."""
    require_packages(kind)
    given = {key: value for key, value in options.items() if value is not None}
    with _quiet():
        try:
            return kind(**given)
        except (TypeError, ValueError, AssertionError) as error:
            raise PlanError(f"sampler {name!r}: {error}") from error


def _expect(name: str, kind: type, least: float | None = None, **options: Any) -> None:
    """Refuse options that are not of a type; None is left out."""
    for option, value in options.items():
        fits = type(value) is kind or (kind is float and type(value) is int)
        if value is not None and (not fits or (least is not None and not value >= least)):
            more = "" if least is None else f", {least} or more"
            raise PlanError(
                f"sampler {name!r}: {option} is {value!r}, expected {_KINDS[kind]}{more}."
            )


_KINDS: Final = {int: "a whole number", float: "a number", bool: "True or False"}


class TPE(OptunaSampler):
    """The tree-structured Parzen estimator, `optuna.samplers.TPESampler`.

    Args:
        multivariate: model parameters jointly, rather than each on its own; False by default.
        group: model them jointly in groups that follow unions of params; needs `multivariate`.
        n_startup_trials: how many trials have ended before it does better than random.
        n_ei_candidates: how many params it draws, to propose the best of them.
        constant_liar: keep away from params that are in training; without it, the trials of one
            cohort may be much alike.
        prior_weight: the weight of the prior beside that of a trial, 1 by default.
        consider_magic_clip: Optuna's heuristic that limits how narrow the estimator gets.
        consider_endpoints: whether that takes the ends of a range into account.
        failures: whether to learn from trials that failed where not to go, ``"worst"``, which is
            the default, or to ``"ignore"`` them.

    Raises:
        PlanError: an option is not what it must be.

    >>> TPE(multivariate=True).sampler
    'TPESampler'
    """

    def __init__(
        self,
        *,
        multivariate: bool | None = None,
        group: bool = False,
        n_startup_trials: int = 10,
        n_ei_candidates: int = 24,
        constant_liar: bool = True,
        prior_weight: float | None = None,
        consider_magic_clip: bool | None = None,
        consider_endpoints: bool | None = None,
        failures: Failures | None = None,
    ) -> None:
        _expect("tpe", int, 0, n_startup_trials=n_startup_trials)
        _expect("tpe", int, 1, n_ei_candidates=n_ei_candidates)
        _expect("tpe", float, 0, prior_weight=prior_weight)
        flags = {
            "multivariate": multivariate,
            "group": group,
            "constant_liar": constant_liar,
            "consider_magic_clip": consider_magic_clip,
            "consider_endpoints": consider_endpoints,
        }
        _expect("tpe", bool, **flags)
        if multivariate is None:
            # Said here, as what Optuna's default is depends on its version.
            flags["multivariate"] = group
        super().__init__(
            _make(
                TPESampler,
                "tpe",
                n_startup_trials=n_startup_trials,
                n_ei_candidates=n_ei_candidates,
                prior_weight=prior_weight,
                **flags,
            ),
            failures=failures,
        )


class GP(OptunaSampler):
    """A Gaussian process with log expected improvement, `optuna.samplers.GPSampler`.

    Needs ``letstune-optuna[gp]``. Parameters below a union are drawn at random.

    Args:
        n_startup_trials: how many trials have ended before it does better than random.
        deterministic_objective: whether the same params always come out the same.
        failures: whether to learn from trials that failed where not to go, ``"worst"``, which is
            the default, or to ``"ignore"`` them.

    Raises:
        PlanError: an option is not what it must be.
        MissingPackageError: torch is not installed.
    """

    def __init__(
        self,
        *,
        n_startup_trials: int = 10,
        deterministic_objective: bool = False,
        failures: Failures | None = None,
    ) -> None:
        _expect("gp", int, 1, n_startup_trials=n_startup_trials)
        _expect("gp", bool, deterministic_objective=deterministic_objective)
        super().__init__(
            _make(
                GPSampler,
                "gp",
                n_startup_trials=n_startup_trials,
                deterministic_objective=deterministic_objective,
            ),
            failures=failures,
        )


class CMAES(OptunaSampler):
    """CMA-ES, `optuna.samplers.CmaEsSampler`: for many trials of mostly continuous parameters.

    Needs ``letstune-optuna[cmaes]``. Choices, and parameters below a union, are drawn at random.

    Args:
        n_startup_trials: how many random trials come first.
        popsize: how many trials make a generation; by default, by the number of parameters.
        sigma0: the initial standard deviation, where each parameter's range is 1; 1/6 by default.
        use_separable_cma: take parameters for independent, which learns faster if they are.
        with_margin: keep whole numbers from getting stuck at one.
        lr_adapt: adapt the learning rate, for noisy or multimodal metrics.
        failures: whether to learn from trials that failed where not to go, ``"worst"``, which is
            the default, or to ``"ignore"`` them.

    Raises:
        PlanError: an option is not what it must be, or two exclude each other.
        MissingPackageError: cmaes is not installed.
    """

    def __init__(
        self,
        *,
        n_startup_trials: int = 1,
        popsize: int | None = None,
        sigma0: float | None = None,
        use_separable_cma: bool = False,
        with_margin: bool = False,
        lr_adapt: bool = False,
        failures: Failures | None = None,
    ) -> None:
        _expect("cmaes", int, 0, n_startup_trials=n_startup_trials)
        _expect("cmaes", int, 4, popsize=popsize)  # with fewer, cmaes divides by 0
        _expect("cmaes", float, 1e-10, sigma0=sigma0)
        flags = {
            "use_separable_cma": use_separable_cma,
            "with_margin": with_margin,
            "lr_adapt": lr_adapt,
        }
        _expect("cmaes", bool, **flags)
        super().__init__(
            _make(
                CmaEsSampler,
                "cmaes",
                n_startup_trials=n_startup_trials,
                popsize=popsize,
                sigma0=sigma0,
                **flags,
            ),
            failures=failures,
        )


class NSGAII(OptunaSampler):
    """The genetic algorithm NSGA-II, `optuna.samplers.NSGAIISampler`, with letstune's one metric.

    Parameters below a union are drawn at random.

    Args:
        population_size: how many trials make a generation.
        mutation_prob: how likely a parameter is drawn anew; by default, about one in each child is.
        crossover_prob: how likely a child has two parents.
        swapping_prob: how likely a parameter is from the second one.
        failures: whether to learn from trials that failed where not to go, ``"worst"``, which is
            the default, or to ``"ignore"`` them.

    Raises:
        PlanError: an option is not what it must be.
    """

    def __init__(
        self,
        *,
        population_size: int = 50,
        mutation_prob: float | None = None,
        crossover_prob: float = 0.9,
        swapping_prob: float = 0.5,
        failures: Failures | None = None,
    ) -> None:
        _expect("nsgaii", int, 2, population_size=population_size)
        chances = {
            "mutation_prob": mutation_prob,
            "crossover_prob": crossover_prob,
            "swapping_prob": swapping_prob,
        }
        _expect("nsgaii", float, 0, **chances)
        made = _make(NSGAIISampler, "nsgaii", population_size=population_size, **chances)
        super().__init__(made, failures=failures)


class QMC(OptunaSampler):
    """A quasi-random sequence, `optuna.samplers.QMCSampler`: trial i gets its i-th point.

    Needs ``letstune-optuna[qmc]``. It does not look at the history. Conditional parameters are
    from the sequence as well.

    Args:
        qmc_type: ``"sobol"`` or ``"halton"``.
        scramble: randomize the sequence, which otherwise begins in a corner of the space.
        seed: decides the scrambling; by default, the run's seed does.

    Raises:
        PlanError: an option is not what it must be.
        MissingPackageError: SciPy is not installed.
    """

    adaptive: ClassVar[bool] = False

    def __init__(
        self, *, qmc_type: str = "sobol", scramble: bool = True, seed: int | None = None
    ) -> None:
        _expect("qmc", int, 0, seed=seed)
        _expect("qmc", bool, scramble=scramble)
        super().__init__(
            _make(
                QMCSampler,
                "qmc",
                qmc_type=qmc_type,
                scramble=scramble,
                seed=seed,
                warn_asynchronous_seeding=False,
            ),
            failures="ignore",  # it does not learn
        )
        self.seed = seed


BY_NAME: Final[Mapping[str, type[OptunaSampler]]] = {
    "tpe": TPE,
    "gp": GP,
    "cmaes": CMAES,
    "nsgaii": NSGAII,
    "qmc": QMC,
}


def factory(name: str) -> Callable[..., OptunaSampler]:
    """Return what makes the sampler of that name from options."""
    kind = BY_NAME[name]
    known = list(signature(kind).parameters)
    # Journals that do not name an option go on with what it was when they were begun.
    before = {"failures": "ignore"} if "failures" in known else {}

    def make(**options: Any) -> OptunaSampler:
        for option in options:
            if option not in known:
                raise PlanError(
                    f"sampler {name!r} has no option {option!r}; it has {', '.join(known)}."
                )
        return kind(**{**before, **options})

    make.begins_with = {"failures": "worst"} if before else {}  # type: ignore[attr-defined]
    return make
