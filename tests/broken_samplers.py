"""Samplers that are broken on purpose, one for each law. `test_conformance.py` runs this file."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, ClassVar

import numpy as np
from broken_plugins import suites

from letstune.errors import PlanError
from letstune.samplers.sampler import Sampler
from letstune.testing import SamplerSuite


def drawn(space: Any, seed: Any) -> Any:
    return space.sample(np.random.default_rng(abs(hash(seed))))


class WithHiddenState(Sampler):
    """Law: same_inputs_give_the_same_params."""

    def __init__(self) -> None:
        self.calls = 0

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        self.calls += 1
        return drawn(space, (trial, self.calls))


class Astray(Sampler):
    """Law: stays_within_the_space."""

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        params = space.sample(rng)
        for name, node in space.fields:
            if getattr(node, "kind", "") == "uniform":
                return params.replace(**{name: node.high * 2 + 1.5})
        return params


class WithAStaleCache(Sampler):
    """Law: a_cache_may_be_dropped_at_any_moment."""

    adaptive = True

    def __init__(self) -> None:
        self.seen, self.total = 0, 0.0

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        for observation in history[self.seen :]:
            self.total += sum(v for v in observation.values if abs(v) < 1e300)
        self.seen = len(history)
        return drawn(space, (trial, self.total))

    def __getstate__(self) -> Any:
        return {"seen": self.seen, "total": 0.0}


class Unpicklable(Sampler):
    """Law: proposes_the_same_in_another_process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return space.sample(rng)


class ByTheClock(Sampler):
    """Law: draws_from_the_given_generator_only."""

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return drawn(space, int(time.time()))


class ByGlobalRandomness(Sampler):
    """Law: draws_from_the_given_generator_only."""

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return drawn(space, (random.random(), np.random.random()))


class ByWhatWasTrainedLast(Sampler):
    """Law: results_may_arrive_in_any_order.

    Training has seeded the global generator, for whichever trial came last.
    """

    adaptive = True

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return drawn(space, (trial, int(np.random.get_state()[1][0])))  # type: ignore[index]


class ByTheOrderOfASet(Sampler):
    """Law: proposes_the_same_in_another_process."""

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return drawn(space, (trial, *{f"a{i}" for i in range(50)}))


class Careless(Sampler):
    """Law: refuses_what_it_cannot_drive."""

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return space.build(lambda path, distribution: distribution.sample(rng))


class Choosy(Careless):
    """Law: accepts_the_spaces_that_it_can_drive."""

    def check(self, space: Any) -> None:
        space.require_structure("sampler 'choosy'")
        if len(space.fields) > 1:
            raise PlanError("too many fields")


class Curious(Sampler):
    """Law: looks_at_the_history_only_if_it_says_so."""

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return drawn(space, (trial, len(history)))


class Meddling(Sampler):
    """Law: same_inputs_give_the_same_params."""

    adaptive = True

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        history.sort(key=lambda o: -o.trial)
        return space.sample(rng)


class Impatient(Sampler):
    """Law: a_finite_space_comes_to_its_end."""

    adaptive = True

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        if space.size and space.size > 2 and len(history) >= space.size - 1:
            raise IndexError("almost exhausted")
        return space.sample(rng)


class WithAMemory(Sampler):
    """Law: resumes_exactly."""

    adaptive = True

    def __init__(self) -> None:
        self.last = 0.5

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        self.last = (self.last + float(rng.random())) % 1
        return drawn(space, self.last)

    def __getstate__(self) -> Any:
        return {"last": 0.5}


class WithAMemoryOfTheProcess(Sampler):
    """Law: resumes_exactly_after_sigkill."""

    adaptive = True
    proposed: ClassVar[set[int]] = set()

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        type(self).proposed.add(trial)
        return drawn(space, (trial, trial - 1 in self.proposed))


globals().update(suites(globals(), SamplerSuite, lambda cls: {"sampler": lambda self: cls()}))
