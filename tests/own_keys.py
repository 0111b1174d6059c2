"""The keys of the tests, which are not those of whoever runs them."""

import atexit
import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from letstune.journal.journal import Journal
from letstune.journal.signatures import Signed
from letstune.runs import signing
from letstune.runs.keys import all_keys

KEPT = "LETSTUNE_TESTS_CONFIGURATION"
"""Says to the processes of these tests that it is set already."""


def keep_apart() -> None:
    """Give this process, and all that it starts, a configuration folder of their own.

    Its key is younger than any file, as is the day since which all is signed: so journals from
    before there were signatures, which tests write as they go, are older.
    """
    os.environ.pop("LETSTUNE_KEY_FILE", None)
    signing.SINCE = 2.0**32
    if KEPT in os.environ:
        return
    folder = Path(tempfile.mkdtemp(prefix="letstune-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["XDG_CONFIG_HOME"] = os.environ[KEPT] = str(folder)
    new_key(folder / "letstune" / "key")
    os.utime(folder / "letstune" / "key", (2**32, 2**32))


def become_another(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have other keys from now on: what was signed is a stranger's."""
    monkeypatch.setenv("LETSTUNE_KEY_FILE", str(new_key(folder / "keys of another" / "key")))


def sign_again(path: Path) -> None:
    """Sign a journal of one's own in which a test has changed what is signed."""
    with closing(Journal(path)) as journal:
        signed = Signed.of(journal.facts(), journal.pickle_rows())
    fact = json.dumps(signed.sign(all_keys()[0]).fact())
    with closing(sqlite3.connect(path)) as db, db:
        ((last,),) = db.execute("SELECT max((SELECT max(seq) FROM plan), max(seq)) FROM sessions")
        db.execute("INSERT INTO plan VALUES (?, 'signature', ?)", (last + 1, fact))


def new_key(path: Path) -> Path:
    """Write a key, in a folder that nobody else can open, and return where it is."""
    path.parent.mkdir(mode=0o700, exist_ok=True, parents=True)
    path.touch(0o600)
    path.write_text(f"{os.urandom(32).hex()}\n")
    return path
