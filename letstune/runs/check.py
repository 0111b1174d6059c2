"""`letstune check`: whether a run is what its journal says, and what can be mended."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from letstune.errors import (
    CheckpointError,
    IllegalEventError,
    JournalError,
    SpaceError,
    StoreError,
)
from letstune.journal.journal import Journal, check_journal, now
from letstune.journal.lock import JournalLock, is_locked
from letstune.journal.paths import journal_path
from letstune.results.trials import to_retrain
from letstune.rounds.events import CheckpointDeleted
from letstune.rounds.plan import Plan
from letstune.rounds.state import State
from letstune.runs.retrain import retrain
from letstune.runs.signing import Judge
from letstune.runs.trust import refuse_untouched, store_to_check
from letstune.space.params import Space
from letstune.telling.lines import say
from letstune.training.checkpoints import REMEDY, digest, fetch
from letstune.training.stores import DirectoryStore, Store


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a run: what and where, and whether it was mended."""

    what: str
    where: str
    mended: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    """What `check_run` was asked for."""

    fix: bool
    train: bool
    trust: bool


def check_run(
    path: Path, *, fix: bool = False, train: bool = True, trust: bool = False
) -> list[Finding]:
    """Return what is wrong with a run.

    Args:
        path: its journal.
        fix: delete checkpoints to which no row points, and write off those that are missing or
            damaged. Nobody else may be working on the run then.
        train: when fixing, train the winner of a finished run again rather than write its
            checkpoint off, and bring that back if it comes out the same to the last byte. That
            unpickles what the journal holds, and runs it.
        trust: vouch for a journal that is neither the user's own nor trusted, this once: to mend
            anything, or to go wherever it says that its checkpoints are.

    Raises:
        TrustError: that is needed, and not asked for. Nothing was changed.
        JournalError: the journal cannot be read, holds no legal run, or is being worked on.
        StoreError: the checkpoints cannot be looked at. Nothing was written off.
    """
    path, asked = journal_path(path), _Asked(fix, train, trust)
    if not fix:
        return _check(Journal(path), asked)
    check_journal(path)
    if not trust:
        refuse_untouched(path)
    with JournalLock(path, now()):
        return _check(Journal(path, write=True), asked)


def _check(journal: Journal, asked: _Asked) -> list[Finding]:
    fix = asked.fix
    try:
        if damage := journal.damage():
            return [Finding(f"SQLite: {line}", str(journal.path)) for line in damage]
        judge = Judge(journal)
        try:
            plan, state = journal.load(judge.see)
        except IllegalEventError as error:
            return [_illegal(journal, error)]
        store = store_to_check(journal, plan, judge, fix=fix, vouched=asked.trust)
        if fix and isinstance(store, DirectoryStore):
            store.claim()  # before anything is written off since it is not in there
        findings = list(_damaged(journal, plan, state))
        lost = list(_lost(store, state))
        if lost and not fix:  # unless whoever works on the run has deleted it meanwhile
            gone = journal.deletions()
            lost = [found for found in lost if found[:2] not in gone]
        lost, back = _bring_back(journal, store, state, lost, asked)
        for number, epoch, why in [*lost, *back]:
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


def _illegal(journal: Journal, error: IllegalEventError) -> Finding:
    """Return what is known of the first row that does not follow from those before it."""
    found = journal.illegal()
    if found is None:
        raise error
    path = journal.path
    mended = shlex.quote(str(path.with_name(f"{path.stem}-mended{path.suffix}")))
    return Finding(
        f"{str(error).partition(' That does not follow')[0]} It does not follow from the rows "
        f"before it, so neither it nor a later row counts. To go on from there: `letstune "
        f"check {shlex.quote(str(path))} -o {mended}` writes the rows before it to a new "
        "journal; put that in the place of this one, keep this one elsewhere, and resume.",
        f"row {found.seq} of table {found.table}",
    )


def write_legal(path: Path, output: Path) -> str:
    """Write a journal of the rows that follow from each other to a new file; say which they are.

    Raises:
        JournalError: all rows do, the journal cannot be read, or the file cannot be written.
    """
    with closing(Journal(path)) as journal:
        found = journal.illegal()
        if found is None:
            raise JournalError(f"{path}: each of its rows follows from those before it; copy it.")
        journal.copy_before(found, output)
    return f"{output}: the rows of {path} before row {found.seq}, of its table {found.table}."


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


_Lost = tuple[int, int, str]  # trial, epoch, and what is wrong


def _lost(store: Store, state: State) -> Iterator[_Lost]:
    for number, trial in enumerate(state.trials):
        for epoch, stored in trial.kept.items():
            with tempfile.TemporaryDirectory(prefix="letstune-") as folder:
                try:
                    fetch(store, stored, Path(folder), "the checkpoint")
                except StoreError:
                    raise  # a network that is down must not have all checkpoints written off
                except CheckpointError as error:
                    yield number, epoch, str(error).removesuffix(REMEDY).strip()


def _bring_back(
    journal: Journal, store: Store, state: State, lost: list[_Lost], asked: _Asked
) -> tuple[list[_Lost], list[_Lost]]:
    """Return what stays lost, and what is there again: the winner's, if it can be retrained."""
    winner = state.leader[1]
    for place, (number, epoch, why) in enumerate(lost):
        if state.finished and number == winner and epoch == state.trials[winner].best_epoch:
            others = lost[:place] + lost[place + 1 :]
            told, same = "", False
            if asked.fix and asked.train:
                told, same = _retrained(journal.path, store, state, epoch)
            if same:
                return others, [(number, epoch, f"{why} {told}")]
            again = f"`{to_retrain(journal.path, number, epoch)}` trains it again."
            return [*others, (number, epoch, " ".join(filter(None, [why, told, again])))], []
    return lost, []


def _retrained(path: Path, store: Store, state: State, epoch: int) -> tuple[str, bool]:
    """Train the winner again, and put its checkpoint back if it is the same to the last byte.

    Rows are only added, so a row's digest stays. A checkpoint of other bytes, though it may hold
    the same model, is not what the row says, and can only be had in a folder of its own.
    """
    number = state.leader[1]
    stored = state.trials[number].kept[epoch]
    say(f"letstune: training trial {number} again, whose checkpoint is lost.")
    try:
        with tempfile.TemporaryDirectory(prefix="letstune-") as folder:
            workers = None if os.name == "nt" else 1
            again = retrain(
                path,
                number,
                epochs=epoch + 1,
                folder=Path(folder, "model"),
                workers=workers,
                vouched=True,  # or it was judged
            )
            told = f"It was trained again: {again.verdict}"
            if not again.same:
                return f"{told}.", False
            if digest(again.checkpoint.path) != (stored.size, stored.sha256):
                return f"{told}, but the files of its checkpoint differ.", False
            store.delete(stored.uri)  # if it was damaged, that is still there
            if (uri := store.put(_name(stored.uri), again.checkpoint.path)) != stored.uri:
                store.delete(uri)
                raise CheckpointError(f"it would be {uri!r}, and not {stored.uri!r}")
    except Exception as error:  # noqa: BLE001 (whatever load_dataset, or a store, may raise)
        return f"It cannot be brought back: {error}".rstrip(".") + ".", False
    return f"{told}, and its checkpoint is back.", True


def _name(uri: str) -> str:
    """Return the name under which a worker has put a checkpoint into its store."""
    found = re.search(r"t\d+-e\d+-\w+-\d+", uri)
    if found is None:
        raise CheckpointError(f"{uri!r} has no name of a checkpoint in it")
    return found[0]
