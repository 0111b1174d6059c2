"""The tables are insert-only, complete, and in the order in which things happened."""

import os
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from journal_facts import query

from letstune.journal.schema import APPLICATION_ID, TABLES, VERSION


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_strict(table: str, walked: Path) -> None:
    assert query(walked, f"SELECT strict FROM pragma_table_list('{table}')") == [(1,)]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("sql", ["UPDATE {} SET seq = seq + 1000", "DELETE FROM {}"])
def test_tables_are_insert_only(table: str, sql: str, walked: Path) -> None:
    before = walked.read_bytes()
    with (
        closing(sqlite3.connect(walked)) as db,
        pytest.raises(sqlite3.IntegrityError, match="insert-only"),
    ):
        db.execute(sql.format(table))
    assert walked.read_bytes() == before


def test_seq_counts_the_rows_of_all_tables_without_gap_or_repeat(walked: Path) -> None:
    union = " UNION ALL ".join(f"SELECT seq FROM {table}" for table in TABLES)
    found = [seq for (seq,) in query(walked, f"SELECT seq FROM ({union}) ORDER BY seq")]
    assert found == list(range(1, len(found) + 1))


def test_seq_is_the_order_in_which_things_happened(walked: Path) -> None:
    late = query(
        walked,
        "SELECT 'epoch before its trial' FROM epochs e JOIN trials t USING (trial) "
        "WHERE e.seq < t.seq "
        "UNION ALL SELECT 'deletion before its epoch' FROM deletions d "
        "JOIN epochs e USING (trial, epoch) WHERE d.seq < e.seq "
        "UNION ALL SELECT 'epoch after an end' FROM epochs e JOIN failures f USING (trial) "
        "WHERE e.seq > f.seq",
    )
    assert late == []


@pytest.mark.parametrize("table", ["trials", "epochs", "stops", "failures", "deletions", "deaths"])
def test_every_event_names_its_session(table: str, walked: Path) -> None:
    rows = query(
        walked,
        f"SELECT x.seq FROM {table} x WHERE x.session <> (SELECT s.session FROM sessions s "
        "WHERE s.seq < x.seq AND s.ended IS NULL ORDER BY s.seq DESC LIMIT 1)",
    )
    assert rows == []


def test_sessions_tell_who_worked_when_and_how_it_ended(walked: Path) -> None:
    rows = query(walked, "SELECT session, pid, ended FROM sessions ORDER BY seq")
    pid = os.getpid()
    ends = {1: "finished", 2: "interrupted", 3: "finished", 4: "retried", 5: "finished"}
    assert rows == [(n, pid, e) for n, end in ends.items() for e in (None, end)]


def test_all_times_are_utc(walked: Path) -> None:
    rows = query(walked, "SELECT started FROM epochs UNION ALL SELECT at FROM sessions")
    times = [datetime.fromisoformat(text) for (text,) in rows]
    assert {time.utcoffset() for time in times} == {timedelta(0)}


def test_integrity_and_foreign_keys_hold(walked: Path) -> None:
    assert query(walked, "PRAGMA integrity_check") == [("ok",)]
    assert query(walked, "PRAGMA foreign_key_check") == []


def test_every_json_in_it_is_valid(walked: Path) -> None:
    for table, column in [
        ("plan", "value"),
        ("trials", "params"),
        ("epochs", "metrics"),
        ("pickles", "about"),
        ("sessions", "versions"),
    ]:
        bad = query(walked, f"SELECT {column} FROM {table} WHERE NOT json_valid({column})")
        assert bad == [], table


def test_it_says_what_file_it_is(walked: Path) -> None:
    assert query(walked, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert query(walked, "PRAGMA user_version") == [(VERSION,)]
