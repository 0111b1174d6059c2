"""Whom a run is shared with: what the environment says of it, and what is told."""

from __future__ import annotations

import os
from pathlib import Path

from letstune._private import GROUP, SHARE, for_group, others_may_write
from letstune.errors import PlanError


def check_sharing() -> None:
    """Refuse what the environment may not say.

    Raises:
        PlanError: it says something.
    """
    if (said := os.environ.get(SHARE, "")) not in ("", GROUP):
        raise PlanError(
            f"{SHARE}={said!r}: expected {GROUP!r}, to share runs with the group of their folders, "
            "or nothing, to share them with nobody who could not read them anyway."
        )


def told_of_sharing(journal: Path) -> str:
    """Return what to tell of a new journal in a folder that others may write."""
    near = next(folder for folder in journal.parents if folder.is_dir())
    if for_group() or not others_may_write(near):
        return ""
    return (
        f"letstune: others may write to {near}, so only you may read {journal} and what is beside "
        f"it. To share it with the folder's group, set {SHARE}={GROUP}."
    )
