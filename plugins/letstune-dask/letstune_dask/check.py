"""Whether a machine can train: it has what the job needs, and reaches the checkpoint store.

The owner puts a probe into the store and each machine reads it; each machine puts one and the
owner reads it. Only both ways tell a folder that is not shared from one that is.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from typing import IO, Any

from letstune.errors import WorkerError
from letstune.training import Stored
from letstune.workers import Job, Raised, put_probe, read_probe

PATIENCE = 300.0
"""How long importing the trainer's modules and reaching the store may take, in seconds."""


def check(job: IO[bytes], token: str, probe: Stored) -> Stored:
    """Check this machine in a fresh process, as for training; return a probe of its own.

    It is not done in this process, a Dask worker, which may have imported another version of a
    module long ago, and should be spared whatever the trainer's modules do when they are imported.

    Args:
        job: a file from `Job.spool`.
        token: names the check; no other one has the same.
        probe: the owner's.

    Raises:
        LetstuneError: the job cannot be brought back here, or the store cannot be reached.
        Exception: whatever else went wrong.
    """
    paths = [entry for entry in sys.path if isinstance(entry, str)]
    with tempfile.TemporaryFile(prefix="letstune-") as told:
        files = (job.fileno(), told.fileno())
        code = (
            f"import sys; sys.path[:] = {paths!r}; from letstune_dask.check import main; "
            f"main(*{(*files, token, tuple(probe))!r})"
        )
        process = subprocess.run(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=files,
            timeout=PATIENCE,
            check=False,
        )
        told.seek(0)
        data = told.read()
    if not data:
        shown = process.stderr.decode(errors="replace").strip()[-2000:]
        raise WorkerError(f"a new process there ended with code {process.returncode}: {shown}")
    result: Stored | Raised = pickle.loads(data)
    if isinstance(result, Raised):
        raise result.exception("A new process there")
    return result


def main(job_file: int, told: int, token: str, probe: tuple[Any, ...]) -> None:
    """Check in this process, and write what came of it into a file; see `check`."""
    result: Stored | Raised
    try:
        job = Job.read(job_file)
        job.worker(token)
        store = job.load_store()
        read_probe(store, Stored(*probe))
        result = put_probe(store, token)
    except Exception as error:  # noqa: BLE001 (it is the owner's to judge)
        result = Raised.of(error)
    with os.fdopen(told, "wb", closefd=False) as file:
        pickle.dump(result, file)
