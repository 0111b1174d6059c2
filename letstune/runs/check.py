"""`letstune check`: whether a run is what its journal says, and what can be mended."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from letstune.errors import CheckpointError, JournalError, SpaceError, StoreError
from letstune.journal.journal import Journal, now
from letstune.journal.lock import JournalLock, is_locked
from letstune.journal.paths import journal_path
from letstune.rounds.events import CheckpointDeleted
from letstune.rounds.plan import Plan
from letstune.rounds.state import State
from letstune.runs.backend import open_store
from letstune.space.params import Space
from letstune.training.checkpoints import REMEDY, fetch
from letstune.training.stores import Store


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a run: what and where, and whether it was mended."""

    what: str
    where: str
    mended: bool = False


def check_run(path: Path, *, fix: bool = False) -> list[Finding]:
    """Return what is wrong with a run.

    Args:
        path: its journal.
        fix: delete checkpoints to which no row points, and write off those that are missing or
            damaged. Nobody else may be working on the run then.

    Raises:
        JournalError: the journal cannot be read, holds no legal run, or is being worked on.
        StoreError: the checkpoints cannot be looked at. Nothing was written off.
    """
    path = journal_path(path)
    if not fix:
        return _check(Journal(path), fix=False)
    Journal(path).close()
    with JournalLock(path, now()):
        return _check(Journal(path, write=True), fix=True)


def _check(journal: Journal, *, fix: bool) -> list[Finding]:
    try:
        if damage := journal.damage():
            return [Finding(f"SQLite: {line}", str(journal.path)) for line in damage]
        plan, state = journal.load()
        store = open_store(journal.path, plan)
        findings = list(_damaged(journal, plan, state))
        lost = list(_lost(store, state))
        if lost and not fix:  # unless whoever works on the run has deleted it meanwhile
            gone = journal.deletions()
            lost = [found for found in lost if found[:2] not in gone]
        for number, epoch, why in lost:
            findings.append(Finding(why, f"trial {number}, epoch {epoch}", mended=fix))
        if fix:
            journal.append([CheckpointDeleted(n, epoch, "missing") for n, epoch, _ in lost])
            for number, epoch, _ in lost:  # no row points any more to what is left of them
                del state.trials[number].kept[epoch]
        pointed_at = {stored.uri for trial in state.trials for stored in trial.kept.values()}
        # While somebody works on the run, a checkpoint is there before its row.
        found = [] if not fix and is_locked(journal.path) else list(store.list())
        for uri in found:
            if uri not in pointed_at:
                if fix:
                    store.delete(uri)
                findings.append(Finding("no row points to this checkpoint", uri, mended=fix))
        journal.end_session("checked")
        return findings
    finally:
        journal.close()


def _damaged(journal: Journal, plan: Plan, state: State) -> Iterator[Finding]:
    """Yield what the journal holds that cannot be what was recorded."""
    for name in ("trainer", "dataset", "sampler", "store"):
        try:
            journal.pickle(name)
        except JournalError as error:
            yield Finding(str(error), name)
    space = Space.from_json(plan.space)
    for number, trial in enumerate(state.trials):
        try:
            space.decode(trial.params)
        except SpaceError as error:
            yield Finding(str(error), f"trial {number}")


def _lost(store: Store, state: State) -> Iterator[tuple[int, int, str]]:
    for number, trial in enumerate(state.trials):
        for epoch, stored in trial.kept.items():
            with tempfile.TemporaryDirectory(prefix="letstune-") as folder:
                try:
                    fetch(store, stored, Path(folder), "the checkpoint")
                except StoreError:
                    raise  # a network that is down must not have all checkpoints written off
                except CheckpointError as error:
                    yield number, epoch, str(error).removesuffix(REMEDY).strip()
