import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from types import ModuleType
from typing import Any

import cloudpickle
import pytest
from files import in_all
from journal_facts import facts
from own_keys import sign_again
from processes import command, python
from small_trainers import Climb, Hill, Point, tune

import letstune
from letstune import Params, SimpleTrainer, rand
from letstune.errors import PickleError, PlanChangedError, PlanError
from letstune.training.checkpoints import Checkpoint
from letstune.training.pickling import DATASET_LIMIT, dataset_limit, dump, fingerprint, load_object

TRAINER = """
import letstune
from letstune import Params, rand
{imports}

class P(Params):
    x: float = rand.uniform(0, {high})

class T(letstune.SimpleTrainer[P]):
    metric = "m"

    def load_dataset(self, dataset):
        self.dataset = dataset

    def train(self, params):
        return params, {{"m": {value}}}
"""

MAIN = """
if __name__ == "__main__":
    import sys
    letstune.tune({trainer}, int(sys.argv[2]), dataset="data", journal=sys.argv[1], seed=1)
"""


def write(
    file: Path, main: str = "T()", imports: str = "", value: str = "params.x", high: int = 1
) -> Path:
    file.parent.mkdir(exist_ok=True)
    body = TRAINER.format(imports=imports, value=value, high=high)
    file.write_text(body + (MAIN.format(trainer=main) if main else ""))
    return file


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def resumed(path: Path, elsewhere: Path, *options: object) -> list[float]:
    done = command("resume", path, "-n", 4, *options, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    return [trial.metric_value for trial in letstune.load(path)]


def pickles(path: Path) -> list[str]:
    with closing(connect(path)) as db:
        return [name for (name,) in db.execute("SELECT name FROM pickles ORDER BY seq")]


def in_main(folder: Path) -> Path:
    return write(folder / "script.py")


def in_function(folder: Path) -> Path:
    script = write(folder / "script.py", main="make()")
    body, main = script.read_text().split("\nif __name__")
    indented = body.replace("\n", "\n    ")
    script.write_text(f"import letstune\ndef make():{indented}\n    return T()\nif __name__{main}")
    return script


def in_module(folder: Path) -> Path:
    write(folder / "experiment.py", main="")
    return write(folder / "script.py", imports="import experiment", main="experiment.T()")


def with_helper(folder: Path) -> Path:
    (folder / "helper.py").write_text("def value(x):\n    return 10 + x\n")
    return write(folder / "script.py", imports="from helper import value", value="value(params.x)")


def with_late_helper(folder: Path) -> Path:
    (folder / "helper.py").write_text("def value(x):\n    return 10 + x\n")
    return write(folder / "script.py", value="__import__('helper').value(params.x)")


@pytest.mark.parametrize(
    "make",
    [
        *(in_main, with_late_helper),
        *(pytest.param(m, marks=pytest.mark.slow) for m in (in_function, in_module, with_helper)),
    ],
)
def test_the_journal_is_enough_to_resume_from_anywhere(
    make: Callable[[Path], Path], path: Path, tmp_path: Path, elsewhere: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    script = make(folder)
    done = python(script, path, 2, cwd=tmp_path, paths=())
    assert done.returncode == 0, done.stderr
    script.unlink()
    assert len(resumed(path, elsewhere)) == 4
    added = 10 if "helper" in make.__name__ else 0
    for trial in letstune.load(path):
        assert trial.metric_value == added + trial.params.x
    if "module" not in make.__name__:  # models of a script's own classes come back as well
        assert trial.checkpoint.load_pickle().x == trial.params.x


# What is missing when it resumes


@pytest.fixture(scope="module")
def lost_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lost")
    (folder / "project").mkdir()
    script = in_module(folder / "project")
    assert python(script, folder / "run.db", 2, cwd=folder, paths=()).returncode == 0
    (folder / "moved").mkdir()
    (folder / "project" / "experiment.py").rename(folder / "moved" / "renamed.py")
    return folder


@pytest.fixture
def lost(lost_once: Path, tmp_path: Path) -> Path:
    """A journal whose trainer's module is not where it was, but in a folder beside it."""
    return Path(shutil.copytree(lost_once, tmp_path / "lost")) / "run.db"


def test_a_missing_module_is_one_clear_error(lost: Path, elsewhere: Path) -> None:
    before = in_all(lost.parent)
    done = command("resume", lost, "-n", 4, cwd=elsewhere)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"Error: {lost}: the trainer (experiment:T) cannot be brought")
    assert "No module named 'experiment'" in done.stderr
    assert "--trainer MODULE:NAME" in done.stderr
    assert "Traceback" not in done.stderr
    assert in_all(lost.parent) == before


def test_naming_the_trainer_helps(lost: Path, elsewhere: Path) -> None:
    moved = lost.with_name("moved")
    assert len(resumed(lost, elsewhere, "--trainer", f"{moved / 'renamed.py'}:T")) == 4
    # It is recorded, so that the next time the journal is enough.
    assert command("resume", lost, "-n", 5, cwd=elsewhere).returncode == 0


def test_naming_a_module_helps_from_its_folder(lost: Path) -> None:
    assert len(resumed(lost, lost.with_name("moved"), "--trainer", "renamed:T")) == 4


def test_another_trainer_object_helps(lost: Path) -> None:
    class P(Params):
        x: float = rand.uniform(0, 1)

    class Same(SimpleTrainer[P]):
        metric = "m"

        def load_dataset(self, dataset: Any) -> None:
            assert dataset == "data"

        def train(self, params: P) -> Any:
            return None, {"m": 5.0}

    tuning = letstune.resume(lost, n_trials=4, trainer=Same(), progress=False)
    assert [trial.metric_value for trial in tuning][:2] == [5.0, 5.0]


def test_another_python_is_told(path: Path) -> None:
    tune(Hill(), 1, path)
    with closing(connect(path)) as db, db:
        db.execute(
            "INSERT INTO pickles SELECT 999, name, x'00', "
            "'6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d', NULL, "
            "json_set(about, '$.python', '2.7') FROM pickles WHERE name = 'trainer'"
        )
    sign_again(path)
    with pytest.raises(PickleError, match=r"It was kept by Python 2\.7, and this is Python 3"):
        letstune.resume(path, n_trials=2, progress=False)


# What has changed when it resumes


def test_a_changed_space_is_refused_with_what_differs(path: Path, tmp_path: Path) -> None:
    assert python(write(tmp_path / "s.py"), path, 2, cwd=tmp_path).returncode == 0
    before = in_all(path.parent)
    done = python(write(tmp_path / "s.py", high=7), path, 4, cwd=tmp_path)
    assert done.returncode == 1
    assert "PlanChangedError" in done.stderr
    assert "search space" in done.stderr
    assert "x" in done.stderr
    assert "7" in done.stderr
    assert in_all(path.parent) == before


def test_a_changed_module_is_refused_with_what_differs(
    path: Path, tmp_path: Path, elsewhere: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    assert python(in_module(folder), path, 2, cwd=tmp_path, paths=()).returncode == 0
    write(folder / "experiment.py", main="", high=7)
    before = in_all(path.parent)
    done = command("resume", path, "-n", 4, cwd=elsewhere)
    assert done.returncode == 1
    assert "search space" in done.stderr
    assert in_all(path.parent) == before


def test_a_changed_script_is_picked_up_and_recorded(
    path: Path, tmp_path: Path, elsewhere: Path
) -> None:
    script = write(tmp_path / "s.py")
    assert python(script, path, 2, cwd=tmp_path).returncode == 0
    write(tmp_path / "s.py", value="100")
    assert python(script, path, 3, cwd=tmp_path).returncode == 0
    assert letstune.load(path).trial(2).metric_value == 100
    assert pickles(path).count("trainer") == 2
    script.unlink()
    resumed(path, elsewhere)
    assert letstune.load(path).trial(3).metric_value == 100


def test_an_unchanged_script_is_not_recorded_again(path: Path, tmp_path: Path) -> None:
    script = write(tmp_path / "s.py")
    for n in (2, 3, 4):
        done = python(script, path, n, cwd=tmp_path, PYTHONHASHSEED=str(n))
        assert done.returncode == 0, done.stderr
    assert pickles(path) == ["trainer", "dataset"]


class Scaled(Hill):
    def __init__(self, scale: float) -> None:
        self.scale = scale

    def train(self, params: Point) -> Any:
        return None, {"height": self.scale}


def test_changed_fields_of_a_trainer_are_recorded(path: Path) -> None:
    tune(Scaled(1.0), 1, path)
    tune(Scaled(2.0), 2, path)
    tuning = letstune.resume(path, n_trials=3, progress=False)
    assert [tuning.trial(i).metric_value for i in range(3)] == [1.0, 2.0, 2.0]


# Datasets


class Sized(Hill):
    def train(self, params: Point) -> Any:
        return None, {"height": float(len(self.dataset))}


def test_a_dataset_is_kept(path: Path) -> None:
    tune(Sized(), 1, path, dataset=[1, 2, 3])
    assert letstune.resume(path, n_trials=2, progress=False)[1].metric_value == 3.0


class Unpicklable(list[int]):
    def __reduce__(self) -> Any:
        raise TypeError("no pickle of me")


@pytest.mark.parametrize(
    ("dataset", "why"),
    [
        (b"x" * 2000, "its pickle is larger than 1000 bytes (LETSTUNE_DATASET_LIMIT)"),
        (Unpicklable([1, 2]), "no pickle of me"),
    ],
)
def test_a_dataset_that_cannot_be_kept_is_told_at_the_start(
    dataset: Any,
    why: str,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LETSTUNE_DATASET_LIMIT", "1000")
    tuning = tune(Sized(), 2, path, dataset=dataset, progress=None)
    assert [trial.metric_value for trial in tuning] == [len(dataset)] * 2
    told = capsys.readouterr().err.splitlines()[0]
    assert "the dataset is not kept in the journal" in told
    assert why in told
    assert pickles(path) == ["trainer"]

    before = in_all(path.parent)
    with pytest.raises(PickleError, match=r"dataset, a .*, was not kept. Give it"):
        letstune.resume(path, n_trials=3, progress=False)
    assert in_all(path.parent) == before
    letstune.resume(path, n_trials=3, dataset=dataset, progress=False)
    tune(Sized(), 4, path, dataset=dataset)  # or the same script again
    assert len(letstune.load(path)) == 4
    assert letstune.load(path).errors == []


def test_a_finished_run_whose_dataset_was_not_kept_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETSTUNE_DATASET_LIMIT", "1000")
    tune(Sized(), 2, path, dataset=b"x" * 2000)
    assert len(letstune.resume(path, progress=False)) == 2


def test_up_to_the_limit_a_dataset_is_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(dump("dataset", b"x" * 2000).data)
    for limit, kept in ((size, True), (size - 1, False)):
        monkeypatch.setenv("LETSTUNE_DATASET_LIMIT", str(limit))
        journal = path.with_name(f"{limit}.db")
        tune(Sized(), 1, journal, dataset=b"x" * 2000)
        assert ("dataset" in pickles(journal)) == kept


def test_the_limit_is_64_mib_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LETSTUNE_DATASET_LIMIT", raising=False)
    assert dataset_limit() == DATASET_LIMIT == 64 * 1024 * 1024


@pytest.mark.parametrize("text", ["", "64M", "-1", "1.5"])
def test_a_limit_that_is_no_number_is_told(
    text: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LETSTUNE_DATASET_LIMIT", text)
    with pytest.raises(PlanError, match=f"LETSTUNE_DATASET_LIMIT is {text!r}; expected"):
        tune(Hill(), 1, path)
    assert not path.exists()


# What cannot be pickled


class Locked(Hill):
    def __init__(self) -> None:
        self.fine = 1
        self.connection = threading.Lock()


def test_a_trainer_that_cannot_be_pickled_is_told_with_the_culprit(path: Path) -> None:
    with pytest.raises(PickleError) as caught:
        tune(Locked(), 1, path)
    assert "The trainer, a Locked, cannot be pickled because of its attribute 'connection'" in str(
        caught.value
    )
    assert "load_dataset" in str(caught.value)
    assert in_all(path.parent) == {}


def test_a_trainer_that_cannot_be_pickled_leaves_a_journal_as_it_was(path: Path) -> None:
    tune(Hill(), 1, path)
    before = in_all(path.parent)
    with pytest.raises(PickleError):
        tune(Locked(), 2, path)
    with pytest.raises(PickleError):
        letstune.resume(path, trainer=Locked(), progress=False)
    assert in_all(path.parent) == before


# Names


def test_a_trainer_is_found_by_file_or_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "found_by_name.py", main="")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert type(load_object("found_by_name:T")).__name__ == "T"
    assert type(load_object("found_by_name.py:T")).__name__ == "T"
    assert type(load_object(str(tmp_path / "found_by_name.py") + ":T")).__name__ == "T"


def test_an_object_is_taken_as_it_is() -> None:
    assert load_object("string:digits") == "0123456789"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("digits", "expected MODULE:NAME or FILE.py:NAME"),
        (":T", "expected MODULE:NAME"),
        ("small_trainers:", "expected MODULE:NAME"),
        ("small_trainers:no such", "expected MODULE:NAME"),
        ("nowhere.py:T", "There is no file nowhere.py"),
        ("no_such_module:T", "There is no module 'no_such_module'"),
        ("json.no_such_module:T", "There is no module 'json.no_such_module'"),
        (
            "stateful_trainer:T",
            "stateful_trainer has no 'T'; its trainers are WalkTrainer, StrideTrainer",
        ),
    ],
)
def test_a_name_that_leads_nowhere_is_told(name: str, text: str) -> None:
    with pytest.raises(PlanError, match=text):
        load_object(name)


def test_a_plan_that_differs_only_in_the_trainers_code_is_the_same(path: Path) -> None:
    tune(Climb(), 2, path, rounds=[1])
    before = facts(path)
    with pytest.raises(
        PlanChangedError, match="trainer: was small_trainers:Climb, is test_pickling:Other"
    ):
        tune(Other(), 2, path, rounds=[1])
    assert facts(path) == before


class Other(Climb):
    pass


def test_a_dataset_that_is_given_at_a_resume_is_recorded(path: Path) -> None:
    tune(Sized(), 1, path, dataset=[1, 2, 3])
    for n, dataset in ((2, [1] * 5), (3, None), (4, [1] * 5)):
        given = {} if dataset is None else {"dataset": dataset}
        tuning = letstune.resume(path, n_trials=n, progress=False, **given)  # type: ignore[arg-type]
        assert tuning.trial(n - 1).metric_value == 5.0
        assert pickles(path) == ["trainer", "dataset", "dataset"]
    assert letstune.resume(path, n_trials=5, progress=False).trial(4).metric_value == 5.0


def test_another_dataset_is_noted(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n, dataset, noted in ((1, [1, 2], 0), (2, [1, 2], 0), (3, [1], 1)):
        tune(Sized(), n, path, dataset=dataset, progress=True)
        assert capsys.readouterr().err.count("dataset is pickled differently") == noted


# What changes with a trainer's code

PRINTED = """
class Plain(T):
    def __init__(self):
        self.name, self.scale, self.on, self.none = "name", 0.1, True, None

    def train(self, params):
        known = {one for one in "abc" if one in {"a", "b", "c", "d"}}
        return None, {"m": len(known | {"x", "y"})}

from letstune.training.pickling import fingerprint
print(fingerprint(Plain()))
"""


@pytest.mark.parametrize("in_file", [True, False])
def test_a_fingerprint_is_the_same_in_each_process(in_file: bool, tmp_path: Path) -> None:
    script = write(tmp_path / "s.py", main="")
    script.write_text(script.read_text() + PRINTED)
    arguments = [script] if in_file else ["-c", script.read_text()]
    runs = [python(*arguments, cwd=tmp_path, PYTHONHASHSEED=str(n)) for n in (1, 2, 3)]
    assert [run.stderr for run in runs] == [""] * 3
    assert len({run.stdout for run in runs}) == 1
    assert len(runs[0].stdout.strip()) == 64


def made(body: str, where: str) -> Any:
    """Return a trainer whose code is nowhere but in memory."""
    code = f"class T(Hill):\n    def train(self, params):\n        {body}\n"
    if where == "function":
        code = "def make():\n    " + code.replace("\n", "\n    ") + "\n    return T\nT = make()"
    space: dict[str, Any] = {"Hill": Hill, "__name__": f"a_{where}"}
    exec(code, space)
    return space["T"]()


@pytest.mark.parametrize("where", ["function", "notebook"])
def test_a_fingerprint_changes_with_the_code_at_hand(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = ModuleType("a_notebook")  # without a file
    monkeypatch.setitem(sys.modules, notebook.__name__, notebook)
    cloudpickle.register_pickle_by_value(notebook)
    bodies = [
        "return None, {'height': 1.0}",
        "return None, {'height': 2.0}",
        "return None, {'width': 1.0}",
        "return params, {'height': abs(params.x)}",
        "return params, {'height': hash(params.x)}",
        "return params, {'height': params.x in {'a', 'b'}}",
        "return params, {'height': params.x in {'a', 'c'}}",
        "return params, {'height': (lambda: 1)()}",
        "return params, {'height': (lambda: 2)()}",
    ]
    try:
        found = [fingerprint(made(body, where)) for body in bodies]
        assert found == [fingerprint(made(body, where)) for body in bodies]
    finally:
        cloudpickle.unregister_pickle_by_value(notebook)
    assert len(set(found)) == len(bodies)


TWINS = """
import sys, letstune
from letstune import Params, SimpleTrainer, rand

class Leaf(Params):
    depth: int = rand.ints(1, 9)

class Stem(Params):
    width: float = rand.uniform(0, 1)

class Plant(Params):
    x: float = rand.uniform(0, 1)
    part: Leaf | Stem

class Other(Params):
    x: float = rand.uniform(0, 1)
    part: Leaf | Stem

class T(SimpleTrainer[Plant]):
    metric = "x"

    def load_dataset(self, dataset):
        pass

    def train(self, params):
        return params, {"x": params.x}

tuning = letstune.tune(T(), 3, journal=sys.argv[1], seed=1, progress=False)
for trial in tuning:
    model, params = trial.checkpoint.load_pickle(), trial.params
    assert model == params and params == model
    assert hash(model) == hash(params)
    assert model.part == params.part
    assert model != params.replace(x=0.5)
    assert model != Other(x=params.x, part=params.part)
print(type(model) is Plant)
"""


def test_params_of_a_scripts_class_equal_those_of_an_earlier_run(path: Path) -> None:
    script = path.parent / "twins.py"
    script.write_text(TWINS)
    for told in ("True\n", "False\n"):  # made anew, from a checkpoint of another process
        done = python(script, path, cwd=path.parent)
        assert (done.stdout, done.stderr) == (told, "")


@pytest.mark.parametrize("workers", [None, 2])
def test_a_traceback_names_the_line_of_the_script(
    workers: int | None, path: Path, tmp_path: Path
) -> None:
    script = write(tmp_path / "my.py", value="1 / 0")
    script.write_text(script.read_text().replace("seed=1", f"seed=1, workers={workers}"))
    python(script, path, 2, cwd=tmp_path)
    with closing(connect(path)) as journal:
        tracebacks = [row[0] for row in journal.execute("SELECT traceback FROM failures")]
    line = script.read_text().splitlines().index('        return params, {"m": 1 / 0}') + 1
    assert len(tracebacks) == 2
    for traceback in tracebacks:
        assert f'File "{script}", line {line}, in train' in traceback
        assert 'return params, {"m": 1 / 0}' in traceback


def test_code_in_a_checkpoint_remembers_its_file(tmp_path: Path) -> None:
    def model() -> Callable[[], None]:
        return lambda: None

    checkpoint = Checkpoint(lambda: tmp_path)
    checkpoint.save_pickle(model)
    again = checkpoint.load_pickle()
    assert again is not model
    assert again.__code__.co_filename == __file__
    assert again().__code__.co_filename == __file__
