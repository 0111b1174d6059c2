"""`letstune.epochs`: the loop of a script that a `CommandTrainer` runs, and of one run by hand.

What both sides say to each other, each through a FIFO whose path is in the environment. letstune
writes a line for each epoch that it wants trained, ``3 1038380715``: the epoch and its seed; or
``end``. The script writes a first line, `HELLO`, and then its metric values as a line of JSON when
the epoch is over, its state saved. It then waits, and letstune takes the state meanwhile, which is
what makes it exact: the folder is as the script left it at the end of that very epoch.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final, SupportsFloat
from zlib import crc32

from letstune._public import public
from letstune.errors import TrainerError
from letstune.rounds.seeding import seed_globals
from letstune.telling.lines import put
from letstune.training.trainer import metric_values

# No `from __future__ import annotations`, as in `letstune.training.trainer`.

REPORTS: Final = "LETSTUNE_REPORTS"
ANSWERS: Final = "LETSTUNE_ANSWERS"
HELLO: Final = "letstune.epochs 1"
END: Final = "end\n"


@public("letstune")
class EpochReport:
    """Takes the metric values of an epoch; see `letstune.epochs`.

    Attributes:
        seed: the epoch's, from 0 to 2**31 - 1, for generators of the script's own.
    """

    seed: int

    def __init__(self, epoch: int, seed: int) -> None:
        self.seed = seed
        self._epoch = epoch
        self._values: dict[str, float] = {}

    def __call__(
        self, values: Mapping[str, SupportsFloat] | None = None, /, **more: SupportsFloat
    ) -> None:
        """Take metric values, as a dict or by name; those of several calls are taken together.

        Raises:
            TrainerError: they are not names and real numbers.
        """
        given = {**(values or {}), **more}
        self._values |= metric_values(given, "accuracy", f"Epoch {self._epoch}")

    def _line(self) -> str:
        if not self._values:
            raise TrainerError(
                f"Epoch {self._epoch} ended without metric values. Call report(accuracy=0.9), or "
                "what they are, in each round of the loop over letstune.epochs()."
            )
        return json.dumps(self._values)


@public("letstune")
def epochs(
    n: int | None = None, *, start: int = 0, seed: int = 0
) -> Iterator[tuple[int, EpochReport]]:
    """Yield the number of each epoch that a script is to train, and who takes its metric values.

    ``for epoch, report in letstune.epochs(10):`` loads nothing and saves nothing. The script goes
    on from its folder before the loop, and saves to it in each round of it; the epoch is over when
    the round is. The global generators of `random`, NumPy and imported frameworks are seeded for
    each epoch.

    Run by a `CommandTrainer`, it yields the epochs that letstune wants, and ends when there are no
    more; a loop that is left earlier ends the trial. Run by hand, it yields those that the
    arguments say, and prints the metric values as lines of JSON.

    Args:
        n: how many epochs there are in all, by hand.
        start: the first one, by hand: how many the script finds trained in its folder.
        seed: from which the epochs' seeds are made, by hand.

    Raises:
        TrainerError: it is run by hand, and nobody says how many epochs there are; or an epoch
            ended without metric values.

    >>> for epoch, report in epochs(2):
    ...     report(loss=1 / (epoch + 1))
    {"epoch": 0, "loss": 1.0}
    {"epoch": 1, "loss": 0.5}
    """
    # Taken away, so that what the script starts does not speak in its place.
    reports, answers = os.environ.pop(REPORTS, None), os.environ.pop(ANSWERS, None)
    if reports is not None and answers is not None:
        return _wanted(reports, answers)
    if n is None:
        raise TrainerError(
            "letstune.epochs() without a number of epochs: this script is not run by letstune, "
            "or has had its loop. Write letstune.epochs(10)."
        )
    return _by_hand(n, start, seed)


def _wanted(reports: str, answers: str) -> Iterator[tuple[int, EpochReport]]:
    with open(answers) as wanted, open(reports, "w") as told:  # noqa: PTH123 (a FIFO)
        _tell(told, HELLO)
        while (line := wanted.readline()) not in ("", END):
            epoch, seed = map(int, line.split())
            report = EpochReport(epoch, seed)
            seed_globals(seed)
            yield epoch, report
            _tell(told, report._line())


def _tell(told: Any, line: str) -> None:
    told.write(f"{line}\n")
    told.flush()


def _by_hand(n: int, start: int, seed: int) -> Iterator[tuple[int, EpochReport]]:
    for epoch in range(start, n):
        report = EpochReport(epoch, crc32(b"%d %d" % (seed, epoch)) >> 1)
        seed_globals(report.seed)
        yield epoch, report
        put(json.dumps({"epoch": epoch, **json.loads(report._line())}))
