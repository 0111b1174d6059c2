"""What processes do to the files below a folder: recorded, refused, or with a clock that jumps.

The library in ``disk.c`` is compiled where there is a compiler, and preloaded into processes.
"""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

KINDS: Final = ("create", "write", "cut", "sync", "rename", "remove", "make")

_HEAD: Final = struct.Struct("=IIIIQQ")
_FAULTS: Final = struct.Struct("=QQii")


class Operation(NamedTuple):
    """What was done: of what kind, to which file, where in it, with what."""

    kind: str
    number: int
    offset: int
    path: str
    data: bytes


@cache
def compiler() -> str:
    """Return the command of a compiler, or skip the test."""
    if sys.platform != "linux":
        pytest.skip("libraries are preloaded in another way here")
    found = shutil.which("cc")
    if found is None:
        pytest.skip("there is no C compiler here, `cc`")
    return found


def library(folder: Path) -> Path:
    """Compile the library into a folder."""
    source, target = Path(__file__).with_name("disk.c"), folder / "preloaded.so"
    asked = [compiler(), "-shared", "-fPIC", "-O1", "-o", str(target), str(source), "-ldl"]
    subprocess.run(asked, check=True)
    return target


def recorded_by(folder: Path, root: Path) -> tuple[dict[str, str], Path]:
    """Return the environment of processes that are recorded, and where their operations go."""
    log = folder / "operations"
    log.touch()
    preloaded = {"LD_PRELOAD": str(library(folder)), "DISK_ROOT": os.path.realpath(root)}
    return {**preloaded, "DISK_LOG": str(log)}, log


def operations(log: Path, root: Path) -> Iterator[Operation]:
    """Yield what was recorded, in its order, with paths relative to the root."""
    data, at, above = log.read_bytes(), 0, os.path.realpath(root) + "/"
    while at < len(data):
        kind, path, length, _, number, offset = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        name, rest = data[at : at + path], data[at + path : at + path + length]
        at += path + length
        if KINDS[kind - 1] == "rename":
            rest = os.fsencode(os.fsdecode(rest).removeprefix(above))
        yield Operation(
            KINDS[kind - 1], number, offset, os.fsdecode(name).removeprefix(above), rest
        )


def refused_by(folder: Path, root: Path) -> dict[str, str]:
    """Return the environment of processes whose operations can be made to fail; see `fail`."""
    faults = folder / "faults"
    faults.write_bytes(bytes(_FAULTS.size))
    preloaded = {"LD_PRELOAD": str(library(folder)), "DISK_ROOT": os.path.realpath(root)}
    return {**preloaded, "DISK_FAULTS": str(faults)}


def fail(faults: str, at: int = 0, error: int = 0, *, full: bool = False) -> None:
    """Count operations from 0 again, and let one of them fail.

    Args:
        faults: DISK_FAULTS of the environment.
        at: which one, from 1; 0 for none.
        error: with which errno.
        full: whether those after it that need room fail, too, and nothing else.
    """
    # In place: processes have mapped it.
    with Path(faults).open("r+b") as file:
        file.write(_FAULTS.pack(0, at, error, full))


def counted(faults: str) -> int:
    """Return how many operations there were since."""
    return int(_FAULTS.unpack(Path(faults).read_bytes())[0])
