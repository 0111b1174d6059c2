"""The journal: the one SQLite file that holds a run. Nothing else knows SQL.

Rows are only ever added. Each carries ``seq``, from one counter over all tables, which is the
total order of the run. A row counts once its transaction is committed and synced.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
import platform
import socket
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

from letstune.errors import JournalError, JournalNotFoundError, LetstuneError
from letstune.journal.schema import APPLICATION_ID, TABLES, VERSION, migrate
from letstune.rounds.events import (
    CheckpointDeleted,
    EpochFinished,
    Event,
    SpaceExhausted,
    Stored,
    TrialFailed,
    TrialProposed,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.plan import Plan
from letstune.rounds.state import State

_HEADER: Final = b"SQLite format 3\x00"
# After so many pages, SQLite moves the -wal file's content over and writes it from its beginning
# again. By default, it would be 1,000; but as long as that file grows, each sync is one of the
# file system's own log as well, which makes it a third slower.
_WAL_PAGES: Final = 200


@dataclass(frozen=True, kw_only=True)
class Pickle:
    """A pickled object: the trainer or the dataset. ``about`` says where it comes from."""

    name: str
    data: bytes
    about: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """The digest of the bytes."""
        return hashlib.sha256(self.data).hexdigest()


def now() -> str:
    """Return the time, UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat()


