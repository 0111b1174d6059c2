"""What a journal says: rows, metric values, and whether it says the same as another."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from letstune.journal.comparable import facts

__all__ = ["assert_same", "facts", "metrics_of", "query", "recorded_epochs"]


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
