"""A seat: the actor that holds a slot on a node of the cluster.

Nothing is trained in the actor itself: what crashes or hangs is a process below it, and the actor
is there to tell.
"""

from __future__ import annotations

import os
import pickle
import platform
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Pipe
from typing import IO, NamedTuple

from letstune import Store, __version__
from letstune.errors import CheckpointError, PickleError
from letstune.training import Stored
from letstune.workers import (
    Command,
    Item,
    Job,
    Raised,
    RemoteSlots,
    put_probe,
    read_probe,
)


class Here(NamedTuple):
    """Where a seat is."""

    node: str
    pid: int


class News(NamedTuple):
    """What came of a poll.

    Attributes:
        items: what the slot has to tell.
        killed: the tokens of the seat's workers that could not tidy up, so far.
    """

    items: list[Item]
    killed: list[str]


class Seat:
    """Trains one task at a time, on whatever node Ray puts it.

    `tell` and `poll` are called on different threads. Only `poll` touches the slot, which has no
    lock of its own; `tell` puts a word down for it, and rings.
    """

    def __init__(self) -> None:
        self._slot: RemoteSlots | None = None
        self._job: IO[bytes] | None = None
        self._commands: dict[int, Command] = {}
        self._next = 0
        self._closing = False
        self._turn = threading.Lock()
        self._heard, self._bell = Pipe(duplex=False)

    def check(
        self,
        token: str,
        versions: Mapping[str, str],
        job: bytes,
        probe: Stored,
        cores: int,
        limits: Mapping[str, float | None],
    ) -> Here | Raised:
        """See whether tasks can be trained here, and get ready for it; called first.

        Args:
            token: for `RemoteSlots`.
            versions: those of the owner, which are compared before anything is unpickled.
            job: the job, pickled.
            probe: a checkpoint that the owner put into the store.
            cores: how many threads a library that computes may use.
            limits: the slot's timeouts.
        """
        here = Here(f"{platform.node()} (Ray node {_node()})", os.getpid())
        try:
            _compare(versions, here.node)
            unpickled: Job = pickle.loads(job)
            advice = f"let node {here.node} have the same packages."
            unpickled.load_trainer(advice)
            _probe(unpickled.load_store(advice), probe, token, here.node)
            self._job = unpickled.spool()
            # Ray has set CUDA_VISIBLE_DEVICES for this process; a worker inherits it.
            self._slot = RemoteSlots(self._job, [token], threads=cores, **limits)
        except Exception as error:  # noqa: BLE001 (it is the owner's to judge)
            error.add_note(f"It was raised on node {here.node}.")
            return Raised.of(error)
        return here

    def tell(self, number: int, command: Command) -> None:
        """Put down a command.

        Commands are numbered, since Ray does not promise to keep the order of calls of an actor
        with more than one thread.
        """
        self._commands[number] = command
        self._bell.send_bytes(b"!")

    def poll(self, seconds: float) -> News:
        """Do as told, and wait for news, that long at most."""
        items: list[Item] = []
        until = time.monotonic() + seconds
        with self._turn:
            slot = self._slot
            while slot is not None and not self._closing:
                items += slot.poll(max(0.0, until - time.monotonic()), self._heard)
                while self._heard.poll():
                    self._heard.recv_bytes()
                items += self._obey(slot)
                if items or time.monotonic() >= until:
                    break
            return News(items, slot.killed if slot is not None else [])

    def _obey(self, slot: RemoteSlots) -> list[Item]:
        items: list[Item] = []
        while (command := self._commands.pop(self._next, None)) is not None:
            self._next += 1
            items += slot.obey(command)
        return items

    def close(self) -> tuple[list[str], list[str]]:
        """End the worker, and return what it left; see `RemoteSlots`."""
        self._closing = True
        self._bell.send_bytes(b"!")
        with self._turn:
            if self._slot is None or self._job is None:
                return [], []
            self._slot.close()
            self._job.close()
            return self._slot.killed, self._slot.dropped


def versions() -> dict[str, str]:
    """Return what must be the same on all nodes. Of Python, the patch release may differ."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"letstune": __version__, "Python": python}


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())[:12]


def _compare(theirs: Mapping[str, str], node: str) -> None:
    for name, found in versions().items():
        if found != theirs[name]:
            raise PickleError(
                f"Node {node} has {name} {found}, but the run is of {name} {theirs[name]}. "
                "Install the same on all nodes, and resume."
            )


def _probe(store: Store, stored: Stored, token: str, node: str) -> None:
    """Read what the owner put into the store, and put something as well."""
    try:
        read_probe(store, stored)
        store.delete(put_probe(store, token).uri)
    except Exception as error:
        raise CheckpointError(
            f"Node {node} cannot reach the checkpoint store of the run: {error} Use a store that "
            "all nodes reach, such as a shared folder or store='s3://bucket/runs', and resume."
        ) from error
