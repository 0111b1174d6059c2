"""What came of a run: trials, best first, as values, tables and DataFrames. Read-only."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from letstune._public import public
from letstune._visible import visible
from letstune.errors import (
    MissingPackageError,
    TrialNotFoundError,
)
from letstune.results.trials import Epoch, Source, Trial, TrialError
from letstune.results.verdicts import verdicts
from letstune.rounds.cohorts import rank_key
from letstune.rounds.metric import less_is_better, metric_name
from letstune.space.recorded_params import ParamsLike
from letstune.telling.lines import counted

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType


P = TypeVar("P", bound=ParamsLike)
SHOWN: Final = 10


@public("letstune")
class TuningResults(Sequence[Trial[P]]):
    """The trials of a run, best first; failed ones are last.

    Trials with equal metric values are in the order of their ids. ``results[0]`` is the winner.

    Attributes:
        stopped: why `tune` or `resume` has stopped the run too early: trial after trial failed
            alike, no trial can go on from its checkpoint, or somebody interrupted it in a
            notebook; empty if it has not.
    """

    stopped: str = ""

    def __init__(self, run: Source) -> None:
        self._run = run
        trials: list[Trial[P]] = [
            Trial(run, number, state) for number, state in enumerate(run.state.trials)
        ]
        trials.sort(
            key=lambda t: (t.status == "failed", rank_key(t._state.best, t.trial_id)),
        )
        self._trials = trials

    @property
    def journal(self) -> Path:
        """The journal that the results are from."""
        return self._run.path

    @property
    def metric(self) -> str:
        """The name of the optimized metric, as the trainer returns it."""
        return metric_name(self._run.plan.metric)

    @property
    def less_is_better(self) -> bool:
        """Whether the metric is minimised: whether the trainer names it with a leading minus."""
        return less_is_better(self._run.plan.metric)

    @property
    def verdicts(self) -> list[str]:
        """What there is to know before the results are believed, worst first; mostly nothing."""
        return verdicts(self._run.state, shlex.quote(str(self._run.path)))

    @property
    def finished(self) -> bool:
        """Whether the run did all that was planned."""
        return self._run.state.finished

    @property
    def best(self) -> Trial[P]:
        """The winner, the same as ``results[0]``.

        Raises:
            TrialNotFoundError: no trial has a result yet, or all have failed, or no epoch has a
                finite value of the metric.
        """
        first = self._trials[0] if self._trials else None
        if first is None or first.status == "failed" or not first._state.epochs:
            raise TrialNotFoundError(
                f"{self._run.path}: no trial has a result yet, or all that had one have failed. "
                f"`letstune show {self._run.path} 0`, and the results' `errors`, tell why."
            )
        if not math.isfinite(first._state.best):
            raise TrialNotFoundError(
                f"{self._run.path}: no result: no epoch has a finite {self.metric!r}. "
                f"`letstune show {self._run.path} {first.trial_id}` shows what was returned."
            )
        return first

    @property
    def errors(self) -> list[TrialError]:
        """How trials failed, in the order in which they did."""
        return list(map(TrialError.of, self._run.failures()))

    def trial(self, trial_id: int) -> Trial[P]:
        """Return the trial of that id.

        Raises:
            TrialNotFoundError: there is none.
        """
        for trial in self._trials:
            if trial.trial_id == trial_id:
                return trial
        raise TrialNotFoundError(
            f"{self._run.path} has no trial {trial_id}; it has trials 0 to {len(self) - 1}."
        )

    @overload
    def __getitem__(self, index: int) -> Trial[P]: ...

    @overload
    def __getitem__(self, index: slice) -> list[Trial[P]]: ...

    def __getitem__(self, index: int | slice) -> Trial[P] | list[Trial[P]]:
        return self._trials[index]

    def __len__(self) -> int:
        return len(self._trials)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a flat dict for each trial, best first: the rows of `to_df`."""
        epochs: dict[int, list[Epoch]] = {}
        for epoch in self._run.epochs():
            epochs.setdefault(epoch.trial_id, []).append(epoch)
        for trial in self._trials:
            trial.epochs = tuple(epochs.get(trial.trial_id, ())[: trial._state.epochs])
            row: dict[str, Any] = {
                "trial_id": trial.trial_id,
                "metric_value": trial.metric_value,
                "status": trial.status,
                "round": trial.round,
                "epochs": trial._state.epochs,
                "best_epoch": trial._state.best_epoch if trial._state.epochs else None,
                "duration": trial.duration,
            }
            row |= _flat("params", trial.params.to_dict())
            for prefix, epoch_or_none in (("best", trial.best_epoch), ("last", trial.last_epoch)):
                row |= _flat(prefix, epoch_or_none.metric_values if epoch_or_none else {})
            yield row

    def epoch_rows(self) -> Iterator[dict[str, Any]]:
        """Yield a flat dict for each epoch, by trial and epoch: the rows of `epochs_df`."""
        for epoch in self._run.epochs():
            yield {
                "trial_id": epoch.trial_id,
                "epoch": epoch.epoch,
                "metric_value": epoch.metric_value,
                "started_at": epoch.started_at,
                "duration": epoch.duration,
            } | _flat("metrics", epoch.metric_values)

    def to_df(self) -> pd.DataFrame:
        """Return a DataFrame with a row for each trial, best first.

        Columns: trial_id, metric_value, status, round, epochs, best_epoch, duration (seconds);
        ``params.*``; ``best.*`` and ``last.*``, the metric values of the best and last epoch.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        # Tuples again, which `rows` has as JSON has them: lists cannot be grouped by.
        rows = [{name: _tuples(value) for name, value in row.items()} for row in self.rows()]
        frame: pd.DataFrame = _pandas().DataFrame(rows)
        return frame

    def epochs_df(self) -> pd.DataFrame:
        """Return a DataFrame with a row for each epoch, by trial and epoch.

        Columns: trial_id, epoch, metric_value, started_at (UTC), duration (seconds) and
        ``metrics.*``.

        Raises:
            MissingPackageError: pandas is not installed.
        """
        frame: pd.DataFrame = _pandas().DataFrame(list(self.epoch_rows()))
        return frame

    def _table(self) -> list[tuple[str, ...]]:
        head: tuple[str, ...] = ("trial", self.metric, "round", "epochs", "seconds", "params")
        rows = [head] + [
            (
                str(trial.trial_id),
                f"{trial.metric_value:.6g}" if trial.status != "failed" else "failed",
                str(trial.round),
                str(trial._state.epochs),
                f"{trial.duration:.3g}",
                ", ".join(f"{name}={_brief(v)}" for name, v in trial.params.to_dict().items()),
            )
            for trial in self._trials[:SHOWN]
        ]
        return [tuple(visible(cell, keep="") for cell in row) for row in rows]

    def _title(self) -> str:
        state = "finished" if self.finished else "unfinished"
        failed = sum(trial.status == "failed" for trial in self._trials)
        title = f"{self._run.path}: {counted(len(self), 'trial')}, {failed} failed, {state}"
        return visible(title, keep="")

    def __repr__(self) -> str:
        table = self._table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        more = [f"... and {len(self) - SHOWN} more"] if len(self) > SHOWN else []
        return "\n".join([f"<TuningResults {self._title()}>", *lines, *more])

    def __rich__(self) -> RenderableType:
        from rich.table import Column, Table
        from rich.text import Text

        head, *rows = self._table()  # as Text, since params may look like markup
        columns = [Column(Text(name)) for name in head]
        table = Table(*columns, title=Text(self._title()), caption_justify="left")
        for row in rows:
            table.add_row(*map(Text, row))
        if len(self) > SHOWN:
            table.caption = f"and {len(self) - SHOWN} more"
        return table

    def _repr_html_(self) -> str:
        from html import escape

        head, *rows = self._table()
        cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
        return (
            f"<table><caption>{escape(self._title())}</caption>"
            f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr></thead>"
            f"<tbody>{''.join(f'<tr>{row}</tr>' for row in cells)}</tbody></table>"
        )


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and "$float" in value:
            flat[f"{prefix}.{name}"] = float(value["$float"])
        elif isinstance(value, dict):
            flat |= _flat(f"{prefix}.{name}", value)
        else:
            flat[f"{prefix}.{name}"] = value
    return flat


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _brief(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={_brief(v)}" for name, v in value.items()) + "}"
    return str(value)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise MissingPackageError(
            "A DataFrame needs pandas, which is not installed:  pip install pandas"
        ) from error
    return pandas
