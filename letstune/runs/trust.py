"""Trust: whether what a journal names may be contacted, and what it holds be run.

What a journal names is data. Reading commands and `check` touch its folder. All else is for
journals that are signed with a key of the user's, or that the user has said to trust; this is the
one place that refuses.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from letstune.errors import JournalError, StoreError, TrustError
from letstune.journal.journal import Journal
from letstune.journal.paths import journal_path
from letstune.plugins.hookspecs import PROJECT
from letstune.rounds.events import Stored
from letstune.rounds.plan import Plan
from letstune.rounds.state import State
from letstune.runs.as_recorded import own_place
from letstune.runs.backend import Backend, mark_of
from letstune.runs.keys import add_trusted
from letstune.runs.reach import LONG, MANY, Reach, reach_of
from letstune.runs.signing import Judge
from letstune.telling.lines import counted
from letstune.training.stores import DirectoryStore, Store

# Whole runs


def load_trusted(journal: Journal, *, vouched: bool = False) -> tuple[Plan, State, Judge]:
    """Return the plan and the state of a journal that is one's own, or trusted, and its judge.

    Nothing that the journal holds is run before that, and nobody that it names is contacted.

    Args:
        journal: it is open.
        vouched: whether the caller vouches for it: `--trust`, ``trust=True``.

    Raises:
        TrustError: it is neither.
        JournalError: it holds no legal run.
    """
    judge = Judge(journal)
    plan, state = journal.load(judge.see)
    if not vouched:
        _require(journal, judge)
    return plan, state, judge


def refuse_untouched(path: Path) -> None:
    """Refuse a journal that is not trusted before anything is made beside it.

    What cannot be told so is told when the journal is opened for writing, and judged again.

    Raises:
        TrustError: it is not trusted.
    """
    with suppress(JournalError), closing(Journal(path)) as source:
        _require(source, Judge(source))


def _require(journal: Journal, judge: Judge) -> None:
    if not (why := judge.why_not()):
        return
    path, would = journal.path, _reach(journal, judge).first(3)
    imports = f", importing from {', '.join(would.folders)}" if would.folders else ""
    raise TrustError(
        f"{path} {why}, so nothing of it is run. It would run {', '.join(would.runs)} and its "
        f"checkpoints{imports}; and reach {', '.join(would.reaches)}. If you trust whoever wrote "
        f"it, or it is yours and your key was lost: `letstune trust {shlex.quote(str(path))}`."
    )


def _reach(journal: Journal, judge: Judge) -> Reach:
    return reach_of(journal.path, judge.signed.plan, judge.signed.pickles)


# `letstune trust`


@dataclass(frozen=True)
class Question:
    """What a user is asked before a journal is trusted.

    Attributes:
        path: the journal.
        why: why it is not trusted yet, as what follows its path; "" if it is.
        lines: what it would run, and whom it would reach.
    """

    path: Path
    why: str
    lines: list[str]
    _digest: str = field(repr=False)

    def agree(self) -> None:
        """Trust what was shown, whatever its name and wherever a copy of it is.

        Nothing is written to the journal: it is remembered beside the user's keys.

        Raises:
            TrustError: it cannot be remembered.
        """
        if self.why:
            add_trusted(self._digest, str(self.path))


def question(path: Path) -> Question:
    """Return what there is to be asked of a journal. It is only read.

    Raises:
        JournalError: it cannot be read, or holds no legal run.
    """
    path = journal_path(path)
    with closing(Journal(path)) as journal:
        _, state, judge = load_trusted(journal, vouched=True)
        digest, why = judge.whole().digest(), judge.why_not()
        would, kept = (
            _reach(journal, judge).first(MANY),
            sum(len(trial.kept) for trial in state.trials),
        )
    lines = [
        *(f"runs {line}" for line in would.runs),
        *([f"runs what is in {counted(kept, 'checkpoint')}"] if kept else []),
        *(f"imports from {folder}" for folder in would.folders),
        *(f"reaches {line}" for line in would.reaches),
    ]
    return Question(path, why, lines, digest)


# Stores


def store_to_check(
    journal: Journal, plan: Plan, judge: Judge, *, fix: bool, vouched: bool
) -> Store:
    """Return the store of a run, to look at its checkpoints, or to mend them.

    To look into a folder of the run's own takes no trust, and its plan has no say in how.

    Args:
        journal: it is open.
        plan: its plan.
        judge: it has seen the checkpoints.
        fix: whether anything may be changed.
        vouched: see `load_trusted`.

    Raises:
        TrustError: that takes trust. Nothing was contacted or run.
        JournalError: the fact is not one of a store.
        PluginError: its plugin is not installed, or cannot be loaded.
        PickleError: it is kept as a pickle, and cannot be brought back.
    """
    fact = _checked(journal.path, plan.store)
    own = not vouched and _is_own(journal.path, fact)
    if not vouched and (fix or not own):
        _require(journal, judge)
    if own:
        mark = mark_of(fact, vouched=False)
        return DirectoryStore(Path(own_place(fact, journal.path)), mark=mark)
    return _made(journal, fact, vouched=vouched)


def store_of_checkpoint(
    path: Path, trial: int, epoch: int, stored: Stored, *, vouched: bool = False
) -> Store:
    """Return the store of a run, for one of its checkpoints.

    Args:
        path: the journal.
        trial: whose checkpoint it is.
        epoch: likewise.
        stored: what is known of it.
        vouched: see `load_trusted`.

    Raises:
        TrustError: the journal, or that checkpoint, is not trusted. Nothing was contacted or run.
        JournalError: see `store_to_check`, as for the others.
    """
    with closing(Journal(path)) as journal:
        judge, row = Judge(journal), journal.checkpoint_row(trial, epoch)
        if not vouched:
            if row is None or row.checkpoint != stored:
                raise TrustError(
                    f"{path} has changed since it was read, and what it said of the checkpoint of "
                    f"epoch {epoch} of trial {trial} is not there any more. Read it again."
                )
            judge.see(row)
            _require(journal, judge)
        return _made(journal, _checked(path, journal.facts().get("store")), vouched=vouched)


def _made(journal: Journal, fact: Mapping[str, Any], *, vouched: bool) -> Store:
    path = journal.path
    if not vouched and _is_below(fact) and not _is_own(path, fact):
        said = shlex.quote(str(path))
        raise TrustError(  # a link is no part of what is signed
            f"{path}: its checkpoints are in {own_place(fact, path)}, to which a link leads, and "
            "there is no marker of this run there. If it was you who put the link there: "
            f"`letstune check {said} --trust`; in Python, letstune.load({str(path)!r}, trust=True)."
        )
    store: Store = Backend.recorded("store", fact, journal.path).again(journal).make()
    return store


def _checked(journal: Path, fact: object) -> Mapping[str, Any]:
    """Return the fact about a store.

    Raises:
        JournalError: it is not one.
    """
    if isinstance(fact, Mapping) and isinstance(fact.get("name"), str) and "by" in fact:
        by, options, uri = fact["by"], fact.get("options"), fact.get("uri")
        supplied = isinstance(by, Mapping) and all(
            isinstance(by.get(name), str) for name in ("distribution", "version")
        )
        if options is None:
            legal = by is None or supplied
        else:
            there = isinstance(uri, str) or (uri is None and fact["name"] == "directory")
            named = isinstance(options, Mapping) and isinstance(fact.get("run"), str)
            legal = supplied and there and named
        if legal:
            return fact
    raise JournalError(
        f"{journal}: its plan says of the store {json.dumps(fact)[:LONG]}, which letstune does "
        "not write. Restore the journal from a backup."
    )


def _is_own(journal: Path, store: Mapping[str, Any]) -> bool:
    """Tell whether a store is a folder of the run's own: beside the journal, or below that."""
    if not _is_below(store):
        return False
    place = Path(own_place(store, journal))
    try:
        if place.resolve().is_relative_to(journal.parent.resolve()):
            return True
        # Somewhere else by a link. That it is the run's, it must say itself.
        return mark_of(store, vouched=False).is_on(place)
    except (OSError, ValueError, RuntimeError, StoreError):  # no path at all, or a ring of links
        return False


def _is_below(store: Mapping[str, Any]) -> bool:
    """Tell whether a store is said to be a folder beside the journal, or below that."""
    if not _is_directory(store) or store["options"]:
        return False
    uri, run = PurePath(store["uri"] or ""), store["run"]
    relative = not uri.is_absolute() and ".." not in uri.parts
    return relative and re.fullmatch(r"\w+", run, re.ASCII) is not None


def _is_directory(store: Mapping[str, Any]) -> bool:
    kept = store["options"] is None
    return not kept and (store["name"], store["by"]["distribution"]) == ("directory", PROJECT)
