"""The base of executors far away, with a cluster that is a list of what was sent."""

from __future__ import annotations

import pickle
import signal
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_trainers import Climb, Point

from letstune.errors import Interrupted, PlanError, WorkerError
from letstune.rounds.events import EpochFinished, Event, Task, TaskEnded, TrialFailed, WorkerDied
from letstune.training.stores import DirectoryStore
from letstune.workers import remote
from letstune.workers.commands import Answer, Came, Cancel, Command, Start, Stop
from letstune.workers.executor import Delivery
from letstune.workers.job import Job
from letstune.workers.messages import Raised
from letstune.workers.remote import Remote


class Fake(Remote[str]):
    """Keeps what it sends; does, each time that it listens, the next of what is to happen."""

    waiting = "Waiting."

    def __init__(self, job: Job, **options: Any) -> None:
        super().__init__(job, **options)
        self.sent: list[tuple[str, Command]] = []
        self.happens: deque[Callable[[], object]] = deque()
        self.ended = False

    def name(self, place: str) -> str:
        return f"machine {place}"

    def send(self, place: str, command: Command) -> None:
        self.sent.append((place, command))

    def listen(self, seconds: float) -> None:
        if self.happens:
            self.happens.popleft()()

    def end(self) -> None:
        self.ended = True

    def heard_at(self, place: str, *items: Came | Raised) -> list[Delivery]:
        """Let a place say something, and return what is delivered of it."""
        self.happens.append(lambda: self.heard(place, items))
        return self.deliveries()

    def left_at(self, place: str, blame: str = "", preempted: bool = False) -> list[Delivery]:
        self.happens.append(lambda: self.left(place, blame, preempted=preempted))
        return self.deliveries()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TICK", 0.0)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Fake]:
    def fake(*places: str, **options: Any) -> Fake:
        store = DirectoryStore(tmp_path / "store")
        job = Job.of(Climb(), b"large", store, journal=tmp_path / "run.db", seed=1)
        made = Fake(job, **options)
        for place in places:
            made.joined(place)
        return made

    return fake


def task(trial: int, attempt: str = "", epochs: int = 0) -> Task:
    params = Point(x=0.5, n=3).to_json()
    return Task(trial, attempt or f"a{trial}", params, epochs, seconds=0.0, limit=9, timed=False)


def epoch(trial: int, number: int = 0) -> EpochFinished:
    return EpochFinished(trial, number, 0.5, {}, "", 0.1)


def came(trial: int, *events: Event | TaskEnded, attempt: str = "") -> Came:
    return Came(trial, attempt or f"a{trial}", list(events), None)


def test_tasks_go_to_the_least_busy_and_of_these_to_one_that_was_used(
    make: Callable[..., Fake],
) -> None:
    executor = make("x", "y", slots_per_place=2)
    assert executor.slots == 4
    for trial in range(4):
        executor.start(task(trial))
    assert [place for place, _ in executor.sent] == ["x", "y", "x", "y"]
    executor.heard_at("y", came(1, TaskEnded(1)), came(3, TaskEnded(3)))
    executor.joined("z")
    executor.start(task(4))
    assert executor.sent[-1] == ("y", Start(task(4)))


