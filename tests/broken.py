"""Plugins that are broken on purpose, one for each law. `test_conformance.py` runs this file."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from letstune.errors import PlanError
from letstune.rounds.events import EpochFinished, TaskEnded, TrialFailed, TrialStopped
from letstune.samplers.sampler import Sampler
from letstune.testing import ExecutorSuite, SamplerSuite, StoreSuite
from letstune.training.stores import DirectoryStore
from letstune.workers.executor import Delivery, Executor
from letstune.workers.in_process import InProcessExecutor


def drawn(space: Any, seed: Any) -> Any:
    return space.sample(np.random.default_rng(abs(hash(seed))))


# Samplers


class WithHiddenState(Sampler):
    """Law: same_inputs_give_the_same_params."""

    def __init__(self) -> None:
        self.calls = 0

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        self.calls += 1
        return drawn(space, (trial, self.calls))


class Astray(Sampler):
    """Law: stays_within_the_space."""

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        params = space.sample(rng)
        for name, node in space.fields:
            if getattr(node, "kind", "") == "uniform":
                return params.replace(**{name: node.high * 2 + 1.5})
        return params


class WithAStaleCache(Sampler):
    """Law: a_cache_may_be_dropped_at_any_moment."""

    adaptive = True

    def __init__(self) -> None:
        self.seen, self.total = 0, 0.0

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        for observation in history[self.seen :]:
            self.total += sum(v for v in observation.values if abs(v) < 1e300)
        self.seen = len(history)
        return drawn(space, (trial, self.total))

    def __getstate__(self) -> Any:
        return {"seen": self.seen, "total": 0.0}


class Unpicklable(Sampler):
    """Law: proposes_the_same_in_another_process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return space.sample(rng)


class ByTheClock(Sampler):
    """Law: draws_from_the_given_generator_only."""

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return drawn(space, int(time.time()))


class ByGlobalRandomness(Sampler):
    """Law: draws_from_the_given_generator_only."""

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return drawn(space, (random.random(), np.random.random()))


class ByWhatWasTrainedLast(Sampler):
    """Law: results_may_arrive_in_any_order.

    Training has seeded the global generator, for whichever trial came last.
    """

    adaptive = True

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return drawn(space, (trial, int(np.random.get_state()[1][0])))  # type: ignore[index]


class ByTheOrderOfASet(Sampler):
    """Law: proposes_the_same_in_another_process."""

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return drawn(space, (trial, *{f"a{i}" for i in range(50)}))


class Careless(Sampler):
    """Law: refuses_what_it_cannot_drive."""

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return space.build(lambda path, distribution: distribution.sample(rng))


class Choosy(Careless):
    """Law: accepts_the_spaces_that_it_can_drive."""

    def check(self, space: Any) -> None:
        space.require_structure("sampler 'choosy'")
        if len(space.fields) > 1:
            raise PlanError("too many fields")


class Curious(Sampler):
    """Law: looks_at_the_history_only_if_it_says_so."""

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        return drawn(space, (trial, len(history)))


class Meddling(Sampler):
    """Law: same_inputs_give_the_same_params."""

    adaptive = True

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        history.sort(key=lambda o: -o.trial)
        return space.sample(rng)


class Impatient(Sampler):
    """Law: a_finite_space_comes_to_its_end."""

    adaptive = True

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        if space.size and space.size > 2 and len(history) >= space.size - 1:
            raise IndexError("almost exhausted")
        return space.sample(rng)


class WithAMemory(Sampler):
    """Law: resumes_exactly."""

    adaptive = True

    def __init__(self) -> None:
        self.last = 0.5

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        self.last = (self.last + float(rng.random())) % 1
        return drawn(space, self.last)

    def __getstate__(self) -> Any:
        return {"last": 0.5}


class WithAMemoryOfTheProcess(Sampler):
    """Law: resumes_exactly_after_sigkill."""

    adaptive = True
    proposed: ClassVar[set[int]] = set()

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        type(self).proposed.add(trial)
        return drawn(space, (trial, trial - 1 in self.proposed))


# Stores


