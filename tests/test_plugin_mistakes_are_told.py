"""What a plugin gets wrong is told with its distribution, and breaks nothing else."""

import json
from pathlib import Path

import pytest
from installed_plugins import MIDDLE, install
from processes import command
from small_trainers import Hill, tune

from letstune.errors import PluginError
from letstune.plugins import installed as plugins

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
    assert "Cannot be loaded" in shown.stdout
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
    assert "half installed, or half removed" in middle


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
