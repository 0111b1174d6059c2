"""Run a suite on a plugin, as its own tests do, and tell the verdict on every law."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from inspect import isfunction
from pathlib import Path
from typing import Any, Final, NamedTuple

import cloudpickle
import pytest

from letstune.errors import PluginError

SUITES: Final[Mapping[str, tuple[str, str]]] = {
    "sampler": ("SamplerSuite", "sampler"),
    "store": ("StoreSuite", "store"),
    "executor": ("ExecutorSuite", "make_executor"),
}
"""By kind: the suite, and the one fixture that a plugin overrides."""

_JOB: Final = "LETSTUNE_SUITE"
_MARK: Final = "\x1eletstune verdict "

_FILE: Final = """
from letstune.testing.verdicts import suite_of_the_job
TestLaws = suite_of_the_job()
"""


class Verdict(NamedTuple):
    """What came of a law.

    Attributes:
        law: the law, in words.
        verdict: passed, failed or skipped.
        why: what broke it, or why it was skipped; empty if it passed.
    """

    law: str
    verdict: str
    why: str = ""


def check(
    kind: str, fixture: Callable[..., Any], *, slow: bool = False, **fixtures: Any
) -> Iterator[Verdict]:
    """Yield the verdict on each law for a plugin, as soon as it is known.

    The laws run in a process of their own, with pytest.

    Args:
        kind: sampler, store or executor.
        fixture: for a sampler, returns a new one. For a store, gets a new, empty folder and
            returns a new, empty store. For an executor, gets a `Job` and returns an executor.
        slow: whether to try also the laws that take long.
        fixtures: the values of other fixtures of the suite, by name. For ``spaces``, a function
            that returns the strategy.

    Raises:
        PluginError: there is no suite for that kind, or it cannot be run at all.
    """
    if kind not in SUITES:
        raise PluginError(f"There are no laws for a plugin of kind {kind!r}: {', '.join(SUITES)}.")
    with tempfile.TemporaryDirectory(prefix="letstune-") as name:
        folder = Path(name)
        (folder / "test_laws.py").write_text(_FILE)
        (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow: takes long\n")
        with (folder / "job.pickle").open("wb") as file:
            pickle.dump(sys.path, file)
            cloudpickle.dump((kind, fixture, fixtures), file)
        chosen = [] if slow else ["-m", "not slow"]
        command = [sys.executable, "-m", "pytest", "-p", "letstune.testing.verdicts", *chosen]
        command += ["-p", "no:cacheprovider", "-p", "no:terminal", "-c", "pytest.ini"]
        paths = [path for path in sys.path if path]
        process = subprocess.Popen(
            [*command, "--rootdir=.", "test_laws.py"],
            cwd=folder,
            env={
                **os.environ,
                _JOB: str(folder / "job.pickle"),
                "PYTHONPATH": os.pathsep.join(paths),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        yield from _verdicts(process)


def _verdicts(process: subprocess.Popen[str]) -> Iterator[Verdict]:
    other, found = [], 0
    with process:
        try:
            for line in process.stdout or ():
                before, mark, told = line.partition(_MARK)
                if mark:
                    found += 1
                    yield Verdict(*json.loads(told))
                else:
                    other.append(before)
        finally:
            process.kill()  # if nobody wants to hear the rest
    if not found or process.returncode > 1:
        raise PluginError(f"The laws could not be tried: {''.join(other[-20:]).strip()}")


def suite_of_the_job() -> type:
    """Return the suite to run, with its fixtures overridden: what a plugin's test file holds."""
    from letstune import testing

    with Path(os.environ[_JOB]).open("rb") as file:
        sys.path[:] = pickle.load(file)
        kind, made, others = pickle.load(file)
    suite, name = SUITES[kind]

    def sampler(self: object) -> Any:
        return made()

    def store(self: object, tmp_path_factory: pytest.TempPathFactory) -> Any:
        return made(tmp_path_factory.mktemp("store"))

    def make_executor(self: object) -> Any:
        return made

    overridden: dict[str, Any] = {name: pytest.fixture(locals()[name])}
    for other, value in others.items():
        if other == "spaces" and isfunction(value):
            value = value()  # strategies cannot be pickled; what makes them can
        overridden[other] = pytest.fixture(_constant(value), name=other)
    return type("TestLaws", (getattr(testing, suite),), overridden)


def _constant(value: object) -> Callable[[object], object]:
    def fixture(self: object) -> object:
        return value

    return fixture


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell a verdict, in the process that runs the laws: a hook of pytest."""
    if report.when != "call" and report.passed:
        return
    if report.when == "teardown" and report.skipped:
        return
    law = report.nodeid.rpartition("::")[2].removeprefix("test_")
    words, bracket, case = law.partition("[")
    law = words.replace("_", " ") + (f" ({case[:-1]})" if bracket else "")
    told = [law, report.outcome, _why(report)]
    sys.stdout.write(_MARK + json.dumps(told) + "\n")
    sys.stdout.flush()


def _why(report: pytest.TestReport) -> str:
    """Return what broke a law, or why it was skipped, in a line."""
    if report.passed:
        return ""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(report.longrepr) if crash is None else str(crash.message)
    return text.strip().splitlines()[0] if text.strip() else report.outcome
