"""What goes wrong between a store and its server, and what is made of it."""

import http.client
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import botocore.exceptions
import pytest
from commands import checked
from conftest import serve
from folders import contents, empty, fill, noise
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from letstune.errors import CheckpointError, StoreError
from proxy import CUT, CUT_LATE, DROP, HANG, Proxy, Request
from small_trainers import Hill, tune

from letstune_fsspec import FsspecStore
from letstune_fsspec.manifest import INLINE
from letstune_fsspec.place import Place, is_permanent

FILES = {"a": noise(INLINE + 1, 1), "b": noise(INLINE + 1, 2), "c": b"3", "d": b""}


def use(store: FsspecStore, folder: Path) -> None:
    """Call all verbs, and see that they do what they must."""
    uri = store.put("t1", fill(folder / "in", FILES))
    assert list(store.list()) == [uri]
    store.get(uri, empty(folder / "out"))
    assert contents(folder / "out") == FILES
    store.delete(uri)
    assert list(store.list()) == []


@pytest.mark.parametrize(
    "odds", [[500], [503], [502, 504], [429], [CUT], [CUT_LATE], [500, 503, CUT, CUT_LATE]], ids=str
)
def test_a_storm_is_weathered(
    odds: list[object], fragile: FsspecStore, proxy: Proxy, tmp_path: Path
) -> None:
    rng = random.Random(1)
    failed = []

    def storm(request: Request) -> object:
        if rng.random() < 0.4:
            failed.append(request)
            return rng.choice(odds)
        return None

    proxy.rule = storm
    use(fragile, tmp_path)
    assert len(failed) >= 3


def test_each_request_may_fail_in_every_way(bucket: str, proxy: Proxy, tmp_path: Path) -> None:
    """Not at random: the first try of every single request, one way after the other."""
    ways: list[object] = [500, CUT, CUT_LATE]
    for turn, way in enumerate(ways):
        seen: set[tuple[str, str]] = set()

        def first(request: Request, seen: set[Any] = seen, way: object = way) -> object:
            new = (request.method, request.path) not in seen
            seen.add((request.method, request.path))
            return way if new else None

        proxy.rule = first
        store = FsspecStore(f"s3://{bucket}/{uuid4().hex}", endpoint_url=proxy.url)
        use(store, tmp_path / str(turn))
        assert {method for method, _ in seen} >= {"GET", "PUT", "DELETE"}


def test_a_server_that_hangs_is_asked_again(bucket: str, proxy: Proxy, tmp_path: Path) -> None:
    store = FsspecStore(
        f"s3://{bucket}/a", endpoint_url=proxy.url, config_kwargs={"read_timeout": 0.5}
    )
    hung = []

    def hang(request: Request) -> object:
        if request.method not in hung:
            hung.append(request.method)
            return HANG
        return None

    proxy.rule = hang
    use(store, tmp_path)
    assert {*hung} >= {"DELETE", "GET", "PUT"}


@pytest.mark.parametrize("way", [500, 503, CUT], ids=str)
def test_a_storm_without_end_is_an_error(
    way: object, bucket: str, proxy: Proxy, tmp_path: Path
) -> None:
    store = FsspecStore(f"s3://{bucket}/a", endpoint_url=proxy.url, patience=0.5)
    uri = store.put("t1", fill(tmp_path / "in", FILES))
    before = len(proxy.requests)
    proxy.rule = lambda request: way
    told = rf"s3://{bucket}/a has not answered well for 0.5 s \(.*\). Check that it can be reached"
    with pytest.raises(StoreError, match=told):
        store.put("t2", tmp_path / "in")
    with pytest.raises(StoreError, match=told):
        store.get(uri, empty(tmp_path / "out"))
    with pytest.raises(StoreError, match=told):
        list(store.list())
    with pytest.raises(StoreError, match=told):
        store.delete(uri)
    assert len(proxy.requests) > before + 4  # it did try again
    proxy.rule = lambda request: None
    store.get(uri, empty(tmp_path / "after"))


@pytest.mark.parametrize("way", [500, 503, CUT, CUT_LATE], ids=str)
def test_without_patience_nothing_is_tried_again(
    way: object, bucket: str, proxy: Proxy, tmp_path: Path
) -> None:
    """By nobody: neither by us, nor by s3fs and botocore below."""
    store = FsspecStore(f"s3://{bucket}/a", endpoint_url=proxy.url, patience=0)
    uri = store.put("t1", fill(tmp_path / "in", FILES))
    proxy.requests.clear()
    proxy.rule = lambda request: way
    with pytest.raises(StoreError, match="has not answered well"):
        store.get(uri, empty(tmp_path / "out"))
    # aiohttp asks once more if a connection that it had kept turns out to be closed.
    assert len(proxy.requests) <= (2 if way == CUT else 1)


