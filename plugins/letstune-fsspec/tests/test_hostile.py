"""Whatever a journal or a manifest names, nothing beyond the store is read, written or deleted."""

import hashlib
import os
import re
from pathlib import Path

import letstune
import pytest
from commands import checked
from folders import empty, fill, noise
from letstune import Params, SimpleTrainer, rand
from letstune.errors import CheckpointError, TrustError
from test_manifest import sealed

from letstune_fsspec import FsspecStore
from letstune_fsspec.cache import Cache
from letstune_fsspec.manifest import INLINE, Manifest

SECRET = b"a secret that nobody is to read or lose"
WELL = hashlib.sha256(b"").hexdigest()
URI = "t1--0123456789abcdef"


class X(Params):
    x: float = rand.uniform(0, 1)


class Hill(SimpleTrainer[X]):
    metric = "height"

    def load_dataset(self, dataset: object) -> None:
        pass

    def train(self, params: X) -> tuple[X, dict[str, float]]:
        return params, {"height": params.x}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return fill(tmp_path / "victim", {"secret": SECRET}) / "secret"


@pytest.fixture
def local(tmp_path: Path) -> FsspecStore:
    return FsspecStore(f"file://{tmp_path}/store", cache=tmp_path / "cache")


@pytest.mark.parametrize(
    "part",
    [
        *(["0", 5, "{secret}"], ["0", 5, "../victim/secret"], ["0", 5, ".."], ["0", 5, ""]),
        *(["{secret}", 5, WELL], ["../../victim/secret", 5, WELL], ["..", 5, WELL], ["", 5, WELL]),
        *(["0", -1, WELL], ["0", 10**12, WELL], ["0", True, WELL], ["0", "5", WELL]),
        *(["0", 5, WELL.upper()], ["0", 5, WELL + "\n"], ["0\n", 5, WELL], ["٣", 5, WELL]),
        *([0, 5, WELL], ["0", 5], ["0", 5, None], "abc", None, {"a": 1}),
    ],
)
def test_a_part_that_is_named_otherwise_is_refused(
    part: object, secret: Path, local: FsspecStore, tmp_path: Path
) -> None:
    if isinstance(part, list):
        part = [p.format(secret=secret) if isinstance(p, str) else p for p in part]
    manifest = sealed([{"path": "model", "parts": [part]}])
    with pytest.raises(CheckpointError, match="its manifest"):
        Manifest.from_bytes(manifest)
    fill(tmp_path / "store" / URI, {"manifest": manifest, "0": b"12345"})
    fill(tmp_path / "cache", {"x": b""})
    with pytest.raises(CheckpointError, match="its manifest"):
        local.get(URI, empty(tmp_path / "out"))
    assert secret.read_bytes() == SECRET


@pytest.mark.parametrize("body", [5, [], {}, {"files": 5, "folders": []}, {"files": [5]}])
def test_what_is_no_manifest_is_refused(body: object) -> None:
    import json

    data = json.dumps(body).encode()
    head = f"letstune-checkpoint 1 {len(data)} {hashlib.sha256(data).hexdigest()}\n".encode()
    with pytest.raises(CheckpointError, match="not one of letstune-fsspec's"):
        Manifest.from_bytes(head + data)


@pytest.mark.parametrize("name", ["{secret}", "../victim/secret", "lock", "size", "new", ""])
def test_a_cache_has_no_file_of_another_name(name: str, secret: Path, tmp_path: Path) -> None:
    fill(tmp_path / "cache", {"lock": b"", "size": b"5", "new": b"1"})
    assert Cache(tmp_path / "cache", 100).get(name.format(secret=secret)) is None
    assert secret.read_bytes() == SECRET
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_links_in_a_local_store_are_not_followed(
    secret: Path, local: FsspecStore, tmp_path: Path
) -> None:
    uri = local.put("t1", fill(tmp_path / "in", {"a": noise(INLINE + 1)}))
    folder = tmp_path / "store" / uri
    for name, target in (("0", secret), ("manifest", secret), ("deep", secret.parent)):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    (tmp_path / "store" / URI).symlink_to(secret.parent)
    for link in (uri, URI):
        with pytest.raises(CheckpointError, match="neither a regular file nor a folder"):
            local.get(link, empty(tmp_path / f"out-{link}"))
    with pytest.raises(CheckpointError, match="neither a regular file nor a folder"):
        local.delete(URI)
    local.delete(uri)
    assert not folder.exists()
    assert secret.read_bytes() == SECRET


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_in_a_local_store_is_not_read(local: FsspecStore, tmp_path: Path) -> None:
    folder = empty(tmp_path / "store" / URI)
    os.mkfifo(folder / "manifest")
    with pytest.raises(CheckpointError, match="neither a regular file nor a folder"):
        local.get(URI, empty(tmp_path / "out"))


def test_no_more_is_read_than_the_manifest_says(tmp_path: Path) -> None:
    store = FsspecStore(f"file://{tmp_path}/store")
    uri = store.put("t1", fill(tmp_path / "in", {"a": noise(INLINE + 1)}))
    assert store.size(uri) == INLINE + 1
    os.truncate(tmp_path / "store" / uri / "0", 10 * 2**30)  # it takes no room
    with pytest.raises(CheckpointError, match=f"has {INLINE + 2} bytes that are not the"):
        store.get(uri, empty(tmp_path / "out"))


def test_the_store_and_the_cache_of_a_strangers_journal_are_not_touched(
    secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, cache = empty(tmp_path / "runs") / "run.db", tmp_path / "cache"
    store = (f"file://{tmp_path}/store", {"cache": str(cache)})
    tuning = letstune.tune(Hill(), 2, journal=journal, store=store, progress=False)
    assert tuning.best.checkpoint.load_pickle()
    (tmp_path / "store").rename(tmp_path / "other")
    monkeypatch.setenv("LETSTUNE_KEY_FILE", str(tmp_path / "of another"))
    (tmp_path / "of another").touch(0o600)
    (tmp_path / "of another").write_text("00" * 32)
    told = rf"checkpoints in file://{tmp_path}/store/\w+, by letstune-fsspec .* options cache"
    for options in ((), ("--fix",)):
        refused = checked(journal, *options)
        assert refused.returncode == 1
        assert re.search(told, refused.stderr)
    with pytest.raises(TrustError, match=told):
        letstune.load(journal).best.checkpoint.path  # noqa: B018
    assert not (tmp_path / "store").exists()
    assert not cache.exists()
    (tmp_path / "other").rename(tmp_path / "store")
    assert "nothing is wrong" in checked(journal, "--trust").stdout
    assert letstune.load(journal, trust=True).best.checkpoint.load_pickle()
