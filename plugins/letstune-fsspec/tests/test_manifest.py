"""A manifest comes back as it was, or not at all."""

import hashlib
import json
from pathlib import Path

import pytest
from folders import FOLDERS, fill
from hypothesis import given, settings
from hypothesis import strategies as st
from letstune.errors import CheckpointError

from letstune_fsspec.manifest import INLINE, INLINE_IN_ALL, PART, File, Manifest, Part, survey

PARTS = st.builds(
    Part,
    object=st.integers(0, 10**6).map(str),
    size=st.integers(1, PART),
    sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
)
NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\:\0"), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FILES = st.builds(
    File, path=PATHS, data=st.binary(max_size=50), parts=st.lists(PARTS, max_size=3).map(tuple)
)
MANIFESTS = st.builds(
    Manifest,
    files=st.lists(FILES, max_size=4).map(tuple),
    folders=st.lists(PATHS, max_size=3).map(tuple),
)


@settings(deadline=None)
@given(MANIFESTS)
def test_it_comes_back_as_it_was(manifest: Manifest) -> None:
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


@settings(deadline=None)
@given(MANIFESTS, st.data())
def test_cut_off_anywhere_it_is_none(manifest: Manifest, data: st.DataObject) -> None:
    written = manifest.to_bytes()
    size = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(FileNotFoundError):
        Manifest.from_bytes(written[:size])


@settings(deadline=None)
@given(MANIFESTS, st.data())
def test_altered_anywhere_it_is_refused(manifest: Manifest, data: st.DataObject) -> None:
    written = bytearray(manifest.to_bytes())
    place = data.draw(st.integers(0, len(written) - 1))
    written[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((CheckpointError, FileNotFoundError)):
        Manifest.from_bytes(bytes(written))


def test_a_length_that_is_not_its_own_is_refused() -> None:
    written = Manifest().to_bytes()
    length = len(written.split(b"\n", 1)[1])
    for other in (length - 1, f"0{length}", f"{length}x", f"-{length}"):
        altered = written.replace(f" {length} ".encode(), f" {other} ".encode(), 1)
        with pytest.raises(CheckpointError, match="not what was written"):
            Manifest.from_bytes(altered)


def sealed(files: object, folders: object = ()) -> bytes:
    """Return a manifest that is well of itself, whoever wrote it."""
    body = json.dumps({"files": files, "folders": folders}).encode()
    digest = hashlib.sha256(body).hexdigest()
    return f"letstune-checkpoint 1 {len(body)} {digest}\n".encode() + body


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", ".", "a\0b"])
def test_it_cannot_lead_out_of_the_folder(path: str) -> None:
    Manifest.from_bytes(sealed([{"path": "a..b/..c"}], ["d"]))
    with pytest.raises(CheckpointError, match="beyond the checkpoint"):
        Manifest.from_bytes(sealed([{"path": path}]))
    with pytest.raises(CheckpointError, match="beyond the checkpoint"):
        Manifest.from_bytes(sealed([], [path]))


@pytest.mark.parametrize("name", ["../other/0", "manifest", "", "0/0", "²"])
def test_it_cannot_lead_to_other_objects(name: str) -> None:
    with pytest.raises(CheckpointError, match="other objects than its own"):
        Manifest.from_bytes(sealed([{"path": "a", "parts": [[name, 1, "0" * 64]]}]))


@pytest.mark.parametrize("files", FOLDERS.values(), ids=FOLDERS)
def test_every_byte_is_in_it_or_in_one_piece(files: dict[str, bytes], tmp_path: Path) -> None:
    manifest, pieces = survey(fill(tmp_path, files))
    found = {file.path: file.data for file in manifest.files}
    assert sum(map(len, found.values())) <= INLINE_IN_ALL
    assert all(len(data) <= INLINE for data in found.values())
    for path, some in pieces.items():
        assert all(0 < piece.size <= PART for piece in some)
        found[path] = b"".join(piece.read() for piece in some)
    assert found == files
    names = [piece.object for some in pieces.values() for piece in some]
    assert sorted(names, key=int) == [str(i) for i in range(len(names))]


def test_a_file_that_shrinks_meanwhile_is_told(tmp_path: Path) -> None:
    _, pieces = survey(fill(tmp_path, {"a": b"x" * (INLINE + 1)}))
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="has changed while it was being stored"):
        pieces["a"][0].read()
