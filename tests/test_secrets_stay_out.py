"""Of what a user gives, only what is harmless gets into a journal, a message or a log."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installed_plugins import install, recorded
from journal_facts import query
from own_keys import sign_again
from small_trainers import Climb, Hill, tune

import letstune
from letstune.cli.main import main
from letstune.errors import LetstuneError, PickleError, PlanChangedError, PlanError
from letstune.plugins import redacted
from letstune.plugins.harmless import is_plain, told

CANARY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYz"
"""A key as AWS has them, with a slash."""

PLUGIN = """
    import os
    from pathlib import Path
    from letstune import Observer, Sampler
    from letstune.training import DirectoryStore
    from letstune.workers import Executor
    from letstune.workers.in_process import InProcessExecutor

    class Cellar(DirectoryStore):
        harmless_options = ("region", "http.name", "token=anon", "items")

        def __init__(self, uri, **options):
            if "broken" in options:
                raise ValueError("broken")
            super().__init__(Path(os.environ["CELLAR"]) / uri.rpartition("/")[2])

    class Post(Observer):
        harmless_options = {"label"}

        def __init__(self, **options):
            Post.options = options

    class Quiet(Observer):
        def __init__(self, **options):
            pass

    class Far(InProcessExecutor):
        harmless_options = "queue"

        def __init__(self, address, job, *, token, epoch_timeout, trial_timeout, **options):
            super().__init__(job.worker(token))

    class Seer(Sampler):
        def __init__(self, **options):
            pass

        def propose(self, space, history, rng, trial):
            return space.sample(rng)

    @hookimpl
    def register_stores(register):
        register("cellar", Cellar)

    @hookimpl
    def register_observers(register):
        register("post", Post)
        register("quiet", Quiet)

    @hookimpl
    def register_executors(register):
        register("far", Far)

    @hookimpl
    def register_samplers(register):
        register("seer", Seer)
    """

ENTRIES = ("store.cellar", "observer.post", "observer.quiet", "executor.far", "sampler.seer")


@pytest.fixture(autouse=True)
def plugin(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "letstune-own", PLUGIN, *ENTRIES)
    monkeypatch.setenv("CELLAR", str(tmp_path / "cellar"))


def texts(folder: Path) -> bytes:
    """Return all bytes in a folder, and the names of all files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"\n".join(str(f).encode() + b"\n" + f.read_bytes() for f in files)


