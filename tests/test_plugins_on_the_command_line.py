"""Plugins add commands, formats, observers and options to the command line."""

import json
import shutil
from pathlib import Path

import pytest
from installed_plugins import FOLDERS, LONE, MIDDLE, install, recorded
from processes import command
from small_trainers import Climb, Hill, tune

import letstune

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


@pytest.mark.slow
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
        harmless_options = ["file"]

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
    told = capsys.readouterr().err
    assert "goes on without an observer" in told
    assert "observer 'diary' (letstune-diary 1.0), which is not installed" in told
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


@pytest.mark.slow
def test_the_laws_of_an_executor_are_tried(site: Path, tmp_path: Path) -> None:
    install(site, "letstune-lone", LONE, "executor.lone")
    done = command("plugins", "check", "lone", "--json", cwd=tmp_path, paths=(site,))
    assert done.returncode == 0, done.stdout + done.stderr
    laws = {row["law"]: row["verdict"] for row in json.loads(done.stdout)}
    assert laws["the journal is that of a run in process"] == "passed"
    done = command("plugins", "check", "nobody", cwd=tmp_path, paths=(site,))
    assert done.returncode == 2
    assert "no sampler, store or executor 'nobody'" in done.stderr
