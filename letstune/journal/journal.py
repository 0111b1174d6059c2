"""The journal: the one SQLite file that holds a run. Nothing else knows SQL.

Rows are only ever added. Each carries ``seq``, from one counter over all tables, which is the
total order of the run. A row counts once its transaction is committed and synced.
"""

from __future__ import annotations

import gc
import json
import os
import shlex
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

from letstune.errors import IllegalEventError, JournalError, JournalLockedError
from letstune.journal.beside import check_beside
from letstune.journal.create import create
from letstune.journal.held import HeldFile
from letstune.journal.legal import Illegal, copy_before, first_illegal, hide
from letstune.journal.lock import is_locked
from letstune.journal.plan import SELECT_PICKLES, insert_plan
from letstune.journal.rescue import logs, lost
from letstune.journal.rows import (
    AFTER_EPOCHS,
    DEATHS,
    DELETIONS,
    EPOCHS,
    FAILURES,
    RETRIED,
    RETRIES,
    ROWS,
    SELECT_CHECKPOINTS,
    SELECT_KEPT,
    SELECT_VALUES,
    TRIALS,
    UNRETRIED,
    Rows,
    read_checkpoints,
    read_epochs,
    signed_epoch,
)
from letstune.journal.schema import TABLES, VERSION, migrate
from letstune.journal.sessions import (
    INSERT_SESSION,
    SELECT_SESSIONS,
    now,
    read_sessions,
    session_row,
)
from letstune.journal.signatures import CheckpointRow, PickleRow, Seal
from letstune.journal.sqlite import (
    LONGEST_VALUE,
    Patience,
    check_header,
    connect,
    explain,
    explained,
    lacks_wal,
    long_values,
    understood,
)
from letstune.rounds.events import EpochFinished, Event, Stored, TrialFailed, WorkerDied
from letstune.rounds.pickles import Pickle
from letstune.rounds.plan import Plan
from letstune.rounds.state import State

__all__ = ["Journal", "Pickle", "check_journal", "create", "now"]

E = TypeVar("E", bound=Event)

# After so many pages, SQLite moves the -wal file's content over and writes it from its beginning
# again. SQLite's default is 1,000; but as long as that file grows, each sync also writes the log of
# the file system, and takes a third longer.
_WAL_PAGES: Final = 200


AGAIN: Final = 0.05
"""How soon a commit looks again where the journal is, in seconds.

In a run of epochs that take microseconds, to look with each would cost a tenth of letstune's
own time. The end of a session looks in any case."""


