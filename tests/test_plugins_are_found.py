"""Plugins are found by name, without importing any other."""

import sys
from pathlib import Path

import pytest
from installed_plugins import FOLDERS, MIDDLE, install, recorded
from processes import command, python
from small_trainers import Hill, tune

import letstune
from letstune.errors import PlanError, PluginError
from letstune.plugins import installed as plugins
from letstune.plugins.template import write_plugin


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
    tune(Hill(), 2, path)
    assert recorded(path, "sampler")["by"]["distribution"] == "letstune"
    (claim,) = (each for each in plugins.installed() if each.distribution == "letstune-middle")
    assert "claims the sampler 'random', which is letstune's own" in str(plugins.problem(claim))
    with pytest.raises(PluginError, match="The sampler 'sobol' is letstune's own; give another"):
        write_plugin(path.parent, "sobol", "sampler")


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
    with pytest.raises(
        PlanError, match=r"no sampler 'midle'; there is bayes, grid, middle, random.*pip"
    ):
        plugins.find("sampler", "midle")


def test_importing_letstune_and_its_help_import_no_plugin(site: Path, tmp_path: Path) -> None:
    install(site, "letstune-broken", "raise SystemExit('imported')", "sampler.b", "command.b")
    assert python("-c", "import letstune", cwd=tmp_path, paths=(site,)).returncode == 0
    assert command("tune", "--help", cwd=tmp_path, paths=(site,)).returncode == 0