def copy(source: Path, target: Path) -> None:
    """Copy in small steps, in each of which a process may be killed."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):
        if path.is_dir():
            (target / path.relative_to(source)).mkdir(exist_ok=True)
        else:
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())


def files_of(kept: Path) -> list[Path]:
    return [path for path in [kept, *kept.rglob("*")] if path.is_file()]


def size(kept: Path) -> int:
    return sum(path.stat().st_size for path in files_of(kept))


def damage_file(store: Any, uri: str) -> None:
    """Alter one byte, in the largest file."""
    file = max(files_of(store.root / uri), key=size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def truncate_file(store: Any, uri: str) -> None:
    """Cut off one byte, of the largest file."""
    file = max(files_of(store.root / uri), key=size)
    os.truncate(file, size(file) - 1)


def take_away(store: Any) -> None:
    """Leave nothing where the store was, as if its disk were not mounted."""
    store.root.rename(store.root.with_name("unmounted"))


def on_disk(store: Any) -> Path:
    root: Path = store.root
    return root


def files_inside(store: Any) -> Collection[str]:
    return [str(path) for path in sorted(store.root.rglob("*")) if path.is_file()]


class InPlace(DirectoryStore):
    """Law: put_is_all_or_nothing_under_sigkill[folder]."""

    def put(self, name: str, folder: Path) -> str:
        if (self.root / name).exists():
            raise FileExistsError(name)
        copy(folder, self.root / name)
        return name


class WithTornFiles(DirectoryStore):
    """Law: put_is_all_or_nothing_under_sigkill[file]."""

    def put(self, name: str, folder: Path) -> str:
        self.root.mkdir(exist_ok=True)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        if len(paths) > 1 or paths[0].parent != folder:
            return super().put(name, folder)
        target = self.root / f"{name}--{paths[0].name}"
        with target.open("xb") as file:
            for byte in paths[0].read_bytes():
                file.write(bytes([byte]))
        return target.name


class Forgetful(DirectoryStore):
    """Law: a_new_process_finds_all."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.names: dict[str, str] = {}

    def put(self, name: str, folder: Path) -> str:
        uri = f"{len(self.names)}"
        self.names[uri] = super().put(name, folder)
        return uri

    def get(self, uri: str, folder: Path) -> None:
        if uri not in self.names:
            raise FileNotFoundError(uri)
        super().get(self.names[uri], folder)

    def list(self) -> Any:
        return iter([*self.names])

    def delete(self, uri: str) -> None:
        if uri in self.names:
            super().delete(self.names.pop(uri))


class Overwriting(DirectoryStore):
    """Law: nothing_is_overwritten."""

    def put(self, name: str, folder: Path) -> str:
        shutil.rmtree(self.root / name, ignore_errors=True)
        copy(folder, self.root / ".new" / f"{name}-copy")
        (self.root / ".new" / f"{name}-copy").rename(self.root / name)
        return name


class WithoutEmptyFiles(DirectoryStore):
    """Law: empty_files_are_kept[beside]."""

    def put(self, name: str, folder: Path) -> str:
        for path in folder.rglob("*"):
            if path.is_file() and not path.stat().st_size:
                path.unlink()
        return super().put(name, folder)


class WithAsciiNames(DirectoryStore):
    """Law: names_of_files_are_kept[folders]."""

    def put(self, name: str, folder: Path) -> str:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rename(path.with_name(path.name.encode("ascii", "replace").decode()))
        return super().put(name, folder)


class WithSafeNames(DirectoryStore):
    """Law: names_of_files_are_kept[signs]."""

    def put(self, name: str, folder: Path) -> str:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rename(path.with_name(path.name.replace("%25", "%").replace(" ", "+")))
        return super().put(name, folder)


class WhereWritersMeet(DirectoryStore):
    """Law: two_writers_never_meet."""

    def put(self, name: str, folder: Path) -> str:
        beside = self.root / ".new" / "beside"
        copy(folder, beside)
        return super().put(name, beside)


class DeletingOnce(DirectoryStore):
    """Law: delete_is_idempotent."""

    def delete(self, uri: str) -> None:
        if not (self.root / uri).exists():
            raise FileNotFoundError(uri)
        super().delete(uri)


class HidingLeftovers(DirectoryStore):
    """Law: put_is_all_or_nothing_under_sigkill[folder]."""

    def list(self) -> Any:
        return (uri for uri in super().list() if not uri.startswith(".new"))


class WithoutAnEnd(DirectoryStore):
    """Law: list_tells_what_is_there."""

    def list(self) -> Any:
        return iter(list(super().list())[:-1])


class RememberingContents(DirectoryStore):
    """Law: damage_is_noticed."""

    def put(self, name: str, folder: Path) -> str:
        shutil.copytree(folder, self.root.with_name("cache") / name)
        uri = super().put(name, folder)
        (self.root.with_name("cache") / name).rename(self.root.with_name("cache") / uri)
        return uri

    def get(self, uri: str, folder: Path) -> None:
        if not (self.root / uri).exists():
            raise FileNotFoundError(uri)
        copy(self.root.with_name("cache") / uri, folder)


