"""What is pickled is named by its public path, so rooms can be moved and journals still resume."""

import base64
import pickle
import pickletools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_type_hints

import cloudpickle
import pytest
from hypothesis import HealthCheck, given, settings
from rooms import PUBLIC
from small_trainers import Climb, Point, tune

import letstune
from letstune import EpochTrainer, Rounds, Space, rand
from letstune.samplers import GridSampler, RandomSampler
from letstune.space import Annotation, Field, Literals, TupleOf
from letstune.testing import spaces
from letstune.training import DirectoryStore
from letstune.training.pickling import dump
from letstune.training.unpickler import loads

NOT_PICKLED = {"__version__", "rand", "hookimpl"}


def named(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the modules and names of letstune's that a pickle mentions."""
    texts: list[str] = []
    memo: dict[int, str] = {}
    for opcode, argument, _ in pickletools.genops(data):
        match opcode.name:
            case "SHORT_BINUNICODE" | "BINUNICODE":
                texts.append(argument)
            case "MEMOIZE":
                memo[len(memo)] = texts[-1] if texts else ""
            case "BINGET" | "LONG_BINGET":
                texts.append(memo.get(argument, ""))
            case "STACK_GLOBAL" if texts[-2].partition(".")[0] == "letstune":
                yield texts[-2], texts[-1]
            case "GLOBAL" if argument.startswith("letstune"):
                module, _, name = argument.partition(" ")
                yield module, name


def is_public(module: str, name: str) -> bool:
    if module == "letstune.errors":  # all of it
        return hasattr(letstune.errors, name)
    if module == "letstune.testing.spaces":  # stands for a module of a user's
        return True
    return module in PUBLIC and name in __import__(module, fromlist=["__all__"]).__all__


def test_names_are_found_in_pickles() -> None:
    assert set(named(pickle.dumps([Space, Rounds([1]), Space]))) == {
        ("letstune", "Space"),
        ("letstune", "Rounds"),
    }


@pytest.mark.parametrize("name", sorted(set(letstune.__all__) - NOT_PICKLED))
def test_what_users_import_is_pickled_by_that_name(name: str) -> None:
    thing = getattr(letstune, name)
    ((module, pickled),) = named(pickle.dumps(thing))
    assert is_public(module, pickled)
    assert pickle.loads(pickle.dumps(thing)) is thing


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(space=spaces())
def test_no_pickle_of_a_trainer_names_a_private_module(space: Space) -> None:
    class Local(EpochTrainer[Any]):
        params_cls = space.cls
        metric = "height"

        def load_dataset(self, dataset: Any) -> None:
            pass

        def train_epoch(self, epoch: int) -> dict[str, float]:
            raise letstune.StopTraining({"height": rand.uniform(0, 1)})

    kept = dump("trainer", Local())
    assert list(named(kept.data))
    assert not [name for name in named(kept.data) if not is_public(*name)]


def test_no_pickle_in_a_journal_names_a_private_module(path: Path, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "checkpoints")
    tune(Climb(), 2, path, rounds=[1, 1], sampler=RandomSampler(), store=store, dataset=[Point])
    with closing(sqlite3.connect(path)) as db:
        pickles = dict(db.execute("SELECT name, pickle FROM pickles"))
    assert pickles.keys() == {"trainer", "dataset", "sampler", "store"}
    for data in [*pickles.values(), *(file.read_bytes() for file in store.root.iterdir())]:
        assert not [name for name in named(data) if not is_public(*name)]


BEFORE = """
gAWVEwYAAAAAAAB9lCiMBnJvdW5kc5SMEGxldHN0dW5lLnJlY29yZHOUjAZSb3VuZHOUk5QpgZR9lCiMB2xlbmd0aHOUSwFLAoaU
jARrZWVwlEc/4AAAAAAAAIwGY29ob3J0lE51YowFc3BhY2WUjA5sZXRzdHVuZS5zcGFjZZSMBVNwYWNllJOUKYGUfZQojARuYW1l
lIwBUJSMBmZpZWxkc5QojAF4lIwWbGV0c3R1bmUuZGlzdHJpYnV0aW9uc5SMB1VuaWZvcm2Uk5QpgZR9lCiMA2xvd5RHAAAAAAAA
AACMBGhpZ2iURz/wAAAAAAAAjANsb2eUiYwEc3RlcJROdWKGlIwBbpRoFYwESW50c5STlCmBlH2UKGgaSwFoG0sDaByJaB1OdWKG
lIwBY5RoFYwFT25lT2aUk5QpgZR9lCiMCmNhbmRpZGF0ZXOUaBWMCENvbnN0YW50lJOUKYGUfZSMBXZhbHVllIwBYZRzYmgVjAVC
b29sc5STlCmBlH2UjAtwcm9iYWJpbGl0eZRHP+AAAAAAAABzYoaUjAd3ZWlnaHRzlE51YoaUjAFtlGgVjAZOb3JtYWyUk5QpgZR9
lCiMBm1lZGlhbpRHAAAAAAAAAACMBXNjYWxllEc/8AAAAAAAAGgciXVihpR0lIwGY3VzdG9tlImMBnRhZ2dlZJQpjANjbHOUTnVi
jAVmaWVsZJSMD2xldHN0dW5lLnBhcmFtc5SMBl9GaWVsZJSTlCmBlH2UKIwKYW5ub3RhdGlvbpSMFGxldHN0dW5lLmFubm90YXRp
b25zlIwKQW5ub3RhdGlvbpSTlCmBlH2UKIwEdGV4dJSMA2ludJSMB21lbWJlcnOUjAhidWlsdGluc5SMA2ludJSTlIWUdWKMBG5v
ZGWUaCEpgZR9lChoGksBaBtLA2gciWgdTnVijAdkZWZhdWx0lEsDdWKMBXR1cGxllGhMjAdUdXBsZU9mlJOUKYGUfZQojAVpdGVt
c5RoTimBlH2UKGhRaFJoU2hWhZR1YoWUjAh2YXJpYWRpY5SIdWKMCGxpdGVyYWxzlGhMjAhMaXRlcmFsc5STlCmBlH2UjAZ2YWx1
ZXOUSwGFlHNijAhyZWNvcmRlZJSMEWxldHN0dW5lLnJlY29yZGVklIwOUmVjb3JkZWRQYXJhbXOUk5RoEn2UaBRHP/AAAAAAAABz
KYeUUpSMB3NhbXBsZXKUjBFsZXRzdHVuZS5zYW1wbGVyc5SMC0dyaWRTYW1wbGVylJOUKYGUfZSMBnBvaW50c5ROc2KMBXN0b3Jl
lIwPbGV0c3R1bmUuc3RvcmVzlIwORGlyZWN0b3J5U3RvcmWUk5QpgZR9lCiMBHJvb3SUjAdwYXRobGlilIwJUG9zaXhQYXRolJOU
jAEvlIwBc5SGlFKUjAhfc3RhZ2luZ5RohWiGaIeMBC5uZXeUh5RSlHVijAdjbGFzc2VzlF2UKGhGjAZQYXJhbXOUk5SMEGxldHN0
dW5lLnRyYWluZXKUjAxFcG9jaFRyYWluZXKUk5RokowNU2ltcGxlVHJhaW5lcpSTlGiSjAdUcmFpbmVylJOUjBRsZXRzdHVuZS5j
aGVja3BvaW50c5SMCkNoZWNrcG9pbnSUk5RofYwFU3RvcmWUk5RodowHU2FtcGxlcpSTlGh2jAtPYnNlcnZhdGlvbpSTlGhvjApQ
YXJhbXNMaWtllJOUjBJsZXRzdHVuZS5leGVjdXRvcnOUjAhFeGVjdXRvcpSTlIwSbGV0c3R1bmUub2JzZXJ2ZXJzlIwIT2JzZXJ2
ZXKUk5SMEGxldHN0dW5lLnJlc3VsdHOUjA1UdW5pbmdSZXN1bHRzlJOUaKqMBVRyaWFslJOUaKqMBUVwb2NolJOUaKqMClRyaWFs
RXJyb3KUk5SMD2xldHN0dW5lLmVycm9yc5SMDFN0b3BUcmFpbmluZ5STlGWMCWZ1bmN0aW9uc5RdlCiMD2xldHN0dW5lLnR1bmlu
Z5SMBHR1bmWUk5RouIwGcmVzdW1llJOUaLiMBGxvYWSUk5SMDWxldHN0dW5lLnJhbmSUjAd1bmlmb3JtlJOUZXUu
"""
"""Pickled before the first release, when classes were named by the rooms of that time."""


def test_what_was_pickled_by_old_names_is_found() -> None:
    found = loads(base64.b64decode(BEFORE))
    assert found["rounds"] == Rounds([1, 2], keep=0.5)
    candidates = rand.OneOf((rand.Constant("a"), rand.Bools()))
    fields = (
        *(("x", rand.Uniform(0, 1)), ("n", rand.Ints(1, 3)), ("c", candidates)),
        ("m", rand.Normal(0, 1)),
    )
    assert found["space"] == Space("P", fields)
    assert isinstance(found["field"], Field)
    assert isinstance(found["field"].annotation, Annotation)
    assert isinstance(found["tuple"], TupleOf)
    assert isinstance(found["literals"], Literals)
    assert found["recorded"] == letstune.RecordedParams("P", {"x": 1.0})
    assert isinstance(found["sampler"], GridSampler)
    assert isinstance(found["store"], DirectoryStore)
    names = "Params EpochTrainer SimpleTrainer Checkpoint Store Sampler Observation ParamsLike"
    names += " Executor Observer TuningResults Trial Epoch TrialError StopTraining"
    there = [cls for cls in found["classes"] if cls is not letstune.training.Trainer]
    assert there == [getattr(letstune, name) for name in names.split()]
    assert found["functions"] == [letstune.tune, letstune.resume, letstune.load, rand.uniform]


CLASSES = [cls for name in letstune.__all__ if isinstance(cls := getattr(letstune, name), type)]


@pytest.mark.parametrize("base", [*CLASSES, Point, Climb])
def test_annotations_of_classes_that_users_derive_from_are_resolved(base: type) -> None:
    get_type_hints(base)
    get_type_hints(type("Derived", (base,), {}))


def test_a_class_of_the_users_keeps_its_own_name() -> None:
    assert Point.__module__ == "small_trainers"
    assert cloudpickle.loads(cloudpickle.dumps(Point)) is Point
