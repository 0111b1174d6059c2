"""Kills, signals, deadlines, alike failures and retries, in any order, change nothing of a run."""

import json
import math
import os
import random
import signal
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_facts import facts, query
from live_processes import wait_for
from processes import TESTS, environment

import letstune
from letstune import Interrupted, Rounds
from letstune.journal.journal import Journal, create, now
from letstune.rounds.events import TaskEnded, WorkerDied
from letstune.rounds.streaks import Streaks
from letstune.runs.deadline import Deadline
from letstune.runs.loop import Runner
from letstune.runs.retry import retry_trials
from letstune.samplers.sampler import RandomSampler, Sampler
from letstune.telling.observers import Audience
from letstune.testing.runs import (
    Climb,
    CrashError,
    Experiment,
    Job,
    Landscape,
    ShuffledExecutor,
)
from letstune.training.stores import DirectoryStore
from letstune.workers.executor import Delivery

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are others here")


class Weathered(Climb):
    """Fails in a third of its epochs as long as there is a file, the dataset."""

    def load_dataset(self, dataset: Any) -> None:
        super().load_dataset(None)
        self.storm = Path(dataset)

    def train_epoch(self, epoch: int) -> dict[str, float]:
        if self.seed % 3 == 0 and self.storm.exists():
            raise OSError(f"the disk was away in epoch {epoch}")
        return super().train_epoch(epoch)


class Troubled(ShuffledExecutor):
    """Loses workers, and after so many deliveries all of it, or it is asked to stop."""

    def __init__(self, job: Job, rng: random.Random, how: str, after: float) -> None:
        super().__init__(job, rng.randint(1, 4), rng.randrange(100))
        self.rng, self.how, self.after = rng, how, after
        self.count = 0

    def deliveries(self) -> list[Delivery]:
        self.count += 1
        if self.how == "kill" and self.count > self.after:
            raise CrashError
        if self.how == "signal" and self.count == self.after + 1:
            signal.raise_signal(signal.SIGTERM)
        return [self.dying(delivery) for delivery in super().deliveries()]

    def dying(self, delivery: Delivery) -> Delivery:
        trial = delivery.trial
        if self.rng.random() > 0.05 or trial not in self._running:
            return delivery
        self.cancel(trial)
        died = WorkerDied(trial, 0, delivery.attempt, self.rng.choice([-9, -15]), None, "", now())
        return delivery._replace(events=[died, TaskEnded(trial)], error=None)


@dataclass
class Night:
    """A run of an experiment, session by session."""

    path: Path
    sampler: Sampler
    experiment: Experiment
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    @property
    def storm(self) -> Path:
        return self.path.with_name("storm")

    def session(self, how: str, after: float) -> bool:
        """Train until the session is ended in that way, or the run is; tell whether the run is."""
        if not self.path.exists():
            plan = self.experiment._plan(self.sampler)
            create(self.path, plan.to_facts() | {"versions": {}}, [])
        store = DirectoryStore(self.path.with_suffix(".checkpoints"))
        job = replace(
            self.experiment.job(store),
            trainer=Weathered(self.experiment.params_cls),
            dataset=str(self.storm),
        )
        executor = Troubled(job, self.rng, how, after)
        with closing(Journal(self.path, write=True)) as journal:
            _, state = journal.load()
            left = after if how == "deadline" else math.inf
            runner = Runner(
                state=state,
                journal=journal,
                space=self.experiment.params_cls.space(),
                sampler=self.sampler,
                store=store,
                executor=executor,
                audience=Audience(None, (), state),
                token=f"{self.rng.getrandbits(64):x}",
                streaks=Streaks(1 + int(after) % 3 if how == "alike" else 0),
                deadline=Deadline(left, clock=lambda: float(executor.count)),
            )
            with suppress(CrashError, Interrupted):
                runner.run()
            return runner.state.finished

    def finish(self) -> dict[str, list[str]]:
        while not self.session("end", math.inf):
            pass
        return facts(self.path)


def night(folder: Path, sampler: Sampler, seed: int, **changes: Any) -> Night:
    experiment = Experiment(params_cls=Landscape, seed=seed % 5, lag=1, **changes)
    return Night(folder / "run.db", sampler, experiment, random.Random(seed))


ends = st.tuples(st.sampled_from(["kill", "signal", "deadline", "alike"]), st.integers(0, 25))
examples = settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("letstune.runs.loop.MOMENT", 0)


class Seeing(Sampler):
    """Learns, in a way: in what it proposes, all shows that it has seen."""

    adaptive = True

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        seen = sum(len(o.values) * (o.trial + 1) for o in history) + len(history)
        return space.sample(rng).replace(x=seen % 2001 / 1000 - 1)