class Unsure(RememberingContents):
    """Law: damage_is_noticed.

    As if it could not be reached: so no damage could ever be written off.
    """

    def get(self, uri: str, folder: Path) -> None:
        super().get(uri, folder)
        if any(path.read_bytes() not in map(Path.read_bytes, files_of(folder))
               for path in files_of(self.root / uri)):  # fmt: skip
            raise OSError("this is odd")


class Mending(RememberingContents):
    """Law: truncation_is_noticed."""

    def get(self, uri: str, folder: Path) -> None:
        if size(self.root / uri) == size(self.root.with_name("cache") / uri):
            DirectoryStore.get(self, uri, folder)
        else:
            super().get(uri, folder)


class ForgettingWhatIsAway(DirectoryStore):
    """Law: a_store_that_is_away_has_lost_nothing."""

    def get(self, uri: str, folder: Path) -> None:
        if not (self.root / uri).exists():
            raise FileNotFoundError(uri)
        super().get(uri, folder)


class WithUnsyncedBytes(DirectoryStore):
    """Law: what_is_put_is_synced."""

    def put(self, name: str, folder: Path) -> str:
        copy(folder, self.root / ".new" / f"{name}-copy")
        (self.root / ".new" / f"{name}-copy").rename(self.root / name)
        for kept in (self.root / name, self.root):
            handle = os.open(kept, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        return name


class WithUnsyncedNames(DirectoryStore):
    """Law: what_is_put_is_synced."""

    def put(self, name: str, folder: Path) -> str:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file)
        folder.rename(self.root / name)
        return name


class WithLinks(DirectoryStore):
    """Law: what_is_got_is_a_copy."""

    def get(self, uri: str, folder: Path) -> None:
        source = self.root / uri
        if not source.is_dir():
            return super().get(uri, folder)
        shutil.copytree(source, folder, dirs_exist_ok=True, copy_function=os.link)
        return None


class WithItsOwnErrors(DirectoryStore):
    """Law: what_is_not_there_is_a_file_not_found_error."""

    def get(self, uri: str, folder: Path) -> None:
        if not (self.root / uri).exists():
            raise KeyError(uri)
        super().get(uri, folder)


