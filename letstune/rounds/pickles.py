"""An object as bytes, with what tells where it comes from. Nothing here makes or reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Pickle:
    """A pickled object: the trainer or the dataset. ``about`` says where it comes from."""

    name: str
    data: bytes
    about: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """The digest of the bytes."""
        return hashlib.sha256(self.data).hexdigest()
