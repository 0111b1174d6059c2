"""Folders with files in them, as tests fill and read them."""

from pathlib import Path


def in_all(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, to see that nothing has changed."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
