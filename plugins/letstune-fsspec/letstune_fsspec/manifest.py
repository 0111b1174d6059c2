"""A manifest: what makes a checkpoint whole. It is uploaded last, and lists all its files.

It is one object: a line with its length and SHA-256, and then JSON. It holds small files itself, so
that most checkpoints take one request. No object is ever empty, since some services take an empty
one for a folder. Objects have plain names, since a service may refuse, fold or misread those of
files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from letstune.errors import CheckpointError

PART: Final = 16 * 2**20
"""The most bytes that an object has. A larger file is kept in parts.

Each is sent, verified and tried again by itself. Rejected: S3's multipart uploads, since a crash
leaves parts of them that nobody can see and everybody pays for.
"""
INLINE: Final = 16 * 2**10
INLINE_IN_ALL: Final = 2**20
"""Bytes of a file, and of all files, that the manifest itself may hold."""

_MAGIC: Final = b"letstune-checkpoint 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of a file that is an object of its own."""

    object: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file: its path in the checkpoint, and its bytes, here or in parts."""

    path: str
    data: bytes = b""
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The files of a checkpoint, and its empty folders.

    >>> manifest = Manifest(files=(File(path="model", data=b"weights"),), folders=("logs",))
    >>> Manifest.from_bytes(manifest.to_bytes()) == manifest
    True
    """

    files: tuple[File, ...] = ()
    folders: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Return what is uploaded."""
        files = [
            {"path": file.path}
            | ({"parts": [[p.object, p.size, p.sha256] for p in file.parts]} if file.parts else {})
            | ({"base64": base64.b64encode(file.data).decode()} if file.data else {})
            for file in self.files
        ]
        # ASCII: the name of a file need not be valid Unicode.
        body = json.dumps({"files": files, "folders": self.folders}, ensure_ascii=True).encode()
        head = f" {len(body)} {hashlib.sha256(body).hexdigest()}\n".encode()
        return _MAGIC + head + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Return the manifest.

        Raises:
            FileNotFoundError: it is cut off, so the checkpoint was never whole.
            CheckpointError: it is not what was written.
        """
        head, newline, body = data.partition(b"\n")
        words = head.removeprefix(_MAGIC + b" ").split(b" ")
        if not newline and (_MAGIC.startswith(data) or data.startswith(_MAGIC)):
            raise FileNotFoundError("its manifest is cut off")
        if not newline or not head.startswith(_MAGIC + b" ") or len(words) != 2:
            raise CheckpointError("its manifest is not one of letstune-fsspec's")
        if words[0].isdigit() and len(body) < int(words[0]):
            raise FileNotFoundError("its manifest is cut off")
        if words != [b"%d" % len(body), hashlib.sha256(body).hexdigest().encode()]:
            raise CheckpointError("its manifest is not what was written")
        try:
            found = json.loads(body)
            return cls(
                files=tuple(_file(entry) for entry in found["files"]),
                folders=tuple(_inside(path) for path in found["folders"]),
            )
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise CheckpointError("its manifest is not one of letstune-fsspec's") from error

    @property
    def size(self) -> int:
        """How many bytes all files have."""
        parts = sum(part.size for file in self.files for part in file.parts)
        return parts + sum(len(file.data) for file in self.files)


def _file(entry: dict[str, Any]) -> File:
    return File(
        path=_inside(entry["path"]),
        data=base64.b64decode(entry.get("base64", "")),
        parts=tuple(_part(*part) for part in entry.get("parts", [])),
    )


def _part(name: str, size: int, sha256: str) -> Part:
    """Return a piece of a file, if it is named as letstune-fsspec names it."""
    # The names become those of objects, and of files in the cache: they must lead nowhere else.
    if not re.fullmatch("[0-9]+", name) or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise CheckpointError("its manifest points to other objects than its own")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= PART:
        raise CheckpointError(f"its manifest has a part of {size!r:.20} bytes")
    return Part(object=name, size=size, sha256=sha256)


def _inside(path: str) -> str:
    """Return a path, if it leads to a file in the folder into which it is copied."""
    # Whoever can write to the bucket must not be able to write elsewhere on this machine.
    pure = PurePosixPath(path)
    odd = os.name == "nt" and ("\\" in path or ":" in path)
    if odd or "\0" in path or pure.is_absolute() or not pure.parts or ".." in pure.parts:
        raise CheckpointError(f"its manifest has a file {path!r}, beyond the checkpoint")
    return path


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a file that becomes an object."""

    file: Path
    offset: int
    size: int
    object: str

    def read(self) -> bytes:
        """Return the bytes."""
        with self.file.open("rb") as source:
            source.seek(self.offset)
            data = source.read(self.size)
        if len(data) != self.size:
            raise CheckpointError(f"{self.file} has changed while it was being stored.")
        return data


def survey(folder: Path) -> tuple[Manifest, dict[str, list[Piece]]]:
    """Return the files of a folder that need no object, and the pieces of the others.

    Raises:
        CheckpointError: the folder holds something other than regular files and folders.
    """
    files, folders = [], []
    pieces: dict[str, list[Piece]] = {}
    room, objects = INLINE_IN_ALL, 0
    for path in _walk(folder):
        relative = path.relative_to(folder).as_posix()
        if path.is_dir():
            folders.append(relative)
            continue
        size = path.stat().st_size
        if size <= min(INLINE, room):
            room -= size
            files.append(File(path=relative, data=path.read_bytes()))
            continue
        pieces[relative] = [
            Piece(path, offset, min(PART, size - offset), str(objects + place))
            for place, offset in enumerate(range(0, size, PART))
        ]
        objects += len(pieces[relative])
    return Manifest(files=tuple(files), folders=tuple(folders)), pieces


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files and the empty folders below a folder, sorted."""
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise CheckpointError(
                f"A checkpoint may hold regular files and folders only, but {entry} is neither."
            )
        if entry.is_dir() and any(entry.iterdir()):
            yield from _walk(entry)
        else:
            yield entry
