"""A seat, without Ray around it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from letstune_ray import seat as module
from letstune_ray.cluster import needs
from letstune_ray.seat import Here, Seat, versions
from trainers import Climb, Raises, Slow, task

from letstune import Store
from letstune.errors import CheckpointError, PickleError
from letstune.workers import (
    Answer,
    Cancel,
    Delivery,
    EpochFinished,
    Job,
    Raised,
    Start,
    Stop,
    TaskEnded,
    TrialFailed,
    put_probe,
)

CheckedSeat = Callable[..., tuple[Seat, Any]]


def polled(seat: Seat, seconds: float) -> list[Delivery]:
    """Return what comes of a seat's task, which raises nothing."""
    found = []
    for item in seat.poll(seconds).items:
        assert not isinstance(item, Raised)
        found.append(item.delivery())
    return found


@pytest.fixture
def checked(
    monkeypatch: pytest.MonkeyPatch, make_job: Callable[..., Job], store: Store
) -> Iterator[CheckedSeat]:
    """Return what makes a seat, and returns it with what its check said."""
    monkeypatch.setattr(module, "_node", lambda: "n0")
    seats: list[Seat] = []

    def make(trainer: Any = Climb, **other: Any) -> tuple[Seat, Any]:
        seats.append(Seat())
        given = {
            "token": f"token-{len(seats)}",
            "versions": versions(),
            "job": pickle.dumps(make_job(trainer())),
            "probe": put_probe(store, f"{len(seats)}"),
            "cores": 1,
            "limits": {},
        }
        return seats[-1], seats[-1].check(**(given | other))

    yield make
    for seat in seats:
        seat.close()


def test_a_task_is_trained_epoch_by_epoch(checked: CheckedSeat) -> None:
    seat, here = checked()
    assert isinstance(here, Here)
    seat.tell(0, Start(task(7, limit=2)))
    told = []
    for number in (1, 2):
        told += polled(seat, 60)
        # Until it is told that the epoch is recorded, it does not go on.
        assert polled(seat, 0.2) == []
        seat.tell(number, Answer("a7", True))
    told += polled(seat, 60)
    assert {delivery.error for delivery in told} == {None}
    assert {(d.trial, d.attempt) for d in told} == {(7, "a7")}
    events = [event for delivery in told for event in delivery.events]
    assert [type(event) for event in events] == [EpochFinished, EpochFinished, TaskEnded]


def test_words_are_heard_in_the_order_of_their_numbers(checked: CheckedSeat) -> None:
    seat, _ = checked(Slow)
    seat.tell(2, Start(task(2)))
    seat.tell(1, Cancel("a1"))
    assert polled(seat, 0.2) == []
    seat.tell(0, Start(task(1)))
    assert {delivery.trial for delivery in polled(seat, 60)} == {2}


def test_what_is_given_up_is_told_as_killed(checked: CheckedSeat) -> None:
    seat, _ = checked(Slow)
    seat.tell(0, Start(task(1)))
    assert seat.poll(60).killed == []
    seat.tell(1, Cancel("a1"))
    assert seat.poll(0.2).killed == ["token-1-1"]


def test_a_stop_ends_a_task_that_has_not_begun(checked: CheckedSeat) -> None:
    seat, _ = checked()
    seat.tell(0, Start(task(1)))
    seat.tell(1, Stop())
    (delivery,) = polled(seat, 60)
    assert delivery.events == [TaskEnded(1)]


def test_a_stop_ends_a_task_after_its_epoch(checked: CheckedSeat) -> None:
    seat, _ = checked(Slow)
    seat.tell(0, Start(task(1, limit=100)))
    assert isinstance(polled(seat, 60)[0].events[0], EpochFinished)
    seat.tell(1, Stop())
    seat.tell(2, Answer("a1", False))
    (delivery,) = polled(seat, 60)
    assert delivery.events == [TaskEnded(1)]


def test_an_error_of_a_trainer_is_told_with_it(checked: CheckedSeat) -> None:
    seat, _ = checked(Raises)
    seat.tell(0, Start(task(1)))
    seat.poll(60)
    seat.tell(1, Answer("a1", True))
    (delivery,) = polled(seat, 60)
    assert isinstance(delivery.events[0], TrialFailed)
    assert "ArithmeticError: no way on" in delivery.events[0].traceback
    assert delivery.error is None  # what is of the trainer's own classes stays there


@pytest.mark.parametrize("name", ["letstune", "Python"])
def test_other_versions_are_refused_before_anything_is_unpickled(
    checked: CheckedSeat, name: str
) -> None:
    _, raised = checked(versions={**versions(), name: "0.0"}, job=b"no pickle")
    assert isinstance(raised, Raised)
    error = raised.exception()
    assert isinstance(error, PickleError)
    assert f"(Ray node n0) has {name} " in str(error)
    assert "is of " + name + " 0.0" in str(error)


def test_a_store_that_is_another_one_is_refused(checked: CheckedSeat, store: Store) -> None:
    elsewhere = put_probe(store, "gone")
    store.delete(elsewhere.uri)
    _, raised = checked(probe=elsewhere)
    error = raised.exception()
    assert isinstance(error, CheckpointError)
    assert "(Ray node n0) cannot reach the checkpoint store" in str(error)


def test_a_check_leaves_nothing_in_the_store(checked: CheckedSeat, store: Store) -> None:
    checked()
    assert list(store.list()) == ["probe-1--probe"]  # the owner's


def test_an_actor_needs_what_it_is_given() -> None:
    assert needs(0.5, 1, {"TPU": 2}) == {"CPU": 0.5, "GPU": 1, "TPU": 2}
    assert needs(0, 0, {}) == {}
