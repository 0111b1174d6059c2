"""What two journals of the same run have in common, however the run went."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

_QUERIES: Final = {
    "trials": "SELECT trial, params, sampler FROM trials",
    "epochs": "SELECT trial, epoch, value, metrics, checkpoint IS NULL, bytes, sha256 FROM epochs",
    "stops": "SELECT trial, epoch FROM stops",
    # Where a worker was when it died or hung depends on the clock; a trainer's error does not.
    "failures": "SELECT trial, epoch, kind, message, iif(kind = 'raised', traceback, '') "
    "FROM failures",
    "deletions": "SELECT trial, epoch, why FROM deletions",
    # What holds in the end: a run that has grown is the same as a larger one. How far its rounds
    # went when it began shows in the epochs, if its trainer looks at that.
    "plan": "SELECT fact, value FROM plan p "
    "WHERE seq = (SELECT max(seq) FROM plan later WHERE later.fact = p.fact) "
    "AND fact NOT IN ('store', 'versions', 'workers', 'executor', 'gpus', 'threads', 'horizon', "
    "'id', 'signature')",
    "pickles": "SELECT name, json_extract(about, '$.type') FROM pickles "
    "WHERE name NOT IN ('store', 'executor')",
}


def facts(path: Path) -> dict[str, list[str]]:
    """Return what a journal says, by table, as text that is the same only if every bit is.

    It leaves out clocks, sessions, deaths of workers, the names of checkpoints, signatures, and
    where and with how many workers the run was carried out. So a run that was interrupted, or had
    other workers, has the same facts as one that was not.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return {
            table: sorted(map(repr, db.execute(query).fetchall()))
            for table, query in _QUERIES.items()
        }
