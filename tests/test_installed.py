"""letstune and its plugins, installed as separate distributions in a new environment.

It is what somebody does who has nothing but the package registry: an example with a sampler of one
plugin and a store of another, on a real S3 server of this machine, killed and resumed from another
folder; then the plugin is uninstalled.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from journal_facts import facts, metrics_of, recorded_epochs
from processes import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here"),
]

KILLS = 5


def call(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*map(str, arguments)], capture_output=True, text=True, check=False, timeout=900, **options
    )


@pytest.fixture(scope="module")
def bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of commands of a new environment with letstune and its plugins."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    # One after the other, as separate distributions: letstune knows nothing of the others.
    for wanted in (
        [f"{ROOT}[examples,testing]"],
        [ROOT / "plugins" / "letstune-optuna"],
        # aiobotocore[boto3] names the one boto3 that goes with it, which pip finds only after long
        [f"{ROOT / 'plugins' / 'letstune-fsspec'}[s3]", "aiobotocore[boto3]", "moto[server]"],
    ):
        done = call(*pip, *wanted)
        assert done.returncode == 0, done.stderr
    return folder / "bin"


@pytest.fixture
def variables(bin: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment variables with which an S3 server and its bucket are used."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LETSTUNE", "AWS", "PYTHON"))}
    with (tmp_path / "server.log").open("w") as log:  # a pipe that nobody reads fills up
        server = subprocess.Popen(
            [bin / "moto_server", "-H", "127.0.0.1", "-p", str(port)],
            env=kept,
            stdout=log,
            stderr=log,
        )
    while True:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert not ended(server), (tmp_path / "server.log").read_text()
    found = kept | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    make = "import s3fs; s3fs.S3FileSystem().mkdir('bucket')"
    done = call(bin / "python", "-c", make, env=found)
    assert done.returncode == 0, done.stderr
    with server:
        yield found
        server.kill()


def ended(process: "subprocess.Popen[Any]") -> bool:
    """Tell whether a process has ended, after a moment."""
    try:
        process.wait(0.02)
    except subprocess.TimeoutExpired:
        return False
    return True


def start(bin: Path, journal: Path, folder: Path, **options: Any) -> "subprocess.Popen[str]":
    tune = ["tune", f"{ROOT / 'examples' / 'digits_mlp.py'}:DigitsMLPTrainer", "-n", "12"]
    tune += ["--journal", journal, "--rounds", "2,6", "--seed", "1", "--quiet"]
    tune += ["--sampler", "tpe", "--sampler-option", "n_startup_trials=4"]
    tune += ["--store", "s3://bucket/runs"]
    resume = ["resume", journal, "--quiet"]
    return subprocess.Popen(
        [bin / "letstune", *map(str, resume if journal.exists() else tune)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_killed_resumed_elsewhere_and_uninstalled(
    bin: Path, variables: dict[str, str], tmp_path: Path
) -> None:
    straight, path = tmp_path / "straight.db", tmp_path / "run.db"
    told = start(bin, straight, tmp_path, env=variables).communicate()[1]
    assert recorded_epochs(straight) > 12 * 2, told

    rng, kills, code = random.Random(2), 0, -signal.SIGKILL
    while code:
        (elsewhere := tmp_path / f"elsewhere{kills}").mkdir()
        process = start(bin, path, elsewhere, env=variables)
        target = recorded_epochs(path) + rng.randint(1, 5)
        while not ended(process) and (kills == KILLS or recorded_epochs(path) < target):
            pass
        if kills < KILLS and process.poll() is None:
            process.kill()
            kills += 1
        told = process.communicate()[1]
        code = process.returncode
        assert code in (0, -signal.SIGKILL), told
    assert kills == KILLS
    wanted, found = facts(straight), facts(path)
    for table in wanted.keys() - {"epochs"}:
        assert found[table] == wanted[table], table
    # Not the digests of the checkpoints: scikit-learn's models, once loaded, are pickled with other
    # references between their parts.
    assert metrics_of(path) == metrics_of(straight)

    load = (
        f"import letstune; tuning = letstune.load({str(path)!r}, trust=True); "
        "print(tuning[0].checkpoint.load_pickle())"
    )
    done = call(bin / "python", "-c", load, env=variables)
    assert "MLPClassifier" in done.stdout, done.stderr
    done = call(bin / "letstune", "check", path, "--fix", "--trust", env=variables)
    assert done.returncode == 0, done.stderr
    assert call(bin / "letstune", "check", path, "--trust", env=variables).returncode == 0

    listed = call(bin / "letstune", "plugins", env=variables).stdout
    assert re.search(r"sampler\s+tpe\s+letstune-optuna", listed)
    pip = call(bin / "python", "-m", "pip", "uninstall", "-y", "letstune-optuna")
    assert pip.returncode == 0, pip.stderr
    for command in ("status", "trials", "export"):
        done = call(bin / "letstune", command, path, env=variables)
        assert done.returncode == 0, done.stderr
        assert done.stdout
    done = call(bin / "letstune", "resume", path, "-n", 16, env=variables)
    assert done.returncode == 1
    assert "which is not installed" in done.stderr
    assert "pip install letstune-optuna" in done.stderr


AUTHOR = """
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from letstune import Observation, Observer, ParamsLike, RecordedParams, Sampler, Space, Store
from letstune import TuningResults, hookimpl
from letstune.workers.executor import Delivery, Executor
from letstune.plugins.hookspecs import Register
from letstune.workers.job import Job
from letstune.rounds.events import EpochFinished, Task, TaskEnded
from letstune.rounds.plan import Plan
from letstune.testing import ExecutorSuite, SamplerSuite, StoreSuite
from letstune.testing import Job as SuiteJob

