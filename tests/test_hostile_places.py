"""Whatever a journal names, and whatever lies in its folder: only what is the run's is touched."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoint_files import empty, fill, save, unhidden
from click.testing import CliRunner
from hostile import (
    SECRET,
    change_rows,
    checkpoints,
    everything,
    replaced,
    say_of_store,
    store_of,
    tree,
    victim,
    with_changes,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installed_plugins import install
from own_keys import become_another
from processes import command, environment
from small_trainers import Climb, Folders, Hill, tune

import letstune
from letstune.cli.main import main
from letstune.errors import CheckpointError, LetstuneError, StoreError, TrustError
from letstune.runs.check import check_run
from letstune.training import stores
from letstune.training.checkpoints import Keeper
from letstune.training.places import MARKER, Mark
from letstune.training.stores import DirectoryStore

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
as_root = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="only root can act as another user"
)

OTHER = 1234
"""The id of another user."""

USES: dict[str, Callable[[Path], object]] = {
    "check": check_run,
    "check --fix": lambda path: check_run(path, fix=True),
    "checkpoint.path": lambda path: letstune.load(path).best.checkpoint.path,
    "load_pickle": lambda path: letstune.load(path).best.checkpoint.load_pickle(),
}
each_use = pytest.mark.parametrize("use", USES.values(), ids=USES)


@pytest.fixture
def run(path: Path) -> Path:
    """A finished run, with a checkpoint of one file in each of two trials."""
    tune(Hill(), 2, path)
    return path


@pytest.fixture
def strange(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The run is somebody else's."""
    become_another(monkeypatch, tmp_path / "home")


@pytest.fixture
def away(tmp_path: Path) -> Path:
    return victim(tmp_path / "victim")


# A store that is somewhere else


@each_use
@pytest.mark.parametrize(
    ("uri", "own"),
    [
        ("{away}", "{run}"),
        ("{above}", "victim"),
        ("..", "victim"),
        ("deep/../..", "victim"),
        ("../victim", "."),
        (".", "../victim"),
        (None, "../victim"),
        ("{away}", "."),
    ],
)
def test_a_folder_beyond_the_journals_is_not_touched(
    uri: str | None, own: str, use: Callable[[Path], object], run: Path, away: Path
) -> None:
    fact = store_of(run)
    (away / fact["run"]).mkdir()
    told = uri and uri.format(away=away, above=away.parent)
    say_of_store(run, with_changes(fact, uri=told, run=own.format(run=fact["run"])))
    before = tree(run.parents[1])
    with pytest.raises(TrustError, match=r"reach checkpoints in .*/.* `letstune trust .*run\.db`"):
        use(run)
    assert tree(run.parents[1]) == before


@each_use
@pytest.mark.parametrize("uri", ["s3://theirs/x", "file:///etc", "simplecache://x", "ftp://h/x"])
def test_no_plugin_is_asked_for_a_store_that_a_stranger_names(
    uri: str, use: Callable[[Path], object], run: Path, site: Path
) -> None:
    scheme = uri.partition("://")[0]
    install(site, "letstune-evil", "raise SystemExit('imported')\n", f"store.{scheme}")
    by = {"distribution": "letstune-evil", "version": "1.0"}
    options = {"endpoint_url": "http://me:pw@evil.example/?sig=1", "cache": "/home", "conn": "pw"}
    say_of_store(run, with_changes(store_of(run), name=scheme, uri=uri, by=by, options=options))
    before = tree(run.parent)
    with pytest.raises(TrustError, match=rf"in {uri}.*by letstune-evil 1.0") as refused:
        use(run)
    assert "http://...@evil.example/?..." in str(refused.value)
    assert "pw" not in str(refused.value)
    assert tree(run.parent) == before


