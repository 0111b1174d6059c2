"""The processes that work on a run, as rows: two for a session, at its beginning and its end."""

from __future__ import annotations

import json
import os
import platform
import socket
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from letstune.journal.tables import SEQ, Column, Table

SESSIONS: Final = Table(
    "sessions",
    "The processes that worked on the run: one row when the first row is written, and one "
    "when the session ends. A session without a second row was killed.",
    {
        "seq": SEQ,
        "session": Column("INTEGER NOT NULL", "The number of the session, from 1 on."),
        "at": Column("TEXT NOT NULL", "The time, UTC."),
        "host": Column("TEXT NOT NULL", "The name of the machine."),
        "pid": Column("INTEGER NOT NULL", "The id of the process."),
        "versions": Column("TEXT NOT NULL", "JSON: the versions of letstune and Python."),
        "ended": Column(
            "TEXT",
            "NULL in the first row; then `finished`, `interrupted`, `error` or `checked`.",
        ),
    },
    ["UNIQUE (session, ended)"],
)

_COLUMNS: Final = ("session", "at", "host", "pid", "versions", "ended")
INSERT_SESSION: Final = SESSIONS.insert(_COLUMNS)
SELECT_SESSIONS: Final = f"{SESSIONS.select(_COLUMNS, SESSIONS.since)} ORDER BY seq"


def now() -> str:
    """Return the time, UTC, in ISO 8601."""
    return datetime.now(UTC).isoformat()


def session_row(session: int, ended: str | None) -> tuple[object, ...]:
    """Return the row of this process, without its ``seq``."""
    from letstune._version import __version__

    versions = json.dumps({"letstune": __version__, "python": platform.python_version()})
    return session, now(), socket.gethostname(), os.getpid(), versions, ended


def read_sessions(rows: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Return the sessions that rows hold: host, pid, began, versions, ended, when (at)."""
    found: dict[int, dict[str, Any]] = {}
    for session, at, host, pid, versions, ended in rows:
        if ended is None:
            found[session] = {"session": session, "host": host, "pid": pid, "began": at}
            found[session] |= {"ended": None, "at": None, "versions": json.loads(versions)}
        else:
            found[session] |= {"ended": ended, "at": at}
    return list(found.values())
