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

SIMPLE_ROUNDS: Final = (1,)
DEFAULT_LENGTHS: Final = (3, 9, 36)
ADAPTIVE_COHORTS: Final = (16, 8, 4, 2, 1)


def _whole(value: Any) -> Any:
    """Return NumPy's whole numbers as Python's, and all else as it is."""
    return value.__index__() if hasattr(value, "__index__") and value is not True else value


def _positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


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
        given: Any = self.lengths
        if isinstance(given, str | bytes) or not isinstance(given, Iterable):
            raise PlanError(
                f"rounds={given!r}: expected the lengths of all rounds, for instance [3, 9, 36]."
            )
        lengths: tuple[Any, ...] = tuple(map(_whole, given))
        timed = [isinstance(length, timedelta) for length in lengths]
        if not lengths or (any(timed) and not all(timed)):
            raise PlanError(
                f"rounds={list(lengths)!r}: expected at least one length, all of them numbers of "
                "epochs or all of them timedelta, for instance rounds=[3, 9, 36]."
            )
        for length in lengths:
            if length <= timedelta(0) if isinstance(length, timedelta) else not _positive(length):
                raise PlanError(
                    f"rounds={list(lengths)!r}: {length!r} is no length of a round. "
                    "Give a whole number of epochs from 1 on, or a positive timedelta."
                )
        keep: Any = self.keep
        if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1:
            raise PlanError(
                f"keep={keep!r}: expected the share of trials that advances, above 0 and at most "
                "1. Leave it out for 0.25."
            )
        cohort: Any = self.cohort
        if cohort is not None:
            several = isinstance(cohort, Iterable) and not isinstance(cohort, str | bytes)
            cohort = tuple(map(_whole, cohort if several else (cohort,)))
            if not cohort or not all(map(_positive, cohort)):
                raise PlanError(
                    f"cohort={self.cohort!r}: expected a number of trials from 1 on, or a "
                    "sequence of such numbers. Leave it out to let all trials compete."
                )
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "keep", float(keep))
        object.__setattr__(self, "cohort", cohort)

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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is to do: all that decides, and nothing about who does it.

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
    # How the run is carried out. Free to change: only what kills a trial has a say in results.
    # ``executor`` is who supplies it, a dict with its ``name``; None of letstune's own.
    workers: int | str | tuple[str, Mapping[str, Any]] | None = None
    executor: Mapping[str, Any] | None = None
    gpus: tuple[str, ...] | str | None = None
    max_deaths: int = 3
    epoch_timeout: float | None = None
    trial_timeout: float | None = None

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
