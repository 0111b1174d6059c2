"""The laws for a store."""

from __future__ import annotations

import hashlib
import os
import pickle
import unicodedata
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from stat import S_ISDIR
from tempfile import TemporaryDirectory
from typing import Any

import cloudpickle
import pytest
from hypothesis import strategies as st

from letstune.errors import CheckpointError, StoreError
from letstune.journal.journal import Journal
from letstune.rounds.events import Stored
from letstune.samplers.sampler import RandomSampler
from letstune.testing.children import CAN_KILL, Child, called_and_cut, called_meanwhile
from letstune.testing.runs import Corners, CrashError, Experiment, Job, ShuffledExecutor, facts
from letstune.testing.samplers import for_all
from letstune.training.checkpoints import Checkpoint, Keeper, fetch
from letstune.training.stores import Store

Files = Mapping[str, bytes]

SHARES = [i / 16 for i in range(1, 16)]
"""How far into `Store.put` a process is killed."""

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"], exclude_characters="/"),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in (".", ".."))


def _apart(path: str) -> str:
    # Some file systems take names for the same that differ in case or in accents only.
    return unicodedata.normalize("NFKC", path).casefold()


@st.composite
def folders(draw: st.DrawFn) -> Files:
    """Files in folders, by path: any names, any contents, nothing that is both file and folder."""
    contents = st.binary(max_size=200)
    flat = draw(st.dictionaries(NAMES, contents, min_size=1, max_size=4))
    nested = draw(
        st.dictionaries(st.lists(NAMES, min_size=2, max_size=4).map("/".join), contents, max_size=3)
    )
    files, used = dict[str, bytes](), set[str]()
    for path, data in [*flat.items(), *nested.items()]:
        parts = _apart(path).split("/")
        above = {"/".join(parts[:i]) for i in range(1, len(parts))}
        if "/".join(parts) not in used and not above & {_apart(file) for file in files}:
            files[path] = data
            used |= above | {"/".join(parts)}
    return files


def contents_for(name: str, count: int = 12) -> Files:
    """Return files that no other name has: of many sizes, empty ones and folders among them."""
    files = {}
    for i in range(count):
        block = hashlib.sha256(f"{name} {i}".encode()).digest()
        files[f"layer {i // 4}/weights-{i}.bin"] = block * (0, 1, 50, 2000)[i % 4]
    return files | {"name": name.encode()}