def refused(path: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> str:
    """Return why a run is refused, of which nothing is to be left, and which names no secret."""
    with pytest.raises(PlanError, match="would be recorded in the journal") as raised:
        tune(Climb(), 2, path, rounds=[1], **options)
    told = "".join(capsys.readouterr())
    assert CANARY not in f"{raised.value}{raised.value.__cause__}{told}"
    assert not path.exists()
    return str(raised.value)


REFUSED: dict[str, dict[str, Any]] = {
    "a user": {"store": f"cellar://{CANARY}@host/a"},
    "a user and a password": {"store": f"cellar://me:{CANARY}@host/a"},
    "a query": {"store": f"cellar://host/a?sig={CANARY}"},
    "a fragment": {"store": f"cellar://host/a#{CANARY}"},
    "an option": {"store": ("cellar://host/a", {"anything": CANARY})},
    "a path of it": {"store": ("cellar://host/a", {"anything": f"/{CANARY}"})},
    "a field": {"store": ("cellar://host/a", {"http": {"other": CANARY}})},
    "a field of a field": {"store": ("cellar://host/a", {"http": {"name": {"x": CANARY}}})},
    "an item": {"store": ("cellar://host/a", {"others": [1, CANARY]})},
    "not the text that is listed": {"store": ("cellar://host/a", {"token": CANARY})},
    "a harmless one's user": {"store": ("cellar://h/a", {"region": f"http://{CANARY}@h"})},
    "a harmless one's query": {"store": ("cellar://h/a", {"region": f"http://h?x={CANARY}"})},
    "a harmless one's password": {"store": ("cellar://h/a", {"region": f"Pwd={CANARY};"})},
    "an observer's": {"observers": [("post", {"url": CANARY})]},
    "a silent observer's": {"observers": [("quiet", {"label": CANARY})]},
    "an executor's": {"workers": ("far://host", {"namespace": CANARY})},
    "an executor's user": {"workers": f"far://me:{CANARY}@host"},
    "an executor's query": {"workers": f"far://host?x={CANARY}"},
    "a sampler's": {"sampler": ("seer", {"url": f"postgres://me:{CANARY}@host/db"})},
    "a sampler's password": {"sampler": ("seer", {"password": CANARY})},
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_may_be_a_secret_is_refused_and_not_repeated(
    what: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why = refused(path, capsys, **REFUSED[what])
    assert "in the environment" in why or "from the environment" in why


@pytest.mark.parametrize("name", ["password", "api_key", "accessKey", "pin"])
def test_a_number_by_the_name_of_a_secret_is_refused(
    name: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"option {name} may" in refused(path, capsys, store=("cellar://h/a", {name: 123456}))


def test_what_is_harmless_is_recorded(path: Path) -> None:
    store = {
        **{"region": "eu", "http": {"name": "n", "size": 3}, "token": "anon", "items": ["a", "b"]},
        **{"chunk": 8, "rate": 0.5, "verify": False, "nothing": None, "empty": ""},
    }
    tune(
        *(Climb(), 2, path),
        rounds=[1],
        store=("cellar://host/a", store),
        observers=[("post", {"label": "nightly", "every": 3})],
        workers=("far://host", {"queue": "long", "slots": 2}),
        sampler=("seer", {"kind": "any text", "n": 1}),
    )
    assert recorded(path, "store")["options"] == store
    assert recorded(path, "observers")[0]["options"] == {"label": "nightly", "every": 3}
    assert recorded(path, "workers") == ["far://host", {"queue": "long", "slots": 2}]
    letstune.resume(path, n_trials=3, progress=False)


OLD_FACTS = {
    "store": {"uri": f"cellar://me:{CANARY}@host/a", "options": {"anything": CANARY}},
    "observers": {"options": {"url": CANARY}},
    "workers": [f"far://me:{CANARY}@host", {"namespace": CANARY}],
}


def old(path: Path) -> None:
    """Make a journal of a run that was begun when all of this was recorded."""
    import sqlite3
    from contextlib import closing

    options: dict[str, Any] = {"store": "cellar://host/a", "observers": ["post"]}
    tune(Climb(), 2, path, rounds=[1], workers="far://host", dataset="x", **options)
    with closing(sqlite3.connect(path)) as db, db:
        kept = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in kept:
            db.execute(f"DROP TRIGGER {name}")
        for fact, value in db.execute("SELECT fact, value FROM plan").fetchall():
            was = json.loads(value)
            now = {
                "store": lambda was: {**was, **OLD_FACTS["store"]},
                "observers": lambda was: [{**was[0], **OLD_FACTS["observers"]}],
                "workers": lambda was: OLD_FACTS["workers"],
                "dataset": lambda was: {**was, "value": f"postgres://me:{CANARY}@host/db"},
            }.get(fact, lambda was: was)(was)
            db.execute("UPDATE plan SET value = ? WHERE fact = ?", (json.dumps(now), fact))
        for _, sql in kept:
            db.execute(sql)
    sign_again(path)


def test_a_journal_that_holds_secrets_already_resumes(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old(path)
    assert letstune.resume(path, n_trials=3, progress=False).finished
    same: dict[str, Any] = {
        "store": (OLD_FACTS["store"]["uri"], OLD_FACTS["store"]["options"]),
        "observers": [("post", OLD_FACTS["observers"]["options"])],
        "workers": tuple(OLD_FACTS["workers"]),
        "dataset": f"postgres://me:{CANARY}@host/db",
    }
    assert tune(Climb(), 4, path, rounds=[1], **same).finished  # as its script does
    assert CANARY not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "change",
    [
        {"store": ("cellar://host/b", {"anything": f"{CANARY}2"})},
        {"store": (f"cellar://me:{CANARY}2@host/a", {"anything": CANARY})},
        {"workers": ("far://host", {"namespace": f"{CANARY}2"})},
        {"dataset": f"postgres://me:{CANARY}@other/db"},
    ],
    ids=["options", "uri", "workers", "dataset"],
)
def test_what_differs_from_it_is_told_without_them(
    change: dict[str, Any], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old(path)
    same: dict[str, Any] = {
        "store": (OLD_FACTS["store"]["uri"], OLD_FACTS["store"]["options"]),
        "dataset": f"postgres://me:{CANARY}@host/db",
    }
    with pytest.raises(PlanError) as raised:
        tune(Climb(), 4, path, rounds=[1], **{**same, **change})
    assert CANARY not in str(raised.value)
    assert isinstance(raised.value, PlanChangedError) or "workers" in change
    assert CANARY not in "".join(capsys.readouterr())


def test_a_resume_records_no_secret_either(path: Path) -> None:
    tune(Climb(), 2, path, rounds=[1])
    for change in ({"observers": [("post", {"url": CANARY})]}, {"workers": f"far://{CANARY}@h"}):
        with pytest.raises(PlanError, match="would be recorded") as raised:
            letstune.resume(path, n_trials=3, progress=False, **change)
        assert CANARY not in str(raised.value)
    assert CANARY.encode() not in texts(path.parent)


DATASETS = {
    "a password": f"postgres://me:{CANARY}@host/db",
    "a user": f"https://{CANARY}@host/data.csv",
    "a query": f"https://host/data.csv?sig={CANARY}",
    "a long query": f"https://host/data.csv?a={'b' * 2000}&sig={CANARY}",
    "a DSN": f"host=h dbname=d password={CANARY}",
    "another DSN": f"Server=h;Pwd={CANARY};",
    "a path": Path(f"https://me:{CANARY}@host"),
    "a field": {"url": f"postgres://me:{CANARY}@host/db"},
    "a field's name": {"options": [{"password": CANARY}]},
}


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("what", DATASETS)
def test_a_dataset_that_may_hold_one_is_not_kept_and_that_is_told(
    what: str, workers: int, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(Climb(), 2, path, rounds=[1, 1], dataset=DATASETS[what], workers=workers)
    told = "".join(capsys.readouterr())
    assert "the dataset is not kept in the journal: it may hold a password" in told
    assert CANARY not in told
    assert CANARY.encode() not in texts(path.parent)
    assert recorded(path, "dataset")["kept"] is False
    with pytest.raises(PickleError, match=r"was not kept\. Give it with dataset=") as raised:
        letstune.resume(path, n_trials=3, progress=False)
    assert CANARY not in str(raised.value)
    letstune.resume(path, n_trials=3, dataset=DATASETS[what], progress=False)
    assert tune(Climb(), 4, path, rounds=[1, 1], dataset=DATASETS[what]).finished
    assert CANARY.encode() not in texts(path.parent)


def test_another_place_of_such_a_dataset_is_another_dataset(path: Path) -> None:
    tune(Climb(), 2, path, rounds=[1], dataset="postgres://me:a@host/db")
    tune(Climb(), 2, path, rounds=[1], dataset="postgres://me:b@host/db")  # a new password
    assert recorded(path, "dataset")["value"] == "postgres://...@host/db"
    with pytest.raises(PlanChangedError, match="host/other"):
        tune(Climb(), 2, path, rounds=[1], dataset="postgres://me:a@host/other")


@pytest.mark.parametrize(
    "dataset",
    [
        *("data.csv", "data/x=1/part.parquet", "s3://bucket/data.csv", "host:9000", "C:\\a@b.csv"),
        *(None, 3, {"path": "data.csv", "size": 3}, ["a.csv", "b.csv"], "me@host", "a = b"),
        {"texts": "See https://host/?a=b. " * 100},
    ],
    ids=str,
)
def test_any_other_dataset_is_kept(dataset: Any, path: Path) -> None:
    tune(Hill(), 2, path, dataset=dataset)
    assert recorded(path, "dataset")["kept"] is True
    letstune.resume(path, n_trials=3, progress=False)


@pytest.mark.parametrize("broken", [{"broken": 1, "x": 2}])
def test_an_error_of_a_plugin_names_options_and_not_what_they_hold(
    broken: dict[str, Any], path: Path
) -> None:
    with pytest.raises(LetstuneError, match=r"with the options broken, x raised ValueError"):
        tune(Climb(), 2, path, rounds=[1], store=("cellar://host/a", broken))


@pytest.mark.parametrize(
    "given",
    [
        {"store": ("cellar://h/a", {"anything": CANARY, "object": object()})},
        {"store": {"uri": f"cellar://me:{CANARY}@h"}},
        {"store": (f"cellar://me:{CANARY}@h", "no dict")},
        {"observers": [("post", CANARY)]},
        {"observers": f"https://me:{CANARY}@h"},
        {"workers": f"me:{CANARY}@host"},
        {"workers": ("far://host", CANARY)},
        {"workers": ("far://host", {"token": CANARY})},
        {"workers": f"far://me:{CANARY}@host", "gpus": [0]},
        {"sampler": ("seer", {"x": CANARY, "y": object()})},
        {"sampler": ("seer", [CANARY])},
    ],
    ids=range(11),
)
def test_mistakes_are_told_without_them(given: dict[str, Any], path: Path) -> None:
    with pytest.raises(PlanError) as raised:
        tune(Climb(), 2, path, rounds=[1], **given)
    assert CANARY not in str(raised.value)


def test_the_command_line_repeats_none(path: Path) -> None:
    trainer = "small_trainers:Climb"
    for more in (
        ["--store", f"cellar://me:{CANARY}@host"],
        ["--store", "cellar://host", "--store-option", f"anything={CANARY}"],
        ["--store", "cellar://host", "--store-option", CANARY],
        ["--store", "cellar://host", "--store-option", "password=123456"],
        ["--workers", f"far://me:{CANARY}@host"],
    ):
        arguments = ["tune", trainer, "-n", "1", "--journal", str(path), *more]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 2, done.output
        assert CANARY not in done.output
        assert "123456" not in done.output
    assert list(path.parent.iterdir()) == []


PLACES = {
    "a URI's user": lambda c: {"store": f"cellar://{c}@host/a"},
    "a URI's password": lambda c: {"store": f"cellar://me:{c}@host/a"},
    "a URI's query": lambda c: {"store": f"cellar://host/a?{c}"},
    "a URI's fragment": lambda c: {"store": f"cellar://host/a#{c}"},
    "a dataset's user": lambda c: {"dataset": f"db://{c}@host/a"},
    "a dataset's password": lambda c: {"dataset": f"db://me:{c}@host/a"},
    "a dataset's query": lambda c: {"dataset": f"db://host/a?x={c}"},
    "an address's password": lambda c: {"workers": f"far://me:{c}@host"},
}

NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12).filter(
    lambda name: name not in {"region", "items", "label", "queue", "broken"}
)
CANARIES = st.text("abcXYZ019/+=:;-_.~", min_size=12, max_size=40).map(lambda text: f"Kq7{text}")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), canary=CANARIES)
def test_a_canary_gets_nowhere(
    data: st.DataObject, canary: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = data.draw(NAMES)
    places = {
        **PLACES,
        "an option": lambda c: {"store": ("cellar://h/a", {name: c})},
        "a nested option": lambda c: {"store": ("cellar://h/a", {"http": {f"{name}": [c]}})},
        "an observer's option": lambda c: {"observers": [("post", {name: c})]},
        "an executor's option": lambda c: {"workers": ("far://h", {f"x{name}": c})},
    }
    given = places[data.draw(st.sampled_from(sorted(places)))](canary)
    heard = ""
    try:
        tune(Climb(), 1, path, rounds=[1], **given)
    except LetstuneError as error:
        heard = str(error)
    heard += "".join(capsys.readouterr())
    if path.exists():
        for arguments in (["status"], ["trials"], ["show", "0"], ["export"], ["check"]):
            heard += CliRunner().invoke(main, [arguments[0], str(path), *arguments[1:]]).output
        heard += json.dumps(query(path, "SELECT * FROM plan"))
    assert canary not in heard
    assert canary.encode() not in texts(path.parent)
    for file in path.parent.glob("run.db*"):
        file.unlink()


def test_texts_are_told_without_secrets() -> None:
    assert redacted("s3://a:b/c@bucket/x?y#z") == "s3://...@bucket/x?..."
    assert redacted("at https://h/a and /a/b c:d@e") == "at https://h/a and /a/b ...@e"
    assert told(("s3://a@b", {"x": 1, "y": 2})) == "('s3://...@b', {'x': ..., 'y': ...})"
    assert told(object()) == "<object>"
    assert is_plain("aws:kms")
    assert not is_plain('{"password": "x"}')
    assert not re.search(CANARY, redacted(f"//{CANARY}@h"))
