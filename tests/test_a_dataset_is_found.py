"""A dataset that is a relative path is found from any folder, and is what was trained on."""

from pathlib import Path

import pytest

import letstune
from letstune import Params, SimpleTrainer, rand


class Point(Params):
    x: float = rand.uniform(0, 1)


class Reader(SimpleTrainer[Point]):
    metric = "value"

    def load_dataset(self, dataset: object) -> None:
        self.given = dataset
        self.value = float(Path(str(dataset)).read_text()) if "." in str(dataset) else -1.0

    def train(self, params: Point) -> tuple[object, dict[str, float]]:
        return str(self.given), {"value": self.value}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, which is the current one."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "data.txt").write_text("1")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "start")
    return tmp_path / "start"


def begin(dataset: object, journal: Path) -> None:
    letstune.tune(Reader(), 1, dataset=dataset, journal=journal, seed=1, progress=False)


def values(journal: Path) -> list[float]:
    return [t.metric_value for t in letstune.resume(journal, n_trials=2, progress=False)]


@pytest.mark.parametrize("kind", [str, Path])
def test_a_relative_path_means_the_file_that_was_trained_on(
    kind: type,
    start: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    journal = start.parent / "run.db"
    begin(kind("../start/data.txt"), journal)
    monkeypatch.chdir(start.parent / "elsewhere")
    Path("data.txt").write_text("2")
    assert values(journal) == [1, 1]
    assert f"the dataset is {start / 'data.txt'}, from the folder in which the run was" in (
        capsys.readouterr().err
    )
    trials = letstune.load(journal, trust=True)
    last = next(trial for trial in trials if trial.trial_id == 1)
    assert last.checkpoint.load_pickle() == str(start / "data.txt")


def test_a_file_that_has_gone_with_its_folder_is_looked_for_here(
    start: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = start.parent / "run.db"
    begin("data.txt", journal)
    (start / "data.txt").rename(start.parent / "elsewhere" / "data.txt")
    monkeypatch.chdir(start.parent / "elsewhere")
    assert values(journal) == [1, 1]
    assert "the dataset is" not in capsys.readouterr().err


@pytest.mark.parametrize("dataset", ["digits", "", "a\0b", "x" * 5000], ids=len)
def test_text_that_names_no_file_stays_as_it_is(
    dataset: str, start: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = start.parent / "run.db"
    begin(dataset, journal)
    monkeypatch.chdir(start.parent / "elsewhere")
    assert values(journal) == [-1, -1]
    assert "the dataset is" not in capsys.readouterr().err


def test_a_trial_is_trained_again_on_the_same_file(
    start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = start.parent / "run.db"
    begin("data.txt", journal)
    monkeypatch.chdir(start.parent / "elsewhere")
    Path("data.txt").write_text("2")
    assert letstune.load(journal)[0].retrain()
