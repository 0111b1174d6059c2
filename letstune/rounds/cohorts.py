"""One cohort: who advances, who is dropped, as soon as that is certain; and who is trained first.

In round k, ``quotas[k]`` trials take part and the best ``quotas[k + 1]`` advance. A trial's
advancing is certain when even those whose results are still missing, were they all better, would
leave it a place; its dropping is certain when better trials fill all places already. So decisions
come as early as they can, and never depend on the order in which results arrive.

Rejected: ASHA (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020)
promotes whoever is best among those that happen to be done, which makes the outcome a matter of
timing.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import chain

DROPPED = -1
Move = tuple[int, int]
"""A trial, and the round that it enters or `DROPPED`. The last round is left as dropped, too."""


def rank_key(value: float, trial: int) -> tuple[bool, float, int]:
    """Return a key that sorts the best value first, non-finite ones last, ties by trial.

    >>> sorted([(0.5, 1), (float("nan"), 0), (0.5, 0), (0.9, 2)], key=lambda v: rank_key(*v))
    [(0.9, 2), (0.5, 0), (0.5, 1), (nan, 0)]
    """
    if math.isfinite(value):
        return (False, -value, trial)
    return (True, 0.0, trial)


class Cohort:
    """The trials that compete in the same rounds.

    Args:
        quotas: how many take part in each round.

    >>> cohort = Cohort([4, 1])
    >>> for trial in range(4):
    ...     cohort.enter()
    >>> cohort.finish(0, trial=2, value=0.9)
    []
    >>> cohort.finish(0, trial=0, value=0.5)  # cannot advance any more
    [(0, -1)]
    >>> cohort.finish(0, trial=1, value=None)  # failed
    [(1, -1)]
    >>> cohort.finish(0, trial=3, value=0.7)
    [(3, -1), (2, 1)]
    """

    __slots__ = ("done", "entered", "quotas", "top")

    def __init__(self, quotas: Sequence[int]) -> None:
        self.quotas = tuple(quotas)
        self.entered = [0] * len(quotas)
        self.done = [0] * len(quotas)
        # Of each round, the best of those done, at most as many as can advance.
        self.top: list[list[tuple[bool, float, int]]] = [[] for _ in quotas]

    @property
    def full(self) -> bool:
        """Whether all of its trials have been proposed."""
        return self.entered[0] == self.quotas[0]

    def complete(self, k: int) -> bool:
        """Tell whether round ``k`` is over, and so all rounds before it."""
        return self.done[k] == self.quotas[k]

    def enter(self) -> None:
        """Count a new trial into the first round."""
        self.entered[0] += 1

    def finish(self, k: int, trial: int, value: float | None) -> list[Move]:
        """Record a trial's standing in round ``k`` and return who moves because of it.

        Args:
            k: the round, from 0.
            trial: who is done with it.
            value: its best metric within the round's budget; None if it failed.
        """
        moves: list[Move] = []
        key = None if value is None else rank_key(value, trial)
        if k + 1 == len(self.quotas) or key is None:
            moves.append((trial, DROPPED))
        else:
            insort(self.top[k], key)
            if len(self.top[k]) > self.quotas[k + 1]:
                moves.append((self.top[k].pop()[2], DROPPED))
        self._count_done(k, 1, key, moves)
        return moves

    def _count_done(
        self, k: int, n: int, new: tuple[bool, float, int] | None, moves: list[Move]
    ) -> None:
        """Let advance who is certain to, now that ``n`` more places of round ``k`` are settled."""
        self.done[k] += n
        if k + 1 == len(self.quotas):
            return
        # With u results missing, the first (places - u) of those done are certain. Each result
        # makes that one more, so at most one trial a result is newly certain: the new one, if it
        # came in above the line, or else the one that stands just above the moved line.
        top, line = self.top[k], self.quotas[k + 1] - self.quotas[k] + self.done[k]
        if line > 0:
            if new is not None and top and new <= top[min(line, len(top)) - 1]:
                certain = [new]
            else:
                certain = top[max(0, line - n) : line]
            self.entered[k + 1] += len(certain)
            moves.extend((trial, k + 1) for _, _, trial in certain)
        if self.complete(k) and (vacant := self.quotas[k + 1] - self.entered[k + 1]):
            # Places that failures left empty: nobody will come, which is a result as well.
            self._count_done(k + 1, vacant, None, moves)


class Queue:
    """The trials that are to be trained in one round, those in training included.

    The slowest come first, so that none of them is left over when all others are done: "longest
    processing time first" (Graham, "Bounds on Multiprocessing Timing Anomalies", 1969). How slow
    a trial is counts only roughly, by powers of two, which makes every step O(1); within them,
    who came first comes first.

    >>> queue = Queue()
    >>> queue.put(0, 1.1)
    >>> queue.put(1, 10.0)
    >>> queue.put(2, 1.0)
    >>> list(queue)
    [1, 0, 2]
    >>> queue.remove(1)
    >>> list(queue), len(queue)
    ([0, 2], 2)
    """

    __slots__ = ("_classes", "_of")

    def __init__(self) -> None:
        self._of: dict[int, int] = {}
        # OrderedDict: taking the first key of a dict out again and again is quadratic.
        self._classes: dict[int, OrderedDict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[int]:
        slowest_first = sorted(self._classes, reverse=True)
        return chain.from_iterable(map(self._classes.__getitem__, slowest_first))

    def put(self, trial: int, seconds: float) -> None:
        """Add a trial whose epochs take ``seconds``, 0 if that is not known; not a second time."""
        if trial not in self._of:
            which = self._of[trial] = math.frexp(seconds)[1]
            self._classes.setdefault(which, OrderedDict())[trial] = None

    def remove(self, trial: int) -> None:
        """Take a trial out, if it is there."""
        which = self._of.pop(trial, None)
        if which is not None:
            del self._classes[which][trial]
            if not self._classes[which]:
                del self._classes[which]