@pytest.mark.parametrize("sampler", [RandomSampler(), Seeing()])
@examples
@given(sessions=st.lists(ends, max_size=8), seed=st.integers(0, 2**32))
def test_whatever_ends_sessions_the_finished_journal_is_that_of_one_session(
    sampler: Sampler,
    sessions: list[tuple[str, int]],
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    run = night(tmp_path_factory.mktemp("night"), sampler, seed)
    for how, after in sessions:
        run.session(how, after)
    assert run.finish() == night(tmp_path_factory.mktemp("day"), sampler, seed).finish()


def outcomes(path: Path) -> set[tuple[Any, ...]]:
    """Return all epochs, and how trials have ended, but for failures that were retried since."""
    with closing(Journal(path)) as journal:
        failures = {(failure.trial, failure.epoch, "failed") for failure in journal.failures()}
    stops = {(*row, "stopped") for row in query(path, "SELECT trial, epoch FROM stops")}
    return {*query(path, "SELECT trial, epoch, value, sha256 FROM epochs"), *failures, *stops}


events = st.one_of(ends, st.tuples(st.sampled_from(["storm", "calm", "retry"]), st.just(0)))


@examples
@given(happens=st.lists(events, max_size=14), seed=st.integers(0, 2**32))
def test_what_fails_meanwhile_and_is_retried_takes_nothing_from_the_run(
    happens: list[tuple[str, int]], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whoever has advanced in the place of a trial that was retried keeps what it has."""
    run = night(tmp_path_factory.mktemp("night"), RandomSampler(), seed)
    for what, after in happens:
        if what == "storm":
            run.storm.touch()
        elif what == "calm":
            run.storm.unlink(missing_ok=True)
        elif what != "retry":
            run.session(what, after)
        elif run.path.exists():
            retry_trials(run.path)
    run.storm.unlink(missing_ok=True)
    run.finish()
    retry_trials(run.path)
    found = run.finish()
    day = night(tmp_path_factory.mktemp("day"), RandomSampler(), seed)
    assert found["trials"] == day.finish()["trials"]
    whole = night(tmp_path_factory.mktemp("all"), RandomSampler(), seed, rounds=Rounds([6]))
    whole.finish()
    assert outcomes(day.path) <= outcomes(run.path) <= outcomes(whole.path)


SCRIPT = """
import json, sys, time
from pathlib import Path
import letstune
from small_trainers import Climb

class Stormy(Climb):
    def train_epoch(self, epoch):
        with open(self.dataset + ".began", "a") as began:
            began.write(".")
        time.sleep(0.01)
        if self.seed % 3 == 0 and Path(self.dataset).exists():
            raise OSError(f"the disk was away in epoch {epoch}")
        return super().train_epoch(epoch)

if __name__ == "__main__":
    tuning = letstune.tune(
        Stormy(), 16, journal=sys.argv[1], dataset=sys.argv[2], seed=3, progress=False,
        **json.loads(sys.argv[3]),
    )
    sys.exit(bool(tuning.stopped))
"""


@pytest.mark.slow
def test_real_kills_deadlines_alike_failures_and_retries_take_nothing_from_a_run(
    path: Path,
) -> None:
    rng, storm = random.Random(1), path.with_name("storm")
    began = path.with_name("storm.began")
    began.touch()

    def start(journal: Path, **options: Any) -> "subprocess.Popen[bytes]":
        options = {"rounds": [2, 3], "max_failures": 0, **options}
        command = [sys.executable, "-c", SCRIPT, journal, storm, json.dumps(options)]
        return subprocess.Popen(command, env=environment(TESTS), stderr=subprocess.DEVNULL)

    ended = set()
    for number in range(16):
        (storm.touch if number % 3 != 2 else storm.unlink)()
        options: dict[str, Any] = {"workers": rng.choice([None, 2])}
        options |= rng.choice([{}, {"max_failures": 2}, {"for_": 0.3}])
        options["retry_failed"] = rng.random() < 0.5
        target = began.stat().st_size + rng.randint(1, 12)
        process = start(path, **options)
        wait_for(lambda: process.poll() is not None or began.stat().st_size >= target)  # noqa: B023
        if not options.keys() & {"max_failures", "for_"}:
            process.kill()
        ended.add(process.wait(60))
    assert ended <= {0, 1, 75, -signal.SIGKILL}
    assert {1, 75, -signal.SIGKILL} <= ended
    storm.unlink(missing_ok=True)
    day, whole = path.with_name("day.db"), path.with_name("whole.db")
    assert start(path, retry_failed=True).wait(60) == 0
    assert start(day).wait(60) == 0
    assert start(whole, rounds=[5]).wait(60) == 0
    assert outcomes(day) <= outcomes(path) <= outcomes(whole)
    assert letstune.load(path).errors == []