def write(folder: Path, files: Files) -> None:
    """Write files into a folder."""
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def read(folder: Path) -> Files:
    """Return all files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def save(store: Store, token: str, name: str, files: Files) -> Stored:
    """Put files into a store, as a worker of that token does."""
    keeper = Keeper(store, token)

    def fill(checkpoint: Checkpoint) -> None:
        write(checkpoint.path, files)

    stored = keeper.save(name, fill)
    keeper.close()
    if stored is None:
        raise CheckpointError(f"{name} holds no file")
    return stored


def got(store: Store, uri: str) -> Files:
    """Return the files of a checkpoint."""
    with TemporaryDirectory(prefix="letstune-") as folder:
        store.get(uri, Path(folder))
        return read(Path(folder))


def verified(store: Store, stored: Stored) -> Files:
    """Return the files of a checkpoint, as a worker gets them: verified.

    Raises:
        CheckpointError: it is missing, or not what was saved.
    """
    with TemporaryDirectory(prefix="letstune-") as folder:
        return read(fetch(store, stored, Path(folder), "The checkpoint"))


def missing(store: Store, uri: str) -> bool:
    """Tell whether a store says that there is no such checkpoint."""
    try:
        got(store, uri)
    except FileNotFoundError:
        return True
    return False


class StoreSuite:
    """The laws for a store. Subclass it, and override the fixture `store`.

    These fixtures tell what only the author knows, and add laws: `damage`, `truncate`, `take_away`,
    `disk` and `inside`.
    """

    @pytest.fixture
    def scratch(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return a folder of this law's own, apart from the plugin's ``tmp_path``."""
        return tmp_path_factory.mktemp("scratch")

    @pytest.fixture
    def store(self) -> Store:
        """Return an empty store that no other test has. Override this."""
        raise NotImplementedError("override the fixture 'store': return a new, empty store")

    @pytest.fixture
    def damage(self) -> Callable[[Store, str], None] | None:
        """Return a function that alters a checkpoint's bytes, by URI, behind the store's back."""
        return None

    @pytest.fixture
    def truncate(self) -> Callable[[Store, str], None] | None:
        """Return a function that cuts off the end of a checkpoint's bytes, in the same way."""
        return None

    @pytest.fixture
    def take_away(self) -> Callable[[Store], None] | None:
        """Return a function that takes away all of a store, and where it is: a disk, a bucket."""
        return None

    @pytest.fixture
    def disk(self) -> Callable[[Store], Path] | None:
        """Return a function that tells in which folder a store keeps all, if `put` uses fsync."""
        return None

    @pytest.fixture
    def inside(self) -> Callable[[Store], Collection[str]] | None:
        """Return a function that returns all files or objects that are really in a store."""
        return None

    @pytest.fixture
    def large(self) -> int:
        """Return the size of a large checkpoint in bytes: 200 MB."""
        return 200_000_000

    @pytest.fixture
    def examples(self) -> int:
        """Return how many random cases each law tries. Lower it for a store that is slow."""
        return 30

    def test_what_is_put_is_got(self, store: Store, examples: int) -> None:
        """Whatever the files and folders, `get` returns what was put, byte for byte."""
        numbers = iter(range(10**6))

        @for_all(examples, files=folders())
        def law(files: Files) -> None:
            stored = save(store, "token", f"t{next(numbers)}-e0-x", files)
            assert got(store, stored.uri) == files
            assert verified(store, stored) == files

    @pytest.mark.parametrize(
        "files",
        [{"empty": b""}, {"empty": b"", "full": b"1"}, {"in/here/empty": b"", "in/full": b"1"}],
        ids=["alone", "beside", "below"],
    )
    def test_empty_files_are_kept(self, store: Store, files: Files) -> None:
        """A file without a byte is a file like any other."""
        assert got(store, save(store, "token", "t1-e1-x", files).uri) == files

    @pytest.mark.parametrize(
        "names",
        [
            ["größe"],
            ["größe", "模型/重み"],
            ["a b", "100%25", "x#y?z&w", "-", "--", "a--b", ".new"],
        ],
        ids=["alone", "folders", "signs"],
    )
    def test_names_of_files_are_kept(self, store: Store, names: list[str]) -> None:
        """Names of files come back as they were: letters of any script, spaces and signs."""
        files = {name: name.encode() for name in names}
        assert got(store, save(store, "token", "t1-e1-x", files).uri) == files

    def test_many_files_are_kept(self, store: Store) -> None:
        """A checkpoint of hundreds of files is kept."""
        files = contents_for("many", 300)
        assert got(store, save(store, "token", "t1-e1-x", files).uri) == files

    @pytest.mark.slow
    def test_a_large_checkpoint_is_kept(self, store: Store, large: int, scratch: Path) -> None:
        """A checkpoint of 200 MB is kept; the fixture `large` says how large."""
        block = hashlib.sha512(b"large").digest() * 2**14

        def fill(checkpoint: Checkpoint) -> None:
            with (checkpoint.path / "weights").open("wb") as file:
                for i in range(-(-large // len(block))):
                    file.write(i.to_bytes(8) + block[8:])

        keeper = Keeper(store, "token")
        stored = keeper.save("t1-e1-x", fill)
        keeper.close()
        assert stored is not None
        assert stored.size >= large
        fetch(store, stored, scratch, "The large checkpoint")

    def test_a_folder_from_elsewhere_is_kept(self, store: Store, scratch: Path) -> None:
        """`put` takes any folder, not only the one that `stage` gave."""
        files = contents_for("elsewhere")
        write(scratch, files)
        assert got(store, store.put("t1-e1-x", scratch)) == files

    def test_size_is_that_of_what_is_got(self, store: Store, examples: int) -> None:
        """`size` tells how many bytes the files have that `get` gives, or None.

        Of what is deleted, it raises FileNotFoundError, as `get` does.
        """
        numbers, told = iter(range(10**6)), set[bool]()

        @for_all(examples, files=folders())
        def law(files: Files) -> None:
            uri = save(store, "token", f"t{next(numbers)}-e0-x", files).uri
            size = store.size(uri)
            assert size in (None, sum(map(len, got(store, uri).values())))
            store.delete(uri)
            with suppress(FileNotFoundError):
                assert store.size(uri) is None, "it tells the size of what is deleted"
            told.add(size is not None)

        if told == {False}:
            pytest.skip("not proved: it does not tell sizes")

    def test_what_is_got_is_a_copy(self, store: Store, scratch: Path) -> None:
        """Neither the folder that was put nor one that was got is connected to what is kept."""
        files = {"a": b"1", "b": b"2"}
        put, taken = scratch / "put", scratch / "taken"
        write(put, files)
        taken.mkdir()
        uri = store.put("t1-e1-x", put)
        store.get(uri, taken)
        for path in [*put.glob("*"), *taken.glob("*")]:
            path.write_bytes(b"changed")
        assert got(store, uri) == files

    def test_a_new_process_finds_all(self, store: Store) -> None:
        """A store that is pickled into a new process has the same checkpoints, by the same URIs."""
        stored = save(store, "token", "t1-e1-x", contents_for("here"))
        child = Child(_got_and_saved, store, stored, "t2-e1-y")
        there, files = child.result()
        assert files == contents_for("here")
        assert got(store, there.uri) == contents_for("t2-e1-y")
        assert sorted(store.list()) == sorted([stored.uri, there.uri])

    def test_list_tells_what_is_there(self, store: Store) -> None:
        """`list` yields the URIs of all checkpoints, each once, and nothing else."""
        assert list(store.list()) == []
        uris = [save(store, "token", f"t{i}-e1-x", contents_for(str(i))).uri for i in range(5)]
        uris.append(save(store, "token", "t5-e1-x", {"alone": b"1"}).uri)
        assert sorted(store.list()) == sorted(set(uris))
        store.delete(uris.pop(2))
        assert sorted(store.list()) == sorted(uris)

    def test_delete_is_idempotent(self, store: Store) -> None:
        """What is deleted is gone, and may be deleted again; the others stay."""
        first, second = (save(store, "token", f"t{i}-e1-x", contents_for(str(i))) for i in range(2))
        alone = save(store, "token", "t3-e1-x", {"alone": b"1"})
        for stored in (first, first, alone, alone):
            store.delete(stored.uri)
        _copy(store).delete(first.uri)
        assert verified(store, second) == contents_for("1")
        assert list(store.list()) == [second.uri]

    def test_what_is_not_there_is_a_file_not_found_error(self, store: Store) -> None:
        """`get` of what is deleted raises FileNotFoundError, in this process and in others."""
        uris = [save(store, "token", f"t{i}-e1-x", f).uri for i, f in enumerate(_SHAPES)]
        for uri in uris:
            store.delete(uri)
        assert all(missing(store, uri) for uri in uris)
        assert all(missing(_copy(store), uri) for uri in uris)

    def test_nothing_is_overwritten(self, store: Store) -> None:
        """A name that is there already is refused, or kept beside; what is there stays."""
        for i, files in enumerate(_SHAPES):
            stored = save(store, "token", f"t{i}-e1-x", files)
            try:
                other = save(store, "token", f"t{i}-e1-x", dict.fromkeys(files, b"other"))
            except CheckpointError:
                assert verified(store, stored) == files
                continue
            assert verified(store, stored) == files
            assert verified(store, other) == dict.fromkeys(files, b"other")

    def test_damage_is_noticed(
        self, store: Store, damage: Callable[[Store, str], None] | None
    ) -> None:
        """A checkpoint that was altered behind the store's back is refused when it is loaded.

        It is refused with a CheckpointError, also if it was cut off. Any other exception becomes a
        StoreError, which says that nothing is known, so nobody could write the checkpoint off.
        """
        if damage is None:
            pytest.skip("there is no fixture 'damage'")
        _refused_once_harmed(store, damage)

    def test_truncation_is_noticed(
        self, store: Store, truncate: Callable[[Store, str], None] | None
    ) -> None:
        """A checkpoint that was cut off behind the store's back is refused when it is loaded."""
        if truncate is None:
            pytest.skip("there is no fixture 'truncate'")
        _refused_once_harmed(store, truncate)

    def test_a_store_that_is_away_has_lost_nothing(
        self, store: Store, take_away: Callable[[Store], None] | None
    ) -> None:
        """If all of the store is away, `get` raises anything but FileNotFoundError."""
        if take_away is None:
            pytest.skip("there is no fixture 'take_away'")
        kept = [save(store, "token", f"t{i}-e1-x", files) for i, files in enumerate(_SHAPES)]
        take_away(store)
        for stored in kept:
            for one in (store, _copy(store)):
                with pytest.raises(StoreError):
                    verified(one, stored)

    @pytest.mark.skipif(os.listdir not in os.supports_fd, reason="folders cannot be synced here")
    def test_what_is_put_is_synced(
        self,
        store: Store,
        disk: Callable[[Store], Path] | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """When `put` returns, the bytes and the name of every file were synced with `os.fsync`."""
        if disk is None:
            pytest.skip("there is no fixture 'disk'")
        synced, fsync = dict[int, Collection[str]](), os.fsync

        def watched(handle: Any) -> None:
            fsync(handle)
            number = handle if isinstance(handle, int) else handle.fileno()
            synced[os.fstat(number).st_ino] = _held(number)

        monkeypatch.setattr(os, "fsync", watched)
        for i, files in enumerate(_SHAPES):
            save(store, "token", f"t{i}-e1-x", files)
            for path in [disk(store), *disk(store).rglob("*")]:
                assert set(_held(path)) <= set(synced.get(path.stat().st_ino, ())), path

    @pytest.mark.skipif(not CAN_KILL, reason="there is no SIGKILL here")
    @pytest.mark.parametrize("shape", ["folder", "file"])
    def test_put_is_all_or_nothing_under_sigkill(
        self, store: Store, inside: Callable[[Store], Collection[str]] | None, shape: str
    ) -> None:
        """A process killed in mid-put leaves all of a checkpoint or nothing, and that is listed.

        What its `put` returned is got whole. What it would have returned is got whole, or raises
        FileNotFoundError. All else that is left is listed, and goes when it is deleted.
        """
        results = Child(_cut_short, store, shape).result()
        first, whole = results[0]
        assert whole is not None
        for name, stored in results:
            files = _files(name, shape)
            if stored is not None:
                assert verified(store, stored) == files
            elif first in whole.uri:
                uri = whole.uri.replace(first, name)
                assert missing(store, uri) or got(store, uri) == files
        for uri in list(store.list()):
            store.delete(uri)
        assert list(store.list()) == []
        if inside is not None:
            assert list(inside(store)) == [], "what a crash left is not listed"

    @pytest.mark.skipif(not CAN_KILL, reason="there is no SIGSTOP here")
    def test_two_writers_never_meet(self, store: Store) -> None:
        """Two processes that put different names at the same time don't touch each other's."""
        for pair in Child(_side_by_side, store).result():
            for name, stored in pair:
                assert verified(store, stored) == contents_for(name)

    def test_a_run_can_be_interrupted_and_resumed(self, store: Store, scratch: Path) -> None:
        """A run in two halves that keeps its checkpoints there ends like one in one go."""
        experiment = Experiment(params_cls=Corners, n_trials=6)
        experiment.play(scratch / "straight.db", RandomSampler(), _in_turn)
        path = scratch / "run.db"
        with pytest.raises(CrashError):
            experiment.play(path, RandomSampler(), _crashing, _copy(store))
        experiment.play(path, RandomSampler(), _in_turn, _copy(store))
        assert facts(path) == facts(scratch / "straight.db")
        assert len(list(store.list())) == len(_kept(path))


def _kept(path: Path) -> list[int]:
    """Return the epochs of a run whose checkpoints are kept."""
    with closing(Journal(path)) as journal:
        return [epoch for trial in journal.load()[1].trials for epoch in trial.kept]


_SHAPES: tuple[Files, ...] = ({"alone": b"12345"}, {"a": b"1" * 100, "in/b": b"2" * 100})


def _refused_once_harmed(store: Store, harm: Callable[[Store, str], None]) -> None:
    for i, files in enumerate(_SHAPES):
        stored = save(store, "token", f"t{i}-e1-x", files)
        harm(store, stored.uri)
        with pytest.raises(CheckpointError) as caught:
            verified(store, stored)
        unsure = isinstance(caught.value, StoreError)
        assert not unsure, f"a StoreError says nothing of the checkpoint: {caught.value}"


def _held(place: int | Path) -> Collection[str]:
    """Return what must last: of a folder, the names in it; of a file, its length."""
    about = os.stat(place)  # noqa: PTH116 (it may be open)
    if S_ISDIR(about.st_mode):
        return os.listdir(place)  # noqa: PTH208 (the same)
    return [f"{about.st_size} bytes"]


def _in_turn(job: Job) -> ShuffledExecutor:
    return ShuffledExecutor(job, 1, 0)


def _crashing(job: Job) -> ShuffledExecutor:
    return ShuffledExecutor(job, 1, 0, crash_after=11)


def _copy(store: Store) -> Store:
    copied: Store = pickle.loads(cloudpickle.dumps(store))
    return copied


def _got_and_saved(store: Store, stored: Stored, name: str) -> tuple[Stored, Files]:
    return save(store, "other", name, contents_for(name)), verified(store, stored)


def _files(name: str, shape: str) -> Files:
    return contents_for(name) if shape == "folder" else {"weights": name.encode() * 1000}


def _cut_short(store: Store, shape: str) -> list[tuple[str, Stored | None]]:
    names = [f"t{i:03}-e1-x" for i in range(len(SHARES) + 1)]
    data = cloudpickle.dumps(store)

    def put(name: str) -> Stored:
        return save(pickle.loads(data), f"token-{name}", name, _files(name, shape))

    calls = [
        (partial(put, name), share) for name, share in zip(names, [None, *SHARES], strict=True)
    ]
    return list(zip(names, called_and_cut(calls), strict=True))


def _side_by_side(store: Store) -> list[list[tuple[str, Stored]]]:
    data = cloudpickle.dumps(store)

    def put(name: str) -> Stored:
        return save(pickle.loads(data), f"token-{name}", name, contents_for(name))

    pairs = []
    for i, share in enumerate(SHARES[::2]):
        names = [f"t{i}-e1-held", f"t{i}-e1-free"]
        rehearsed, held, free = (partial(put, name) for name in (f"t{i}-e1-try", *names))
        stored = called_meanwhile(rehearsed, held, free, share)
        pairs.append(list(zip(names, stored, strict=True)))
    return pairs