LETSTUNE_API = 1


class FirstSampler(Sampler):
    adaptive = True

    def propose(
        self, space: Space, history: Sequence[Observation], rng: np.random.Generator, trial: int
    ) -> ParamsLike:
        if history and history[-1].values:
            return history[-1].params
        return space.sample(rng)


class FirstStore(Store):
    def put(self, name: str, folder: Path) -> str:
        return name

    def get(self, uri: str, folder: Path) -> None:
        raise FileNotFoundError(uri)

    def list(self) -> Iterator[str]:
        yield "a"

    def delete(self, uri: str) -> None: ...


class FirstExecutor(Executor):
    slots = 1

    def __init__(self, address: str, job: Job, *, token: str, **limits: float | None) -> None:
        self.worker = job.worker(token)

    def start(self, task: Task) -> None:
        self.outcomes = self.worker.train(task)
        self.task = task

    def deliveries(self) -> list[Delivery]:
        events, error = next(self.outcomes)
        return [Delivery(self.task.trial, self.task.attempt, events, error)]

    def cancel(self, trial: int) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None:
        self.worker.close()


class FirstObserver(Observer):
    def run_started(self, journal: Path, plan: Plan) -> None:
        print(journal, plan.n_trials)

    def trial_proposed(self, trial: int, params: Mapping[str, Any]) -> None:
        print(trial, params["x"])

    def epoch_recorded(self, epoch: EpochFinished) -> None:
        print(epoch.value)


@click.command()
def first() -> None:
    click.echo("first")


def write(tuning: TuningResults[RecordedParams], path: Path) -> None:
    path.write_text(str(len(tuning)))


@hookimpl
def register_samplers(register: Register[Sampler]) -> None:
    register("first", FirstSampler)


@hookimpl
def register_stores(register: Register[Store]) -> None:
    register("first", FirstStore)


@hookimpl
def register_executors(register: Register[Executor]) -> None:
    register("first", FirstExecutor)


@hookimpl
def register_observers(register: Register[Observer]) -> None:
    register("first", FirstObserver)


@hookimpl
def register_commands(register: Register[click.Command]) -> None:
    register("first", lambda: first)


@hookimpl
def register_exports(register: Register[None]) -> None:
    register("first", write)


class TestSampler(SamplerSuite):
    @pytest.fixture
    def sampler(self) -> Sampler:
        return FirstSampler()


class TestStore(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return FirstStore()


class TestExecutor(ExecutorSuite):
    @pytest.fixture
    def make_executor(self) -> Any:
        def make(job: SuiteJob) -> Executor:
            return FirstExecutor("first://", job.packed(), token="t")

        return make
"""

MISTAKES = {
    "trial: int": ("trial: str", "incompatible with supertype"),
    'register("first", FirstStore)': ('register("first", FirstSampler)', "incompatible type"),
    "return space.sample(rng)": ("return 1", "Incompatible return value"),
}


def test_an_author_with_the_package_only_is_checked_strictly(bin: Path, tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(AUTHOR)
    # mypy is not in the environment: it looks into it from here.
    arguments = [sys.executable, "-m", "mypy", "--strict", "--python-executable", bin / "python"]
    done = call(*arguments, "first.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    for right, (wrong, told) in MISTAKES.items():
        (tmp_path / "first.py").write_text(AUTHOR.replace(right, wrong, 1))
        assert told in call(*arguments, "first.py", cwd=tmp_path).stdout