@each_use
def test_a_directory_of_a_plugin_is_no_folder_of_letstunes(
    use: Callable[[Path], object], run: Path, site: Path
) -> None:
    install(site, "letstune-evil", "raise SystemExit('imported')\n", "store.directory")
    by = {"distribution": "letstune-evil", "version": "1.0"}
    say_of_store(run, with_changes(store_of(run), by=by))
    with pytest.raises(TrustError, match=r"letstune-evil 1\.0"):
        use(run)


@pytest.mark.parametrize(
    "fact",
    [
        *(None, 5, [], {}, {"name": "directory"}, {"name": 5, "options": {}, "by": None}),
        {"name": "directory", "uri": None, "run": "0" * 16, "options": {}, "by": "letstune"},
    ],
)
@each_use
def test_what_is_no_store_at_all_is_told(
    use: Callable[[Path], object], fact: object, run: Path
) -> None:
    say_of_store(run, fact)
    with pytest.raises(LetstuneError, match=r"run\.db"):
        use(run)


def test_who_trusts_the_journal_has_its_store_checked(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(Climb(), 2, path, rounds=[2], store=tmp_path / "scratch")
    done = CliRunner().invoke(main, ["check", str(path)])
    assert (done.exit_code, "nothing is wrong" in done.output) == (0, True)
    assert letstune.load(path).best.checkpoint.load_pickle()
    become_another(monkeypatch, tmp_path)
    done = CliRunner().invoke(main, ["check", str(path)])
    assert done.exit_code == 1
    assert f"reach checkpoints in {tmp_path}/scratch/" in done.output
    done = CliRunner().invoke(main, ["check", str(path), "--trust"])
    assert (done.exit_code, "nothing is wrong" in done.output) == (0, True)
    assert letstune.load(path, trust=True).best.checkpoint.load_pickle()


def test_a_store_below_the_journals_folder_needs_no_trust(path: Path) -> None:
    tune(Climb(), 2, path, rounds=[2], store=path.parent / "deep" / "models")
    assert check_run(path, fix=True) == []
    assert letstune.load(path).best.checkpoint.load_pickle()


# Links


@each_use
@pytest.mark.parametrize("to", ["victim", "victim of another run", "victim's checkpoint"])
def test_a_link_for_the_folder_of_checkpoints_is_not_followed(
    to: str, use: Callable[[Path], object], run: Path, away: Path, strange: None
) -> None:
    folder = run.with_name("run.checkpoints")
    target = away / "t00000-e00000-x--model" if to.endswith("checkpoint") else away
    shutil.rmtree(folder)
    if to.endswith("run"):
        (away / f"{MARKER}0123456789abcdef").touch()
    folder.symlink_to(target)
    before = tree(run.parents[1])
    with pytest.raises(TrustError, match=rf"in {folder}, to which a link leads"):
        use(run)
    assert tree(run.parents[1]) == before
    content = run.read_bytes()
    with pytest.raises(StoreError, match=r"a link to .*(no marker of this run|of run 0123)"):
        check_run(run, fix=True, train=False, trust=True)
    assert run.read_bytes() == content  # nothing was written off
    assert {k: v for k, v in tree(run.parents[1]).items() if k.startswith("victim/")} == {
        k: v for k, v in before.items() if k.startswith("victim/")
    }


@each_use
def test_nor_is_it_in_a_run_of_ones_own(
    use: Callable[[Path], object], run: Path, away: Path
) -> None:
    shutil.rmtree(run.with_name("run.checkpoints"))
    run.with_name("run.checkpoints").symlink_to(away)
    before = tree(run.parents[1])
    with pytest.raises(TrustError, match=r"to which a link leads, and there is no marker"):
        use(run)
    assert {k: v for k, v in tree(run.parents[1]).items() if k.startswith("victim/")} == {
        k: v for k, v in before.items() if k.startswith("victim/")
    }


def test_a_link_to_a_larger_disk_is_the_runs_since_its_marker_is_there(
    path: Path, tmp_path: Path
) -> None:
    folder, disk = path.with_name("run.checkpoints"), empty(tmp_path / "disk")
    folder.symlink_to(disk)
    tune(Folders(), 2, path, rounds=[2])
    letstune.resume(path, rounds=[3], progress=False)
    fill(disk, {".new/dead/half": b"1", "t9--left": b"2"})
    assert len(check_run(path)) == 2
    assert all(finding.mended for finding in check_run(path, fix=True))
    assert check_run(path) == []
    assert letstune.load(path).best.checkpoint.path.is_dir()
    assert folder.is_symlink()
    assert len(unhidden(disk)) == 2


@pytest.mark.parametrize("fix", [False, True])
def test_a_link_for_the_folder_that_is_staged_in_is_not_followed(
    fix: bool, run: Path, away: Path
) -> None:
    run.with_name("run.checkpoints").joinpath(".new").symlink_to(away)
    before = tree(away)
    with pytest.raises(StoreError, match=r"\.new is a link, which is not followed"):
        check_run(run, fix=fix)
    with pytest.raises(StoreError, match=r"\.new is a link, which is not followed"):
        letstune.resume(run, n_trials=3, progress=False)
    assert tree(away) == before


def test_a_link_that_was_left_in_staging_is_removed_and_not_followed(run: Path, away: Path) -> None:
    staging = run.with_name("run.checkpoints") / ".new"
    staging.mkdir()
    (staging / "dead").symlink_to(away)
    (staging / "dead-2").mkdir()
    (staging / "dead-2" / "deep").symlink_to(away)
    before = tree(away)
    assert len(check_run(run, fix=True)) == 2
    assert tree(away) == before
    assert not list(staging.iterdir())


# What is in a checkpoint


def linked_to_a_secret(place: Path, away: Path) -> None:
    place.symlink_to(away / "secret")


def linked_to_a_folder(place: Path, away: Path) -> None:
    place.symlink_to(away)


def with_a_link_in_it(place: Path, away: Path) -> None:
    (place / "deep").mkdir(parents=True)
    (place / "deep" / "model.pickle").symlink_to(away / "secret")


def with_a_linked_folder_in_it(place: Path, away: Path) -> None:
    place.mkdir()
    (place / "linked").symlink_to(away)


def endless(place: Path, away: Path) -> None:
    place.symlink_to("/dev/zero")


def pipe(place: Path, away: Path) -> None:
    os.mkfifo(place)


def pipe_in_a_folder(place: Path, away: Path) -> None:
    place.mkdir()
    os.mkfifo(place / "model.pickle")


@posix
@pytest.mark.parametrize(
    "put",
    [
        linked_to_a_secret,
        linked_to_a_folder,
        with_a_link_in_it,
        with_a_linked_folder_in_it,
        endless,
        pipe,
        pipe_in_a_folder,
    ],
)
def test_what_is_no_file_is_not_read(
    put: Callable[[Path, Path], None], path: Path, away: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(Hill(), 1, path)
    (place,) = checkpoints(path)
    put(replaced(place), away)
    change_rows(path, "bytes = ?", len(SECRET))  # so that it seems to be the right one
    opened: list[str] = []
    real = os.open

    def watched(name: Any, *args: Any, **named: Any) -> int:
        opened.append(str(name))
        return real(name, *args, **named)

    monkeypatch.setattr(os, "open", watched)
    (finding,) = check_run(path)
    assert "regular files and folders only" in finding.what
    assert "SHA-256" not in finding.what
    with pytest.raises(CheckpointError, match="regular files and folders only"):
        letstune.load(path, trust=True).best.checkpoint.path  # noqa: B018
    assert not {"model.pickle", "linked", str(away / "secret")} & set(opened)
    assert str(place) not in opened or place.is_dir()
    before = tree(away)
    found = check_run(path, fix=True, train=False, trust=True)
    assert all(one.mended for one in found)
    assert tree(away) == before


@pytest.mark.parametrize("trainer", [Hill(), Folders()])
def test_what_has_another_size_is_not_copied(
    trainer: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(trainer, 1, path)
    (place,) = checkpoints(path)
    large = place if place.is_file() else next(p for p in place.rglob("*") if p.is_file())
    os.truncate(large, 10 * 2**30)  # it takes no room, as long as nobody reads it

    def refuse(*_: object) -> None:
        raise AssertionError("it was copied")

    monkeypatch.setattr("letstune.training.places._copy", refuse)
    (finding,) = check_run(path)
    assert "is not what was saved: 1073" in finding.what


def test_no_more_is_copied_than_there_was(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = store.put("t1", fill(empty(tmp_path / "in"), {"a": b"12345"}))
    real = Path.open

    def growing(self: Path, *args: Any, **named: Any) -> Any:
        if self == tmp_path / "out" / "a":  # by then, the size is known
            os.truncate(store.root / uri, 10 * 2**30)
        return real(self, *args, **named)

    monkeypatch.setattr(Path, "open", growing)
    store.get(uri, empty(tmp_path / "out"))
    assert (tmp_path / "out" / "a").read_bytes() == b"12345"


# Whose a folder is


def test_nothing_is_deleted_in_a_folder_that_is_not_the_runs(run: Path, away: Path) -> None:
    documents = run.with_name("Documents")
    shutil.copytree(away, documents)
    say_of_store(run, with_changes(store_of(run), uri=".", run="Documents"))
    before = tree(run.parent)
    with pytest.raises(StoreError, match=r"Documents has no marker of this run.*touch"):
        check_run(run, fix=True, train=False, trust=True)
    assert {k: v for k, v in tree(run.parent).items() if k.startswith("Documents")} == {
        k: v for k, v in before.items() if k.startswith("Documents")
    }


def test_nothing_is_deleted_in_the_folder_of_another_run(run: Path, tmp_path: Path) -> None:
    folder = run.with_name("run.checkpoints")
    (marker,) = folder.glob(f"{MARKER}*")
    marker.rename(folder / f"{MARKER}0123456789abcdef")
    (folder / "t9--theirs").touch()
    with pytest.raises(StoreError, match="is of run 0123456789abcdef, and not of this one"):
        check_run(run, fix=True)
    assert (folder / "t9--theirs").exists()


def test_a_folder_from_before_there_were_markers_is_marked(run: Path) -> None:
    folder = run.with_name("run.checkpoints")
    (marker,) = folder.glob(f"{MARKER}*")
    assert marker.name == f"{MARKER}{store_of(run)['run']}"
    marker.unlink()
    (folder / "t9--left").touch()
    assert [found.mended for found in check_run(run)] == [False]
    assert not marker.exists()  # who only looks leaves no trace
    assert [found.mended for found in check_run(run, fix=True)] == [True]
    assert marker.exists()
    marker.unlink()
    letstune.resume(run, n_trials=3, progress=False)
    assert marker.exists()


def test_a_journal_that_was_removed_leaves_its_folder_to_the_next_one(run: Path) -> None:
    run.unlink()
    tune(Hill(), 3, run)
    letstune.resume(run, n_trials=4, progress=False)
    assert check_run(run, fix=True)  # of the first run
    assert check_run(run) == []


@pytest.mark.parametrize("run_id", ["", ".", "..", "a/b", "/etc", "x" * 65, "a\0b", "a b"])
def test_what_is_no_id_of_a_run_is_refused(run_id: str) -> None:
    with pytest.raises(StoreError, match="no id of a run"):
        Mark(run=run_id, old=True, vouched=True)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that all users may write, and each owns what is theirs, as /tmp is."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o1777)
        yield Path(name)


REFUSED = {
    "somebody else's": (OTHER, 0, 0o755, "belongs to user 1234"),
    "for all to write": (0, 0, 0o777, r"written by others \(mode 777\)"),
    "for all to write, and sticky": (0, 0, 0o1777, r"written by others \(mode 1777\)"),
    "for a group to write": (0, OTHER, 0o775, r"written by others \(mode 775\)"),
}


@as_root
@pytest.mark.parametrize(("uid", "gid", "mode", "told"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("which", ["run.checkpoints", "run.checkpoints/.new"])
def test_a_folder_that_others_can_change_is_refused(
    which: str, uid: int, gid: int, mode: int, told: str, shared: Path
) -> None:
    folder = shared / which
    folder.mkdir(parents=True)
    os.chown(folder, uid, gid)
    folder.chmod(mode)
    with pytest.raises(StoreError, match=told):
        tune(Hill(), 1, shared / "run.db")
    assert letstune.load(shared / "run.db").errors == []
    assert not list(folder.glob("t*"))


@as_root
@pytest.mark.parametrize(("uid", "gid", "mode", "told"), REFUSED.values(), ids=REFUSED)
def test_nothing_is_deleted_where_others_can_change_it(
    uid: int, gid: int, mode: int, told: str, run: Path
) -> None:
    folder = run.with_name("run.checkpoints")
    (folder / "t9--left").touch()
    os.chown(folder, uid, gid)
    folder.chmod(mode)
    assert len(check_run(run)) == 1  # to look at it is all right: the digests tell
    assert letstune.load(run).best.checkpoint.load_pickle()
    with pytest.raises(StoreError, match=told):
        check_run(run, fix=True)
    assert (folder / "t9--left").exists()


@as_root
def test_the_group_of_a_single_user_is_no_one_else(store: DirectoryStore) -> None:
    store.root.mkdir()
    store.root.chmod(0o775)  # of root's own group: so is it made with a umask of 002
    assert store.stage("a").is_dir()


@as_root
def test_a_group_may_be_trusted(
    path: Path, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.root.mkdir()
    os.chown(store.root, OTHER, 0)  # of another user of a group that is one's own
    store.root.chmod(0o770)
    with pytest.raises(StoreError, match="LETSTUNE_SHARE=group"):
        store.stage("a")
    monkeypatch.setenv("LETSTUNE_SHARE", "group")
    staged = store.stage("a")
    assert [f.stat().st_mode & 0o777 for f in (staged, staged.parent)] == [0o770, 0o770]
    monkeypatch.setattr("letstune.training.stores.FRESH", -1.0)
    for gid, mode in ((OTHER, 0o770), (0, 0o777)):
        os.chown(store.root, OTHER, gid)
        store.root.chmod(mode)
        with pytest.raises(StoreError, match=r"belongs to user 1234|can be written by others"):
            store.stage("a")


@as_root
def test_others_cannot_reach_what_is_being_saved(shared: Path) -> None:
    before = os.umask(0)
    try:
        store = DirectoryStore(shared / "run.checkpoints")
        keeper = Keeper(store, "token")
        staged = store.stage("token")
        (staged / "model").write_bytes(b"1")
        swapping = (
            "import sys\nfor path in sys.argv[1:]:\n"
            "    try: open(path, 'wb')\n    except PermissionError: print('refused')\n"
        )
        paths = [staged / "model", staged / "more", store.root / "t1", store.root / ".new" / "x"]
        done = subprocess.run(
            ["/usr/bin/env", "python3", "-c", swapping, *map(str, paths)],
            user=OTHER, group=OTHER, extra_groups=[], cwd="/", capture_output=True, text=True,
            check=True, env={"PATH": "/usr/bin:/bin:/usr/local/bin"},
        )  # fmt: skip
        assert done.stdout.split() == ["refused"] * 4
        stored = save(keeper, "t1", {"a": b"1", "b": b"2"})
    finally:
        os.umask(before)
    assert (store.root / stored.uri).stat().st_mode & 0o022 == 0


@as_root
def test_a_temporary_folder_that_another_user_made_is_not_used(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = shared / "letstune-abc"
    theirs.mkdir()
    os.chown(theirs, OTHER, OTHER)
    monkeypatch.setattr(stores, "_temporary_folder", theirs)
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    mine = stores.temporary()
    assert mine != theirs
    assert mine.stat().st_uid == 0


# Code


def test_nothing_is_mended_for_a_stranger(run: Path, strange: None) -> None:
    for place in checkpoints(run):
        place.unlink()
    before = tree(run.parent)
    for train in (True, False):
        with pytest.raises(TrustError, match=r"not signed with a key of yours.*`letstune trust"):
            check_run(run, fix=True, train=train)
    assert tree(run.parent) == before
    assert all(found.mended for found in check_run(run, fix=True, train=False, trust=True))


@pytest.mark.slow
def test_nothing_is_a_plugin_since_it_lies_in_the_current_folder(path: Path) -> None:
    here = empty(path.parent / "here")
    trace = path.parent / "trace"
    install(here, "letstune-evil", f"open({str(trace)!r}, 'w')\n", "store.evil", "command.planted")
    tune(Hill(), 1, path)
    by = {"distribution": "letstune-evil", "version": "1.0"}
    fact = with_changes(store_of(path), name="evil", uri="evil://x", by=by)
    say_of_store(path, fact)
    script = f"import letstune\nletstune.load({str(path)!r}).best.checkpoint.path\n"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=here, env=environment(), capture_output=True, text=True
    )
    assert "TrustError" in done.stderr
    assert "planted" not in command("--help", cwd=here).stdout
    assert "letstune-evil" not in command("plugins", cwd=here).stdout
    assert command("check", path, "--trust", cwd=here).returncode in (1, 2)
    assert not trace.exists()


# The law

SEEN: list[str] = []
WATCHED: list[Path] = []
"""The folder of others, while a journal is used."""
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec")
FORBIDDEN_TOO = ("os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pickle.find_class")


def watch(event: str, args: tuple[Any, ...]) -> None:
    if WATCHED and (
        event in FORBIDDEN + FORBIDDEN_TOO
        or (event == "import" and "evil" in str(args[0]))
        or (
            event in ("open", "os.listdir", "os.scandir")
            and isinstance(args[0], str)
            and os.path.realpath(args[0]).startswith(str(WATCHED[0]))
        )
    ):
        SEEN.append(f"{event}{args}")


TEXTS = st.one_of(
    st.sampled_from(
        [
            *("", ".", "..", "/", "victim", "../victim", "{away}", "{away}/deep", "a\0b"),
            *("s3://bucket/x", "file://{away}", "evil://{away}", "memory://x", "~", "x" * 300),
            *("simplecache::file://{away}", "http://127.0.0.1:9/x", "run.checkpoints"),
            *("{run}", "0123456789abcdef"),
        ]
    ),
    st.text(max_size=8),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=5,
)
SUPPLIERS = st.sampled_from(
    [
        {"distribution": "letstune", "version": "0.1.0"},
        {"distribution": "letstune-evil", "version": "1.0"},
        {"distribution": "letstune-fsspec", "version": "0.1"},
    ]
)
FACTS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["directory", "directory", "evil", "s3", "file"]) | TEXTS,
        "uri": st.none() | TEXTS,
        "run": st.just("{run}") | TEXTS,
        "options": st.just({}) | st.none() | st.dictionaries(TEXTS, JSON, max_size=2),
        "by": SUPPLIERS | st.none() | JSON,
    },
    optional={"fields": JSON},
)
ROWS = st.sampled_from(
    [
        *("..", ".", "", "/etc/passwd", "../victim/secret", ".new/x", ".new/..", "t1--.."),
        *("{away}", ".letstune-{run}", "t1", "run.checkpoints"),
    ]
)
LINKS = st.lists(
    st.tuples(
        st.sampled_from(["", ".new", ".new/x", "{one}", "{two}", "t9", "t9/deep", "t1"]),
        st.sampled_from(["{away}", "{away}/secret", "/dev/zero", "{away}/t1", "..", "loop", "fifo"])
        | st.just("sparse"),
    ),
    max_size=3,
)


def place(folder: Path, name: str, what: str, away: Path) -> None:
    """Put something into the folder of checkpoints, in the place of what is there."""
    one, two = [*checkpoints_or_none(folder), Path("one"), Path("two")][:2]
    target = folder / name.format(one=one.name, two=two.name)
    if os.path.lexists(target):
        linked = target.is_symlink() or not target.is_dir()
        target.unlink() if linked else shutil.rmtree(target)
    try:
        target.parent.mkdir(exist_ok=True, parents=True)
        if what == "fifo":
            os.mkfifo(target)
        elif what == "sparse":
            target.touch()
            os.truncate(target, 10 * 2**30)
        else:
            target.symlink_to(target if what == "loop" else what.format(away=away))
    except OSError:
        pass  # below what is no folder any more


def checkpoints_or_none(folder: Path) -> list[Path]:
    return unhidden(folder) if folder.is_dir() and not folder.is_symlink() else []


def filled(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name, text in words.items():
            value = value.replace(f"{{{name}}}", text)
    elif isinstance(value, dict):
        return {filled(k, words): filled(v, words) for k, v in value.items()}
    elif isinstance(value, list):
        return [filled(item, words) for item in value]
    return value


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    tune(Hill(), 2, folder / "run.db")
    return folder


def too_long(*_: object) -> None:
    raise TimeoutError("it took more than 10 seconds")


@posix
@pytest.mark.slow
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(fact=FACTS | JSON | st.none(), uri=st.none() | ROWS, links=LINKS, own=st.booleans())
def test_only_the_runs_own_folder_is_touched(
    fact: Any, uri: str | None, links: list[tuple[str, str]], own: bool, template: Path, site: Path
) -> None:
    if not (site / "letstune_evil.py").exists():
        stores_ = [f"store.{name}" for name in ("evil", "s3", "file", "directory", "http", "*")]
        install(site, "letstune-evil", "raise SystemExit('imported')\n", *stores_)
        sys.addaudithook(watch)
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as monkeypatch:
        around = Path(name)
        if not own:
            become_another(monkeypatch, around)
        away = victim(around / "victim")
        shutil.copytree(template, around / "runs")
        journal = around / "runs" / "run.db"
        words = {"away": str(away), "run": store_of(journal)["run"]}
        if uri is not None:
            change_rows(journal, "checkpoint = ? || CASE trial WHEN 0 THEN '' ELSE 'x' END",
                        filled(uri, words))  # fmt: skip
        if fact is not None:
            say_of_store(journal, filled(fact, words))
        for where, what in links:
            place(journal.with_name("run.checkpoints"), where, what, away)
        before = tree(away)
        others = {entry.name for entry in around.iterdir()}
        SEEN.clear()
        old = signal.signal(signal.SIGALRM, too_long)
        WATCHED.append(away)
        try:
            for arguments in everything(journal):
                began = time.monotonic()
                signal.alarm(10)
                # A lost winner of one's own is trained again, which runs code.
                more = ["--no-retrain"] if own and "--fix" in arguments else []
                done = CliRunner().invoke(main, [*arguments, *more])
                assert done.exit_code in (0, 1, 2), done.output
                assert isinstance(done.exception, SystemExit | None), (arguments, done.exception)
                assert time.monotonic() - began < 10
            signal.alarm(10)
            try:
                for trial in letstune.load(journal):
                    repr(trial), repr(trial.checkpoint)
                    trial.checkpoint.path  # noqa: B018
            except LetstuneError:
                pass
        finally:
            signal.alarm(0)
            WATCHED.clear()
            signal.signal(signal.SIGALRM, old)
        assert SEEN == []
        assert tree(away) == before
        assert {entry.name for entry in around.iterdir()} == others
        assert "letstune_evil" not in sys.modules