class Journal:
    """An open journal.

    Args:
        path: the file.
        write: whether it is going to be written. Then the caller holds its lock. Nothing is
            changed before the first `append`.

    Raises:
        JournalNotFoundError: there is no such file.
        JournalError: it is not a journal, is damaged, or is of a newer letstune.
    """

    def __init__(self, path: Path, *, write: bool = False) -> None:
        self.path = path
        self._write = write
        self._session = 0
        self._seq = 0
        self._version = _check(path)
        mode = "rw" if write else "ro"
        with _explained(path):
            self._db = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                timeout=60,  # a reader of a big journal delays the beginning of a session
            )

    # Reading

    def facts(self) -> dict[str, Any]:
        """Return the plan's facts by name, the latest of each."""
        rows = self._rows("SELECT fact, value FROM plan ORDER BY seq")
        with _understood(self.path):
            return {fact: json.loads(value) for fact, value in rows}

    @cached_property
    def _metric(self) -> str:
        # It never changes, and a sampler's history is read trial by trial.
        with _understood(self.path):
            metric: str = self.facts()["metric"]
        return metric

    def load(self) -> tuple[Plan, State]:
        """Return the plan, and the state that all events lead to, at one moment of the run."""
        with _explained(self.path), _understood(self.path), _uncollected():
            self._db.execute("BEGIN")
            try:
                facts = self.facts()
                plan = Plan.from_facts(facts)
                state = State(plan, facts.get("exhausted"))
                for row in self._rows("SELECT trial, params, sampler FROM trials ORDER BY seq"):
                    state.apply(TrialProposed(*row))
                state.replay(
                    self._db.execute(
                        "SELECT trial, epoch, ifnull(value, -9e999), seconds FROM epochs "
                        "ORDER BY seq"
                    ),
                    self._ends(),
                    self._kept(),
                    self.deaths(),
                )
            finally:
                self._db.rollback()
        return plan, state

    def _ends(self) -> Iterator[TrialStopped | TrialFailed]:
        for trial, epoch in self._rows("SELECT trial, epoch FROM stops ORDER BY seq"):
            yield TrialStopped(trial, epoch)
        yield from self.failures()

    def _kept(self) -> Iterator[tuple[int, int, Stored]]:
        for trial, epoch, uri, size, sha256 in self._rows(
            "SELECT trial, epoch, checkpoint, bytes, sha256 FROM epochs e "
            "WHERE checkpoint IS NOT NULL AND NOT EXISTS "
            "(SELECT 1 FROM deletions d WHERE d.trial = e.trial AND d.epoch = e.epoch)"
        ):
            yield trial, epoch, Stored(uri, size, sha256)

    def failures(self) -> list[TrialFailed]:
        """Return how trials failed, in the order in which they did."""
        return [
            TrialFailed(*row)
            for row in self._rows(
                "SELECT trial, epoch, kind, message, traceback FROM failures ORDER BY seq"
            )
        ]

    def deaths(self) -> list[WorkerDied]:
        """Return the deaths of workers, in the order in which they came."""
        if self._version < 2:  # only read, so not migrated
            return []
        rows = self._rows(
            "SELECT trial, epoch, attempt, code, memory, stack, at FROM deaths ORDER BY seq"
        )
        return [WorkerDied._make(row) for row in rows]

    def epochs(self, trial: int | None = None) -> Iterator[EpochFinished]:
        """Yield the epochs of one trial, or of all, by trial and epoch."""
        metric = self._metric
        where = "" if trial is None else f"WHERE trial = {int(trial)} "
        rows = self._rows(
            "SELECT trial, epoch, metrics, started, seconds, checkpoint, bytes, sha256 "
            f"FROM epochs {where}ORDER BY trial, epoch"
        )
        with _understood(self.path):
            for number, epoch, metrics, started, seconds, uri, size, sha256 in rows:
                stored = None if uri is None else Stored(uri, size, sha256)
                values = {name: float(number) for name, number in json.loads(metrics).items()}
                value = values[metric]  # not the column: SQLite makes NULL of NaN, 0.0 of -0.0
                datetime.fromisoformat(started)
                yield EpochFinished(number, epoch, value, values, started, seconds, stored)

    def deletions(self) -> dict[tuple[int, int], str]:
        """Return why the checkpoint of a trial and epoch was let go."""
        rows = self._rows("SELECT trial, epoch, why FROM deletions")
        return {(trial, epoch): why for trial, epoch, why in rows}

    def sessions(self) -> list[dict[str, Any]]:
        """Return the sessions: host, pid, began, versions, ended (None if it was killed), when."""
        found: dict[int, dict[str, Any]] = {}
        for session, at, host, pid, versions, ended in self._rows(
            "SELECT session, at, host, pid, versions, ended FROM sessions ORDER BY seq"
        ):
            if ended is None:
                found[session] = {"session": session, "host": host, "pid": pid, "began": at}
                found[session] |= {"ended": None, "at": None, "versions": json.loads(versions)}
            else:
                found[session] |= {"ended": ended, "at": at}
        return list(found.values())

    def pickle(self, name: str) -> Pickle | None:
        """Return the latest pickle of that name, its digest verified, still pickled."""
        for data, sha256, about in self._rows(
            "SELECT pickle, sha256, about FROM pickles WHERE name = ? ORDER BY seq DESC LIMIT 1",
            name,
        ):
            with _understood(self.path):
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

    def damage(self) -> list[str]:
        """Return what SQLite finds wrong with the file; a whole one takes a pass over it."""
        try:
            with _explained(self.path):
                rows = [text for (text,) in self._db.execute("PRAGMA integrity_check(10)")]
                for _ in self.epochs():
                    pass
        except JournalError as error:
            return [str(error)]
        return [] if rows == ["ok"] else rows

    def _rows(self, query: str, *values: object) -> list[Any]:
        with _explained(self.path):
            return self._db.execute(query, values).fetchall()

    # Writing

    def append(self, events: Sequence[Event]) -> None:
        """Record events, all or none of them; durable when this returns.

        Raises:
            JournalError: the file cannot be written. What was recorded before is safe.
        """
        if not events:
            return
        try:  # rather than _explained: this is done for each epoch
            if not self._session:
                self._begin_session()
            if len(events) > 1:
                with self._transaction():
                    for event in events:
                        self._insert(event)
            else:
                self._insert(events[0])  # a statement is a transaction of its own
        except sqlite3.Error as error:
            raise _explain(self.path, error) from error

    def _insert(self, event: Event) -> None:
        session = self._session
        row: tuple[object, ...]
        match event:
            case EpochFinished(trial, epoch, value, metrics, started, seconds, stored):
                query = _INSERT_EPOCH
                row = (trial, epoch, value, _metrics_json(metrics), started, seconds)
                if stored is None:
                    row += (None, None, None, session)
                else:
                    row += (stored.uri, stored.size, stored.sha256, session)
            case TrialProposed(trial, params, sampler):
                query = "INSERT INTO trials VALUES (?, ?, ?, ?, ?)"
                row = (trial, params, sampler, session)
            case TrialStopped(trial, epoch):
                query = "INSERT INTO stops VALUES (?, ?, ?, ?)"
                row = (trial, epoch, session)
            case TrialFailed(trial, epoch, kind, message, traceback):
                query = "INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)"
                row = (trial, epoch, kind, message, traceback, session)
            case WorkerDied():
                query = "INSERT INTO deaths VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
                row = (*event, session)
            case CheckpointDeleted(trial, epoch, why):
                query = "INSERT INTO deletions VALUES (?, ?, ?, ?, ?)"
                row = (trial, epoch, why, session)
            case SpaceExhausted(trials):
                query = "INSERT INTO plan VALUES (?, ?, ?)"
                row = ("exhausted", json.dumps(trials))
        self._db.execute(query, (self._seq + 1, *row))
        self._seq += 1

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        seq = self._seq
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._seq = seq
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def grow(self, facts: Mapping[str, Any], pickles: Iterable[Pickle] = ()) -> None:
        """Record that facts of the plan have changed, or a new trainer or dataset."""
        with _explained(self.path):
            if not self._session:
                self._begin_session()
            with self._transaction():
                self._seq = _insert_plan(self._db, self._seq, facts, pickles)

    def _begin_session(self) -> None:
        if self._version < VERSION:  # only now, so that what is refused leaves the file as it was
            migrate(self.path)
            self._version = VERSION
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        self._db.execute("PRAGMA foreign_keys = ON")
        ((session,),) = self._db.execute("SELECT ifnull(max(session), 0) + 1 FROM sessions")
        self._insert_session(session, None)
        self._session = session

    def _insert_session(self, session: int, ended: str | None) -> None:
        from letstune._version import __version__

        # Asked for rather than remembered: at a session's end, an interruption may have come
        # between a commit and its being counted.
        latest = " UNION ALL ".join(f"SELECT max(seq) AS seq FROM {table}" for table in TABLES)
        ((self._seq,),) = self._db.execute(f"SELECT ifnull(max(seq), 0) FROM ({latest})")
        versions = {"letstune": __version__, "python": platform.python_version()}
        self._db.execute(
            "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                self._seq + 1,
                session,
                now(),
                socket.gethostname(),
                os.getpid(),
                json.dumps(versions),
                ended,
            ),
        )
        self._seq += 1

    def end_session(self, ended: str) -> None:
        """Record how this session ended, if it recorded anything, and leave a single file."""
        if self._session:
            with _explained(self.path):
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


