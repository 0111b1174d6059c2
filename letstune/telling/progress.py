"""Tells a person how a run is going: on a terminal, in a notebook, or line by line in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from letstune._visible import visible
from letstune.rounds.decisions import planned_epochs
from letstune.rounds.events import Event
from letstune.rounds.metric import as_returned
from letstune.rounds.state import NO_VALUE, State
from letstune.telling.lines import counted, say
from letstune.telling.troubles import Troubles

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

REFRESH: Final = 0.25
LOG_EVERY: Final = 30.0


def describe(state: State, seconds: float, since: int) -> str:
    """Return one line: round, trials left, best so far, time left.

    Args:
        state: the run.
        seconds: how long this session has been at it.
        since: how many epochs were recorded when it began.
    """
    active = [k for k, ready in enumerate(state.ready) if ready]
    rounds = f"round {max(active, default=0) + 1}/{len(state.limits)}"
    left = state.unsettled + state.n_trials - len(state.trials)
    trials = f"{left} of {counted(state.n_trials, 'trial')} left"
    parts = [rounds, trials, counted(state.total_epochs, "epoch")]
    best, trial = state.leader
    failed = sum(trial.status == "failed" for trial in state.trials)
    parts += [f"{failed} failed"] if failed else []
    value = as_returned(state.plan.metric, best)
    parts.append("no result yet" if best == NO_VALUE else f"best {value:.6g} (trial {trial})")
    if state.finished:
        parts[0] = "finished"
    elif seconds and state.total_epochs > since:
        ahead = planned_epochs(state.plan, state) - state.trained
        pace = seconds / (state.total_epochs - since)
        expected = ahead if state.timed else ahead * pace
        parts.append(f"about {duration(max(0.0, expected))} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a time span for people.

    >>> [duration(5), duration(75), duration(7260)]
    ['5 s', '1 min 15 s', '2 h 1 min']
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _in_notebook() -> bool:
    # A script may import IPython, and even ipykernel, for whatever reason.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def _as_text(line: str) -> Text:
    """Return a line as rich shows it literally: of other text, it takes some for markup."""
    from rich.text import Text

    return Text(visible(line))


class Progress:
    """Shows how a run is going; it is told after each commit.

    On a terminal and in a notebook, it shows a line that changes; elsewhere, it writes a line every
    half minute. A failed trial gets a line of its own, unless many fail alike.

    Args:
        state: the run as it begins.
        show: False for silence.
        clock: returns seconds, for tests.
    """

    def __init__(
        self, state: State, *, show: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._began = self._next = clock()
        self._since = state.total_epochs
        self._show = show
        self._state = state
        self._live: Live | None = None
        self._cell: Any = None
        self._troubles = Troubles()
        if show:
            self._open()

    def _open(self) -> None:
        if _in_notebook():
            # The display of rich shows nothing in a notebook without ipywidgets.
            from IPython import display

            show: Any = display.display  # which has no types
            self._cell = show({"text/plain": ""}, raw=True, display_id=True)
            return
        if not sys.stderr.isatty():
            self._next += LOG_EVERY
            return
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._live.start()

    @property
    def shows(self) -> bool:
        """Whether it shows anything."""
        return self._show

    def recorded(self, events: Sequence[Event], state: State) -> None:
        """See what was recorded."""
        self._state = state
        if not self._show:
            return
        for event in events:
            for line in self._troubles.lines(event):
                self.tell(line)
        moment = self._clock()
        if moment >= self._next:
            self._next = moment + (REFRESH if self._live or self._cell else LOG_EVERY)
            line = describe(state, moment - self._began, self._since)
            if self._cell:
                self._cell.update({"text/plain": visible(line)}, raw=True)
            elif self._live:
                with self._unless_broken():
                    self._live.update(_as_text(line), refresh=True)
            else:
                self._tell_more()
                self.tell(line)

    def _tell_more(self) -> None:
        for line in self._troubles.more():
            self.tell(line)

    def tell(self, line: str) -> None:
        """Write a line that stays."""
        if not self._show:
            return
        if self._live:
            with self._unless_broken():
                self._live.console.print(_as_text(line))
        else:
            say(line)

    def doing(self, line: str) -> None:
        """Show, where a line can change, what may take a while before anything is recorded."""
        if self._live and self._show and self._clock() >= self._next:
            with self._unless_broken():
                self._live.update(_as_text(line), refresh=True)

    @contextmanager
    def _unless_broken(self) -> Iterator[None]:
        """Give up the display, and not the run, when the terminal is gone."""
        try:
            yield
        except OSError:
            self._live = None
            self._show = False

    def close(self) -> None:
        """End with a line that tells where the run is now."""
        if self._live:
            with self._unless_broken():
                self._live.stop()
            self._live = None
        self._tell_more()
        self.tell(describe(self._state, self._clock() - self._began, self._since))
        self._show = False