class Journal:
    """An open journal.

    Args:
        path: the file.
        write: whether it is going to be written; if so, the caller must hold its lock. Nothing is
            changed before the first `append`.

    Attributes:
        seal: what signs the checkpoints of epochs that are appended; None to leave that out.

    Raises:
        JournalNotFoundError: there is no such file.
        JournalError: it is not a journal, is damaged, or was written by a newer letstune.
    """

    def __init__(self, path: Path, *, write: bool = False) -> None:
        self.path = path
        self.seal: Seal | None = None
        self._session = 0
        self._seq = 0
        self._lost: JournalError | None = None
        self._illegal: Illegal | None = None
        self._looked = -AGAIN  # where the file is, on the monotonic clock
        self._logs: list[tuple[Path, os.stat_result]] = []
        self._patience = Patience(path)
        self._file = HeldFile(path, write=write)
        try:
            header = _header(path, self._file)
            # If the file cannot be locked, whoever else writes it is found out with each commit.
            self._sole = write and self._file.own()
            self._lacks_wal = lacks_wal(path, header)  # before SQLite makes an empty one
            with explained(path):
                self._db, self._version = connect(path, self._patience, write=write)
        except BaseException:
            self._file.close()
            raise

    # Reading

    def facts(self) -> dict[str, Any]:
        """Return the plan's facts by name, the latest of each."""
        rows = self._rows("SELECT fact, value FROM plan ORDER BY seq")
        with understood(self.path):
            if (size := sum(len(value) for _, value in rows)) > LONGEST_VALUE:
                raise ValueError(f"its plan has {size} characters")
            return {fact: json.loads(value) for fact, value in rows}

    @cached_property
    def _metric(self) -> str:
        # It never changes, and a sampler's history is read trial by trial.
        with understood(self.path):
            metric: str = self.facts()["metric"]
        return metric

    def load(
        self, checked: Callable[[CheckpointRow], object] = lambda _: None
    ) -> tuple[Plan, State]:
        """Return the plan, and the state that all events lead to, at one moment of the run.

        Args:
            checked: called with what is recorded of each checkpoint that is kept.
        """
        with explained(self.path), understood(self.path), self._patience, _uncollected():
            return self._loaded(checked)

    def _loaded(self, checked: Callable[[CheckpointRow], object]) -> tuple[Plan, State]:
        with self.moment():
            facts = self.facts()
            plan = Plan.from_facts(facts)
            state = State(plan, facts.get("exhausted"))
            for proposed in self._events(TRIALS):
                state.apply(proposed)
            later = (event for rows in AFTER_EPOCHS for event in self._events(rows))
            state.replay(self._db.execute(SELECT_VALUES), later, self._kept(checked))
        return plan, state

    def load_legal(self) -> tuple[Plan, State]:
        """Return what `load` does; of a journal with a row that does not follow, what is before it.

        From then on, this journal shows nothing of that row and later ones, and `note` tells it.
        """
        try:
            return self.load()
        except IllegalEventError:
            if (illegal := self.illegal()) is None:
                raise
            self.hide(illegal.seq)
            self._illegal = illegal
            plan, state = self.load()
            state.ends_before = illegal.seq
            return plan, state

    def hide(self, seq: int | None) -> None:
        """Show no row from there on; all of them if it is None."""
        if seq is not None:
            with explained(self.path):
                hide(self._db, seq)

    def illegal(self) -> Illegal | None:
        """Return the first row that does not follow from those before it; None if all do."""
        with explained(self.path), understood(self.path), self._patience:
            return first_illegal(self._db, self._version, self.facts())

    def copy_before(self, illegal: Illegal, path: Path) -> None:
        """Write a journal of the rows before that one to a new file.

        Raises:
            JournalError: there is such a file, or it cannot be written.
        """
        copy_before(self._db, illegal.seq, path)

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Let all that is read within be of one moment of the run."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.rollback()

    def _kept(
        self, checked: Callable[[CheckpointRow], object]
    ) -> Iterator[tuple[int, int, Stored]]:
        for row in read_checkpoints(self._rows(SELECT_KEPT)):
            checked(row)
            yield row.trial, row.epoch, row.checkpoint

    def _events(self, rows: Rows[E]) -> Iterator[E]:
        if self._version < rows.table.since:  # only read, so not migrated
            return iter(())
        query = rows.query(self._version)
        if rows in RETRIED and self._version >= RETRIES.table.since:
            query += UNRETRIED
        return rows.read(self._rows(f"{query} ORDER BY seq"))

    def failures(self) -> list[TrialFailed]:
        """Return how those trials failed that were not retried since, in the order of the run."""
        return list(self._events(FAILURES))

    def deaths(self) -> list[WorkerDied]:
        """Return the deaths of workers since their trials were last retried, in their order."""
        return list(self._events(DEATHS))

    def epochs(self, trial: int | None = None) -> Iterator[EpochFinished]:
        """Yield the epochs of one trial, or of all, by trial and epoch."""
        metric = self._metric
        where = "" if trial is None else f" WHERE trial = {int(trial)}"
        query = EPOCHS.query(self._version)
        rows = self._rows(f"{query}{where} ORDER BY trial, epoch")
        with understood(self.path):
            yield from read_epochs(rows, metric)

    def deletions(self) -> dict[tuple[int, int], str]:
        """Return, by trial and epoch, why each checkpoint was deleted."""
        rows = self._rows(DELETIONS.query(self._version))
        return {(trial, epoch): why for trial, epoch, why in rows}

    def sessions(self) -> list[dict[str, Any]]:
        """Return the sessions: host, pid, began, versions, ended (None if it was killed), when."""
        return read_sessions(self._rows(SELECT_SESSIONS))

    def note(self) -> str:
        """Return what a reader should be told: which rows are not there to be read, if any."""
        if (bad := self._illegal) is not None:
            return (
                f"letstune: {self.path}: row {bad.seq}, in its table {bad.table}, does not follow "
                f"from the rows before it. Only those are shown; `letstune check "
                f"{shlex.quote(str(self.path))}` says how to go on from there."
            )
        if not self._lacks_wal or is_locked(self.path):
            return ""
        last = next(reversed(self.sessions()), None)
        if last is not None and last["ended"] is not None:
            return ""
        return (
            f"letstune: {self.path} is of a run that was killed, and may lack its last rows: they "
            f"are in {self.path.name}-wal, which is not beside it. Copy both, or resume the run "
            "where they are."
        )

    def pickle(self, name: str) -> Pickle | None:
        """Return the latest pickle of that name, not unpickled; its digest is verified."""
        query = (
            "SELECT pickle, sha256, about FROM pickles NOT INDEXED WHERE name = ? "
            "ORDER BY seq DESC LIMIT 1"
        )
        with long_values(self._db):
            latest = self._rows(query, name)
        for data, sha256, about in latest:
            with understood(self.path):
                found = Pickle(name=name, data=data, about=json.loads(about))
            if found.sha256 != sha256:
                raise JournalError(
                    f"{self.path}: the pickled {name} is damaged, its SHA-256 is not the recorded "
                    "one. Restore the journal from a backup."
                )
            return found
        return None

    def pickle_sha256(self, name: str) -> str | None:
        """Return the digest of the latest pickle of that name; None if there is none."""
        query = "SELECT sha256 FROM pickles WHERE name = ? ORDER BY seq DESC LIMIT 1"
        return next((sha256 for (sha256,) in self._rows(query, name)), None)

    def pickle_rows(self) -> list[PickleRow]:
        """Return all pickles that were ever kept, in their order, without their bytes."""
        return [PickleRow(*row) for row in self._rows(SELECT_PICKLES)]

    def checkpoint_rows(self, until: int | None = None) -> Iterator[CheckpointRow]:
        """Yield what is recorded of all checkpoints, or of those up to a row, in their order."""
        where = "" if until is None else f" AND seq <= {int(until)}"
        with explained(self.path), understood(self.path), self._patience:
            query = f"{SELECT_CHECKPOINTS}{where} ORDER BY seq"
            yield from read_checkpoints(self._db.execute(query))

    def checkpoint_row(self, trial: int, epoch: int) -> CheckpointRow | None:
        """Return what is recorded of the checkpoint of an epoch; None if it has none."""
        query = f"{SELECT_CHECKPOINTS} AND trial = ? AND epoch = ?"
        return next(read_checkpoints(self._rows(query, trial, epoch)), None)

    def damage(self) -> list[str]:
        """Return what is wrong with the file, after reading all of it; [] if nothing is."""
        try:
            with explained(self.path), long_values(self._db):
                rows = [text for (text,) in self._rows("PRAGMA integrity_check(10)")]
                for _ in self.epochs():
                    pass
        except JournalError as error:
            return [str(error)]
        return [] if rows == ["ok"] else rows

    def _rows(self, query: str, *values: object) -> list[Any]:
        with explained(self.path), self._patience:
            return self._db.execute(query, values).fetchall()

    # Writing

    def append(self, events: Sequence[Event]) -> None:
        """Record events, all or none of them; durable when this returns.

        Raises:
            JournalError: the file cannot be written, or is not where it was. What was recorded
                before is safe.
        """
        if not events:
            return
        if time.monotonic() >= self._looked + AGAIN:
            self.check_place()
        try:  # rather than `explained`: this is done for each epoch
            if not self._session:
                self._begin_session()
            if len(events) > 1 or not self._sole:
                with self._transaction():
                    for event in events:
                        self._insert(event)
            else:
                self._insert(events[0])  # a statement is a transaction of its own
        except sqlite3.Error as error:
            raise explain(self.path, error) from error

    def check_place(self) -> None:
        """Make sure that the open file is still the one at its path.

        Raises:
            JournalError: it was removed, replaced, moved or made read-only. All that was recorded
                is in a file beside, unless it is where it was.
        """
        if self._lost is None and not (missed := self._file.missed()):
            self._looked = time.monotonic()
            return
        if self._lost is None:
            self._lost = lost(self._db, self.path, self._file, missed, self._logs)
            self._session = 0  # whatever is written now is written nowhere
        raise self._lost

    def _insert(self, event: Event) -> None:
        rows = ROWS[type(event)]
        if self.seal is not None and isinstance(event, EpochFinished):
            values = signed_epoch(event, self._session, self.seal)
        else:
            values = rows.values(event, self._session)
        self._db.execute(rows.insert, (self._seq + 1, *values))
        self._seq += 1

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        seq = self._seq
        try:
            self._db.execute("BEGIN IMMEDIATE")
            if self._session and not self._sole:
                self._refuse_second_owner()
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._seq = seq
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _refuse_second_owner(self) -> None:
        """Write nothing after another session has begun: whoever came last is the owner."""
        ((latest,),) = self._db.execute("SELECT max(session) FROM sessions")
        if latest != self._session:
            raise JournalLockedError(
                f"{self.path} is being worked on by another session as well, {latest}, which "
                f"began after this one, {self._session}; this one stops, and loses what was in "
                "flight. Its file system has no locks: see to it that only one works on a run."
            )

    def grow(
        self,
        facts: Mapping[str, Any],
        pickles: Iterable[Pickle] = (),
        events: Iterable[Event] = (),
    ) -> None:
        """Record changed facts of the plan, new pickles, and what follows: all or nothing."""
        self.check_place()
        with explained(self.path), long_values(self._db):
            if not self._session:
                self._begin_session()
            with self._transaction():
                self._seq = insert_plan(self._db, self._seq, facts, pickles)
                for event in events:
                    self._insert(event)

    def _begin_session(self) -> None:
        if self._version < VERSION:  # not before: a run that is refused leaves the file as it was
            migrate(self.path)
            self._version = VERSION
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        self._db.execute("PRAGMA foreign_keys = ON")
        with self._transaction():
            ((session,),) = self._db.execute("SELECT ifnull(max(session), 0) + 1 FROM sessions")
            self._insert_session(session, None)
        self._session = session
        self._logs = logs(self.path)

    def _insert_session(self, session: int, ended: str | None) -> None:
        # The latest seq is asked for, not remembered: at a session's end, an interruption may have
        # come between a commit and the counting of it.
        latest = " UNION ALL ".join(f"SELECT max(seq) AS seq FROM {table}" for table in TABLES)
        ((self._seq,),) = self._db.execute(f"SELECT ifnull(max(seq), 0) FROM ({latest})")
        self._db.execute(INSERT_SESSION, (self._seq + 1, *session_row(session, ended)))
        self._seq += 1

    def end_session(self, ended: str) -> None:
        """Record how this session ended, if it recorded anything, and leave a single file."""
        if self._session:
            self.check_place()
            with explained(self.path):
                self._insert_session(self._session, ended)
                self._session = 0
                self._db.execute("PRAGMA busy_timeout = 0")  # no reader is worth waiting for
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                try:
                    self._db.execute("PRAGMA journal_mode = DELETE")
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error):  # by a reader: it stays in WAL until next time
                        raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()
        self._file.close()


def check_journal(path: Path) -> None:
    """Refuse what is no journal; not opened by SQLite, it may be one that needs to be written.

    Raises:
        JournalNotFoundError: there is no such file.
        JournalError: it is not a journal, or was written by a newer letstune.
    """
    with closing(HeldFile(path, write=False)) as file:
        _header(path, file)


def _header(path: Path, file: HeldFile) -> bytes:
    header = file.header()
    check_header(path, header)
    check_beside(path)
    return header


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from looking again and again at many objects that stay."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
