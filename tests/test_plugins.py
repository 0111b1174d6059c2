import json
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from files import in_all
from installed_plugins import FOLDERS, LONE, MIDDLE, install
from journal_facts import facts
from processes import command, python
from small_trainers import Climb, Hill, tune
from stateful_trainer import NearBest, WalkTrainer

import letstune
from letstune import Rounds
from letstune.errors import PlanChangedError, PlanError, PluginError
from letstune.plugins import installed as plugins
from letstune.rounds.decisions import default_lag


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder on the import path, whose modules are forgotten in the end."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs" / "run.db"


def recorded(path: Path, fact: str) -> Any:
    from letstune.journal.journal import Journal

    journal = Journal(path)
    try:
        return journal.facts()[fact]
    finally:
        journal.close()


# Finding


def test_what_letstune_has_is_registered_through_the_hooks() -> None:
    own = [plugged for plugged in plugins.installed() if plugged.distribution == "letstune"]
    for kind, name in [("sampler", "random"), ("sampler", "grid"), ("store", "directory")]:
        assert any((plugged.kind, plugged.name) == (kind, name) for plugged in own)
    assert [plugins.problem(plugged) for plugged in own] == [None] * len(own)


def test_a_plugin_is_found_by_the_names_of_its_entry_points(site: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="2.5")
    found = plugins.find("sampler", "middle")
    assert found.by == {"distribution": "letstune-middle", "version": "2.5"}
    assert plugins.make(found, shift=0.5).shift == 0.5


