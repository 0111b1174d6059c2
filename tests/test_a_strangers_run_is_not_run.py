"""What is not signed with the user's key runs nothing and reaches nobody, unless it is trusted."""

import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hostile import SECRET, store_of, tree
from installed_plugins import install
from journal_facts import assert_same, query
from own_keys import become_another, new_key
from processes import TESTS
from small_trainers import Climb, Point, tune

import letstune
from letstune.cli.main import main
from letstune.errors import LetstuneError, TrustError
from letstune.journal.journal import Journal
from letstune.runs import signing
from letstune.runs.check import check_run
from letstune.runs.retrain import retrain
from letstune.training.checkpoints import Checkpoint

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")


class Trap:
    """Whoever unpickles it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return sprung, (self.trace,)


def sprung(trace: Path) -> Trap:
    trace.touch()
    return Trap(trace)


class Trapped(Climb):
    """Its checkpoints leave a trace, and so does its dataset."""

    def save(self, checkpoint: Checkpoint) -> None:
        checkpoint.save_pickle([self.model, Trap(self.dataset.trace)])

    def load(self, checkpoint: Checkpoint, params: Point) -> None:
        self.model = checkpoint.load_pickle()[0]

    def load_dataset(self, dataset: Any) -> None:
        self.dataset = dataset


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's key, younger than all that is made."""
    found = new_key(tmp_path / "config" / "key")
    os.utime(found, (2**32, 2**32))
    monkeypatch.setenv("LETSTUNE_KEY_FILE", str(found))
    return found


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "home" / "trace"


