"""Each kind of event as rows: its table, how it is written there, and how it is read.

Whoever adds an event declares it here, in `letstune.rounds.events`, and in what it does to the
state; the schema, `Journal.append`, `Journal.load` and the documentation follow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final, Generic, TypeVar, cast

from letstune.journal.plan import PLAN
from letstune.journal.signatures import CheckpointRow, Seal
from letstune.journal.tables import SEQ, SESSION, TRIAL, Column, Table
from letstune.rounds.events import (
    CheckpointDeleted,
    EpochFinished,
    Event,
    SpaceExhausted,
    Stored,
    TrialFailed,
    TrialProposed,
    TrialRetried,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.metric import MOST, standing

E = TypeVar("E", bound=Event)


class Rows(Generic[E]):
    """How one kind of event is kept as rows of a table, usually with a column for each field.

    Attributes:
        event: the class.
        table: where its rows are.
        columns: the columns that it is read from.
        insert: the statement that records it.
        values: returns the parameters of ``insert`` after ``seq``, given an event and its session.
    """

    __slots__ = ("columns", "event", "insert", "table", "values")

    def __init__(
        self,
        event: type[E],
        table: Table,
        columns: Sequence[str] | None = None,
        written: Sequence[str] | None = None,
        values: Callable[[E, int], tuple[object, ...]] | None = None,
    ) -> None:
        self.event = event
        self.table = table
        self.columns = event._fields if columns is None else columns
        self.insert = table.insert(written or [*self.columns, "session"])
        self.values = values or _fields

    def query(self, version: int) -> str:
        """Return the query that events are read from, for a file of a version of the schema."""
        return self.table.select(self.columns, version)

    def read(self, rows: Iterable[Sequence[Any]]) -> Iterator[E]:
        """Return the events of rows whose columns are just the fields."""
        make = cast(Callable[[Sequence[Any]], E], self.event._make)
        return map(make, rows)


def _fields(event: Event, session: int) -> tuple[object, ...]:
    return (*event, session)


TRIALS: Final = Rows(
    TrialProposed,
    Table(
        "trials",
        "The trials that were proposed.",
        {
            "seq": SEQ,
            "trial": Column("INTEGER NOT NULL UNIQUE", "The id of the trial, from 0 on."),
            "params": Column("TEXT NOT NULL", "Its params, as JSON."),
            "sampler": Column("TEXT NOT NULL", "Who proposed them."),
            "session": SESSION,
        },
    ),
)


# The value is read from the metrics: SQLite makes NULL of NaN, 0.0 of -0.0.
_EPOCH: Final = ("metrics", "started", "seconds", "checkpoint", "bytes", "sha256")


def _epoch(event: EpochFinished, session: int) -> tuple[object, ...]:
    trial, epoch, value, metrics, started, seconds, stored = event
    uri, size, sha256 = (None, None, None) if stored is None else stored
    row = (trial, epoch, value, _metrics_json(metrics), started, seconds, uri, size, sha256)
    return (*row, session, None)


def read_checkpoints(rows: Iterable[Sequence[Any]]) -> Iterator[CheckpointRow]:
    """Yield what rows of `SELECT_CHECKPOINTS` say."""
    for seq, trial, epoch, uri, size, sha256, signature in rows:
        yield CheckpointRow(seq, trial, epoch, Stored(uri, size, sha256), signature)


def signed_epoch(event: EpochFinished, session: int, seal: Seal) -> tuple[object, ...]:
    """Return the parameters of the statement that records an epoch, with its checkpoint signed."""
    values, stored = _epoch(event, session), event.checkpoint
    if stored is None:
        return values
    return (*values[:-1], seal.of(event.trial, event.epoch, stored))


def read_epochs(rows: Iterable[Sequence[Any]], metric: str) -> Iterator[EpochFinished]:
    """Yield the epochs of rows.

    Args:
        rows: they have the columns of `EPOCHS`.
        metric: the plan's metric.
    """
    for trial, epoch, recorded, metrics, started, seconds, uri, size, sha256 in rows:
        stored = None if uri is None else Stored(uri, size, sha256)
        numbers = json.loads(metrics)
        if len(numbers) > MOST:
            raise ValueError(f"epoch {epoch} of trial {trial} has {len(numbers)} metric values")
        values = {name: float(number) for name, number in numbers.items()}
        # Not the column: SQLite makes NULL of NaN, 0.0 of -0.0.
        value = standing(metric, values)
        if recorded is not None and math.isnan(value):
            raise ValueError(f"epoch {epoch} of trial {trial} has a value, but no {metric!r}")
        datetime.fromisoformat(started)
        yield EpochFinished(trial, epoch, value, values, started, seconds, stored)


_quoted = cache(json.dumps)


def _metrics_json(metrics: Mapping[str, float]) -> str:
    """Return metric values as JSON, as `json.dumps` would, but faster, and with NaN as text.

    `json.dumps` would write a bare NaN or Infinity, which is not JSON, and which SQLite refuses to
    read. float() takes the text back.
    """
    items = [
        f"{_quoted(name)}: {value!r}" if math.isfinite(value) else f'{_quoted(name)}: "{value!r}"'
        for name, value in metrics.items()
    ]
    return f"{{{', '.join(items)}}}"


EPOCHS: Final = Rows(
    EpochFinished,
    Table(
        "epochs",
        "The epochs that were trained.",
        {
            "seq": SEQ,
            "trial": TRIAL,
            "epoch": Column("INTEGER NOT NULL", "The number of the epoch, from 0 on."),
            "value": Column(
                "REAL",
                "The standing, of which greater is better: the value of the optimized metric, or "
                "minus that if the metric has a leading minus. NULL if there was none, or NaN.",
            ),
            "metrics": Column(
                "TEXT NOT NULL",
                'All metric values, exactly, as JSON. NaN and infinities are text: `"nan"`.',
            ),
            "started": Column("TEXT NOT NULL", "When `train_epoch` or `train` was called, UTC."),
            "seconds": Column("REAL NOT NULL", "How long that took, by a monotonic clock."),
            "checkpoint": Column(
                "TEXT", "Where the store keeps the checkpoint. NULL if `save` wrote nothing."
            ),
            "bytes": Column("INTEGER", "The size of its files."),
            "sha256": Column("TEXT", "The SHA-256 of the list of its files and their SHA-256s."),
            "signature": Column(
                "TEXT", "Whoever ran it signs with this that it is a checkpoint of this epoch."
            ),
            "session": SESSION,
        },
        ["UNIQUE (trial, epoch)"],
    ),
    ("trial", "epoch", "value", *_EPOCH),
    ("trial", "epoch", "value", *_EPOCH, "session", "signature"),
    _epoch,
)

# There may be a million epochs: they are folded into the state as these columns, without an object
# for each.
SELECT_VALUES: Final = (
    "SELECT trial, epoch, ifnull(value, -9e999), seconds FROM epochs ORDER BY seq"
)
# Never by an index: what is signed must be what is read, whatever is wrong with the file.
SELECT_CHECKPOINTS: Final = (
    "SELECT seq, trial, epoch, checkpoint, bytes, sha256, signature FROM epochs AS e NOT INDEXED "
    "WHERE checkpoint IS NOT NULL"
)
SELECT_KEPT: Final = (
    f"{SELECT_CHECKPOINTS} AND NOT EXISTS "
    "(SELECT 1 FROM deletions d WHERE d.trial = e.trial AND d.epoch = e.epoch)"
)

STOPS: Final = Rows(
    TrialStopped,
    Table(
        "stops",
        "The trials that their trainer ended early with `StopTraining`.",
        {
            "seq": SEQ,
            "trial": TRIAL._replace(sql="INTEGER NOT NULL UNIQUE REFERENCES trials (trial)"),
            "epoch": Column("INTEGER NOT NULL", "The last recorded epoch; -1 if there is none."),
            "session": SESSION,
        },
    ),
)

FAILURES: Final = Rows(
    TrialFailed,
    Table(
        "failures",
        "The trials that ended in an error. One that was retried since stands no more.",
        {
            "seq": SEQ,
            "trial": TRIAL,
            "epoch": Column("INTEGER NOT NULL", "The epoch that the trial was working on."),
            "kind": Column(
                "TEXT NOT NULL",
                "`raised`: the trainer raised an exception; `timed out`; or `worker died`: it "
                "killed its worker process too often.",
            ),
            "message": Column("TEXT NOT NULL", "The last line of the traceback, or what happened."),
            "traceback": Column(
                "TEXT NOT NULL",
                "All of it; for a worker that hung or died, the stacks of its threads.",
            ),
            "session": SESSION,
        },
        remade=3,
        was={"trial": "INTEGER NOT NULL UNIQUE REFERENCES trials (trial)"},  # failed once at most
    ),
)

RETRIES: Final = Rows(
    TrialRetried,
    Table(
        "retries",
        "The failed trials that were opened again, by `letstune retry` or after their trainer was "
        "mended.",
        {"seq": SEQ, "trial": TRIAL, "session": SESSION},
        since=3,
    ),
)

STANDING: Final = (
    "NOT EXISTS (SELECT 1 FROM retries r WHERE r.trial = {0}.trial AND r.seq > {0}.seq)"
)
"""What is true of the rows of a table that no retry of their trial has taken back."""

UNRETRIED: Final = (
    " LEFT JOIN (SELECT trial AS again, max(seq) AS retried FROM retries GROUP BY trial) "
    "ON again = trial WHERE retried IS NULL OR retried < seq"
)
"""The same for a query of a whole table, which then takes no step for each pair of rows."""

DELETIONS: Final = Rows(
    CheckpointDeleted,
    Table(
        "deletions",
        "The checkpoints that are no longer kept.",
        {
            "seq": SEQ,
            "trial": TRIAL._replace(sql="INTEGER NOT NULL"),
            "epoch": Column("INTEGER NOT NULL", "The epoch after which the checkpoint was saved."),
            "why": Column(
                "TEXT NOT NULL",
                "`superseded` by a later or better epoch, `outranked` by better trials, "
                "`failed` (of a failed trial), or `missing` (written off by `letstune check "
                "--fix`).",
            ),
            "session": SESSION,
        },
        ["UNIQUE (trial, epoch)", "FOREIGN KEY (trial, epoch) REFERENCES epochs (trial, epoch)"],
    ),
)

DEATHS: Final = Rows(
    WorkerDied,
    Table(
        "deaths",
        "The worker processes that died while they were training: killed, out of memory, "
        "crashed. The trial goes on from its last checkpoint, unless it kills its workers again "
        "and again.",
        {
            "seq": SEQ,
            "trial": TRIAL,
            "epoch": Column("INTEGER NOT NULL", "The epoch that the trial was working on."),
            "attempt": Column(
                "TEXT NOT NULL", "Which training of the trial it was: process and count."
            ),
            "code": Column(
                "INTEGER NOT NULL",
                "The exit code, or minus the number of the signal that killed it.",
            ),
            "memory": Column(
                "INTEGER", "The most memory that the process had, in bytes; null if not known."
            ),
            "stack": Column(
                "TEXT NOT NULL",
                "What its threads were doing when it crashed; empty if it was killed.",
            ),
            "at": Column("TEXT NOT NULL", "When, UTC."),
            "session": SESSION,
        },
        since=2,
    ),
)

EXHAUSTED: Final = Rows(
    SpaceExhausted,
    PLAN,
    ("value",),
    ("fact", "value"),
    lambda event, _: ("exhausted", json.dumps(event.trials)),
)
"""It is a fact of the plan, and is read as one."""

EVENTS: Final[tuple[Rows[Any], ...]] = (
    TRIALS,
    EPOCHS,
    STOPS,
    FAILURES,
    RETRIES,
    DELETIONS,
    DEATHS,
    EXHAUSTED,
)
ROWS: Final[Mapping[type, Rows[Any]]] = {rows.event: rows for rows in EVENTS}
RETRIED: Final[tuple[Rows[Any], ...]] = (FAILURES, DEATHS)
"""What a retry of a trial takes back: it is no part of the state any more."""
AFTER_EPOCHS: Final[tuple[Rows[Any], ...]] = (STOPS, FAILURES, DEATHS)
"""The rows whose events are applied to the state one by one, after all epochs."""