def test_what_a_server_forgets_is_no_checkpoint(bucket: str, proxy: Proxy, tmp_path: Path) -> None:
    store = FsspecStore(f"s3://{bucket}/a", endpoint_url=proxy.url, patience=0.5)
    for forgotten in ("/0", "/manifest"):
        proxy.rule = lambda request, end=forgotten: (  # type: ignore[misc]
            DROP if request.method == "PUT" and request.path.endswith(end) else None
        )
        with pytest.raises(StoreError, match=r"unlike what was sent|is not what was sent"):
            store.put("t1", fill(tmp_path / "in", FILES))
    for uri in store.list():
        with pytest.raises(FileNotFoundError):
            store.get(uri, empty(tmp_path / uuid4().hex))


def test_what_is_damaged_on_its_way_is_asked_for_again(
    store: FsspecStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uri = store.put("t1", fill(tmp_path / "in", FILES))
    damaged = []
    read = Place.read

    def once(self: Place, name: str, *size: int) -> bytes:
        data = read(self, name, *size)
        if name.endswith("/1") and not damaged:
            damaged.append(name)
            return data[:-1]
        return data

    monkeypatch.setattr(Place, "read", once)
    store.get(uri, empty(tmp_path / "out"))
    assert contents(tmp_path / "out") == FILES
    assert damaged == [f"{uri}/1"]


@pytest.fixture(scope="module")
def strict_server() -> Iterator[tuple[str, str]]:
    """A server that asks who we are, from the second action on; and its bucket."""
    for url in serve(INITIAL_NO_AUTH_ACTION_COUNT="1"):
        connection = http.client.HTTPConnection(url.removeprefix("http://"))
        connection.request("PUT", "/strict")  # the one action for which nobody is asked
        assert connection.getresponse().status == 200
        connection.close()
        yield url, "strict"


def test_wrong_credentials_end_at_once(strict_server: tuple[str, str], tmp_path: Path) -> None:
    url, bucket = strict_server
    with Proxy(url) as proxy:
        store = FsspecStore(f"s3://{bucket}/a", endpoint_url=proxy.url)
        told = r"s3://strict/a refuses access \(.*\)\. Check .*AWS_ACCESS_KEY_ID"
        with pytest.raises(StoreError, match=told):
            store.put("t1", fill(tmp_path / "in", {"a": b"1"}))
        assert len(proxy.requests) == 1
        for call in (store.check, lambda: list(store.list())):
            with pytest.raises(StoreError, match=told):
                call()
        uri = "t1--0123456789abcdef"
        with pytest.raises(StoreError, match=told):
            store.get(uri, empty(tmp_path / "out"))
        with pytest.raises(StoreError, match=told):
            store.delete(uri)
        assert len(proxy.requests) == 5


def test_no_credentials_end_at_once(store: FsspecStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match=r"refuses access .*NoCredentialsError"):
        store.check()


def test_a_bucket_that_vanishes_is_told(
    fragile: FsspecStore, proxy: Proxy, s3: Any, tmp_path: Path
) -> None:
    """Above all: of no checkpoint in it is said that it is missing."""
    uri = fragile.put("t1", fill(tmp_path / "in", {"a": b"1"}))
    bucket = fragile.root.split("/")[2]
    s3.rm(bucket, recursive=True)
    told = rf"{fragile.root} is not there \(.*\). Make or bring back its bucket"
    with pytest.raises(StoreError, match=told):
        fragile.put("t2", tmp_path / "in")
    with pytest.raises(StoreError, match=told):
        fragile.get(uri, empty(tmp_path / "out"))
    with pytest.raises(StoreError, match=told):
        list(fragile.list())
    with pytest.raises(StoreError, match=told):
        fragile.delete(uri)
    s3.invalidate_cache()
    assert not s3.exists(bucket)  # nor was it made anew
    s3.mkdir(bucket)
    fragile.check()


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_a_directory_that_vanishes_is_told(scheme: str, tmp_path: Path) -> None:
    store = FsspecStore(f"{scheme}://{tmp_path}/store")
    uri = store.put("t1", fill(tmp_path / "in", {"a": b"1", "b": noise(INLINE + 1)}))
    (tmp_path / "store").rename(tmp_path / "unmounted")
    with pytest.raises(StoreError, match=r"store, .*Mount.*empty folder.*check --fix"):
        store.get(uri, empty(tmp_path / "out"))
    (tmp_path / "store").mkdir()
    with pytest.raises(FileNotFoundError):
        store.get(uri, tmp_path / "out")


@pytest.mark.parametrize("scheme", ["sftp", "ssh", "smb", "hdfs", "webhdfs"])
def test_a_folder_elsewhere_that_vanishes_is_told(scheme: str, tmp_path: Path) -> None:
    def place(root: Path) -> Place:
        uri = f"{scheme}://host/store"
        return Place(LocalFileSystem(), str(root), uri=uri, threads=1, patience=0)

    place(tmp_path).must_be_there()
    with pytest.raises(StoreError, match=rf"{scheme}://host/store, .*Mount.*check --fix"):
        place(tmp_path / "gone").must_be_there()
    assert place(tmp_path / "gone").names() == []  # it may not be there yet


def test_nothing_is_written_off_while_a_directory_is_away(tmp_path: Path) -> None:
    journal = tmp_path / "run.db"
    tune(Hill(), 2, journal, store=f"file://{tmp_path}/store")
    (tmp_path / "store").rename(tmp_path / "unmounted")
    refused = checked(journal, "--trust", "--fix")
    assert refused.returncode == 1
    assert "Mount" in refused.stderr
    (tmp_path / "unmounted").rename(tmp_path / "store")
    assert "nothing is wrong" in checked(journal, "--trust").stdout


def test_what_was_in_the_memory_of_another_process_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FsspecStore("memory://never").get("t1--0123456789abcdef", tmp_path)


def test_nobody_listening_is_told(tmp_path: Path) -> None:
    store = FsspecStore("s3://bucket/a", endpoint_url="http://127.0.0.1:9", patience=0.3)
    with pytest.raises(StoreError, match=r"s3://bucket/a has not answered well.*connect"):
        store.check()


def test_an_option_that_fsspec_does_not_know_is_told(bucket: str) -> None:
    store = FsspecStore(f"s3://{bucket}/a", config_kwargs={"no_such_option": 1})
    with pytest.raises(StoreError, match="no_such_option"):
        store.check()


def test_the_trainers_randomness_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Libraries draw from the global generator; loading a checkpoint must not show in a run."""
    store = FsspecStore(f"memory://{uuid4().hex}")
    uri = store.put("t1", fill(tmp_path / "in", FILES))
    real = MemoryFileSystem.cat_file

    def drawing(self: MemoryFileSystem, *arguments: Any, **options: Any) -> Any:
        random.random()
        return real(self, *arguments, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", drawing)
    random.seed(1)
    store.get(uri, empty(tmp_path / "out"))
    drawn = random.random()
    random.seed(1)
    assert drawn == random.random()


def test_an_interruption_does_not_wait_for_the_patience_of_others() -> None:
    class Together:
        async_impl = True
        protocol = "s3"

    place = Place(Together(), "b", uri="s3://b", threads=2, patience=1e6)
    failing = threading.Event()

    def call(turn: int) -> None:
        if turn:
            place.trying(fail)
        failing.wait()
        raise KeyboardInterrupt

    def fail() -> None:
        failing.set()
        raise ConnectionResetError

    with pytest.raises(KeyboardInterrupt):
        place.map(call, [0, 1])


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (PermissionError("403"), True),
        (FileNotFoundError("404"), True),
        (NotImplementedError(), True),
        (OSError(22, "InvalidBucketName"), True),
        (OSError(28, "disk full"), True),
        (botocore.exceptions.ProfileNotFound(profile="x"), True),
        (botocore.exceptions.ParamValidationError(report="x"), True),
        (type("HttpError", (Exception,), {"code": 404})(), True),
        (type("HttpResponseError", (Exception,), {"status_code": 400})(), True),
        (type("DefaultCredentialsError", (Exception,), {})(), True),
        (type("HttpError", (Exception,), {"code": 429})(), False),
        (type("HttpError", (Exception,), {"code": 503})(), False),
        (OSError(16, "SlowDown"), False),
        (OSError(121, "InternalError"), False),
        (TimeoutError(), False),
        (ConnectionResetError(), False),
        (EOFError(), False),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="x"), False),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="x"), False),
        (botocore.exceptions.ConnectionClosedError(endpoint_url="x"), False),
    ],
    ids=repr,
)
def test_only_what_may_pass_is_tried_again(error: Exception, permanent: bool) -> None:
    assert is_permanent(error) is permanent


def test_a_store_error_is_one_of_checkpoints() -> None:
    assert issubclass(StoreError, CheckpointError)
