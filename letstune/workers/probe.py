"""Probes: whether two machines have the same checkpoint store.

One puts a probe, and the other reads it. Only both ways tell a folder that is not shared from one
that is.
"""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

from letstune.errors import CheckpointError
from letstune.rounds.events import Stored
from letstune.training.checkpoints import Checkpoint, Keeper, fetch
from letstune.training.stores import Store


def put_probe(store: Store, token: str) -> Stored:
    """Put a probe into a store, and return where it is; whoever put it deletes it.

    Args:
        store: the store.
        token: names the probe; no other one, of any run, has the same.

    Raises:
        CheckpointError: the store cannot take it.
    """

    def fill(checkpoint: Checkpoint) -> None:
        (checkpoint.path / "probe").write_bytes(secrets.token_bytes(32))

    name = f"probe-{token}"
    keeper = Keeper(store, name)
    try:
        stored = keeper.save(name, fill)
    finally:
        keeper.close()
    if stored is None:
        raise CheckpointError(f"The checkpoint store of the run has lost its probe {name}.")
    return stored


def read_probe(store: Store, stored: Stored) -> None:
    """Read a probe from a store, and verify it.

    Raises:
        CheckpointError: it is not there, or is another one.
        StoreError: the store cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="letstune-") as folder:
        fetch(store, stored, Path(folder), "The probe")
