"""What the store makes on this machine is nobody else's to write, nor to read near others."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from letstune_fsspec import FsspecStore

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")


@pytest.fixture(autouse=True)
def careless() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def filled(tmp_path: Path, mode: int) -> list[tuple[str, int]]:
    """Return the modes of all that is made in a folder of a mode."""
    (shared := tmp_path / "shared").mkdir()
    shared.chmod(mode)
    (source := tmp_path / "source").mkdir()
    (source / "a").write_bytes(bytes(100_000))
    store = FsspecStore(f"file://{shared}/ck", cache=shared / "cache")
    store.put("t1-e1-a", source)
    found = [(str(path), path.stat().st_mode) for path in shared.rglob("*")]
    assert len(found) > 6
    return found


def test_where_others_may_write_they_may_not_even_read(tmp_path: Path) -> None:
    modes = dict(filled(tmp_path, 0o1777))
    assert not [name for name, mode in modes.items() if mode & 0o022]
    top = [modes[str(tmp_path / "shared" / name)] for name in ("ck", "cache")]
    assert [mode & 0o077 for mode in top] == [0, 0]


def test_elsewhere_they_may_not_write(tmp_path: Path) -> None:
    assert not [name for name, mode in filled(tmp_path, 0o755) if mode & 0o022]
