"""A new journal: it is there completely, or not at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from letstune.journal.plan import insert_plan
from letstune.journal.schema import migrate
from letstune.journal.sqlite import explained
from letstune.rounds.pickles import Pickle


def create(path: Path, facts: Mapping[str, Any], pickles: Iterable[Pickle]) -> None:
    """Make a new journal, all of it or nothing: it is built beside and moved into place.

    The caller holds the journal's lock.
    """
    beside = path.with_name(path.name + ".new")
    with explained(path):
        try:
            for suffix in ("-wal", "-shm", "-journal"):
                # A journal may have been removed without them; SQLite would take them for ours.
                path.with_name(path.name + suffix).unlink(missing_ok=True)
                beside.with_name(beside.name + suffix).unlink(missing_ok=True)
            # It holds requests to skip trials of that other run. If we may not remove it, the
            # runner tells of it.
            with suppress(OSError):
                path.with_name(path.name + ".skip").unlink()
            beside.unlink(missing_ok=True)
            migrate(beside)
            connection = sqlite3.connect(beside)
            try:
                with connection:
                    insert_plan(connection, 0, facts, pickles)
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