@pytest.fixture
def theirs(path: Path, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a stranger, with traps in its pickles and its checkpoints, and a lost winner."""
    trace.parent.mkdir()
    with monkeypatch.context() as at_their_home:
        become_another(at_their_home, tmp_path)
        tune(Trapped(), 3, path, rounds=[2, 2], dataset=Trap(trace), keep_checkpoints="all")
    trace.unlink()
    return path


SEEN: list[str] = []
WATCHED: list[bool] = []
FORBIDDEN = (
    *("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec"),
    *("os.posix_spawn", "os.fork", "os.forkpty", "pickle.find_class"),
)


def watch(event: str, args: tuple[Any, ...]) -> None:
    if WATCHED and (event in FORBIDDEN or (event == "import" and "evil" in str(args[0]))):
        SEEN.append(f"{event}{args}")


sys.addaudithook(watch)


@contextmanager
def refused(around: Path, match: str = "`letstune trust") -> Iterator[None]:
    """Within, one error is raised, and nothing runs, is contacted or changed."""
    before, paths, modules = tree(around), list(sys.path), {*sys.modules}
    SEEN.clear()
    WATCHED.append(True)
    try:
        with pytest.raises(TrustError, match=match) as told:
            yield
    finally:
        WATCHED.clear()
    assert SEEN == []
    assert str(told.value).count("\n") == 0
    assert tree(around) == before
    assert sys.path == paths
    assert not [name for name in {*sys.modules} - modules if "evil" in name]


def called(*arguments: object) -> None:
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == 1
    raise TrustError(done.output.strip().removeprefix("Error: "))


WAYS: dict[str, Callable[[Path], Any]] = {
    "resume": lambda path: letstune.resume(path, progress=False),
    "resume, of more": lambda path: letstune.resume(path, n_trials=9, workers=1, progress=False),
    "resume, with a trainer": lambda path: letstune.resume(
        path, trainer=Climb(), dataset=None, rounds=[2, 3], progress=False
    ),
    "tune": lambda path: tune(Trapped(), 3, path, rounds=[2, 2], keep_checkpoints="all"),
    "letstune resume": lambda path: called("resume", path, "--quiet"),
    "retrain": lambda path: retrain(path, 0),
    "retrain, given all": lambda path: retrain(path, 0, trainer=Climb(), dataset=1, workers=0),
    "letstune retrain": lambda path: called("retrain", path, "0", "-o", path.parent / "out"),
    "Trial.retrain": lambda path: letstune.load(path)[0].retrain(),
    "checkpoint.path": lambda path: letstune.load(path)[0].checkpoint.path,
    "checkpoint of an epoch": lambda path: letstune.load(path)[0].epochs[0].checkpoint.path,
    "load_pickle": lambda path: letstune.load(path)[0].checkpoint.load_pickle(),
    "check --fix": lambda path: check_run(path, fix=True),
    "check --fix --no-retrain": lambda path: check_run(path, fix=True, train=False),
    "letstune check --fix": lambda path: called("check", path, "--fix"),
}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@each_way
def test_a_strangers_run_is_refused(way: Callable[[Path], Any], theirs: Path) -> None:
    assert "Trapped" in str(letstune.load(theirs)._run.plan.trainer)
    with refused(theirs.parents[1], "Trapped.*checkpoints in .*run.checkpoints.* `letstune trust"):
        way(theirs)


@each_way
def test_a_run_with_its_signature_removed_is_refused(
    way: Callable[[Path], Any], theirs: Path, key: Path
) -> None:
    with changed(theirs, "plan") as db:
        db.execute("DELETE FROM plan WHERE fact IN ('id', 'signature')")
    os.utime(key, (1, 1))
    with refused(theirs.parents[1], "is not signed"):
        way(theirs)


def test_reading_needs_no_trust(theirs: Path) -> None:
    WATCHED.append(True)
    try:
        SEEN.clear()
        for words in ("status", "trials", "best", "export", "check"):
            assert CliRunner().invoke(main, [words, str(theirs)]).exit_code == 0, words
        repr(letstune.load(theirs)), repr(letstune.load(theirs)[0].checkpoint)
    finally:
        WATCHED.clear()
    assert SEEN == []


def test_whoever_vouches_for_one_journal_has_that_one_used(theirs: Path, trace: Path) -> None:
    assert letstune.load(theirs, trust=True)[0].checkpoint.load_pickle()
    assert trace.exists()
    assert letstune.load(theirs, trust=True)[0].retrain().same
    assert CliRunner().invoke(main, ["check", str(theirs), "--fix", "--trust"]).exit_code == 0
    with pytest.raises(TrustError):
        letstune.load(theirs)[0].checkpoint.path  # noqa: B018


# One's own, of which something was changed


@contextmanager
def changed(path: Path, *tables: str) -> Iterator[sqlite3.Connection]:
    """Lend a journal to change what is recorded, and leave its schema as it was."""
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        triggers = db.execute(query).fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        yield db
        for _, sql in triggers:
            db.execute(sql)
        db.commit()


def insert(path: Path, table: str, **values: Any) -> None:
    """Add a row at the end."""
    with closing(sqlite3.connect(path)) as db, db:
        (seq,) = db.execute(
            "SELECT max(seq) FROM (SELECT max(seq) AS seq FROM plan UNION SELECT max(seq) FROM "
            "pickles UNION SELECT max(seq) FROM sessions UNION SELECT max(seq) FROM deletions)"
        ).fetchone()
        row = {"seq": seq + 1, **values}
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


@pytest.fixture
def mine(path: Path) -> Path:
    """A run of one's own, whose observer, workers and sampler are recorded by name."""
    tune(Climb(), 3, path, rounds=[2, 2], dataset=1, keep_checkpoints="all")
    return path


EVIL = {"distribution": "letstune-evil", "version": "1.0"}


@pytest.fixture
def evil(site: Path) -> Path:
    """A plugin that is installed, and does harm as soon as it is imported."""
    kinds = ("store", "sampler", "executor", "observer")
    install(site, "letstune-evil", "raise SystemExit('ran')", *(f"{kind}.evil" for kind in kinds))
    return site


FACTS: dict[str, tuple[str, Any, str]] = {
    "store": ("store", {"name": "evil", "uri": "evil://there", "run": "0" * 16, "by": EVIL,
                        "options": {"key": "x"}}, "evil://there"),
    "store as a pickle": ("store", {"name": "m:S", "options": None, "fields": {}, "by": None},
                          "pickle, m:S"),
    "sampler": ("sampler", {"name": "evil", "options": {}, "by": EVIL}, "sampler evil"),
    "observers": ("observers", [{"name": "evil", "options": {"url": "http://there"}, "by": EVIL}],
                  "url='http://there'"),
    "observer of old": ("observers", [["evil", {}]], "observer evil"),
    "workers": ("workers", ["evil://there", {"a": 1}], "workers at evil://there"),
    "executor": ("executor", {"name": "evil", "by": EVIL}, "letstune-evil"),
    "gpus": ("gpus", ["LD_PRELOAD"], "`letstune trust"),
    "nothing at all": ("store", 5, "a store 5"),
}  # fmt: skip


@pytest.mark.parametrize(("fact", "value", "told"), FACTS.values(), ids=FACTS)
def test_a_fact_that_reaches_out_cannot_be_changed(
    fact: str, value: Any, told: str, mine: Path, evil: Path
) -> None:
    insert(mine, "plan", fact=fact, value=json.dumps(value))
    for name, way in WAYS.items():
        if name != "tune":
            with refused(mine.parent, told):
                way(mine)


def test_an_option_of_the_same_store_cannot_be_changed(mine: Path) -> None:
    fact = store_of(mine) | {"options": {"endpoint": "x"}}
    insert(mine, "plan", fact="store", value=json.dumps(fact))
    with refused(mine.parent):
        letstune.resume(mine, progress=False)


def test_what_is_data_is_not_signed(mine: Path) -> None:
    insert(mine, "plan", fact="n_trials", value="4")
    with changed(mine, "epochs") as db:
        db.execute("UPDATE epochs SET seconds = seconds + 1")
    assert len(letstune.resume(mine, progress=False)) == 4


def pickled(trace: Path) -> tuple[bytes, str]:
    from letstune.training import pickling

    found = pickling.dump("trainer", Trap(trace))
    return found.data, found.sha256


@pytest.mark.parametrize("name", ["trainer", "dataset", "sampler", "store", "executor", "Trainer"])
@pytest.mark.parametrize("seq", [None, -5])
def test_a_pickle_cannot_be_added(name: str, seq: int | None, mine: Path, trace: Path) -> None:
    data, sha256 = pickled(trace)
    about = json.dumps({"type": "x:Y", "python": "3", "folders": ["/evil"]})
    where = {} if seq is None else {"seq": seq}
    insert(mine, "pickles", name=name, pickle=data, sha256=sha256, about=about, **where)
    for way in WAYS.values():
        with refused(mine.parent):
            way(mine)


@pytest.mark.parametrize(
    "change",
    [
        "sha256 = :sha256, pickle = :pickle",
        "about = json_set(about, '$.folders', json('[\"/evil\"]'))",
        "about = json_set(about, '$.type', 'x:Y')",
        "name = iif(name = 'trainer', 'dataset', 'trainer')",
        "about = about || ' '",
    ],
)
def test_no_pickle_can_be_swapped(change: str, mine: Path, trace: Path) -> None:
    data, sha256 = pickled(trace)
    with changed(mine, "pickles") as db:
        db.execute(f"UPDATE pickles SET {change}", {"pickle": data, "sha256": sha256})
    with refused(mine.parent):
        letstune.resume(mine, progress=False, n_trials=4)


def test_the_bytes_of_a_pickle_are_those_that_are_signed(mine: Path, trace: Path) -> None:
    with changed(mine, "pickles") as db:
        db.execute("UPDATE pickles SET pickle = ?", [pickled(trace)[0]])
    with pytest.raises(LetstuneError, match="SHA-256 is not the recorded one"):
        letstune.resume(mine, progress=False, n_trials=4)
    assert not trace.exists()


# Checkpoints

SIGNED = "trial = 0 AND epoch = 1"
MOVES = {
    "another checkpoint": ("sha256 = :sha256, bytes = :bytes", SIGNED),
    "no signature": ("signature = NULL", SIGNED),
    "a signature that is none": ("signature = 'ä'", SIGNED),
    "that of another epoch": (
        "(checkpoint, bytes, sha256, signature) = (SELECT checkpoint, bytes, sha256, signature "
        "FROM epochs WHERE trial = 0 AND epoch = 0)",
        SIGNED,
    ),
    "that of another trial": (
        "(checkpoint, bytes, sha256, signature) = (SELECT checkpoint, bytes, sha256, signature "
        "FROM epochs WHERE trial = 1 AND epoch = 1)",
        SIGNED,
    ),
    "another place of the same": ("checkpoint = checkpoint || 'x'", SIGNED),
}


@pytest.mark.parametrize(("change", "where"), MOVES.values(), ids=MOVES)
def test_no_checkpoint_can_be_changed_or_moved(change: str, where: str, mine: Path) -> None:
    with changed(mine, "epochs") as db:
        db.execute(f"UPDATE epochs SET {change} WHERE {where}", {"sha256": "0" * 64, "bytes": 3})
    found = letstune.load(mine).trial(0)
    with refused(mine.parent, "epoch 1 of trial 0"):
        found.epochs[1].checkpoint.path  # noqa: B018
    assert found.epochs[0].checkpoint.path.exists()
    for way in ("resume", "resume, of more", "retrain", "check --fix"):
        with pytest.raises(TrustError, match="epoch 1 of trial 0"):
            WAYS[way](mine)


def test_no_checkpoint_can_come_from_another_run_of_ones_own(mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    tune(Climb(), 3, other, rounds=[2, 2], dataset=1, keep_checkpoints="all")
    columns = "checkpoint, bytes, sha256, signature"
    (row,) = query(other, f"SELECT {columns} FROM epochs WHERE {SIGNED}")
    assert row[1:3] == query(mine, f"SELECT bytes, sha256 FROM epochs WHERE {SIGNED}")[0]
    with changed(mine, "epochs") as db:
        db.execute(f"UPDATE epochs SET ({columns}) = (?, ?, ?, ?) WHERE {SIGNED}", row)
    with refused(mine.parent, "epoch 1 of trial 0"):
        letstune.load(mine).trial(0).epochs[1].checkpoint.path  # noqa: B018


def test_a_checkpoint_cannot_be_added(mine: Path) -> None:
    insert(mine, "epochs", trial=0, epoch=2, value=9.0, metrics='{"height": 9.0}',
           started="2026-01-01T00:00:00+00:00", seconds=1.0, checkpoint="evil", bytes=1,
           sha256="0" * 64, session=1)  # fmt: skip
    for way in ("load_pickle", "resume, of more", "retrain", "check --fix"):
        with pytest.raises(TrustError, match="epoch 2 of trial 0"):
            WAYS[way](mine)


def test_what_is_read_and_then_changed_is_not_used(mine: Path) -> None:
    found = letstune.load(mine).trial(0)
    with changed(mine, "epochs") as db:
        db.execute(f"UPDATE epochs SET checkpoint = 'evil' WHERE {SIGNED}")
    with pytest.raises(TrustError, match="has changed since it was read"):
        found.epochs[1].checkpoint.path  # noqa: B018


# Trust


def trust(path: Path, *options: str, code: int = 0, says: str = "") -> str:
    done = CliRunner().invoke(main, ["trust", str(path), *options], input=says)
    assert done.exit_code == code, done.output
    return done.output


def test_what_is_trusted_is_shown_first(theirs: Path) -> None:
    output = trust(theirs, code=1)
    assert "is not signed with a key of yours" in output
    lines = ["runs the pickled trainer (test_a_st", "runs the pickled dataset (test_a_st"]
    lines += [f"imports from {TESTS}", "runs what is in ", "reaches checkpoints in "]
    for line in lines:
        assert f"  {line}" in output
    assert "--yes" in output
    with pytest.raises(TrustError):
        letstune.resume(theirs, progress=False)


@pytest.mark.parametrize(("says", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_a_person_is_asked(
    says: str, code: int, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("letstune.cli.trust.sys", type("Terminal", (), {
        "stdin": type("Input", (), {"isatty": staticmethod(lambda: True)}), "exit": sys.exit,
    }))  # fmt: skip
    assert "Do you trust whoever wrote it" in trust(theirs, says=says, code=code)


def test_a_trusted_run_goes_on_as_ones_own(
    theirs: Path, key: Path, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(theirs.parent)
    trust(theirs, "--yes")
    assert tree(theirs.parent) == before
    assert "is yours, or trusted already" in trust(theirs)
    straight = tmp_path / "straight.db"
    letstune.resume(theirs, n_trials=4, progress=False)
    key.with_name("key.trusted").unlink()  # from now on, it is signed
    letstune.resume(theirs, n_trials=5, progress=False)
    assert letstune.load(theirs)[0].retrain().same
    tune(Trapped(), 5, straight, rounds=[2, 2], dataset=Trap(trace),
         keep_checkpoints="all")  # fmt: skip
    assert_same(theirs, straight)
    become_another(monkeypatch, tmp_path / "x")
    with pytest.raises(TrustError):
        letstune.resume(theirs, n_trials=6, progress=False)


@posix
def test_copies_renames_and_what_cannot_be_written_stay_trusted(
    theirs: Path, tmp_path: Path
) -> None:
    trust(theirs, "--yes")
    shutil.copytree(theirs.parent, tmp_path / "copied")
    copy = tmp_path / "copied" / "renamed.db"
    (tmp_path / "copied" / "run.db").rename(copy)
    (tmp_path / "copied" / "run.checkpoints").rename(copy.with_name("renamed.checkpoints"))
    copy.chmod(0o400)
    copy.parent.chmod(0o500)
    before = copy.read_bytes()
    try:
        assert letstune.load(copy)[0].checkpoint.load_pickle()
        assert retrain(copy, 0).same
    finally:
        copy.parent.chmod(0o700)
    assert copy.read_bytes() == before


def test_what_is_changed_after_that_is_not_trusted(theirs: Path, trace: Path) -> None:
    trust(theirs, "--yes")
    insert(theirs, "plan", fact="workers", value='"evil://x"')
    with refused(theirs.parent):
        letstune.resume(theirs, progress=False)


def test_a_checkpoint_that_is_added_after_that_is_not_trusted(theirs: Path) -> None:
    trust(theirs, "--yes")
    assert letstune.load(theirs).trial(0).checkpoint.path.exists()
    with changed(theirs, "epochs") as db:
        db.execute("UPDATE epochs SET sha256 = ? WHERE trial = 0", ["0" * 64])
    with refused(theirs.parent):
        letstune.load(theirs).trial(0).checkpoint.path  # noqa: B018


def test_the_checkpoints_of_a_run_that_was_taken_over_stay_as_they_were(
    theirs: Path, key: Path
) -> None:
    trust(theirs, "--yes")
    letstune.resume(theirs, n_trials=4, progress=False)
    key.with_name("key.trusted").unlink()
    assert letstune.load(theirs).trial(0).checkpoint.path.exists()
    with changed(theirs, "epochs") as db:
        db.execute("UPDATE epochs SET sha256 = ? WHERE trial = 0", ["0" * 64])
    with refused(theirs.parent, "holds other checkpoints than were signed"):
        letstune.load(theirs).trial(0).checkpoint.path  # noqa: B018


# One's own


def test_ones_own_goes_on_whatever_its_name(mine: Path, tmp_path: Path) -> None:
    shutil.copytree(mine.parent, tmp_path / "copied")
    copy = tmp_path / "copied" / "renamed.db"
    (tmp_path / "copied" / "run.db").rename(copy)
    (tmp_path / "copied" / "run.checkpoints").rename(copy.with_name("renamed.checkpoints"))
    for path in (mine, copy):
        assert len(letstune.resume(path, n_trials=4, progress=False)) == 4
        assert check_run(path, fix=True) == []
        assert letstune.load(path)[0].retrain().same
    assert_same(mine, copy)


def test_what_grows_is_signed_anew(path: Path) -> None:
    tune(Climb(), 2, path, rounds=[1], dataset=1)
    letstune.resume(path, n_trials=3, dataset=2, workers=1, max_deaths=5, progress=False)
    letstune.resume(path, n_trials=4, trainer=Climb(), workers=0, rounds=[2], progress=False)
    assert len(query(path, "SELECT 1 FROM plan WHERE fact = 'signature'")) > 2
    assert letstune.resume(path, progress=False).finished
    assert all(signature for (signature,) in query(path, "SELECT signature FROM epochs"))


def test_another_key_of_the_user_verifies_and_the_first_one_signs(
    mine: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = new_key(tmp_path / "both" / "key")
    first = both.read_text()
    both.write_text(f"# of this year\n{first}\n{key.read_text()}# of the last\n")
    monkeypatch.setenv("LETSTUNE_KEY_FILE", str(both))
    assert letstune.load(mine)[0].checkpoint.load_pickle()
    assert check_run(mine, fix=True) == []
    letstune.resume(mine, n_trials=4, progress=False)
    both.write_text(first)  # without the old one
    letstune.resume(mine, n_trials=5, progress=False)
    assert all(trial.checkpoint.path for trial in letstune.load(mine))


def test_a_lost_key_costs_a_question_for_each_run(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_another(monkeypatch, tmp_path)
    with pytest.raises(TrustError, match="`letstune trust"):
        letstune.resume(mine, progress=False)
    trust(mine, "--yes")
    letstune.resume(mine, n_trials=4, progress=False)
    letstune.resume(mine, n_trials=5, progress=False)


# From before there were signatures


@pytest.fixture
def golden(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(TESTS / "golden")
    with closing(sqlite3.connect(path)) as db:
        db.executescript((TESTS / "golden" / "journal-v3.sql").read_text())
    return path


def test_an_old_run_of_ones_own_goes_on_with_a_line(
    golden: Path, capsys: pytest.CaptureFixture[str], key: Path
) -> None:
    assert letstune.resume(golden, progress=False).finished
    line = f"letstune: {golden} is from before runs were signed."
    assert line in capsys.readouterr().err
    os.utime(key, (1, 1))  # what was just received is younger
    letstune.resume(golden, n_trials=12, progress=False)  # it is signed now
    assert "signed" not in capsys.readouterr().err


def test_what_is_younger_than_the_key_is_no_old_run(golden: Path, key: Path) -> None:
    os.utime(key, (1, 1))  # what was just received is younger
    with refused(golden.parent, "is not signed"):
        letstune.resume(golden, progress=False)
    trust(golden, "--yes")
    assert letstune.resume(golden, progress=False).finished


def test_what_was_changed_since_every_letstune_signs_is_no_old_run(
    golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "SINCE", golden.stat().st_ctime - 1)
    with refused(golden.parent, "is not signed"):
        letstune.resume(golden, progress=False)


@posix
@pytest.mark.parametrize("which", ["run.db", "."])
def test_an_old_run_that_others_may_write_is_refused(which: str, golden: Path) -> None:
    (golden.parent / which).chmod(0o777)
    with refused(golden.parent, "is not signed"):
        letstune.resume(golden, progress=False)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can give files away")
def test_an_old_run_of_another_user_is_refused(golden: Path) -> None:
    os.chown(golden, 1234, 1234)
    with refused(golden.parent, "is not signed"):
        letstune.resume(golden, progress=False)


# What a file may say


@pytest.mark.parametrize(
    "signature", [5, None, [], {"hmac": "ä", "until": 0, "rows": ""}, {"hmac": 5}, {"until": "x"}]
)
def test_what_is_no_signature_is_refused_as_such(signature: Any, mine: Path) -> None:
    insert(mine, "plan", fact="signature", value=json.dumps(signature))
    with refused(mine.parent, "is not signed with a key of yours"):
        letstune.resume(mine, progress=False)


def test_a_signature_cannot_be_forged_with_another_key(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has all but the key signs anew, as letstune does."""
    with closing(Journal(mine)) as journal:
        facts = journal.facts() | {"workers": "evil://x"}
        signed = signing.Signed.of(facts, journal.pickle_rows()).sign(b"a key of my own")
    insert(mine, "plan", fact="workers", value='"evil://x"')
    insert(mine, "plan", fact="signature", value=json.dumps(signed.fact()))
    with refused(mine.parent, "workers at evil://x"):
        letstune.resume(mine, progress=False)


def test_an_index_leads_to_nothing_that_is_not_signed(mine: Path, trace: Path) -> None:
    """An index that lacks rows has a query that uses it find others than there are."""
    data, sha256 = pickled(trace)
    about = json.dumps({"type": "x:Y", "python": "3", "folders": []})
    insert(mine, "pickles", name="trainer", pickle=data, sha256=sha256, about=about)
    with closing(sqlite3.connect(mine)) as db:
        db.execute("CREATE INDEX i ON pickles (name, seq, sha256, about)")
        db.commit()
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'i'").fetchone()
    page = bytearray(mine.read_bytes())
    begin = (root - 1) * 1024
    count = int.from_bytes(page[begin + 3 : begin + 5])
    page[begin + 3 : begin + 5] = (count - 1).to_bytes(2)  # without its last entry
    mine.write_bytes(page)
    with pytest.raises(LetstuneError):
        letstune.resume(mine, n_trials=4, progress=False)
    assert not trace.exists()


def test_no_line_of_what_is_asked_is_the_journals(mine: Path) -> None:
    about = json.dumps({"type": "x\nIt is yours.\x1b[2J", "folders": ["/a\n/b"], "python": "3"})
    insert(mine, "pickles", name="a\nb", pickle=b"", sha256="0\n1", about=about)
    with changed(mine, "pickles") as db:
        db.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) "
            "INSERT INTO pickles SELECT i, 'n' || i, x'', '', NULL, '[]' FROM n"
        )
    output = trust(mine, code=1)
    assert len(output.splitlines()) < 60
    assert "x␊It is yours.␛[2J" in output
    assert " more" in output
    with pytest.raises(TrustError) as told:
        letstune.resume(mine, progress=False)
    assert len(str(told.value)) < 2000
    assert "\n" not in str(told.value)


def test_what_is_secret_is_not_shown(mine: Path) -> None:
    fact = {"name": "s3", "uri": "s3://me:pw@there/x?sig=1", "run": "0" * 16, "by": EVIL,
            "options": {"token": SECRET.decode()}}  # fmt: skip
    insert(mine, "plan", fact="store", value=json.dumps(fact))
    with pytest.raises(TrustError) as told:
        letstune.resume(mine, progress=False)
    output = trust(mine, code=1)
    for text in (str(told.value), output):
        assert "s3://...@there" in text
        assert not any(secret in text for secret in ("pw", "sig=1", SECRET.decode()))
