"""Observers: they are told what a run does, after it is durable, and cannot change it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

from letstune._public import public
from letstune.rounds.events import EpochFinished, Event, TrialFailed, TrialProposed
from letstune.rounds.plan import Plan
from letstune.rounds.state import State
from letstune.telling.lines import say


@public("letstune")
class Observer:
    """Is told what a run does. Override the methods that tell what you want to know.

    Each method is called after what it tells is durable, in the order of the journal, in the
    process that owns the run. It gets a copy of its own, and what it returns is ignored. The first
    exception of an observer is reported on stderr; the run goes on, and goes on telling it. Only
    `KeyboardInterrupt` ends the run, since it may be the user's. An observer hears of this session
    only: after a resume, nobody tells it what was recorded before.

    >>> class Count(Observer):
    ...     epochs = 0
    ...     def epoch_recorded(self, epoch):
    ...         self.epochs += 1
    """

    def run_started(self, journal: Path, plan: Plan) -> None:
        """A session begins: the first one of a run, or one that resumes it."""

    def trial_proposed(self, trial: int, params: Mapping[str, Any]) -> None:
        """A trial has its params, as JSON-able values."""

    def epoch_recorded(self, epoch: EpochFinished) -> None:
        """A trial was trained for one more epoch."""

    def trial_failed(self, failure: TrialFailed) -> None:
        """A trial ended in an error."""

    def round_finished(self, cohort: int, round: int) -> None:
        """All trials of a cohort that take part in a round are through it; both count from 0.

        This is told after the last epoch of the round, and for a cohort's rounds in their order.
        """

    def run_finished(self, how: str) -> None:
        """The session ended: ``finished``, ``interrupted`` or ``error``."""


class Display(Protocol):
    """Shows a person how a run is going."""

    def recorded(self, events: Sequence[Event], state: State) -> None:
        """See what is new."""

    def tell(self, line: str) -> None:
        """Tell a person something."""

    def doing(self, line: str) -> None:
        """Show what is going on, until something is recorded."""


class Audience:
    """All who are told of a run. Nothing that one of them does can stop or change the run.

    Args:
        display: shows the run to a person; it is given up when it fails.
        observers: they are told in this order.
        state: the run as it begins.
    """

    def __init__(
        self, display: Display | None, observers: Sequence[Observer], state: State
    ) -> None:
        self._display = display
        self._observers = tuple(observers)
        self._failed: set[int] = set()
        self._frontier = list(state.frontier)

    def started(self, journal: Path, plan: Plan) -> None:
        """Tell that a session begins."""
        self._each("run_started", journal, plan)

    def finished(self, how: str) -> None:
        """Tell how it ended."""
        self._each("run_finished", how)

    def tell(self, line: str) -> None:
        """Tell a person something."""
        self._show("tell", line)

    def doing(self, line: str) -> None:
        """Show what is going on."""
        self._show("doing", line)

    def recorded(self, events: Sequence[Event], state: State) -> None:
        """Tell what was recorded, and the state that it led to."""
        self._show("recorded", events, state)
        if not self._observers:
            return
        for event in events:
            self._announce(event)
        for round, (before, after) in enumerate(zip(self._frontier, state.frontier, strict=True)):
            for cohort in range(before, after):
                self._each("round_finished", cohort, round)
        self._frontier = list(state.frontier)

    def _announce(self, event: Event) -> None:
        match event:
            case TrialProposed(trial, params):
                self._each("trial_proposed", trial, json.loads(params))
            case EpochFinished():
                self._each("epoch_recorded", event)
            case TrialFailed():
                self._each("trial_failed", event)

    def _each(self, method: str, *args: object) -> None:
        for place, observer in enumerate(self._observers):
            try:
                getattr(observer, method)(*deepcopy(args))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 (whatever it may raise)
                if place not in self._failed:
                    self._failed.add(place)
                    who = type(observer).__name__
                    # Not a warning: where warnings are errors, that would stop the run.
                    say(f"letstune: {who}.{method} raised {error!r}. The run goes on.")

    def _show(self, method: str, *args: object) -> None:
        try:
            if self._display is not None:
                getattr(self._display, method)(*args)
        except Exception as error:  # noqa: BLE001 (whatever it may raise)
            self._display = None
            say(f"letstune: the progress display failed: {error!r}. The run goes on.")
