"""Failures in a row that are alike: when they are to end a session."""

from __future__ import annotations

from letstune.rounds.events import EpochFinished, Event, TrialFailed, TrialStopped
from letstune.rounds.failures import signature
from letstune.rounds.state import State


class Streaks:
    """Failures in a row that are alike, in each round, with no success in that round between.

    They are counted for one session only: they decide when it ends, and never what a run does.

    Args:
        most: how many make it end; 0 for any number. None for 3 where nothing has succeeded in the
            round, in this session or before, and 10 where something has.

    Attributes:
        end: the round, and the failures in it, that make the session end; None as long as none do.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._alike: dict[int, list[TrialFailed]] = {}
        self.end: tuple[int, list[TrialFailed]] | None = None

    def see(self, event: Event, state: State) -> None:
        """See an event, which is part of the state by now."""
        match event:
            case TrialFailed(number):
                self._count(event, state.trials[number].round, state)
            case TrialStopped(number):
                for k in range(state.trials[number].round + 1):  # it has gone through all of them
                    self._alike.pop(k, None)
            case EpochFinished(number, epoch):
                marks = state.trials[number].marks
                if marks and marks[-1][0] == epoch + 1:  # it was the last of a round
                    self._alike.pop(len(marks) - 1, None)

    def why(self, journal: str) -> str:
        """Return why the session ends, and how to go on.

        Args:
            journal: its path, as a shell takes it.
        """
        if self.end is None:
            return ""
        k, failures = self.end
        trials = ", ".join(str(failure.trial) for failure in failures[:10])
        *_, where = signature(failures[-1])
        return (
            f"{len(failures)} trials in a row failed alike in round {k + 1} (trials {trials}): "
            f"{failures[-1].message}\n{where and f'It was raised in {where}. '}"
            "The run was stopped, and all is recorded; "
            f"`letstune show {journal} {failures[-1].trial}` has the traceback. "
            "Mend the cause and run this again: what failed is tried again when the trainer has "
            "changed, or by `letstune retry`. To go on regardless: max_failures=0, "
            "--max-failures 0."
        )

    def _count(self, failure: TrialFailed, k: int, state: State) -> None:
        before = self._alike.get(k, [])
        if before and signature(before[-1]) != signature(failure):
            before = []
        self._alike[k] = [*before, failure]
        most = self._most
        if most is None:
            most = 10 if any(len(trial.marks) > k for trial in state.trials) else 3
        if most and len(self._alike[k]) >= most:
            self.end = (k, self._alike[k])
