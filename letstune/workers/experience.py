"""Experience: what the slots of an executor have seen of a trainer, and share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from letstune.rounds.events import TrialFailed
from letstune.rounds.failures import signature
from letstune.telling.lines import say
from letstune.workers.messages import Change
from letstune.workers.silence import Pace

ENOUGH: Final = 2
"""So often is a failure confirmed in a fresh process before all that are like it are believed."""

USUAL: Final = 2
"""So often is a process replaced for the same change before that is taken for usual."""


class Experience:
    """What was seen so far.

    Attributes:
        pace: how long what workers do takes.
    """

    def __init__(self) -> None:
        self.pace = Pace()
        self._confirmed: Counter[tuple[str, str, str]] = Counter()
        self._changed: Counter[str] = Counter()

    def believe(self, failure: TrialFailed) -> None:
        """See a failure come again in a fresh process."""
        self._confirmed[signature(failure)] += 1

    def believes(self, failure: TrialFailed) -> bool:
        """Tell whether a failure need not be confirmed any more."""
        return self._confirmed[signature(failure)] >= ENOUGH

    def spoilt(self, trial: int, changes: Sequence[Change]) -> bool:
        """Tell whether a process is to be replaced for what a trial has changed of it, and why.

        It is, even if all was put back: a library may have read a variable meanwhile, and a limit
        may have made something fail for good. But what comes again and again is what this trainer,
        or one of its libraries, does in any process, such as a DataLoader's handler of SIGCHLD or
        a variable for CUDA, and then each trial would pay with another `load_dataset`. So then to
        put it back is enough. Not to leave it, although it may be the same in each process: a
        trial that happens not to change it would have what another one has left, and which one
        depends on who trained what. What cannot be put back is never usual.
        """
        self._changed.update(change.what for change in changes)
        new = [change.what for change in changes if self._changed[change.what] == 1]
        if new:
            say(
                f"letstune: trial {trial} left its worker with {_listed(new)}. A fresh process "
                "trains what comes next."
            )
        usual = [c.what for c in changes if c.undone and self._changed[c.what] == USUAL + 1]
        if usual:
            say(
                f"letstune: trials again and again leave their worker with {_listed(usual)}. From "
                "now on, that is put back, and the process stays."
            )
        return any(not c.undone or self._changed[c.what] <= USUAL for c in changes)


def _listed(whats: Sequence[str]) -> str:
    """Return changes for people.

    >>> _listed(["umask"]), _listed(["handler of SIGTERM", "umask"])
    ('another umask', 'another handler of SIGTERM and another umask')
    """
    shown = [f"another {what}" for what in whats[:5]]
    if len(whats) > 5:
        shown[4:] = [f"{len(whats) - 4} changes more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
