"""What is known of a run, and of one of its trials, by name: what commands print."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from letstune.journal.journal import Journal
from letstune.journal.lock import is_locked
from letstune.journal.paths import journal_path
from letstune.results.results import TuningResults
from letstune.results.trials import Trial, to_retrain
from letstune.results.verdicts import verdicts
from letstune.rounds.metric import as_returned, less_is_better, metric_name


def status_of(journal: str | os.PathLike[str]) -> dict[str, Any]:
    """Return how far a run is. It may be running.

    Args:
        journal: the file.

    Raises:
        JournalError: there is none, or it cannot be read.
    """
    name, path = os.fspath(journal), journal_path(journal)
    with closing(Journal(path)) as source:
        plan, state = source.load_legal()
        sessions = source.sessions()
        note = source.note()
        failed = len(source.failures())
    best, trial = state.leader
    return {
        "journal": name,
        "finished": state.finished,
        "running": is_locked(path),
        "trainer": plan.trainer,
        "metric": metric_name(plan.metric),
        "better": "less" if less_is_better(plan.metric) else "greater",
        "n_trials": state.n_trials,
        "proposed": len(state.trials),
        "left": state.unsettled + state.n_trials - len(state.trials),
        "failed": failed,
        "epochs": state.total_epochs,
        "seconds": state.total_seconds,
        "best": as_returned(plan.metric, best) if math.isfinite(best) else None,
        "best_trial": trial if trial >= 0 else None,
        "sampler": plan.sampler["name"],
        "rounds": plan.rounds.to_dict(),
        "seed": plan.seed,
        "verdicts": verdicts(state, shlex.quote(name)),
        "sessions": len(sessions),
        "last_session": sessions[-1] if sessions else None,
        "note": note or None,
        "resume": None if state.finished else f"letstune resume {shlex.quote(name)}",
    }


def facts_of_trial(results: TuningResults[Any], trial_id: int) -> dict[str, Any]:
    """Return what is known of a trial: its params, all its epochs, and how it failed if it did.

    Raises:
        TrialNotFoundError: there is no trial of that id.
    """
    trial = results.trial(trial_id)
    best = trial.best_epoch
    return {
        "trial_id": trial_id,
        "place": results.index(trial) + 1,
        "metric": results.metric,
        "metric_value": trial.metric_value,
        "status": trial.status,
        "round": trial.round,
        "duration": trial.duration,
        "seed": trial.seed,
        "params": trial.params.to_dict(),
        "metric_values": dict(trial.metric_values),
        "best_epoch": best.epoch if best else None,
        "retrain": None  # its checkpoint is kept, as far as the journal knows
        if best is None or best.epoch in trial._state.kept
        else to_retrain(results.journal, trial_id, best.epoch),
        "epochs": list(_epochs(trial)),
        "failures": [
            {"epoch": error.epoch, "kind": error.kind, "traceback": error.traceback}
            for error in results.errors
            if error.trial_id == trial_id
        ],
    }


def _epochs(trial: Trial[Any]) -> Iterator[dict[str, Any]]:
    for epoch in trial.epochs:
        yield {
            "epoch": epoch.epoch,
            # With a prefix, since a metric may have any name.
            **{f"metrics.{name}": value for name, value in epoch.metric_values.items()},
            "started_at": epoch.started_at,
            "duration": epoch.duration,
        }
