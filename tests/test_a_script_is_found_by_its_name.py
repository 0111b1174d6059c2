"""What a trainer pickles by name, or gives to child processes, is found, also after a resume."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from processes import command, environment, python

from letstune.training.script import standing_in

SCRIPT = """
import multiprocessing, pickle, sys
from concurrent.futures import ProcessPoolExecutor
import letstune

FACTOR = 3

def square(x):
    return FACTOR * x * x

class Data:
    def __init__(self, x):
        self.x = x

class P(letstune.Params):
    x: int = letstune.rand.ints(1, 100)

class T(letstune.EpochTrainer[P]):
    metric = "m"
    def load_dataset(self, dataset):
        self.how = dataset
    def create_model(self, params):
        self.model = Data(params.x)
    def train_epoch(self, epoch):
        if self.how == "pickle":
            again = pickle.loads(pickle.dumps((self.model, square)))
            assert again[0].__class__ is Data and again[1] is square
            return {"m": square(self.model.x)}
        context = multiprocessing.get_context(self.how)
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            data = pool.submit(Data, self.model.x).result()
            assert type(data) is Data
            return {"m": pool.submit(square, data.x).result()}
    def save(self, checkpoint):
        with open(checkpoint.path / "model", "wb") as file:
            pickle.dump(self.model, file)
    def load(self, checkpoint, params):
        with open(checkpoint.path / "model", "rb") as file:
            self.model = pickle.load(file)

if __name__ == "__main__":
    tuning = letstune.tune(
        T(), 2, dataset=sys.argv[1], journal="run.db", rounds=[1, 1], seed=1,
        workers=int(sys.argv[2]) or None, rehearse=False,
    )
    sys.exit(len(tuning.errors))
"""
HOW = ["pickle", "fork", "spawn", "forkserver"]


@pytest.mark.parametrize("workers", ["0", pytest.param("1", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "how", ["pickle", *(pytest.param(h, marks=pytest.mark.slow) for h in HOW[1:])]
)
def test_it_is_found_in_a_run_and_after_a_resume(how: str, workers: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = python("script.py", how, workers, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # Another program is __main__ then, and the script is gone.
    (tmp_path / "script.py").unlink()
    done = command("resume", "run.db", "--rounds=1,3", f"--workers={workers}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr


@pytest.mark.slow
def test_it_is_found_for_a_file_that_the_command_was_given(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    for how in HOW:
        done = command(
            *("tune", "script.py:T", "-n2", "--rounds=1,1", f"--dataset={how}", "--no-rehearse"),
            f"--journal={how}.db",
            cwd=tmp_path,
        )
        assert "failed" not in done.stderr, (how, done.stderr)


TWO = """
import sys
import tempfile
import letstune

for journal in ("one.db", "two.db", "one.db"):
    tuning = letstune.resume(journal, n_trials=3 if journal == "two.db" else None, progress=False)
    assert tuning.errors == [], tuning.errors[0].traceback
import __main__
assert not hasattr(__main__, "square")
print("well")
"""


@pytest.mark.slow
def test_two_journals_that_are_resumed_in_one_process_do_not_mix(tmp_path: Path) -> None:
    for name, factor in (("one", 3), ("two", 5)):
        code = SCRIPT.replace("FACTOR = 3", f"FACTOR = {factor}").replace("run.db", f"{name}.db")
        (tmp_path / "script.py").write_text(code)
        done = python("script.py", "pickle", "0", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        grown = command("resume", f"{name}.db", "--rounds=1,2", "--workers=0", cwd=tmp_path)
        assert grown.returncode == 0, grown.stderr
    done = subprocess.run(
        [sys.executable, "-c", TWO],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "well\n", done.stderr


UNNAMED = """
import enum, functools, multiprocessing, pickle, sys
from concurrent.futures import ProcessPoolExecutor
import letstune

namespace = {}
exec("def nowhere(x): return x", namespace)  # of no module at all
nowhere = namespace["nowhere"]

@functools.lru_cache(maxsize=5)
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

class Kind(enum.Enum):
    ONE = 1
    TWO = 2

class P(letstune.Params):
    x: int = letstune.rand.ints(1, 100)
    kind: Kind = letstune.rand.oneof([Kind.ONE, Kind.TWO])

class Rows:
    def __init__(self):
        self.rows = [1, 2]

class T(letstune.EpochTrainer[P]):  # no function of it names P, Kind or Rows
    metric = "m"
    def load_dataset(self, dataset):
        self.dataset = dataset
    def create_model(self, params):
        self.model = params
    def train_epoch(self, epoch):
        assert pickle.loads(pickle.dumps(self.model)) == self.model
        assert fibonacci(30) == 832040 and fibonacci.cache_info().maxsize == 5
        assert pickle.loads(pickle.dumps(fibonacci)) is fibonacci
        if epoch:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                pool.submit(id, self.model).result()
                pool.submit(id, self.dataset).result()
        return {"m": nowhere(self.model.x) + len(pickle.loads(pickle.dumps(self.dataset[0])).rows)}

if __name__ == "__main__":
    tuning = letstune.tune(
        T(), 2, dataset=(Rows(),), journal="run.db", rounds=[1], seed=1, workers=int(sys.argv[1])
    )
    sys.exit(len(tuning.errors))
"""


@pytest.mark.slow
def test_what_no_function_of_the_trainer_names_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNNAMED)
    done = python("script.py", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "script.py").unlink()
    done = command("resume", "run.db", "--rounds=2", "--workers=0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stderr


def test_when_it_cannot_be_written_nothing_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        pass

    Away.__module__, Away.__qualname__ = "__main__", "Away"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    before = sys.modules["__main__"], dict(os.environ)
    with pytest.raises(FileNotFoundError), standing_in(Away()):
        pass
    assert (sys.modules["__main__"], dict(os.environ)) == before
