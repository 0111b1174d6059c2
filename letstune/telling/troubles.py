"""Troubles of a run as lines for a person: three of a kind are told, and then they are counted."""

from __future__ import annotations

from collections import Counter
from typing import Final

from letstune.rounds.decisions import ended
from letstune.rounds.events import Event, TrialFailed, WorkerDied
from letstune.rounds.failures import signature

TOLD: Final = 3


class Troubles:
    """Tells failures and deaths, without repeating itself all night.

    >>> troubles = Troubles()
    >>> failed = [TrialFailed(trial, 0, "raised", "ValueError: no", "") for trial in range(5)]
    >>> [line for event in failed for line in troubles.lines(event)][2:]
    ['Trial 2 failed in epoch 0: ValueError: no']
    >>> troubles.more()
    ['2 more trials failed alike: ValueError: no']
    """

    def __init__(self) -> None:
        self._seen: Counter[object] = Counter()
        self._untold: Counter[object] = Counter()
        self._kinds: dict[object, str] = {}

    def lines(self, event: Event) -> list[str]:
        """Return what is to be told of an event at once: one line, or nothing."""
        match event:
            case TrialFailed():
                kind: object = signature(event)
                line = f"Trial {event.trial} failed in epoch {event.epoch}: {event.message}"
                self._kinds[kind] = f"trial{{s}} failed alike: {event.message}"
            case WorkerDied():
                kind, how = event.code, ended(event.code)
                line = f"A worker died in epoch {event.epoch} of trial {event.trial}: {how}."
                line += " Another one goes on."
                self._kinds[kind] = f"worker{{s}} died: {how}."
            case _:
                return []
        self._seen[kind] += 1
        if self._seen[kind] <= TOLD:
            return [line]
        self._untold[kind] += 1
        return []

    def more(self) -> list[str]:
        """Return how often the same has happened since it was told last."""
        untold, self._untold = self._untold, Counter()
        return [
            f"{count} more {self._kinds[kind].replace('{s}', '' if count == 1 else 's', 1)}"
            for kind, count in untold.items()
        ]
