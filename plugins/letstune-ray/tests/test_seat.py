"""A seat, without Ray around it."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from climbers import Climb, Raises, Slow, task
from letstune_ray import seat as module
from letstune_ray.cluster import needs
from letstune_ray.place import loss
from letstune_ray.seat import Here, Seat, put_probe, versions

from letstune.errors import CheckpointError, PickleError
from letstune.rounds.events import EpochFinished, TaskEnded, TrialFailed, WorkerDied
from letstune.training.checkpoints import Keeper
from letstune.training.stores import Store
from letstune.workers.job import Job
from letstune.workers.messages import Raised, unpack

CheckedSeat = Callable[..., tuple[Seat, Any]]


@pytest.fixture
def checked(
    monkeypatch: pytest.MonkeyPatch, make_job: Callable[..., Job], store: Store
) -> Iterator[CheckedSeat]:
    """Return what makes a seat, and returns it with what its check said."""
    monkeypatch.setattr(module, "_node", lambda: "n0")
    seats: list[Seat] = []
    keeper = Keeper(store, "probe")

    def make(trainer: Any = Climb, **other: Any) -> tuple[Seat, Any]:
        seats.append(Seat())
        given = {
            "token": f"token-{len(seats)}",
            "versions": versions(),
            "job": pickle.dumps(make_job(trainer())),
            "probe": put_probe(keeper, f"probe-{len(seats)}"),
            "cores": 1,
            "limits": {},
        }
        return seats[-1], seats[-1].check(**(given | other))

    yield make
    for seat in seats:
        seat.close()
    keeper.close()


def test_a_task_is_trained_epoch_by_epoch(checked: CheckedSeat) -> None:
    seat, here = checked()
    assert isinstance(here, Here)
    seat.tell(0, "start", task(7, limit=2))
    told = []
    for number in (1, 2):
        news = seat.poll(60)
        told += news.deliveries
        assert (news.raised, news.errors) == (None, [None])
        # Until it is told that the epoch is recorded, it does not go on.
        assert seat.poll(0.2).deliveries == []
        seat.tell(number, "answer")
    told += seat.poll(60).deliveries
    assert {(d.trial, d.attempt) for d in told} == {(7, "a7")}
    events = [event for delivery in told for event in delivery.events]
    assert [type(event) for event in events] == [EpochFinished, EpochFinished, TaskEnded]


def test_words_are_heard_in_the_order_of_their_numbers(checked: CheckedSeat) -> None:
    seat, _ = checked(Slow)
    seat.tell(2, "start", task(2))
    seat.tell(1, "cancel")
    assert seat.poll(0.2).deliveries == []
    seat.tell(0, "start", task(1))
    assert {delivery.trial for delivery in seat.poll(60).deliveries} == {2}


def test_what_is_given_up_is_told_as_killed(checked: CheckedSeat) -> None:
    seat, _ = checked(Slow)
    seat.tell(0, "start", task(1))
    assert seat.poll(60).killed == []
    seat.tell(1, "cancel")
    assert seat.poll(0.2).killed == ["token-1-1"]


def test_a_stop_ends_a_task_that_has_not_begun(checked: CheckedSeat) -> None:
    seat, _ = checked()
    seat.tell(0, "start", task(1))
    seat.tell(1, "stop")
    (delivery,) = seat.poll(60).deliveries
    assert delivery.events == [TaskEnded(1)]


def test_a_stop_ends_a_task_after_its_epoch(checked: CheckedSeat) -> None:
    seat, _ = checked(Slow)
    seat.tell(0, "start", task(1, limit=100))
    assert isinstance(seat.poll(60).deliveries[0].events[0], EpochFinished)
    seat.tell(1, "stop")
    seat.tell(2, "answer")
    (delivery,) = seat.poll(60).deliveries
    assert delivery.events == [TaskEnded(1)]


def test_an_error_of_a_trainer_is_told_with_it(checked: CheckedSeat) -> None:
    seat, _ = checked(Raises)
    seat.tell(0, "start", task(1))
    seat.poll(60)
    seat.tell(1, "answer")
    news = seat.poll(60)
    assert isinstance(news.deliveries[0].events[0], TrialFailed)
    assert news.deliveries[0].error is None
    assert "ArithmeticError: no way on" in news.deliveries[0].events[0].traceback
    assert news.errors == [None]  # what is of the trainer's own classes stays there


@pytest.mark.parametrize("name", ["letstune", "Python"])
def test_other_versions_are_refused_before_anything_is_unpickled(
    checked: CheckedSeat, name: str
) -> None:
    _, raised = checked(versions={**versions(), name: "0.0"}, job=b"no pickle")
    assert isinstance(raised, Raised)
    error = unpack(raised.error)
    assert isinstance(error, PickleError)
    assert f"(Ray node n0) has {name} " in str(error)
    assert "is of " + name + " 0.0" in str(error)


def test_a_store_that_is_another_one_is_refused(checked: CheckedSeat, store: Store) -> None:
    elsewhere = put_probe(Keeper(store, "probe"), "probe-gone")
    store.delete(elsewhere.uri)
    _, raised = checked(probe=elsewhere)
    error = unpack(raised.error)
    assert isinstance(error, CheckpointError)
    assert "(Ray node n0) cannot reach the checkpoint store" in str(error)


def test_a_check_leaves_nothing_in_the_store(checked: CheckedSeat, store: Store) -> None:
    checked()
    assert list(store.list()) == ["probe-1--probe", ".new/probe"]  # the owner's


def test_a_loss_by_shortage_of_memory_is_a_death() -> None:
    died = loss(task(3), 2, "memory", "now")
    assert died == WorkerDied(3, 2, "a3", -signal.SIGKILL, None, "memory", "now")


def test_an_actor_needs_what_it_is_given() -> None:
    assert needs(0.5, 1, {"TPU": 2}) == {"CPU": 0.5, "GPU": 1, "TPU": 2}
    assert needs(0, 0, {}) == {}