def test_tasks_wait_for_a_place(
    make: Callable[..., Fake], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    executor = make()
    assert executor.slots == 1
    executor.start(task(0))
    monkeypatch.setattr(remote, "QUIET", -1.0)
    assert executor.deliveries() == executor.deliveries() == []
    assert capsys.readouterr().err == "letstune: Waiting.\n"  # once
    executor.joined("x")
    assert executor.sent == [("x", Start(task(0)))]
    assert executor.tasks("x") == [task(0)]


def test_a_place_that_joins_ends_the_wait(
    make: Callable[..., Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "TICK", 1e9)
    executor = make()
    executor.happens += [lambda: None, lambda: executor.joined("x")]
    assert executor.deliveries() == []
    assert executor.slots == 1


def test_who_delivered_an_epoch_hears_once_that_it_is_recorded(make: Callable[..., Fake]) -> None:
    executor = make("x", "y")
    executor.start(task(0))
    executor.start(task(1))
    del executor.sent[:]
    (delivery,) = executor.heard_at("x", came(0, epoch(0)))
    assert delivery == Delivery(0, "a0", [epoch(0)])
    assert executor.sent == []
    executor.recorded()
    executor.recorded()
    assert executor.sent == [("x", Answer("a0", True))]
    executor.heard_at("x", came(0, TaskEnded(0)))
    executor.recorded()
    assert len(executor.sent) == 1
    assert executor.tasks("x") == []


def test_what_is_said_of_a_task_that_was_given_up_is_dropped(make: Callable[..., Fake]) -> None:
    executor = make("x")
    executor.start(task(0, "old"))
    executor.cancel(0)
    executor.start(task(0, "new"))
    assert executor.sent[1:] == [("x", Cancel("old")), ("x", Start(task(0, "new")))]
    assert executor.heard_at("x", came(0, epoch(0), attempt="old")) == []
    assert executor.heard_at("nowhere", came(0, epoch(0), attempt="new")) == []
    assert len(executor.heard_at("x", came(0, epoch(0), attempt="new"))) == 1


def test_a_task_that_waits_can_be_given_up(make: Callable[..., Fake]) -> None:
    executor = make()
    executor.start(task(0))
    executor.cancel(0)
    executor.joined("x")
    assert executor.sent == []


def test_a_stop_lets_epochs_in_flight_finish(make: Callable[..., Fake]) -> None:
    executor = make("x")
    executor.start(task(0))
    executor.start(task(1))  # it waits
    executor.stop()
    assert executor.deliveries() == [Delivery(1, "a1", [TaskEnded(1)])]
    assert executor.sent[1:] == [("x", Stop())]
    executor.heard_at("x", came(0, epoch(0)))
    executor.recorded()
    assert executor.sent[2:] == [("x", Answer("a0", False))]


def test_a_loss_counts_only_if_it_happens_again_and_again(make: Callable[..., Fake]) -> None:
    executor = make("x")
    executor.start(task(3, "a0", epochs=4))
    executor.heard_at("x", came(3, epoch(3, 4), attempt="a0"))
    for losses in range(1, 4):
        attempt = executor.tasks("x")[0].attempt
        assert executor.left_at("x") == [Delivery(3, attempt, [TaskEnded(3)])]
        executor.joined("x")
        executor.start(task(3, f"a{losses}", epochs=5))
    ((_, attempt, (died, over), _),) = executor.left_at("x")
    assert isinstance(died, WorkerDied)
    assert died[:6] == (
        *(3, 5, "a3", -signal.SIGKILL, None),
        "Machine x was lost with it: 4 losses without an epoch.",
    )
    assert (attempt, over) == ("a3", TaskEnded(3))


def test_an_epoch_ends_a_series_of_losses(make: Callable[..., Fake]) -> None:
    executor = make()
    for attempt in ("a", "b", "c", "d", "e"):
        executor.joined("x")
        executor.start(task(0, attempt))
        executor.heard_at("x", came(0, epoch(0), attempt=attempt))
        assert executor.left_at("x") == [Delivery(0, attempt, [TaskEnded(0)])]


def test_places_that_are_asked_to_leave_are_no_losses(make: Callable[..., Fake]) -> None:
    executor = make()
    for attempt in ("a", "b", "c", "d", "e"):
        executor.joined("x")
        executor.start(task(0, attempt))
        assert executor.left_at("x", preempted=True) == [Delivery(0, attempt, [TaskEnded(0)])]


def test_a_loss_for_which_the_trial_is_to_blame_counts_at_once(make: Callable[..., Fake]) -> None:
    executor = make("x")
    executor.start(task(3, epochs=2))
    ((*_, (died, _), _),) = executor.left_at("x", blame="memory")
    assert isinstance(died, WorkerDied)
    assert died[:6] == (3, 2, "a3", -signal.SIGKILL, None, "memory")


def test_what_must_end_the_run_is_raised_after_what_came_with_it(
    make: Callable[..., Fake],
) -> None:
    executor = make("x", "y")
    executor.start(task(0))
    executor.start(task(1))
    raised = Raised.of(PlanError("no"))
    assert len(executor.heard_at("x", raised, came(0, epoch(0)))) == 1
    del executor.sent[:]
    executor.recorded()
    assert executor.sent == []  # it is about to end
    with pytest.raises(PlanError, match="no") as caught:
        executor.deliveries()
    assert caught.value.__notes__ == ["It was raised on machine x."]


def test_an_error_that_is_not_letstunes_is_told_as_text(make: Callable[..., Fake]) -> None:
    executor = make("x")
    with pytest.raises(WorkerError, match="A worker process raised:\nTraceback"):
        executor.heard_at("x", Raised(None, "Traceback ..."))


def test_a_failure_comes_without_objects_of_the_trainers(make: Callable[..., Fake]) -> None:
    executor = make("x")
    executor.start(task(0))
    failed = TrialFailed(0, 0, "raised", "no", "Traceback")
    sent = Came.of(Delivery(0, "a0", [failed, TaskEnded(0)], ArithmeticError("no")))
    (delivery,) = executor.heard_at("x", pickle.loads(pickle.dumps(sent)))
    assert delivery.events[0] == failed
    assert delivery.error is None


def test_a_place_that_joins_again_has_lost_what_it_trained(make: Callable[..., Fake]) -> None:
    executor = make("x")
    executor.start(task(0))
    executor.happens.append(lambda: executor.joined("x"))
    (delivery,) = executor.deliveries()
    assert delivery.events == [TaskEnded(0)]


def test_what_a_place_that_has_left_says_ends_no_run(make: Callable[..., Fake]) -> None:
    executor = make("x", "y")
    executor.left("x")
    executor.heard_at("x", Raised.of(PlanError("too late")))
    executor.start(task(1))
    executor.deliveries()


def test_a_cluster_that_is_lost_is_an_interruption(make: Callable[..., Fake], capsys: Any) -> None:
    executor = make("x")
    executor.happens.append(lambda: executor.interrupt("It is gone."))
    with pytest.raises(Interrupted):
        executor.deliveries()
    assert capsys.readouterr().err == "letstune: It is gone.\n"


def test_what_killed_workers_left_is_removed(make: Callable[..., Fake], tmp_path: Path) -> None:
    executor = make("x")
    store = DirectoryStore(tmp_path / "store")
    (store.stage("killed") / "half").touch()
    (store.stage("late") / "file").touch()
    uri = store.put("late", store.stage("late"))
    store.stage("late").rmdir()
    executor.leave_behind(["killed"], [uri])
    executor.close()
    assert executor.ended
    assert list(store.list()) == []


def test_the_dataset_is_not_kept(make: Callable[..., Fake]) -> None:
    assert make().job.dataset.data == b""
