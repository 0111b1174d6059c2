"""A journal of any released version is resumed by today's code. Its pickles name this module."""

import contextlib
import math
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from journal_facts import facts
from processes import TESTS
from small_trainers import Climb, Point, tune

import letstune
from letstune.journal.journal import Journal
from letstune.journal.schema import APPLICATION_ID, VERSION
from letstune.samplers import RandomSampler
from letstune.training.checkpoints import Checkpoint


class Golden(Climb):
    """Of the golden journals; must never change. Does without NumPy, which may."""

    def train_epoch(self, epoch: int) -> dict[str, float]:
        x = (self.model[-1] * 48271 + self.seed) % 2147483647
        self.model.append(x)
        if x % 11 == 0:
            raise ValueError(f"{x}")
        return {"height": float(x), "nan": math.nan if x % 2 else -math.inf}

    def create_model(self, params: Point) -> None:
        self.model = [params.n]

    def save(self, checkpoint: Checkpoint) -> None:
        """Save nothing: a golden journal has no checkpoints beside it."""


GOLDEN = sorted((TESTS / "golden").glob("journal-v*.sql"))
GOLDEN_PLAN: dict[str, Any] = {"rounds": [2, 3], "seed": 11, "dataset": "golden"}


@pytest.fixture(autouse=True)
def names_in_golden_journals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What golden journals pickled by names that are no more is found beside them."""
    monkeypatch.syspath_prepend(TESTS / "golden")


def test_every_schema_has_a_golden_journal() -> None:
    assert {dump.name for dump in GOLDEN} >= {f"journal-v{i + 1}.sql" for i in range(VERSION)}


@pytest.mark.parametrize("dump", GOLDEN, ids=lambda dump: dump.stem)
def test_a_journal_of_any_released_version_is_resumed(dump: Path, path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(dump.read_text())
    assert not letstune.load(path).finished
    assert letstune.resume(path, progress=False).finished
    fresh = path.with_name("fresh.db")
    # Before the wings, it was started with objects: a pickled one says what its class is called.
    sampler = RandomSampler() if "wings" in dump.name else "random"
    tune(Golden(), 9, fresh, sampler=sampler, **GOLDEN_PLAN)
    found, wanted = facts(path), facts(fresh)
    for table in ("trials", "epochs", "stops", "deletions"):
        assert found[table] == wanted[table]
    assert len(found["failures"]) == len(wanted["failures"]) > 0


def write_golden_journal() -> None:
    """Write the golden journal of today's schema, once, when it is new.

    (cd tests && python -c "import test_journal; test_journal.write_golden_journal()")
    """
    path = Path("golden.db")
    dump = TESTS / "golden" / f"journal-v{VERSION}.sql"
    if dump.exists():
        raise FileExistsError(dump)

    whole, left = Golden.train_epoch, [True] * 11

    def interrupted(self: Golden, epoch: int) -> dict[str, float]:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return whole(self, epoch)

    Golden.train_epoch = interrupted  # type: ignore[method-assign]
    with contextlib.suppress(KeyboardInterrupt):
        tune(Golden(), 9, path, **GOLDEN_PLAN)
    with closing(sqlite3.connect(path)) as db:
        lines = [
            *db.iterdump(),
            f"PRAGMA application_id = {APPLICATION_ID};",
            f"PRAGMA user_version = {VERSION};",
        ]
    text = re.sub(r'"folders": \[.*?\]', '"folders": []', "\n".join(lines))  # of no other machine
    dump.parent.mkdir(exist_ok=True)
    dump.write_text(text.replace(f"{TESTS.parent}{os.sep}", "") + "\n")
    path.unlink()


def test_what_is_refused_leaves_an_old_journal_as_it_was(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(GOLDEN[0].read_text())
    before = path.read_bytes()
    with closing(Journal(path, write=True)) as journal:
        journal.load()
    assert path.read_bytes() == before