def test_finding_imports_nothing(site: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    install(site, "letstune-broken", "raise RuntimeError('oh no')", "sampler.broken")
    plugins.find("sampler", "middle")
    assert not {"letstune_middle", "letstune_broken"} & set(sys.modules)


def test_a_broken_plugin_breaks_only_what_names_it(site: Path, path: Path) -> None:
    install(site, "letstune-broken", "raise RuntimeError('oh no')", "sampler.broken", "store.s9")
    tune(Hill(), 2, path)
    with pytest.raises(
        PluginError, match=r"letstune-broken 1.0 cannot be imported: RuntimeError: oh no"
    ):
        tune(Hill(), 2, path.with_name("b.db"), sampler="broken")
    with pytest.raises(PluginError, match="oh no"):
        tune(Hill(), 2, path.with_name("b.db"), store="s9://x")
    assert not path.with_name("b.db").exists()


def test_the_star_is_for_schemes_that_nobody_else_has(site: Path) -> None:
    install(site, "letstune-all", "", "store.*")
    install(site, "letstune-shelf", FOLDERS, "store.shelf")
    assert plugins.find("store", "shelf").distribution == "letstune-shelf"
    assert plugins.find("store", "s3").distribution == "letstune-all"


def test_two_that_claim_a_name_are_both_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    install(site, "other-middle", MIDDLE, "sampler.middle", version="3")
    with pytest.raises(PluginError, match=r"letstune-middle 1.0 and by other-middle 3") as caught:
        plugins.find("sampler", "middle")
    assert plugins.RESTRICTION in str(caught.value)
    monkeypatch.setenv(plugins.RESTRICTION, "other_middle")
    assert plugins.find("sampler", "middle").distribution == "other-middle"


def test_nobody_takes_a_name_of_letstune(site: Path, path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.random")
    with pytest.raises(PluginError, match=r"claimed by letstune .* and by letstune-middle 1.0"):
        tune(Hill(), 2, path)


def test_a_resumed_run_has_whom_it_was_started_with(site: Path, path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    tune(Hill(), 2, path)
    tune(Hill(), 2, path.with_name("middle.db"), sampler="middle")
    install(site, "other-middle", MIDDLE, "sampler.middle", "sampler.random", "store.directory")
    assert len(letstune.resume(path, n_trials=3, progress=False)) == 3
    assert len(letstune.resume(path.with_name("middle.db"), n_trials=3, progress=False)) == 3
    assert recorded(path.with_name("middle.db"), "sampler")["by"]["version"] == "1.0"


def test_what_letstune_has_is_found_without_a_look_at_what_is_installed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(Hill(), 2, path)
    monkeypatch.setattr(plugins, "installed", None)
    assert len(letstune.resume(path, n_trials=3, progress=False)) == 3


@pytest.mark.parametrize("listed", ["", "letstune-other", "letstune-other,another"])
def test_what_is_not_listed_is_not_loaded(
    listed: str, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    monkeypatch.setenv(plugins.RESTRICTION, listed)
    with pytest.raises(
        PluginError, match=r"letstune-middle 1.0, which LETSTUNE_PLUGINS=.*excludes"
    ):
        plugins.find("sampler", "middle")
    assert plugins.find("sampler", "random").distribution == "letstune"
    monkeypatch.setenv(plugins.RESTRICTION, f"{listed}, Letstune_Middle")
    plugins.find("sampler", "middle")


def test_what_is_not_there_is_told_with_what_is(site: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    with pytest.raises(PlanError, match=r"no sampler 'midle'; there is grid, middle, random.*pip"):
        plugins.find("sampler", "midle")


# What a plugin may get wrong


MISTAKES = [
    ("@hookimpl\ndef register_sampler(register): ...", "register_sampler'"),
    ("@hookimpl\ndef register_samplers(registar): ...", "registar"),
    ("@hookimpl\ndef register_samplers(register): ...", "does not register it"),
    (
        "@hookimpl\ndef register_samplers(register):\n"
        "    register('mine', dict)\n    register('mine', list)",
        "registers the sampler 'mine' twice",
    ),
    ("import letstune_no_such_module", "ModuleNotFoundError"),
    (
        "@hookimpl\ndef register_samplers(register):\n    register('mine', dict)",
        r"sampler 'mine' of letstune-mine 1.0 is {}; expected .* letstune.Sampler",
    ),
    ("raise SystemExit('bye')", "SystemExit: bye"),
    ("@hookimpl\ndef register_samplers(register):\n    register('mine')", "raised TypeError"),
    (
        "@hookimpl\ndef register_samplers(register):\n    raise SystemExit(3)",
        "raised SystemExit: 3",
    ),
    (
        "@hookimpl\ndef register_samplers(register):\n    register('mine', lambda: 1 / 0)",
        "raised ZeroDivisionError: division by zero",
    ),
]


@pytest.mark.parametrize(("code", "text"), MISTAKES)
def test_a_mistake_is_told_with_the_distribution(
    code: str, text: str, site: Path, path: Path
) -> None:
    install(site, "letstune-mine", code, "sampler.mine")
    with pytest.raises(PluginError, match=text) as caught:
        tune(Hill(), 2, path, sampler="mine")
    assert "letstune-mine 1.0" in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize("api", [0, 2, None, "1"])
def test_a_plugin_for_other_hooks_is_refused(api: object, site: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle", api=api)
    with pytest.raises(PluginError, match=r"letstune-middle 1.0 .*LETSTUNE_API.* letstune 0.1"):
        plugins.find("sampler", "middle").factory()


BROKEN_COMMANDS = [
    "raise SystemExit('bye')",
    "@hookimpl\ndef register_commands(register):\n    raise ValueError('oh no')",
    "@hookimpl\ndef register_commands(register):\n    register('mine', lambda: 1 / 0)",
    "@hookimpl\ndef register_commands(register):\n    register('mine', dict)",
]


@pytest.mark.parametrize("code", BROKEN_COMMANDS)
def test_a_broken_command_hides_no_other(code: str, site: Path, tmp_path: Path) -> None:
    install(site, "letstune-mine", code, "command.mine")
    shown = command("--help", cwd=tmp_path, paths=(site,))
    assert shown.returncode == 0, shown.stderr
    assert "resume" in shown.stdout
    assert "Not to be had" in shown.stdout
    called = command("mine", cwd=tmp_path, paths=(site,))
    assert called.returncode == 1
    assert called.stderr.startswith("Error: ")
    assert "letstune-mine 1.0" in called.stderr
    listed = command("plugins", "--json", cwd=tmp_path, paths=(site,))
    problems = {row["name"]: row["problem"] for row in json.loads(listed.stdout)}
    assert problems["random"] is None
    # What a factory makes is not known before it is called.
    assert "lambda" in code or "dict" in code or "letstune-mine 1.0" in problems["mine"]


def test_what_is_half_removed_is_a_problem_of_nobody_else(site: Path, path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    for metadata in site.glob("*.dist-info/METADATA"):
        metadata.unlink()
    tune(Hill(), 2, path)
    (middle,) = [p for plugged in plugins.installed() if (p := plugins.problem(plugged))]
    assert "letstune_middle" in middle
    assert "installed or removed by half" in middle


def test_what_is_excluded_is_listed_as_such(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    monkeypatch.setenv(plugins.RESTRICTION, "letstune-other")
    told = [p for plugged in plugins.installed() if (p := plugins.problem(plugged))]
    assert told == ["LETSTUNE_PLUGINS='letstune-other' excludes it."]


def test_an_entry_point_that_names_no_module_is_a_problem(site: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    for file in site.glob("*.dist-info/entry_points.txt"):
        file.write_text(file.read_text().replace("letstune_middle", "letstune_middle:plugin"))
    (told,) = [p for plugged in plugins.installed() if (p := plugins.problem(plugged))]
    assert "expected the name of a module" in told


def test_an_entry_point_without_a_kind_is_a_problem_that_is_listed(site: Path) -> None:
    install(site, "letstune-mine", "", "mine", "thing.mine")
    told = [p for plugged in plugins.installed() if (p := plugins.problem(plugged))]
    assert len(told) == 2
    assert all("expected KIND.NAME" in line for line in told)


# Running


def test_options_reach_the_sampler_and_are_recorded(site: Path, path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    tuning = tune(Hill(), 3, path, sampler=("middle", {"shift": 0.5}))
    assert sorted(trial.params.x for trial in tuning) == [0.5, 0.51, 0.52]
    assert recorded(path, "sampler") == {
        "name": "middle",
        "options": {"shift": 0.5},
        "by": {"distribution": "letstune-middle", "version": "1.0"},
    }
    with pytest.raises(PlanChangedError, match=r"sampler: was .*0.5.* is .*0.25"):
        tune(Hill(), 3, path, sampler=("middle", {"shift": 0.25}))


@pytest.mark.parametrize("options", [{"shift": {1, 2}}, {"shift": float("nan")}, {"shift": b"x"}])
def test_options_that_cannot_be_recorded_are_refused(
    options: dict[str, Any], site: Path, path: Path
) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    with pytest.raises(PlanError, match=r"sampler=.*recorded as JSON"):
        tune(Hill(), 3, path, sampler=("middle", options))
    assert not path.exists()


def test_a_run_has_a_folder_of_its_own_in_a_store(site: Path, path: Path, tmp_path: Path) -> None:
    install(site, "letstune-shelf", FOLDERS, "store.shelf")
    store = ("shelf://models/", {"base": str(tmp_path / "base")})
    first = tune(Climb(), 4, path, rounds=[1], store=store)
    second = tune(Climb(), 4, path.with_name("b.db"), rounds=[1], store=store)
    assert len(list((tmp_path / "base" / "models").iterdir())) == 2
    assert first[0].checkpoint.load_pickle() == second[0].checkpoint.load_pickle()
    assert recorded(path, "store")["uri"] == "shelf://models/"
    assert facts(path) == facts(path.with_name("b.db"))


def test_a_run_that_names_plugins_is_resumed(site: Path, path: Path, tmp_path: Path) -> None:
    install(site, "letstune-shelf", FOLDERS, "store.shelf")
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    options: dict[str, Any] = {"sampler": "middle", "rounds": [1, 2], "lag": 0}
    options["store"] = ("shelf://models", {"base": str(tmp_path / "base")})
    tune(Climb(), 3, path, **options)
    letstune.resume(path, n_trials=8, progress=False)
    tune(Climb(), 8, path.with_name("b.db"), **options)
    for table in ("trials", "epochs"):
        assert facts(path)[table] == facts(path.with_name("b.db"))[table]
    assert letstune.load(path)[0].checkpoint.load_pickle()
    assert command("check", path, cwd=tmp_path, paths=(site,)).returncode == 0


def test_without_its_plugin_a_run_is_read_and_its_resumption_says_what_to_install(
    site: Path, path: Path, tmp_path: Path
) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="0.3")
    tune(Climb(), 3, path, sampler="middle", rounds=[1])
    shutil.rmtree(site)
    before = in_all(path.parent)
    for name in ("status", "trials", "export", "best", "check"):
        done = command(name, path, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    done = command("resume", path, "-n", 5, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"Error: {path} was started with sampler 'middle' (letstune-middle 0.3), which is not "
        "installed. Install it and resume again:  pip install letstune-middle"
    )
    assert in_all(path.parent) == before


def test_another_major_version_is_to_be_accepted(site: Path, path: Path, tmp_path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="1.2")
    tune(Hill(), 2, path, sampler="middle")
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="1.9")
    letstune.resume(path, n_trials=3, progress=False)
    assert recorded(path, "sampler")["by"]["version"] == "1.2"
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="2.0")
    before = in_all(path.parent)
    for again in (
        lambda: tune(Hill(), 4, path, sampler="middle"),
        lambda: letstune.resume(path, n_trials=4, progress=False),
    ):
        with pytest.raises(
            PlanChangedError, match=r"letstune-middle 1.2, is of letstune-middle 2.0.*--accept"
        ):
            again()
    assert in_all(path.parent) == before
    arguments = ("resume", path, "-n", 4, "--accept-changes")
    done = command(*arguments, cwd=tmp_path, paths=(site, Path(__file__).parent))
    assert done.returncode == 0, done.stderr
    assert recorded(path, "sampler")["by"]["version"] == "2.0"
    assert len(tune(Hill(), 4, path, sampler="middle")) == 4


def test_an_object_is_recorded_with_the_plugin_that_it_is_of(site: Path, path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    tune(Hill(), 2, path, sampler=import_module("letstune_middle").Middle(0.25))
    fact = recorded(path, "sampler")
    assert fact["by"] == {"distribution": "letstune-middle", "version": "1.0"}
    assert fact["fields"] == {"shift": 0.25}


def imported(site: Path, name: str) -> Any:
    """Return a module that was installed in a test, as a user's script imports it."""
    sys.modules.pop(name, None)
    return import_module(name)


def test_an_object_of_another_major_version_is_to_be_accepted(site: Path, path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="1.2")
    tune(Hill(), 2, path, sampler=imported(site, "letstune_middle").Middle(0.25))
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="2.0")
    with pytest.raises(PlanChangedError, match=r"letstune-middle 1.2, is of letstune-middle 2.0"):
        letstune.resume(path, n_trials=4, progress=False)
    letstune.resume(path, n_trials=4, progress=False, accept_changes=True)


def test_the_version_is_asked_before_an_option_is_missed(site: Path, path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="1.2")
    tune(Hill(), 2, path, sampler=("middle", {"shift": 0.5}))
    renamed = MIDDLE.replace("shift", "offset")
    install(site, "letstune-middle", renamed, "sampler.middle", version="2.0")
    sys.modules.pop("letstune_middle")
    with pytest.raises(PlanChangedError, match=r"letstune-middle 1.2, is of letstune-middle 2.0"):
        letstune.resume(path, n_trials=4, progress=False)


def test_an_object_of_what_is_not_listed_is_not_loaded(
    site: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    tune(Hill(), 2, path, sampler=imported(site, "letstune_middle").Middle(0.25))
    del sys.modules["letstune_middle"]
    monkeypatch.setenv(plugins.RESTRICTION, "letstune-other")
    with pytest.raises(PluginError, match=r"letstune-middle, which LETSTUNE_PLUGINS=.*excludes"):
        letstune.resume(path, n_trials=4, progress=False)
    assert "letstune_middle" not in sys.modules


# Executors


def test_an_executor_is_recorded_and_missed(site: Path, path: Path, tmp_path: Path) -> None:
    install(site, "letstune-lone", LONE, "executor.lone", version="0.3")
    tune(Climb(), 2, path, rounds=[1], workers="lone://here")
    by = {"distribution": "letstune-lone", "version": "0.3"}
    assert recorded(path, "executor") == {"name": "lone", "by": by}
    letstune.resume(path, n_trials=3, progress=False)
    install(site, "letstune-lone", LONE, "executor.lone", version="1.0")
    with pytest.raises(PlanChangedError, match=r"executor 'lone': was of letstune-lone 0.3"):
        letstune.resume(path, n_trials=4, progress=False)
    shutil.rmtree(site)
    done = command("resume", path, "-n", 5, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"Error: {path} was started with executor 'lone' (letstune-lone 0.3), which is not "
        "installed. Install it and resume again:  pip install letstune-lone"
    )
    assert len(letstune.resume(path, n_trials=5, workers=1, progress=False)) == 5
    assert recorded(path, "executor") is None


def test_the_lag_is_for_the_workers_that_there_are(site: Path, path: Path) -> None:
    install(site, "letstune-lone", LONE, "executor.lone", "executor.letstune_lone")
    address: Any = imported(site, "letstune_lone").Address()
    lags = []
    for number, workers in enumerate(("lone://here", address, ("lone://here", {"many": 2}))):
        of = path.with_name(f"{number}.db")
        given: dict[str, Any] = {"workers": workers, "sampler": NearBest()}
        tune(WalkTrainer(), 2, of, rounds=Rounds([1], cohort=1), **given)
        lags.append(recorded(of, "lag"))
    assert lags == [default_lag(4, 1, 2), default_lag(4, 1, 2), default_lag(8, 1, 2)]
    assert 0 < lags[0] < lags[2]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"workers": ("lone://here", {"token": "mine"})}, "token cannot be given as an option"),
        ({"workers": ("lone://here", {"epoch_timeout": 3})}, "epoch_timeout cannot be given"),
        ({"workers": "lone://here", "gpus": [0]}, "ask the cluster"),
        ({"workers": "processes://4"}, "Give the number of processes"),
        ({"workers": "in-process://"}, "leave workers out"),
        ({"workers": "lonely://here"}, "no executor 'lonely'"),
    ],
)
def test_what_an_executor_does_not_take_is_refused(
    options: dict[str, Any], text: str, site: Path, path: Path
) -> None:
    install(site, "letstune-lone", LONE, "executor.lone")
    with pytest.raises(PlanError, match=text):
        tune(Climb(), 2, path, rounds=[1], **options)
    assert not path.exists() or letstune.load(path)[:] == []


def test_a_uri_without_a_place_is_the_stores(site: Path, path: Path) -> None:
    install(site, "letstune-shelf", FOLDERS, "store.shelf")
    base = path.parent / "base"
    tune(Climb(), 2, path, rounds=[1], store=("shelf://", {"base": str(base)}))
    assert len(list(base.iterdir())) == 1
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["base", "run.db"]


def test_importing_letstune_and_its_help_import_no_plugin(site: Path, tmp_path: Path) -> None:
    install(site, "letstune-broken", "raise SystemExit('imported')", "sampler.b", "command.b")
    assert python("-c", "import letstune", cwd=tmp_path, paths=(site,)).returncode == 0
    assert command("tune", "--help", cwd=tmp_path, paths=(site,)).returncode == 0


# The command line


GREET = """
    import click

    @click.command()
    @click.argument("name")
    def greet(name):
        "Greet somebody."
        click.echo(f"Hello {name}")

    def write(tuning, path):
        path.write_text(f"{len(tuning)} trials, {tuning.metric}")

    @hookimpl
    def register_commands(register):
        register("greet", lambda: greet)

    @hookimpl
    def register_exports(register):
        register("brief", write)
    """


def test_commands_and_formats_of_plugins(site: Path, path: Path, tmp_path: Path) -> None:
    install(site, "letstune-greet", GREET, "command.greet", "export.brief")
    install(site, "letstune-broken", "raise RuntimeError('oh no')", "command.broken")
    shown = command("--help", cwd=tmp_path, paths=(site,)).stdout
    assert "Greet somebody." in shown
    assert command("greet", "you", cwd=tmp_path, paths=(site,)).stdout == "Hello you\n"
    done = command("broken", cwd=tmp_path, paths=(site,))
    assert (done.returncode, done.stdout) == (1, "")
    assert "letstune-broken 1.0 cannot be imported" in done.stderr
    tune(Hill(), 2, path)
    out = tmp_path / "brief.txt"
    done = command("export", path, "--format", "brief", "-o", out, cwd=tmp_path, paths=(site,))
    assert done.returncode == 0, done.stderr
    assert out.read_text() == "2 trials, height"
    assert command("export", path, "--format", "brief", cwd=tmp_path, paths=(site,)).returncode == 2


def test_the_list_of_plugins(site: Path, tmp_path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle", "sampler.undone")
    done = command("plugins", "--json", cwd=tmp_path, paths=(site,))
    rows = {(row["kind"], row["name"]): row for row in json.loads(done.stdout)}
    assert rows["sampler", "random"]["problem"] is None
    assert rows["sampler", "middle"] == {
        "kind": "sampler",
        "name": "middle",
        "distribution": "letstune-middle",
        "version": "1.0",
        "problem": None,
    }
    assert "does not register it" in rows["sampler", "undone"]["problem"]
    assert "letstune-middle" in command("plugins", cwd=tmp_path, paths=(site,)).stdout


def test_options_on_the_command_line(site: Path, tmp_path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    install(site, "letstune-shelf", FOLDERS, "store.shelf")
    done = command(
        *("tune", "small_trainers:Hill", "-n", 2, "--journal", "a.db", "--sampler", "middle"),
        *("--sampler-option", "shift=0.5", "--store", "shelf://x", "--store-option", "base=here"),
        cwd=tmp_path,
        paths=(site, Path(__file__).parent),
    )
    assert done.returncode == 0, done.stderr
    assert recorded(tmp_path / "a.db", "sampler")["options"] == {"shift": 0.5}
    assert recorded(tmp_path / "a.db", "store")["options"] == {"base": "here"}
    assert (tmp_path / "here" / "x").is_dir()


DIARY = """
    from pathlib import Path
    from letstune import Observer

    class Diary(Observer):
        def __init__(self, file):
            self.file = Path(file)

        def epoch_recorded(self, epoch):
            with self.file.open("a") as lines:
                lines.write(f"{epoch.trial} {epoch.epoch}\\n")

    @hookimpl
    def register_observers(register):
        register("diary", Diary)
    """


def test_a_named_observer_is_told_after_a_resume_and_missed_by_nobody(
    site: Path, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(site, "letstune-diary", DIARY, "observer.diary")
    lines = tmp_path / "lines"
    tune(Climb(), 2, path, rounds=[1], observers=[("diary", {"file": str(lines)})])
    letstune.resume(path, n_trials=3, progress=False)
    assert lines.read_text() == "0 0\n1 0\n2 0\n"
    shutil.rmtree(site)
    letstune.resume(path, n_trials=4, progress=False)
    assert "no observer 'diary'" in capsys.readouterr().err
    assert lines.read_text() == "0 0\n1 0\n2 0\n"


CORNER = """
    from letstune import Sampler

    class Corner(Sampler):
        seen = 0

        def propose(self, space, history, rng, trial):
            Corner.seen += 1  # which a pure function has no use for
            params = space.sample(rng)
            return space.sample(rng) if Corner.seen % 3 else params

    @hookimpl
    def register_samplers(register):
        register("corner", Corner)
    """


@pytest.mark.slow
def test_the_laws_are_tried_on_what_is_installed(site: Path, tmp_path: Path) -> None:
    done = command("plugins", "check", "grid", cwd=tmp_path, paths=(site,))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed  resumes exactly after sigkill" in done.stdout.splitlines()
    install(site, "letstune-corner", CORNER, "sampler.corner")
    done = command("plugins", "check", "corner", "--json", cwd=tmp_path, paths=(site,))
    assert done.returncode == 1, done.stderr
    failed = {row["law"] for row in json.loads(done.stdout) if row["verdict"] == "failed"}
    assert "same inputs give the same params" in failed


def test_the_laws_of_an_executor_are_tried(site: Path, tmp_path: Path) -> None:
    install(site, "letstune-lone", LONE, "executor.lone")
    done = command("plugins", "check", "lone", "--json", cwd=tmp_path, paths=(site,))
    assert done.returncode == 0, done.stdout + done.stderr
    laws = {row["law"]: row["verdict"] for row in json.loads(done.stdout)}
    assert laws["the journal is that of a run in process"] == "passed"
    done = command("plugins", "check", "nobody", cwd=tmp_path, paths=(site,))
    assert done.returncode == 2
    assert "no sampler, store or executor 'nobody'" in done.stderr
