"""A run as an Optuna study, in SQLite: for optuna-dashboard, Optuna's plots and Optuna itself."""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from letstune import Space, TuningResults
from letstune.errors import PlanError, SpaceError
from letstune.rand import Bools, Constant, Distribution, Ints, Normal, OneOf, Uniform
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from letstune_optuna.axes import Axes

Chosen = Mapping[str, Any]
"""What the params of a trial come to, by path: values, and labels of candidates."""


def export(tuning: TuningResults[Any], path: str | os.PathLike[str]) -> None:
    """Write a run as an Optuna study with the journal's name; an existing file is replaced.

    A trial that got through its last round, or was stopped by its trainer, is COMPLETE, with its
    best value, as the trainer returned it, to be maximised or, with a leading minus in the metric,
    minimised; one that was dropped is PRUNED; one that failed, or has no finite value, is FAIL;
    and one that is not done is RUNNING. Its epochs are its intermediate values. Parameters are
    named by their paths in the space, with the values that they have; a candidate of a union is
    its class' name. User attributes hold what Optuna has no place for, under ``letstune:``.

    Args:
        tuning: the run, from `letstune.load`, or what `letstune.tune` returned.
        path: the SQLite file to write, for ``optuna.load_study(storage="sqlite:///runs.sqlite3")``.

    Raises:
        PlanError: there is no such folder.
        OSError: the file cannot be replaced.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise PlanError(f"{target}: there is no folder {target.parent}; make it first.")
    # Beside it first, so that a crash leaves no half of a study.
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with _quiet():
            _write(tuning, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _write(tuning: TuningResults[Any], path: Path) -> None:
    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False)
        # A commit for each trial, each waiting for the disk, would take minutes for thousands.
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    storage = RDBStorage(
        f"sqlite:///{path}", engine_kwargs={"creator": connect}, skip_compatibility_check=False
    )
    try:
        name = tuning.journal.stem
        direction = StudyDirection.MINIMIZE if tuning.less_is_better else StudyDirection.MAXIMIZE
        study_id = storage.create_new_study([direction], name)
        study = Study(name, storage)
        study.set_metric_names([tuning.metric])
        study.set_user_attr("letstune:journal", tuning.journal.name)
        study.set_user_attr("letstune:finished", tuning.finished)
        for trial in trials_of(tuning):
            storage.create_new_trial(study_id, trial)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def trials_of(tuning: TuningResults[Any]) -> list[FrozenTrial]:
    """Return the trials of a run as Optuna's, in the order of their ids."""
    trials = sorted(tuning, key=lambda trial: trial.trial_id)
    chosen, distributions = _chosen(tuning, [trial.params for trial in trials])
    epochs: dict[int, list[dict[str, Any]]] = {trial.trial_id: [] for trial in trials}
    for row in tuning.epoch_rows():
        if row["trial_id"] in epochs:
            epochs[row["trial_id"]].append(row)
    begun = min((rows[0]["started_at"] for rows in epochs.values() if rows), default=_now())
    errors = {error.trial_id: error for error in tuning.errors}
    return [
        _trial(trial, epochs[trial.trial_id], values, distributions, begun, errors)
        for trial, values in zip(trials, chosen, strict=True)
    ]


def _trial(
    trial: Any,
    rows: Sequence[Mapping[str, Any]],
    values: Chosen,
    distributions: Mapping[str, BaseDistribution],
    begun: datetime,
    errors: Mapping[int, Any],
) -> FrozenTrial:
    rows = rows[: trial._state.epochs]
    state = _state(trial)
    attrs: dict[str, Any] = {"letstune:status": trial.status, "letstune:round": trial.round}
    if rows:
        best = rows[trial._state.best_epoch]
        attrs |= {k: v for k, v in best.items() if k.startswith("metrics.")}
        attrs["letstune:best_epoch"] = trial._state.best_epoch
    if trial.trial_id in errors:
        attrs["letstune:error"] = errors[trial.trial_id].message
    ended = rows[-1]["started_at"] + timedelta(seconds=rows[-1]["duration"]) if rows else begun
    return FrozenTrial(
        number=trial.trial_id,
        state=state,
        value=trial.metric_value if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        datetime_start=_local(rows[0]["started_at"] if rows else begun),
        datetime_complete=_local(ended) if state.is_finished() else None,
        params=dict(values),
        distributions={name: distributions[name] for name in values},
        user_attrs={k: v for k, v in attrs.items() if not _non_finite(v)},
        system_attrs={},
        intermediate_values={row["epoch"]: row["metric_value"] for row in rows},
        trial_id=-1,
    )


