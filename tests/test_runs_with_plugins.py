"""A run records the plugins that it was started with, and is resumed with them."""

import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from files import in_all
from installed_plugins import FOLDERS, LONE, MIDDLE, imported, install, recorded
from journal_facts import facts
from processes import command
from small_trainers import Climb, Hill, tune
from stateful_trainer import NearBest, WalkTrainer

import letstune
from letstune import Rounds
from letstune.errors import PlanChangedError, PlanError, PluginError
from letstune.plugins import installed as plugins
from letstune.rounds.decisions import default_lag

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
    assert letstune.load(path, trust=True)[0].checkpoint.load_pickle()
    assert command("check", path, "--trust", cwd=tmp_path, paths=(site,)).returncode == 0


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
            PlanChangedError, match=r"letstune-middle 1.2, is from letstune-middle 2.0.*--accept"
        ):
            again()
    assert in_all(path.parent) == before
    arguments = ("resume", path, "-n", 4, "--accept-changes")
    done = command(*arguments, cwd=tmp_path, paths=(site, Path(__file__).parent))
    assert done.returncode == 0, done.stderr
    assert recorded(path, "sampler")["by"]["version"] == "2.0"
    assert len(tune(Hill(), 4, path, sampler="middle")) == 4


def test_before_1_0_a_minor_version_counts_as_a_major_one(site: Path, path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="0.2.1")
    tune(Hill(), 2, path, sampler="middle")
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="0.2.9")
    letstune.resume(path, n_trials=3, progress=False)
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="0.3.0")
    with pytest.raises(PlanChangedError, match=r"letstune-middle 0.2.1, is from letstune-middle 0"):
        letstune.resume(path, n_trials=4, progress=False)


def test_an_object_is_recorded_with_the_plugin_that_it_is_of(site: Path, path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle")
    tune(Hill(), 2, path, sampler=import_module("letstune_middle").Middle(0.25))
    fact = recorded(path, "sampler")
    assert fact["by"] == {"distribution": "letstune-middle", "version": "1.0"}
    assert fact["fields"] == {"shift": 0.25}


def test_an_object_of_another_major_version_is_to_be_accepted(site: Path, path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="1.2")
    tune(Hill(), 2, path, sampler=imported(site, "letstune_middle").Middle(0.25))
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="2.0")
    with pytest.raises(PlanChangedError, match=r"letstune-middle 1.2, is from letstune-middle 2.0"):
        letstune.resume(path, n_trials=4, progress=False)
    letstune.resume(path, n_trials=4, progress=False, accept_changes=True)


def test_the_version_is_asked_before_an_option_is_missed(site: Path, path: Path) -> None:
    install(site, "letstune-middle", MIDDLE, "sampler.middle", version="1.2")
    tune(Hill(), 2, path, sampler=("middle", {"shift": 0.5}))
    renamed = MIDDLE.replace("shift", "offset")
    install(site, "letstune-middle", renamed, "sampler.middle", version="2.0")
    sys.modules.pop("letstune_middle")
    with pytest.raises(PlanChangedError, match=r"letstune-middle 1.2, is from letstune-middle 2.0"):
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
    with pytest.raises(PlanChangedError, match=r"executor 'lone': was from letstune-lone 0.3"):
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
        ({"workers": ("lone://here", {"token": True})}, "token cannot be given as an option"),
        ({"workers": ("lone://here", {"epoch_timeout": 3})}, "epoch_timeout cannot be given"),
        ({"workers": "lone://here", "gpus": [0]}, "ask the cluster"),
        ({"workers": "processes://4"}, "Give the number of processes"),
        ({"workers": "in-process://"}, "or 0 to train"),
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