class Flat(DirectoryStore):
    """Law: what_is_put_is_got."""

    def put(self, name: str, folder: Path) -> str:
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            path.rename(folder / path.name)
        for path in list(folder.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
        return super().put(name, folder)


class WithAPage(DirectoryStore):
    """Law: many_files_are_kept."""

    def get(self, uri: str, folder: Path) -> None:
        super().get(uri, folder)
        for path in [path for path in sorted(folder.rglob("*")) if path.is_file()][100:]:
            path.unlink()


class WithALimit(DirectoryStore):
    """Law: a_large_checkpoint_is_kept."""

    def put(self, name: str, folder: Path) -> str:
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_size > 2**20:
                os.truncate(path, 2**20)
        return super().put(name, folder)


class FromItsStageOnly(DirectoryStore):
    """Law: a_folder_from_elsewhere_is_kept."""

    def put(self, name: str, folder: Path) -> str:
        return super().put(name, self.root / ".new" / folder.name)


class LosingWhatIsOld(DirectoryStore):
    """Law: a_run_can_be_interrupted_and_resumed."""

    def put(self, name: str, folder: Path) -> str:
        for old in [uri for uri in self.list() if not uri.startswith(".new")][:-2]:
            self.delete(old)
        return super().put(name, folder)


# Executors


class Wrapper(Executor):
    """Hands all on to an executor in this process."""

    slots = 1

    def __init__(self, job: Any) -> None:
        self.inner: Executor = InProcessExecutor(job.worker())

    def start(self, task: Any) -> None:
        self.inner.start(task)

    def deliveries(self) -> list[Delivery]:
        return [
            delivery._replace(events=events)
            for delivery in self.inner.deliveries()
            if (events := self.changed(list(delivery.events)))
        ]

    def changed(self, events: Any) -> Any:
        return events

    def recorded(self) -> None:
        self.inner.recorded()

    def cancel(self, trial: int) -> None:
        self.inner.cancel(trial)

    def stop(self) -> None:
        self.inner.stop()

    def close(self) -> None:
        self.inner.close()


class NotWaiting(Wrapper):
    """Law: an_epoch_begins_when_the_one_before_is_recorded."""

    def deliveries(self) -> list[Delivery]:
        delivered = super().deliveries()
        self.inner.recorded()
        return delivered


class OutOfOrder(Wrapper):
    """Law: events_of_a_trial_come_in_order."""

    held: Any = ()

    def changed(self, events: Any) -> Any:
        if isinstance(events[0], EpochFinished) and not self.held:
            self.held = events
            return []
        events, self.held = [*events[:-1], *self.held, events[-1]], ()
        return events if isinstance(events[-1], TaskEnded) else [*events[::-1]]


class WithoutAnEndOfTasks(Wrapper):
    """Law: a_task_ends_with_task_ended."""

    def deliveries(self) -> list[Delivery]:
        try:
            return super().deliveries()
        except StopIteration:
            return []

    def changed(self, events: Any) -> Any:
        return [event for event in events if not isinstance(event, TaskEnded)]


class WithStaleAttempts(Wrapper):
    """Law: deliveries_carry_the_attempt_of_their_task."""

    first: Any = None

    def deliveries(self) -> list[Delivery]:
        delivered = super().deliveries()
        self.first = self.first or delivered[0].attempt
        return [*delivered, delivered[0]._replace(attempt="stale")]


class WithAnotherSeed(Wrapper):
    """Law: the_journal_is_that_of_a_run_in_process."""

    def __init__(self, job: Any) -> None:
        from dataclasses import replace

        super().__init__(replace(job, seed=job.seed + 1))


class ByTheOrderOfDeliveries(Wrapper):
    """Law: the_order_of_deliveries_does_not_matter."""

    slots = 2

    def __init__(self, job: Any) -> None:
        from letstune.testing.runs import ShuffledExecutor

        self.inner = ShuffledExecutor(job, 2, 1)
        self.begun: dict[int, int] = {}

    def start(self, task: Any) -> None:
        self.begun[task.trial] = len(self.begun)
        super().start(task)

    def deliveries(self) -> list[Delivery]:
        # Trials that were started later than they would have been are given up.
        return [
            d._replace(events=[TrialStopped(d.trial, -1), TaskEnded(d.trial)])
            if self.begun[d.trial] != d.trial and isinstance(d.events[0], TaskEnded)
            else d
            for d in self.inner.deliveries()
        ]


class BoastingOfSlots(Wrapper):
    """Law: as_many_tasks_are_trained_as_there_are_slots."""

    slots = 2

    def deliveries(self) -> list[Delivery]:
        try:
            return super().deliveries()
        except StopIteration:
            return []


class Unstoppable(Wrapper):
    """Law: stop_ends_after_the_epochs_in_flight."""

    def stop(self) -> None:
        return


class LeavingAThread(Wrapper):
    """Law: close_leaves_nothing_behind."""

    def close(self) -> None:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        super().close()


class HidingFailures(Wrapper):
    """Law: an_exception_of_a_trainer_is_a_failed_trial."""

    def changed(self, events: Any) -> Any:
        return [event for event in events if not isinstance(event, TrialFailed)]


class TakingApart(Wrapper):
    """Law: an_early_stop_is_a_stopped_trial."""

    def deliveries(self) -> list[Delivery]:
        return [d._replace(events=[e]) for d in super().deliveries() for e in d.events]


class HidingErrors(Wrapper):
    """Law: what_must_end_the_run_is_raised."""

    task: Any = None

    def start(self, task: Any) -> None:
        self.task = task
        super().start(task)

    def deliveries(self) -> list[Delivery]:
        try:
            return super().deliveries()
        except OSError:
            return [Delivery(self.task.trial, self.task.attempt, [TaskEnded(self.task.trial)])]


# The suites


def suites() -> Any:
    def made(cls: Any) -> Any:
        if issubclass(cls, Sampler):
            return SamplerSuite, {"sampler": lambda self: cls()}
        if issubclass(cls, DirectoryStore):
            return StoreSuite, {
                "store": lambda self, tmp_path: cls(tmp_path / "store"),
                "damage": lambda self: damage_file,
                "truncate": lambda self: truncate_file,
                "take_away": lambda self: take_away,
                "disk": lambda self: on_disk,
                "inside": lambda self: files_inside,
                "large": lambda self: 2_000_000,
            }
        return ExecutorSuite, {"make_executor": lambda self: cls}

    for cls in list(globals().values()):
        if isinstance(cls, type) and (cls.__doc__ or "").startswith("Law: "):
            suite, fixtures = made(cls)
            named = {n: pytest.fixture(function, name=n) for n, function in fixtures.items()}
            yield f"Test{cls.__name__}", type(f"Test{cls.__name__}", (suite,), named)


globals().update(suites())
