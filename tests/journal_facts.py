"""What a journal says, without clocks, sessions, deaths and the names of checkpoints."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

QUERIES = {
    "trials": "SELECT trial, params, sampler FROM trials",
    "epochs": "SELECT trial, epoch, value, metrics, checkpoint IS NULL, bytes, sha256 FROM epochs",
    "stops": "SELECT trial, epoch FROM stops",
    # Where a worker was when it died or hung depends on the clock; a trainer's error does not.
    "failures": "SELECT trial, epoch, kind, message, iif(kind = 'raised', traceback, '') "
    "FROM failures",
    "deletions": "SELECT trial, epoch, why FROM deletions",
    "plan": "SELECT fact, value FROM plan "
    "WHERE fact NOT IN ('store', 'versions', 'workers', 'executor', 'gpus', 'threads')",
    "pickles": "SELECT name, json_extract(about, '$.type') FROM pickles",
}


def facts(path: Path) -> dict[str, list[str]]:
    """Return all rows of all tables, as text that is the same only if every bit is."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return {
            table: sorted(map(repr, db.execute(query).fetchall()))
            for table, query in QUERIES.items()
        }


def recorded_epochs(path: Path) -> int:
    """Return how many epochs are recorded."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        ((count,),) = db.execute("SELECT count(*) FROM epochs")
    return int(count)


def metrics_of(path: Path) -> dict[tuple[int, int], dict[str, float]]:
    """Return all metric values by trial and epoch."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return {
            (trial, epoch): {name: float(value) for name, value in json.loads(metrics).items()}
            for trial, epoch, metrics in db.execute("SELECT trial, epoch, metrics FROM epochs")
        }


def query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def assert_same(path: Path, other: Path) -> None:
    found, wanted = facts(path), facts(other)
    for table in wanted:
        if table != "pickles":
            assert found[table] == wanted[table], table
