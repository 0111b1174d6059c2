"""The conformance suites: all that comes with letstune passes them, and what is broken does not."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import broken_executors
import broken_samplers
import broken_stores
import pytest
from broken_plugins import law_of
from folder_store_suite import FolderStoreSuite, damage_file
from processes import TESTS, environment

from letstune.errors import PluginError
from letstune.samplers.sampler import GridSampler, RandomSampler, Sampler, SobolSampler
from letstune.testing import ExecutorSuite, SamplerSuite, StoreSuite, check, finite_spaces
from letstune.testing.runs import ShuffledExecutor
from letstune.training.stores import DirectoryStore, Store
from letstune.workers.executor import Executor
from letstune.workers.in_process import InProcessExecutor
from letstune.workers.process_executor import ProcessExecutor


class TestRandomSampler(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return RandomSampler()


class TestGridSampler(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return GridSampler()

    @pytest.fixture
    def spaces(self) -> Any:
        return finite_spaces()


@pytest.mark.slow
class TestGridSamplerWithPoints(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return GridSampler(3)


@pytest.mark.slow
class TestSobolSampler(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return SobolSampler()


class Learner(Sampler):
    """Learns, and keeps what it has worked out of the history, as a cache."""

    adaptive = True

    def __init__(self, spread: float = 0.5) -> None:
        self.spread = spread
        self._sums: dict[str, float] = {}

    def propose(self, space: Any, history: Any, rng: Any, trial: int) -> Any:
        space.require_structure("sampler 'learner'")
        seen = [o for o in history if o.values and o.values[-1] == o.values[-1]]
        if not seen or rng.random() > self.spread:
            return space.sample(rng)
        best = max(seen, key=lambda o: (self._sum(o), -o.trial))
        chosen = space.choices(best.params)
        return space.build(
            lambda path, d: chosen[path] if path in chosen and rng.random() < 0.5 else d.sample(rng)
        )

    def _sum(self, observation: Any) -> float:
        key = repr(observation)
        if key not in self._sums:
            self._sums[key] = sum(observation.values)
        return self._sums[key]

    def check(self, space: Any) -> None:
        space.require_structure("sampler 'learner'")


class TestLearner(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return Learner()


class TestDirectoryStore(FolderStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return DirectoryStore(tmp_path / "store")


class StagedElsewhere(DirectoryStore):
    """Has its checkpoints filled where stores do by default, and so copies them."""

    stage = Store.stage

    def put(self, name: str, folder: Path) -> str:
        return DirectoryStore(self.root).put(name, folder)


@pytest.mark.slow
class TestAStoreStagedElsewhere(TestDirectoryStore):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return StagedElsewhere(tmp_path / "store")


class TestInProcessExecutor(ExecutorSuite):
    @pytest.fixture
    def make_executor(self) -> Any:
        return lambda job: InProcessExecutor(job.worker())


class TestShuffledExecutor(ExecutorSuite):
    """The one with which samplers are tried: as good as any other."""

    @pytest.fixture
    def make_executor(self) -> Any:
        return lambda job: ShuffledExecutor(job, 3, 5)


@pytest.mark.slow
class TestProcessExecutor(ExecutorSuite):
    @pytest.fixture
    def make_executor(self) -> Any:
        return lambda job: ProcessExecutor(job.packed(), 2, secrets.token_hex(4))


# What is broken

BROKEN = {Sampler: broken_samplers, Store: broken_stores, Executor: broken_executors}


def failed_laws(kind: type, tmp_path: Path) -> dict[str, set[str]]:
    """Try each broken plugin of a kind by the law that it breaks; return what failed, by plugin."""
    report = tmp_path / "report.xml"
    named = {name: law_of(cls) for name, cls in vars(BROKEN[kind]).items()}
    named = {name: law for name, law in named.items() if law}
    suites = [f"{BROKEN[kind].__file__}::Test{name}::test_{law}" for name, law in named.items()]
    subprocess.run(
        [
            *[sys.executable, "-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider"],
            *["--tb=no", f"--junitxml={report}", *suites],
        ],
        cwd=tmp_path,
        env=environment(TESTS),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=900,
        check=False,
    )
    failed: dict[str, set[str]] = {name: set() for name in named}
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None:  # not an error: a fixture's is no broken law
            plugin = case.attrib["classname"].rpartition(".Test")[2]
            law = case.attrib["name"].removeprefix("test_")
            failed[plugin] |= {law, law.partition("[")[0]}
    return failed


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Sampler, Store, Executor])
def test_what_is_broken_fails_the_law_that_it_breaks(kind: type, tmp_path: Path) -> None:
    failed = failed_laws(kind, tmp_path)
    assert len(failed) >= 11
    for name, laws in failed.items():
        law = law_of(vars(BROKEN[kind])[name])
        assert law in laws, f"{name} should fail {law}, but fails {sorted(laws)}"


def test_there_is_something_broken_for_each_law() -> None:
    laws = {
        name.removeprefix("test_")
        for suite in (SamplerSuite, StoreSuite, ExecutorSuite)
        for name in vars(suite)
        if name.startswith("test_")
    }
    broken = [cls for module in BROKEN.values() for cls in vars(module).values()]
    found = {law_of(cls).partition("[")[0] for cls in broken}
    assert found - {""} == laws


# Verdicts, for a plugin that is installed


@pytest.mark.slow
def test_a_verdict_is_told_on_every_law() -> None:
    verdicts = list(check("store", broken_stores.DeletingOnce, damage=damage_file))
    assert len(verdicts) >= 18
    failed = [verdict for verdict in verdicts if verdict.verdict == "failed"]
    assert [verdict.law for verdict in failed] == ["delete is idempotent"]
    assert "FileNotFoundError" in failed[0].why
    assert ("what is put is got", "passed", "") in verdicts


@pytest.mark.slow
def test_what_no_fixture_was_given_for_is_skipped() -> None:
    laws = {verdict.law: verdict[1:] for verdict in check("store", DirectoryStore)}
    assert laws["damage is noticed"] == ("skipped", "there is no fixture 'damage'")
    assert {verdict for verdict, _ in laws.values()} == {"passed", "skipped"}


def test_laws_are_known_for_three_kinds_only() -> None:
    with pytest.raises(PluginError, match="no laws for a plugin of kind 'export': sampler, store"):
        list(check("export", DirectoryStore))
