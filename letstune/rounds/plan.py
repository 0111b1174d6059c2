"""The plan: what a run is to do, and its rounds."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from letstune._public import public
from letstune.errors import PlanError
from letstune.rounds.numbers import whole

SIMPLE_ROUNDS: Final = (1,)
DEFAULT_LENGTHS: Final = (3, 9, 36)
ADAPTIVE_COHORTS: Final = (16, 8, 4, 2, 1)


@public("letstune")
@dataclass(frozen=True)
class Rounds:
    """Investment rounds: how long each is, who advances, who competes with whom.

    Successive halving as in Jamieson and Talwalkar, "Non-stochastic Best Arm Identification and
    Hyperparameter Optimization" (AISTATS 2016), with reduction factor ``1 / keep``.

    Args:
        lengths: how much every round adds, all of them in epochs or all as `timedelta`.
            ``[3, 9, 36]`` trains 3 epochs, then up to 12, then up to 48. Rounds in epochs are
            exact; rounds in time are decided from recorded seconds, so they are exact for a given
            journal but not between machines.
        keep: the share of trials that advances to the next round, rounded up; in (0, 1].
        cohort: how many trials compete in the same rounds, or a sequence of such sizes, whose
            last one repeats. None: all trials in one cohort, or, with a sampler that learns,
            cohorts of 16, 8, 4, 2 and then 1.

    Raises:
        PlanError: an argument is not what it must be.

    >>> Rounds([3, 9, 36]).limits
    (3, 12, 48)
    """

    lengths: Sequence[int] | Sequence[timedelta] = DEFAULT_LENGTHS
    keep: float = 0.25
    cohort: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        keep: Any = self.keep
        if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1:
            raise PlanError(
                f"keep={keep!r}: expected the share of trials that advances, above 0 and at most "
                "1. Leave it out for 0.25."
            )
        object.__setattr__(self, "lengths", _lengths(self.lengths))
        object.__setattr__(self, "keep", float(keep))
        object.__setattr__(self, "cohort", _cohort(self.cohort))

    @property
    def timed(self) -> bool:
        """Whether the lengths are times rather than numbers of epochs."""
        return isinstance(self.lengths[0], timedelta)

    @property
    def limits(self) -> tuple[float, ...]:
        """How far a trial may be trained by the end of each round, in epochs or in seconds."""
        total: Any = timedelta(0) if self.timed else 0
        limits = []
        for length in self.lengths:
            total += length
            limits.append(total.total_seconds() if self.timed else total)
        return tuple(limits)

    def quotas(self, size: int) -> tuple[int, ...]:
        """Return how many of ``size`` trials take part in each round.

        >>> Rounds([3, 9, 36]).quotas(64)
        (64, 16, 4)
        """
        quotas = [size]
        for _ in self.lengths[1:]:
            # The tiny tolerance makes 0.07 * 100 (7.000000000000001) keep 7 of 100, not 8.
            quotas.append(min(quotas[-1], math.ceil(self.keep * quotas[-1] * (1 - 1e-12))))
        return tuple(quotas)

    def to_dict(self) -> dict[str, Any]:
        """Return the rounds as a JSON-able dict."""
        unit = "seconds" if self.timed else "epochs"
        lengths = [x.total_seconds() if isinstance(x, timedelta) else x for x in self.lengths]
        cohort = None if self.cohort is None else list(self.cohort)  # type: ignore[arg-type]
        return {"unit": unit, "lengths": lengths, "keep": self.keep, "cohort": cohort}

    @staticmethod
    def from_dict(recorded: Mapping[str, Any]) -> Rounds:
        """Return the rounds that `to_dict` described."""
        lengths = recorded["lengths"]
        if recorded["unit"] == "seconds":
            lengths = [timedelta(seconds=seconds) for seconds in lengths]
        return Rounds(lengths, keep=recorded["keep"], cohort=recorded["cohort"])

    def grows_to(self, other: Rounds) -> bool:
        """Tell whether ``other`` only adds to these: a longer last round, or rounds behind it."""
        mine, theirs = tuple(self.lengths), tuple(other.lengths)
        last = len(mine) - 1
        return (
            (self.keep, self.cohort, self.timed) == (other.keep, other.cohort, other.timed)
            and len(theirs) >= len(mine)
            and theirs[:last] == mine[:last]
            and bool(theirs[last] >= mine[last])  # type: ignore[operator]
        )


def _lengths(given: Any) -> tuple[Any, ...]:
    """Return the lengths of rounds, as numbers of epochs or as `timedelta`."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise PlanError(
            f"rounds={given!r}: expected the lengths of all rounds, for instance [3, 9, 36]."
        )
    given = tuple(given)
    timed = [isinstance(length, timedelta) for length in given]
    if not given or (any(timed) and not all(timed)):
        raise PlanError(
            f"rounds={list(given)!r}: expected at least one length, all of them numbers of "
            "epochs or all of them timedelta, for instance rounds=[3, 9, 36]."
        )
    lengths = given if all(timed) else tuple(map(whole, given))
    for length, asked in zip(lengths, given, strict=True):
        if length is None or length <= (timedelta(0) if all(timed) else 0):
            raise PlanError(
                f"rounds={list(given)!r}: {asked!r} is no length of a round. "
                "Give a whole number of epochs from 1 on, or a positive timedelta."
            )
    return lengths


