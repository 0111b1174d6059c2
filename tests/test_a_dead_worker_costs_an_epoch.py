"""A worker that dies or hangs costs the epoch in flight, and all others go on."""

import os
import signal
import sys
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from failing_trainer import KINDS, Trouble
from journal_facts import assert_same, query
from live_processes import gone, pids, wait_for
from small_trainers import Climb, Point, tune

import letstune
from letstune.journal.journal import Journal, now
from letstune.rounds.decisions import doomed
from letstune.rounds.events import (
    EpochFinished,
    Task,
    TaskEnded,
    TrialProposed,
    TrialStopped,
    WorkerDied,
)
from letstune.rounds.plan import Plan
from letstune.rounds.state import State
from letstune.runs.check import check_run
from letstune.training.stores import DirectoryStore
from letstune.workers import slot as slots
from letstune.workers.job import Job
from letstune.workers.process_executor import ProcessExecutor

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


# Trouble


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which workers die and hang in every way."""
    path = tmp_path_factory.mktemp("troubled") / "run.db"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(slots, "GRACE", 0.5)
        tune(
            Trouble(),
            len(KINDS),
            path,
            dataset=str(path.parent),
            sampler="grid",
            rounds=letstune.Rounds([2], keep=1),
            workers=2,
            epoch_timeout=4,
        )
    return path


def end_of(path: Path, kind: str) -> tuple[Any, ...]:
    """How a trial failed: epoch, kind, message, traceback."""
    ((found,),) = [
        query(path, f"SELECT epoch, kind, message, traceback FROM failures WHERE trial = {n}")
        for n, name in enumerate(KINDS)
        if name == kind
    ]
    return tuple(found)


@pytest.mark.slow
def test_all_others_go_on(troubled: Path) -> None:
    tuning = letstune.load(troubled)
    assert tuning.finished
    statuses = {trial.params.kind: (trial.status, len(trial.epochs)) for trial in tuning}
    well = {"fine", "killed once", "grandchildren"}
    assert statuses == {kind: ("trained", 2) if kind in well else ("failed", 1) for kind in KINDS}


@pytest.mark.parametrize(
    ("kind", "code", "how"),
    [
        ("segfault", -signal.SIGSEGV, "signal 11 (SIGSEGV)"),
        ("killed", -signal.SIGKILL, "signal 9 (SIGKILL)"),
        ("exit", 3, "exit code 3"),
    ],
)
def test_a_trial_that_kills_its_worker_three_times_fails(
    kind: str, code: int, how: str, troubled: Path
) -> None:
    trial = KINDS.index(kind)
    deaths = query(
        troubled, f"SELECT epoch, code, memory, stack, attempt FROM deaths WHERE trial = {trial}"
    )
    assert [death[:2] for death in deaths] == [(1, code)] * 3
    assert all(2**23 < memory < 2**33 for _, _, memory, _, _ in deaths)
    assert len({attempt for *_, attempt in deaths}) == 3
    epoch, why, message, told = end_of(troubled, kind)
    assert (epoch, why) == (1, "worker died")
    assert message == f"The worker died 3 times in this epoch: {how}."
    assert told.count(how) == 4
    assert "MiB" in told
    if kind == "segfault":
        assert all("in segfault" in stack for *_, stack, _ in deaths)
        assert "in train_epoch" in told
    else:
        assert {stack for *_, stack, _ in deaths} == {""}
        assert "No stack" in told


def test_a_worker_that_dies_once_costs_an_epoch_only(troubled: Path) -> None:
    trial = KINDS.index("killed once")
    assert query(troubled, f"SELECT epoch FROM deaths WHERE trial = {trial}") == [(1,)]
    assert len(query(troubled, "SELECT * FROM deaths")) == 10


def test_an_allocation_that_fails_is_an_error_like_any_other(troubled: Path) -> None:
    epoch, kind, message, told = end_of(troubled, "memory")
    assert (epoch, kind, message) == (1, "raised", "MemoryError")
    assert "bytearray" in told
    assert end_of(troubled, "raise")[1:3] == ("raised", "ZeroDivisionError: division by zero")


@pytest.mark.parametrize(("kind", "where"), [("hang", "in hang"), ("sleep", "in sleep")])
def test_an_epoch_that_hangs_is_ended_and_its_stacks_are_kept(
    kind: str, where: str, troubled: Path
) -> None:
    epoch, why, message, told = end_of(troubled, kind)
    assert (epoch, why) == (1, "timed out")
    assert message == "It took longer than epoch_timeout, 4 s."
    assert where in told


def test_no_process_is_left(troubled: Path) -> None:
    workers = pids(troubled.parent / "pids")
    assert len(set(workers)) >= 2 * 13  # and their supervisors: one for each death or hang
    assert gone(workers, within=0)
    assert len(pids(troubled.parent / "left")) == 4
    for name in ("left", "sleeping"):
        assert gone(pids(troubled.parent / name), within=0)


def test_nothing_half_saved_is_left(troubled: Path) -> None:
    assert not (troubled.parent / "run.checkpoints" / ".new").exists()
    assert check_run(troubled) == []


# Deaths, as the journal has them


def death(trial: int, epoch: int) -> WorkerDied:
    return WorkerDied(trial, epoch, "a-1", -11, None, "the stack", now())


def test_deaths_count_since_the_last_epoch_also_after_a_resume(path: Path) -> None:
    tune(Climb(), 3, path, rounds=[2], keep_checkpoints="all")
    letstune.resume(path, n_trials=3, rounds=[3], progress=False)
    with closing(Journal(path, write=True)) as journal:
        plan = journal.load()[0]
        journal.grow({"n_trials": 6})
        journal.append([TrialProposed(n, Point(x=n / 9, n=1).to_json(), "random") for n in (3, 4)])
        # Of trial 3, those before its epoch do not count any more; trial 4 has lost two.
        finished = EpochFinished(3, 0, 0.5, {"height": 0.5}, now(), 0.1)
        journal.append([death(3, 0), death(3, 0), finished, death(3, 1), death(4, 0), death(4, 0)])
        state = journal.load()[1]
        assert {n: len(d) for n, d in state.deaths.items()} == {3: 1, 4: 2}
        assert doomed(replace(plan, max_deaths=3), state) == []
        (failed,) = doomed(replace(plan, max_deaths=2), state)
        assert (failed.trial, failed.epoch, failed.kind) == (4, 0, "worker died")
        journal.end_session("interrupted")
    assert letstune.resume(path, max_deaths=2, progress=False).finished
    assert query(path, "SELECT trial, kind FROM failures") == [(4, "worker died")]
    assert query(path, "SELECT count(*) FROM epochs WHERE trial = 4") == [(0,)]


def test_deaths_are_forgotten_with_the_next_epoch_and_with_the_end() -> None:
    plan = Plan.from_facts(PLAN)
    state = State(plan)
    for number in range(2):
        state.apply(TrialProposed(number, "{}", "random"))
        state.apply(death(number, 0))
    state.apply(EpochFinished(0, 0, 0.5, {}, now(), 0.1))
    assert list(state.deaths) == [1]
    state.apply(TrialStopped(1, -1))
    assert state.deaths == {}


PLAN = {
    "metric": "m",
    "n_trials": 2,
    "rounds": letstune.Rounds([2]).to_dict(),
    "simple": False,
    "seed": 1,
    "space": {},
    "sampler": {"name": "random", "options": {}},
    "adaptive": False,
    "store": {},
    "lag": 0,
    "keep_checkpoints": 1,
    "trainer": "m:T",
}


def test_a_worker_that_dies_after_the_last_epoch_of_a_trial_costs_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = slots.Slot.answer
    killed: list[int] = []

    def deadly(self: slots.Slot, go_on: bool) -> None:
        # Once each: it is called again whenever there is news of the other worker.
        if self._work is not None and self._work.epoch == 3 and self.task.trial not in killed:
            assert self._process is not None
            os.kill(self._process.pid, signal.SIGKILL)
            if self.task.trial % 2:
                wait_for(self._process.ended)
            killed.append(self.task.trial)
        answer(self, go_on)

    monkeypatch.setattr(slots.Slot, "answer", deadly)
    tune(Climb(), 4, path, rounds=[3], workers=2, max_deaths=1)
    assert sorted(killed) == [0, 1, 2, 3]
    assert query(path, "SELECT trial FROM failures UNION ALL SELECT trial FROM deaths") == []
    assert check_run(path) == []
    straight = path.with_name("straight.db")
    tune(Climb(), 4, straight, rounds=[3], max_deaths=1)
    assert_same(path, straight)


class DiesInLoad(Climb):
    """Is killed in the first `load` of all. ``dataset`` is a folder."""

    def load_dataset(self, dataset: Any) -> None:
        self.folder = Path(dataset)

    def load(self, checkpoint: Any, params: Point) -> None:
        super().load(checkpoint, params)
        with suppress(FileExistsError):
            (self.folder / "killed").touch(exist_ok=False)
            (self.folder / "copy").write_text(str(checkpoint.path))
            os.kill(os.getpid(), signal.SIGKILL)


def test_what_is_killed_in_load_leaves_no_copy_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = path.parent
    (folder / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
    tune(DiesInLoad(), 2, path, dataset=str(folder), rounds=[1, 1], workers=1)
    assert len(query(path, "SELECT * FROM deaths")) == 1
    assert not Path((folder / "copy").read_text()).exists()
    assert list((folder / "tmp").iterdir()) == []
    assert check_run(path) == []


def test_a_worker_that_dies_while_it_has_nothing_to_do_is_nobodys_loss(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    job = Job.of(Climb(), None, store, journal=tmp_path / "run.db", seed=1)
    params = Point(x=0.5, n=1).to_json()
    with closing(ProcessExecutor(job, 1, "token")) as executor:
        found = []
        for trial in (0, 1):
            executor.start(Task(trial, f"a{trial}", params, 0, 0.0, 1, False))
            events: list[Any] = []
            while not (events and isinstance(events[-1], TaskEnded)):
                events += [event for d in executor.deliveries() for event in d.events]
                executor.recorded()
            found.append([type(event).__name__ for event in events])
            (process,) = [slot._process for slot in executor._slots]
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            wait_for(process.ended)
    assert found == [["EpochFinished", "TaskEnded"]] * 2
