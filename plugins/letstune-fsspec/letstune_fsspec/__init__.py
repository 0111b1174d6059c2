"""letstune-fsspec: checkpoints wherever fsspec goes: S3, Google Cloud Storage, Azure, SFTP."""

from __future__ import annotations

from typing import Final

import letstune
from letstune.plugins import Register

from letstune_fsspec.options import CONTAINERS
from letstune_fsspec.store import FsspecStore, StoreByName, StoreWithContainers

__all__ = ["FsspecStore"]

LETSTUNE_API = 1

SCHEMES: Final = (
    *("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"),
    *("sftp", "ssh", "smb", "hdfs", "webhdfs", "memory", "*"),
)
"""What is registered; ``*`` stands for all other schemes that fsspec knows."""


@letstune.hookimpl
def register_stores(register: Register[letstune.Store]) -> None:
    """Register `FsspecStore` for every scheme."""
    for scheme in SCHEMES:
        register(scheme, StoreWithContainers if scheme in CONTAINERS else StoreByName)
