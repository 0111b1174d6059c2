"""What is signed of a run: what it runs and whom it reaches, and each checkpoint for itself.

A key is only handed in here, and never written. Metrics and params are data, and are not signed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from letstune.rounds.events import Stored

REACHING: Final = ("sampler", "store", "observers", "workers", "executor", "gpus")
"""The facts of a plan that say what is made of what is installed here, and whom that contacts."""

ID: Final = "id"
SIGNATURE: Final = "signature"
"""The facts that hold a run's random id, and the signature: `Signature.fact`."""

# Of one kind of text, the signature is none of the other.
_RUN: Final = b"letstune run 1\n"
_CHECKPOINT: Final = "letstune checkpoint 1\n"


class PickleRow(NamedTuple):
    """A row of the table of pickles, but for its bytes, which its digest stands for."""

    name: str
    sha256: str
    about: str


class CheckpointRow(NamedTuple):
    """What a row of the table of epochs says of a checkpoint."""

    seq: int
    trial: int
    epoch: int
    checkpoint: Stored
    signature: str | None


@dataclass(frozen=True, kw_only=True)
class Signed:
    """What is signed of a run.

    All pickles, not only the latest: a file can be made in such a way that it depends on the query
    which one that is.

    Attributes:
        id: the run's random id; "" of one from before it had one.
        plan: its facts of `REACHING`.
        pickles: all that it has, in their order.
        until: the last checkpoint's row that ``rows`` has; 0 if it has none.
        rows: the digest of the checkpoints until there, which have no valid signatures of their
            own: they were recorded before the run was signed by whoever signs it now.
    """

    id: str
    plan: Mapping[str, Any]
    pickles: tuple[PickleRow, ...] = field(repr=False)
    until: int = 0
    rows: str = ""

    @staticmethod
    def of(facts: Mapping[str, Any], pickles: Iterable[PickleRow]) -> Signed:
        """Return what is signed of a run with these facts and pickles."""
        signature = Signature.of(facts.get(SIGNATURE))
        plan = json.dumps({name: facts.get(name) for name in REACHING})
        return Signed(
            id=str(facts.get(ID, "")),
            plan=json.loads(plan),  # as the journal gives it back
            pickles=tuple(pickles),
            until=signature.until,
            rows=signature.rows,
        )

    def text(self) -> bytes:
        """Return it as text, of which there is only one for the same content."""
        content = [self.id, self.plan, self.pickles, self.until, self.rows]
        return _RUN + json.dumps(content, sort_keys=True).encode()

    def sign(self, key: bytes) -> Signature:
        """Return its signature."""
        return Signature(hmac.digest(key, self.text(), "sha256").hex(), self.until, self.rows)

    def is_signed(self, key: bytes, signature: Signature) -> bool:
        """Tell whether a signature is that of this key."""
        return hmac.compare_digest(self.sign(key).hmac, signature.hmac)

    def with_rows(self, rows: Iterable[CheckpointRow]) -> Signed:
        """Return it with the digest of these checkpoints instead of their signatures."""
        digest, until = hashlib.sha256(), 0
        for row in rows:
            until = row.seq
            digest.update(_as_line(row))
        return replace(self, until=until, rows=digest.hexdigest() if until else "")

    def digest(self) -> str:
        """Return what stands for all of it in a list of what is trusted."""
        return hashlib.sha256(self.text()).hexdigest()


class Signature(NamedTuple):
    """The signature of a run, and what it covers; see `Signed`."""

    hmac: str
    until: int = 0
    rows: str = ""

    @staticmethod
    def of(fact: object) -> Signature:
        """Return the signature that a fact of a plan is; an empty one if it is none."""
        match fact:
            case {"hmac": str() as mac, "until": int() as until, "rows": str() as rows}:
                # compare_digest takes text only if it is ASCII
                return Signature(mac if mac.isascii() else "", until, rows)
        return Signature("")

    def fact(self) -> dict[str, Any]:
        """Return the fact of the plan that holds it."""
        return self._asdict()


@dataclass(frozen=True)
class Seal:
    """Signs checkpoints as those of one run, and of one trial and epoch of it."""

    key: bytes = field(repr=False)
    run: str

    def of(self, trial: int, epoch: int, stored: Stored) -> str:
        """Return the signature of a checkpoint, to be recorded beside its digest."""
        # In this order there is one text for each checkpoint: only the URI may hold a line end.
        uri, size, sha256 = stored
        text = f"{_CHECKPOINT}{self.run}\n{trial}\n{epoch}\n{sha256}\n{size}\n{uri}"
        return hmac.digest(self.key, text.encode(errors="surrogatepass"), "sha256").hex()


def is_of(seals: Iterable[Seal], row: CheckpointRow) -> bool:
    """Tell whether the signature of a checkpoint is that of one of these."""
    found = row.signature
    return (
        found is not None
        and found.isascii()
        and any(
            hmac.compare_digest(seal.of(row.trial, row.epoch, row.checkpoint), found)
            for seal in seals
        )
    )


def _as_line(row: CheckpointRow) -> bytes:
    return json.dumps(row[:4]).encode() + b"\n"