def create(path: Path, facts: Mapping[str, Any], pickles: Iterable[Pickle]) -> None:
    """Make a new journal, the whole of it or none: it is built beside and moved into place.

    The caller holds the journal's lock.
    """
    beside = path.with_name(path.name + ".new")
    with _explained(path):
        try:
            for suffix in ("-wal", "-shm", "-journal"):
                # Of a journal that was removed without them: SQLite would take them for ours.
                path.with_name(path.name + suffix).unlink(missing_ok=True)
                beside.with_name(beside.name + suffix).unlink(missing_ok=True)
            # Requests to skip trials of that other run. One that is not ours to remove is left to
            # the runner, which tells of it.
            with suppress(OSError):
                path.with_name(path.name + ".skip").unlink()
            beside.unlink(missing_ok=True)
            migrate(beside)
            connection = sqlite3.connect(beside)
            try:
                with connection:
                    _insert_plan(connection, 0, facts, pickles)
            finally:
                connection.close()
            # SQLite has synced the file; its name is ours to sync.
            beside.replace(path)
            if os.name != "nt":
                folder = os.open(path.parent, os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def _insert_plan(
    db: sqlite3.Connection, seq: int, facts: Mapping[str, Any], pickles: Iterable[Pickle]
) -> int:
    for fact, value in facts.items():
        seq += 1
        db.execute("INSERT INTO plan VALUES (?, ?, ?)", (seq, fact, json.dumps(value)))
    for pickle in pickles:
        seq += 1
        db.execute(
            "INSERT INTO pickles VALUES (?, ?, ?, ?, NULL, ?)",
            (seq, pickle.name, pickle.data, pickle.sha256, json.dumps(pickle.about)),
        )
    return seq


_INSERT_EPOCH: Final = "INSERT INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)"


_quoted = cache(json.dumps)


def _metrics_json(metrics: Mapping[str, float]) -> str:
    """Return what `json.dumps` would, but for each epoch, and with NaN and infinities as text.

    Python would write NaN for them, which is not JSON, and which SQLite refuses to read; float()
    takes the text back.
    """
    items = [
        f"{_quoted(name)}: {value!r}" if math.isfinite(value) else f'{_quoted(name)}: "{value!r}"'
        for name, value in metrics.items()
    ]
    return f"{{{', '.join(items)}}}"


def _check(path: Path) -> int:
    """Return the schema version of a journal, without changing anything."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError as error:
        raise JournalNotFoundError(
            f"There is no journal at {path}. `letstune tune` starts a new one."
        ) from error
    except OSError as error:
        raise JournalError(
            f"{path} cannot be read: {error.strerror}. Expected a journal of letstune, a file."
        ) from error
    if not header.startswith(_HEADER) or len(header) < 100:
        found = "is empty" if not header else "is not a SQLite database"
        raise JournalError(
            f"{path} {found}; expected a journal of letstune. Is it another file, or damaged? "
            "Give the path of a journal, or a path at which there is nothing yet."
        )
    # Both numbers are in the header of the file, which SQLite documents as its file format.
    if int.from_bytes(header[68:72]) != APPLICATION_ID:
        raise JournalError(
            f"{path} is a SQLite database, but not a journal of letstune. Give the path of a "
            "journal, or a path at which there is nothing yet."
        )
    version = int.from_bytes(header[60:64])
    if version > VERSION:
        raise JournalError(
            f"{path} was written by a newer letstune: its schema is {version}, and this letstune "
            f"knows up to {VERSION}. Upgrade:  pip install --upgrade letstune"
        )
    return version


@contextmanager
def _uncollected() -> Iterator[None]:
    """Make many objects that stay, without the garbage collector looking at them all the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(path, error) from error
    except UnicodeDecodeError as error:
        raise _damaged(path, error) from error


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """Turn what is raised of rows that are not what was written into an error of ours."""
    try:
        yield
    except LetstuneError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> JournalError:
    return JournalError(
        f"{path} is damaged: {type(error).__name__}: {error}. Restore it from a backup."
    )


def _explain(path: Path, error: sqlite3.Error) -> JournalError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    advice = {
        sqlite3.SQLITE_FULL: "Its disk is full. Free some space and resume; all that was "
        "recorded is safe.",
        sqlite3.SQLITE_IOERR: "Its disk fails or is full. Nothing recorded is lost if it can "
        "be read again: resume then.",
        sqlite3.SQLITE_CORRUPT: "It is damaged or truncated. Restore it from a backup, or "
        "save what can be read:  sqlite3 FILE .recover",
        sqlite3.SQLITE_NOTADB: "It is damaged or truncated. Restore it from a backup.",
        sqlite3.SQLITE_READONLY: "It is read-only. Make it and its folder writable, or copy "
        "it, with its .checkpoints folder, to where they are.",
        sqlite3.SQLITE_CANTOPEN: "Its folder must be there, and writable if the run was "
        "killed, since SQLite has to bring the journal's -wal file in.",
        sqlite3.SQLITE_BUSY: "Something else is writing it. Close that and try again.",
        sqlite3.SQLITE_CONSTRAINT: "Something else has written to it. Restore it from a "
        "backup, and let nothing but letstune write it.",
    }.get(code, "See `letstune check`.")
    return JournalError(f"{path}: {error}. {advice}")
