"""A failure is an event and no verdict: a failed trial can be opened again, in the same journal."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_facts import facts
from processes import TESTS, command, environment
from small_trainers import Climb, Point, tune

import letstune
from letstune import Rounds
from letstune.cli.main import main
from letstune.errors import JournalLockedError, TrialEndedError, TrialNotFoundError
from letstune.journal.journal import Journal, now
from letstune.journal.lock import JournalLock
from letstune.rounds.events import WorkerDied
from letstune.rounds.failures import signature
from letstune.runs.retry import retry_trials


class Fragile(Climb):
    """Climbs, but for the epochs of trials that something outside breaks."""

    broken: ClassVar[set[tuple[float, int]]] = set()
    trained: ClassVar[list[tuple[float, int]]] = []

    def create_model(self, params: Point) -> None:
        super().create_model(params)
        self.x = params.x

    def load(self, checkpoint: Any, params: Point) -> None:
        super().load(checkpoint, params)
        self.x = params.x

    def train_epoch(self, epoch: int) -> dict[str, float]:
        Fragile.trained.append((self.x, epoch))
        if (self.x, epoch) in Fragile.broken:
            raise OSError(f"[Errno 116] Stale file handle {self.x}")
        return super().train_epoch(epoch)


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    Fragile.broken, Fragile.trained = set(), []
    yield
    Fragile.broken = set()


def curves(path: Path) -> dict[int, list[float]]:
    """Return the values of each trial's epochs."""
    tuning = letstune.load(path)
    return {trial.trial_id: [e.metric_value for e in trial.epochs] for trial in tuning}


def xs(path: Path) -> list[float]:
    """Return the x of each trial."""
    tuning = letstune.load(path)
    return [trial.params.x for trial in sorted(tuning, key=lambda trial: trial.trial_id)]


