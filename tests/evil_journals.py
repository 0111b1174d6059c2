"""Journals in which somebody has written whatever they like, in any column of text."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

from small_trainers import tune

from letstune import EpochTrainer, Params, rand
from letstune.journal.schema import TABLES

EVIL = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b31m\x7f\x00\r\x08\u202egnp.exe\u2069\u2028[link=x]=cmd|"
"""What sets a clipboard, clears a screen, begins a color, and turns text around."""

TEXTS = [
    (table.name, name)
    for table in TABLES.values()
    for name, column in table.columns.items()
    if column.sql.startswith("TEXT")
]
"""All columns of text."""


class CHOICE(Enum):
    CHOSEN = "a"
    OTHER = "b"


class POINT(Params):
    PARAM: float = rand.uniform(-1, 1)
    CHOICE: CHOICE


class TRAINER(EpochTrainer[POINT]):
    """Fails in some trials. All names in capitals stand for what may be anything."""

    metric = "METRIC"

    def load_dataset(self, dataset: Any) -> None:
        pass

    def create_model(self, params: POINT) -> None:
        self.model = params.PARAM

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if self.model > 0:
            raise ValueError("MESSAGE")
        return {"METRIC": self.model + epoch, "VALUE": 1.0}


NAMES = ("CHOSEN", "POINT", "PARAM", "CHOICE", "TRAINER", "METRIC", "VALUE", "MESSAGE", "DATASET")


def make(path: Path) -> None:
    """Make the run that is then tampered with."""
    tune(TRAINER(), 4, path, rounds=[1, 1], dataset="DATASET")


@contextmanager
def _tampering(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a journal without its triggers, and put them back."""
    with closing(sqlite3.connect(path)) as db, db:
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        kept = triggers.fetchall()
        for name, _ in kept:
            db.execute(f"DROP TRIGGER {name}")
        yield db
        for _, sql in kept:
            db.execute(sql)


def renamed(source: Path, path: Path, names: dict[str, str]) -> None:
    """Copy a journal, and give what is in capitals other names, wherever they occur."""
    shutil.copy(source, path)
    with _tampering(path) as db:
        for table, column in TEXTS:
            rows = db.execute(f"SELECT seq, {column} FROM {table}").fetchall()
            for seq, text in rows:
                as_json = text is not None and text[:1] in '{["'
                for name, new in names.items():
                    text = text and text.replace(name, json.dumps(new)[1:-1] if as_json else new)
                db.execute(f"UPDATE {table} SET {column} = ? WHERE seq = ?", (text, seq))


def replaced(source: Path, path: Path, table: str, column: str, text: str) -> None:
    """Copy a journal, and replace a column: all of it, or each text in it if it is JSON."""
    shutil.copy(source, path)
    with _tampering(path) as db:
        rows = db.execute(f"SELECT seq, {column} FROM {table}").fetchall()
        for seq, was in rows:
            if was is None:
                continue
            try:
                new = json.dumps(_leaves(json.loads(was), lambda _: text))
            except ValueError:
                new = text
            db.execute(f"UPDATE OR IGNORE {table} SET {column} = ? WHERE seq = ?", (new, seq))


def _leaves(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {name: _leaves(item, change) for name, item in value.items()}
    if isinstance(value, list):
        return [_leaves(item, change) for item in value]
    return change(value) if isinstance(value, str) else value
