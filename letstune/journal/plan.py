"""What a run is to do, as rows: the facts of its plan, and its pickles."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

from letstune.journal.signatures import PickleRow
from letstune.journal.tables import SEQ, Column, Table
from letstune.rounds.pickles import Pickle

PLAN: Final = Table(
    "plan",
    "What the run has to do. One row for each fact. If a fact changes, because the run is "
    "extended, it gets a new row; the latest one counts.",
    {
        "seq": SEQ,
        "fact": Column("TEXT NOT NULL", "The name of the fact."),
        "value": Column("TEXT NOT NULL", "Its value, as JSON."),
    },
)

PICKLES: Final = Table(
    "pickles",
    "The trainer and the dataset, and a sampler or store of your own. The latest row of each "
    "name counts. Only `tune` and `resume` unpickle them.",
    {
        "seq": SEQ,
        "name": Column("TEXT NOT NULL", "`trainer`, `dataset`, `sampler` or `store`."),
        "pickle": Column("BLOB NOT NULL", "What cloudpickle made of it."),
        "sha256": Column("TEXT NOT NULL", "The SHA-256 of `pickle`."),
        "signature": Column("TEXT", "Always NULL; the plan's `signature` is that of all."),
        "about": Column(
            "TEXT NOT NULL",
            "JSON: its class, the Python version, and the folders to import from.",
        ),
    },
)


# Never by an index, which in a file of somebody's making may lead to other rows than are signed.
SELECT_PICKLES: Final = f"{PICKLES.select(PickleRow._fields, 1)} NOT INDEXED ORDER BY seq"
_INSERT_FACT: Final = PLAN.insert(["fact", "value"])
_INSERT_PICKLE: Final = PICKLES.insert(["name", "pickle", "sha256", "about"])


def pickle_row(pickle: Pickle) -> PickleRow:
    """Return what is signed of a pickle's row."""
    return PickleRow(pickle.name, pickle.sha256, json.dumps(pickle.about))


def insert_plan(
    db: sqlite3.Connection, seq: int, facts: Mapping[str, Any], pickles: Iterable[Pickle]
) -> int:
    """Add facts and pickles after the row ``seq``, and return the ``seq`` of the last one."""
    for fact, value in facts.items():
        seq += 1
        db.execute(_INSERT_FACT, (seq, fact, json.dumps(value)))
    for pickle in pickles:
        seq += 1
        name, sha256, about = pickle_row(pickle)
        db.execute(_INSERT_PICKLE, (seq, name, pickle.data, sha256, about))
    return seq