def assert_holds_all_of(found: Path, wanted: Path) -> None:
    """Fail unless a run has all that another has: trials, epochs, rounds and winner."""
    more, all_of_it = curves(found), curves(wanted)
    assert more.keys() == all_of_it.keys()
    for trial, values in all_of_it.items():
        assert more[trial][: len(values)] == values
    rounds = [{t.trial_id: t.round for t in letstune.load(path)} for path in (found, wanted)]
    assert rounds[0] == rounds[1]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    broken=st.sets(st.tuples(st.integers(0, 11), st.integers(0, 5)), min_size=1),
    rounds=st.sampled_from([[1, 2, 3], [2, 4], Rounds([1, 2], keep=0.5, cohort=[5, 3])]),
    seed=st.integers(0, 99),
    at_a_time=st.booleans(),
)
def test_a_run_whose_failures_are_retried_holds_all_that_one_without_them_holds(
    broken: set[tuple[int, int]],
    rounds: Any,
    seed: int,
    at_a_time: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("retried")
    whole, path = folder / "whole.db", folder / "run.db"
    Fragile.broken = set()
    tune(Fragile(), 12, whole, rounds=rounds, seed=seed)
    there = xs(whole)
    Fragile.broken = {(there[trial], epoch) for trial, epoch in broken}
    failed = [e.trial_id for e in tune(Fragile(), 12, path, rounds=rounds, seed=seed).errors]
    Fragile.broken = set()
    for trials in [[trial] for trial in failed] if at_a_time else [failed]:
        if trials:
            retry_trials(path, trials)
            tuning = letstune.resume(path, progress=False)
            assert tuning.finished
    assert letstune.load(path).errors == []
    assert_holds_all_of(path, whole)


def test_a_trial_goes_on_from_its_last_recorded_epoch(path: Path) -> None:
    tune(Fragile(), 1, path.with_name("x.db"), rounds=[5])
    (x,) = xs(path.with_name("x.db"))
    Fragile.broken = {(x, 3)}
    assert len(tune(Fragile(), 1, path, rounds=[5]).errors) == 1
    Fragile.broken, Fragile.trained = set(), []
    tuning = letstune.resume(path, retry_failed=True, progress=False, rehearse=False)
    assert Fragile.trained == [(x, 3), (x, 4)]
    assert tuning.errors == []
    assert curves(path) == curves(path.with_name("x.db"))


def test_a_trial_may_fail_again(path: Path) -> None:
    tune(Fragile(), 2, path.with_name("x.db"), rounds=[3])
    first, second = xs(path.with_name("x.db"))
    Fragile.broken = {(first, 1), (second, 0)}
    tune(Fragile(), 2, path, rounds=[3])
    Fragile.broken = {(first, 2)}
    tuning = letstune.resume(path, retry_failed=True, progress=False)
    assert [(error.trial_id, error.epoch) for error in tuning.errors] == [(0, 2)]
    with closing(Journal(path)) as journal:
        assert journal.damage() == []
    retry_trials(path)
    Fragile.broken = set()
    assert letstune.resume(path, progress=False).errors == []
    assert curves(path) == curves(path.with_name("x.db"))


def test_a_finished_run_without_failures_stays_as_it_is(path: Path) -> None:
    tune(Fragile(), 2, path, rounds=[2])
    before = path.read_bytes()
    letstune.resume(path, retry_failed=True, progress=False)
    assert path.read_bytes() == before


SCRIPT = """
import sys
import letstune
from letstune import Params, rand

class P(Params):
    x: float = rand.uniform(0, 1)

class T(letstune.SimpleTrainer[P]):
    metric = "m"
    def load_dataset(self, dataset): pass
    def train(self, params):
        if params.x > 0.5: raise {error}
        return params, {{"m": params.x}}

if __name__ == "__main__":
    letstune.tune(T(), 8, journal="run.db", seed=1, retry_failed={retry})
"""


@pytest.mark.parametrize("retry", [None, False])
def test_a_mended_script_tries_them_again_unless_told_not_to(
    retry: bool | None, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"

    def run(error: str) -> str:
        script.write_text(SCRIPT.format(error=error, retry=retry))
        done = subprocess.run(
            [sys.executable, script],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stderr

    run("AttributeError('typo')")
    failed = letstune.load(tmp_path / "run.db").errors
    assert failed
    assert "will be tried again" not in run("AttributeError('typo')")
    assert letstune.load(tmp_path / "run.db").errors == failed
    told = run("letstune.StopTraining({'m': 2.0})")
    if retry is None:
        assert f"{len(failed)} failed trials of" in told
        assert "since the trainer or its script has changed" in told
        assert letstune.load(tmp_path / "run.db").errors == []
    else:
        assert letstune.load(tmp_path / "run.db").errors == failed


def test_only_alike_failures_are_retried(path: Path) -> None:
    tune(Fragile(), 6, path.with_name("x.db"), rounds=[3])
    there = xs(path.with_name("x.db"))
    Fragile.broken = {(there[trial], 1) for trial in (1, 3)} | {(there[2], 2)}
    tune(Fragile(), 6, path, rounds=[3])
    with closing(Journal(path)) as journal:
        first, *others = map(signature, journal.failures())
    assert first == others[0] == others[1]  # the numbers differ, and do not count
    assert first[0] == "OSError"
    done = CliRunner().invoke(main, ["retry", str(path), "--alike", "3"])
    assert done.exit_code == 0
    assert done.output.startswith("3 failed trials opened again.")
    assert f"letstune resume {path}" in done.output
    assert letstune.load(path).errors == []


def test_what_cannot_be_retried_is_told(path: Path) -> None:
    tune(Fragile(), 2, path, rounds=[2])
    before = path.read_bytes()
    with pytest.raises(TrialEndedError, match=r"Trial 1 of .* has not failed"):
        retry_trials(path, [1])
    with pytest.raises(TrialNotFoundError, match="no trial 7"):
        retry_trials(path, [7])
    with JournalLock(path, now()), pytest.raises(JournalLockedError):
        retry_trials(path)
    assert retry_trials(path) == []
    assert path.read_bytes() == before


def test_deaths_before_a_retry_do_not_count_after_it(path: Path) -> None:
    tune(Fragile(), 1, path.with_name("x.db"), rounds=[2])
    Fragile.broken = {(xs(path.with_name("x.db"))[0], 1)}
    tune(Fragile(), 1, path, rounds=[2])
    with closing(Journal(path, write=True)) as journal:
        journal.append([WorkerDied(0, 1, f"0-{n}", -9, None, "", now()) for n in range(3)])
        journal.end_session("interrupted")
    Fragile.broken = set()
    assert letstune.resume(path, retry_failed=True, progress=False).errors == []


KILLED = """
import sys, time
from pathlib import Path
from small_trainers import Climb

class Slow(Climb):
    def train_epoch(self, epoch):
        with open(self.dataset + ".began", "a") as began:
            began.write(".")
        time.sleep(0.02)
        if epoch == 2 and self.model[0] > 0 and not Path(self.dataset).exists():
            raise OSError("gone")
        return super().train_epoch(epoch)

if __name__ == "__main__":
    import letstune
    letstune.tune(
        Slow(), 12, journal=sys.argv[1], rounds=[3, 4], seed=3, dataset=sys.argv[2],
        retry_failed=len(sys.argv) > 3, progress=False,
    )
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_retries_survive_kills(path: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    mended = tmp_path / "mended"

    def start(journal: Path, *more: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, script, journal, mended, *more], env=environment(TESTS)
        )

    assert start(path).wait(60) == 0
    failed = len(letstune.load(path).errors)
    assert failed > 2
    mended.touch()
    straight = path.with_name("straight.db")
    shutil.copy(path, straight)
    shutil.copytree(path.with_name("run.checkpoints"), path.with_name("straight.checkpoints"))
    assert start(straight, "retry").wait(60) == 0
    began = tmp_path / "mended.began"
    for epochs in (1, 4, 2, 6):  # fewer than there are left
        size = began.stat().st_size
        process = start(path, *(["retry"] if letstune.load(path).errors else []))
        while began.stat().st_size < size + epochs:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert start(path).wait(60) == 0
    assert letstune.load(path).errors == letstune.load(straight).errors == []
    found, wanted = facts(path), facts(straight)
    assert found["epochs"] == wanted["epochs"]
    assert found["trials"] == wanted["trials"]


EDITED = """
import letstune
class P(letstune.Params):
    x: float = letstune.rand.uniform(0, 1)
class T(letstune.EpochTrainer[P]):
    metric = "m"
    def load_dataset(self, dataset): ...
    def create_model(self, params): self.model = params.x
    def train_epoch(self, epoch):
        return {"m": self.model}
"""


def test_a_resume_says_that_the_script_has_changed_and_what_is_used(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        return command(*arguments, cwd=tmp_path).stderr

    script = tmp_path / "net.py"
    script.write_text(EDITED)
    run("tune", "net.py:T", "-n2", "--rounds=1", "--journal=run.db", "--workers=0")
    assert "has changed" not in run("resume", "run.db", "-n3", "--workers=0")
    script.write_text(EDITED.replace("self.model}", "2 * self.model}"))
    told = run("resume", "run.db", "-n4", "--workers=0")
    assert f"letstune: {script} has changed since; what the journal holds of it is used" in told
    assert "--trainer FILE:CLASS" in told
    assert "has changed" not in run("resume", "run.db", "--workers=0")  # nothing is trained