def _cohort(given: Any) -> tuple[int, ...] | None:
    """Return the sizes of cohorts, of which the last repeats."""
    if given is None:
        return None
    several = isinstance(given, Iterable) and not isinstance(given, str | bytes)
    sizes = [whole(size) or 0 for size in (given if several else [given])]
    if not sizes or min(sizes) < 1:
        raise PlanError(
            f"cohort={given!r}: expected a number of trials from 1 on, or a "
            "sequence of such numbers. Leave it out to let all trials compete."
        )
    return tuple(sizes)


@dataclass(frozen=True, kw_only=True)
class How:
    """How a plan is carried out: this may change from session to session, and changes when.

    Only what fails a trial, as `max_deaths` does, has a say in results. ``executor`` is who
    supplies it, a dict with its ``name``; None for one of letstune's own.
    """

    workers: int | str | tuple[str, Mapping[str, Any]] | None = None
    executor: Mapping[str, Any] | None = None
    gpus: tuple[str, ...] | str | None = None
    max_deaths: int = 3
    epoch_timeout: float | None = None
    trial_timeout: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan(How):
    """What a run is to do, and how: all that decides, and nothing about who does it.

    ``sampler`` and ``store`` are JSON-able dicts with a ``name`` and its ``options``.
    """

    metric: str
    n_trials: int
    rounds: Rounds
    simple: bool
    seed: int
    space: str
    sampler: Mapping[str, Any]
    adaptive: bool
    store: Mapping[str, Any]
    lag: int
    keep_checkpoints: int | Literal["all"]
    trainer: str
    dataset: Any = None
    # How many threads the libraries of a worker process have, since some of them add up in another
    # order with another number. None of a run that began on a cluster, or before this was recorded.
    threads: int | None = None
    # The most epochs that the rounds allowed when the run began; None if they are in time.
    horizon: int | None = None
    # How often a sampler that learns is asked for a trial, with what was refused told to it. None
    # of one that does not, and of a run from before that: it goes on as it began.
    attempts: int | None = None

    def to_facts(self) -> dict[str, Any]:
        """Return the rows of the journal's table ``plan``: JSON-able values by name."""
        facts = dict(vars(self))
        facts["rounds"] = self.rounds.to_dict()
        facts["space"] = json.loads(self.space)
        return facts

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> Plan:
        """Return the plan whose facts these are; facts of later versions are passed over."""
        known = {name: facts[name] for name in Plan.__dataclass_fields__ if name in facts}
        known["rounds"] = Rounds.from_dict(facts["rounds"])
        for name in ("gpus", "workers"):
            if isinstance(value := known.get(name), list):
                known[name] = tuple(value)
        known["space"] = json.dumps(facts["space"], separators=(",", ":"))
        return Plan(**known)

    def grows(self, recorded: Plan) -> bool:
        """Tell whether there is more to do in this plan than in one that is recorded."""
        return (self.n_trials, self.rounds) != (recorded.n_trials, recorded.rounds)

    @property
    def cohort_sizes(self) -> tuple[int, ...]:
        """How many trials the cohorts have, in order, when there are enough; the last repeats."""
        if self.rounds.cohort is not None:
            return tuple(self.rounds.cohort)  # type: ignore[arg-type]
        if not self.adaptive:
            return (self.n_trials,)
        return (1,) if self.simple else ADAPTIVE_COHORTS

    def cohort_size(self, cohort: int) -> int:
        """Return how many trials a cohort has when there are enough for it."""
        sizes = self.cohort_sizes
        return sizes[min(cohort, len(sizes) - 1)]
