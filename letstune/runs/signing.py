"""Whose a journal is: signed with a key of the user's, trusted by name of its content, or neither.

It is judged before anything that it holds is run, and anybody that it names is contacted.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from letstune.journal.journal import Journal
from letstune.journal.plan import pickle_row
from letstune.journal.signatures import (
    ID,
    SIGNATURE,
    CheckpointRow,
    Seal,
    Signature,
    Signed,
    is_of,
)
from letstune.rounds.pickles import Pickle
from letstune.runs.keys import all_keys, is_trusted, made_at, signing_key
from letstune.training.places import is_own_folder

SINCE: Final = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
"""By then, every letstune signs. A file that was changed later is not from before that."""


def signed_facts(facts: Mapping[str, Any], pickles: Iterable[Pickle]) -> tuple[dict[str, Any], str]:
    """Return the facts that sign a new run, and what to tell if the key cannot be kept.

    Raises:
        TrustError: the key may not be used.
    """
    key, note = signing_key()
    facts = {**facts, ID: secrets.token_hex(16)}
    signature = Signed.of(facts, map(pickle_row, pickles)).sign(key)
    return {ID: facts[ID], SIGNATURE: signature.fact()}, note


@dataclass(frozen=True, kw_only=True)
class Owned:
    """A journal that is trusted, and goes on with signatures of the user's.

    Attributes:
        signed: what is signed of it by now.
        key: what is going to sign it.
        recorded: the signature that it has.
        note: what to tell as it goes on.
    """

    signed: Signed
    key: bytes
    recorded: Signature
    note: str = ""

    @property
    def seal(self) -> Seal:
        """What signs its checkpoints."""
        return Seal(self.key, self.signed.id)

    def renewed(self, growth: Mapping[str, Any], pickles: Iterable[Pickle]) -> dict[str, Any]:
        """Return the facts that sign it once it has these, too; nothing if it is signed as it is.

        Args:
            growth: the facts of the plan that are going to be recorded.
            pickles: likewise.
        """
        grown = Signed.of({**self.signed.plan, **growth}, map(pickle_row, pickles))
        signed = replace(
            self.signed, plan=grown.plan, pickles=(*self.signed.pickles, *grown.pickles)
        )
        signature = signed.sign(self.key)
        if signature == self.recorded:
            return {}
        return {ID: signed.id, SIGNATURE: signature.fact()}


class Judge:
    """Judges whether a journal is one's own, or trusted.

    What is signed of the run is read at once, the checkpoints with `see`: those that are looked at.

    Attributes:
        signed: what is signed of the run, or should be.

    Raises:
        TrustError: the user's own keys are open to others.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        with journal.moment():
            facts, pickles = journal.facts(), journal.pickle_rows()
        self.signed = Signed.of(facts, pickles)
        self._recorded = Signature.of(facts.get(SIGNATURE))
        self._bare = not {ID, SIGNATURE} & facts.keys()
        keys = all_keys()
        self._seals = [Seal(key, self.signed.id) for key in keys]
        self._key = next((key for key in keys if self.signed.is_signed(key, self._recorded)), None)
        self._why = self._of_the_run()

    def _of_the_run(self) -> str:
        if self._bare:
            return "is not signed"
        if self._key is None:
            return "is not signed with a key of yours, or was changed since it was"
        rows = self._journal.checkpoint_rows(self.signed.until) if self.signed.until else ()
        if self.signed.with_rows(rows) != self.signed:
            return "holds other checkpoints than were signed with a key of yours"
        return ""

    def see(self, row: CheckpointRow) -> None:
        """Judge a checkpoint, too: it is going to be used."""
        if not self._why and row.seq > self.signed.until and not is_of(self._seals, row):
            self._why = (
                f"holds a checkpoint, of epoch {row.epoch} of trial {row.trial}, that is not "
                "signed with a key of yours"
            )
        self._bare = self._bare and row.signature is None

    def why_not(self) -> str:
        """Return why the journal is not trusted, as what follows its name; "" if it is."""
        if not self._why or is_trusted(self.whole().digest()) or self._is_older():
            return ""
        return self._why

    def whole(self) -> Signed:
        """Return what is signed of the run, with all of its checkpoints as they are."""
        return self.signed.with_rows(self._journal.checkpoint_rows())

    def own(self) -> Owned:
        """Return a trusted journal as it is to go on.

        Raises:
            TrustError: there is no key yet, and it cannot be made where it is to be.
        """
        key, note = signing_key()
        if not self._why and key == self._key:
            return Owned(signed=self.signed, key=key, recorded=self._recorded, note=note)
        # The id is a new one: whoever wrote the journal may have chosen that of another run.
        signed = replace(self.whole(), id=secrets.token_hex(16))
        if self._why and self._bare:
            note = note or (
                f"letstune: {self._journal.path} is from before runs were signed. It is yours, so "
                "it is signed from now on."
            )
        return Owned(signed=signed, key=key, recorded=self._recorded, note=note)

    def _is_older(self) -> bool:
        """Tell whether a run from before there were signatures is the user's own.

        Else, who mails a journal would only have to leave its signature out. So the file must have
        lain there unchanged since before this user had a key, which no archive can claim: the time
        of the inode's last change is the kernel's.
        """
        if not self._bare:
            return False
        made = made_at()
        before = min(SINCE, math.inf if made is None else made)
        path = self._journal.path
        return is_own_folder(path.parent) and all(
            _is_own_file(path.with_name(path.name + suffix), before)
            for suffix in ("", "-wal", "-journal")
        )


def _is_own_file(path: Path, before: float) -> bool:
    """Tell whether a file is the user's alone to write, and was last changed before some time."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return True
    if os.name != "nt" and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        return False
    return found.st_ctime < before