def _state(trial: Any) -> TrialState:
    if trial.status == "failed":
        return TrialState.FAIL
    if not trial._state.settled:
        return TrialState.RUNNING
    if not math.isfinite(trial._state.best):
        return TrialState.FAIL  # as Optuna does with NaN
    # Of the settled trials, those with a mark for each round are through; see `TrialState.marks`.
    through = trial._state.limit == math.inf or trial.status == "stopped"
    return TrialState.COMPLETE if through else TrialState.PRUNED


def _non_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _now() -> datetime:
    return datetime.now(UTC)


def _local(when: datetime) -> datetime:
    """Return a time as Optuna writes it: local, without saying so."""
    return when.astimezone().replace(tzinfo=None)


def _chosen(
    tuning: TuningResults[Any], params: Sequence[Any]
) -> tuple[list[Chosen], dict[str, BaseDistribution]]:
    """Return what was chosen in each trial, and from what."""
    space = Space.from_json(tuning._run.plan.space)
    try:
        space.require_structure("Optuna")
    except SpaceError:
        # Only the class knows how its params come about, so all there is to see is values.
        found: list[Chosen] = [_flat("", each.to_dict()) for each in params]
        names = {name for values in found for name in values}
        return found, {name: _seen(_of(name, found)) for name in names}
    axes = Axes(space).by_name
    labels = {name: _labels(axis.node) for name, axis in axes.items()}
    found = [
        {
            name: labels[name][value] if labels[name] else value
            for name, value in space.choices(space.decode(each.to_json())).items()
            if name in axes
        }
        for each in params
    ]
    return found, {
        name: _shown(axis.node, labels[name], _of(name, found)) for name, axis in axes.items()
    }


def _of(name: str, found: Iterable[Chosen]) -> list[Any]:
    return [values[name] for values in found if name in values]


def _labels(node: Distribution) -> list[Any]:
    """Return what stands for each candidate: itself if Optuna can tell it from all others."""
    if not isinstance(node, OneOf):
        return []
    values = [c.value if isinstance(c, Constant) else str(c) for c in node.candidates]
    plain = all(
        value is None or isinstance(value, bool | int | str) or math.isfinite(value)
        for value in values
        if not isinstance(value, tuple)
    )
    if plain and not any(isinstance(v, tuple) for v in values) and len(set(values)) == len(values):
        return values
    texts = [str(candidate) for candidate in node.candidates]
    unique = len(set(texts)) == len(texts)
    return texts if unique else [f"{text} [{i}]" for i, text in enumerate(texts)]


def _shown(node: Distribution, labels: Sequence[Any], seen: Sequence[Any]) -> BaseDistribution:
    """Return the distribution of the values themselves, where Optuna has one."""
    match node:
        case Uniform():
            high = node.high if node.step is None else node.point((node.size or 1) - 1)
            return FloatDistribution(node.low, high, log=node.log, step=node.step)
        case Ints():
            high = node.point(node.size - 1)
            return IntDistribution(node.low, high, log=node.log, step=node.step or 1)
        case Bools():
            return CategoricalDistribution((False, True))
        case Normal():
            # Optuna knows no end of no range: three standard deviations, or what was proposed.
            reach = 3 * node.scale
            if node.log:
                reach = math.exp(min(reach, 300.0))
                ends = [node.median / reach, node.median * reach]
            else:
                ends = [node.median - reach, node.median + reach]
            return FloatDistribution(min([*seen, *ends]), max([*seen, *ends]), log=node.log)
    return CategoricalDistribution(labels) if labels else _seen(seen)


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and "$float" not in value:
            flat |= _flat(f"{prefix}{name}.", value)
        elif isinstance(value, list | dict):
            flat[prefix + name] = json.dumps(value)
        else:
            flat[prefix + name] = value
    return flat


def _seen(values: Sequence[Any]) -> BaseDistribution:
    """Return a distribution of such values."""
    if all(type(value) is float for value in values):
        return FloatDistribution(min(values), max(values))
    if all(type(value) is int for value in values):
        return IntDistribution(min(values), max(values))
    return CategoricalDistribution(list({(type(v), v): v for v in values}.values()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out Optuna's lines that a study is created, and that something is experimental."""
    logger = logging.getLogger("optuna.storages._rdb.storage")

    def drop(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO

    logger.addFilter(drop)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logger.removeFilter(drop)
