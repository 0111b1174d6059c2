"""What users write is well typed in the editor that most of them have, which checks as pyright.

basedpyright is pyright in a package that needs no download.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import ROOT

pytest.importorskip("basedpyright")

TRAINERS = """
from typing import Any

import letstune
from letstune import CommandTrainer, EpochTrainer, Params, SimpleTrainer, rand


class P(Params):
    x: float = rand.uniform(0, 1)


class AsAttribute(SimpleTrainer[P]):
    metric = "accuracy"

    def load_dataset(self, dataset: object) -> None:
        self.shift: float = self.rng.normal() + self.seed

    def train(self, params: P) -> tuple[Any, dict[str, float]]:
        return None, {self.metric: params.x + self.shift}


class Annotated(AsAttribute):
    metric: str = "accuracy"


class OfTheObject(EpochTrainer[P]):
    def __init__(self, metric: str) -> None:
        self.metric = metric

    def load_dataset(self, dataset: object) -> None:
        pass

    def train_epoch(self, epoch: int) -> dict[str, float]:
        return {self.metric: 1.0}


class AsProperty(EpochTrainer[P]):
    @property
    def metric(self) -> str:
        return "accuracy"

    def load_dataset(self, dataset: object) -> None:
        pass

    def train_epoch(self, epoch: int) -> dict[str, float]:
        return {self.metric: 1.0}


class Script(CommandTrainer[P]):
    metric = "accuracy"
    process = "epoch"
    folder = "scripts"
    command = "{python} train.py --x={x}"


def a_script() -> None:
    for epoch, report in letstune.epochs(10, seed=3):
        report(accuracy=epoch / 10)
        report({"seed": report.seed})


tuning = letstune.tune(AsAttribute(), 3)
best: float = tuning.best.params.x
others = [letstune.tune(one, 3) for one in (OfTheObject("a"), AsProperty(), Script())]
"""

UNANNOTATED = TRAINERS.replace("dataset: object) -> None:", "dataset):")

WRONG = """
import letstune
from letstune import Params, SimpleTrainer, rand


class P(Params):
    x: int = rand.uniform(0, 1)


class T(SimpleTrainer[P]):
    metric = "m"

    def load_dataset(self, dataset: object) -> None:
        pass

    def train(self, params: P) -> tuple[None, dict[str, float]]:
        return None, {"m": params.y}


text: str = letstune.tune(T(), 3).best.params.x
"""

# Other libraries' types are not ours to know.
UNKNOWN = (
    *("reportUnknownMemberType", "reportUnknownVariableType", "reportUnknownArgumentType"),
    *("reportUnknownParameterType", "reportUnknownLambdaType", "reportMissingTypeStubs"),
    *("reportMissingTypeArgument", "reportUntypedBaseClass"),
    "reportMissingParameterType",  # which pages leave out where they say nothing
    # The blocks of a page are one file here.
    *("reportDuplicateImport", "reportConstantRedefinition", "reportPossiblyUnboundVariable"),
    "reportFunctionMemberAccess",  # functions may have attributes, which no checker knows
)


def found(folder: Path, mode: str, **settings: Any) -> list[str]:
    """Return all that pyright has to say of a folder's files, each with its line of code."""
    wanted = {"typeCheckingMode": mode, "extraPaths": [str(ROOT)], **settings}
    wanted |= {"reportMissingImports": "none", "reportMissingModuleSource": "none"}
    (folder / "pyrightconfig.json").write_text(json.dumps(wanted))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "basedpyright", "--outputjson"),
            *("--pythonpath", sys.executable, "-p", str(folder)),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    diagnostics = json.loads(done.stdout)["generalDiagnostics"]
    return [_shown(Path(one["file"]), one) for one in diagnostics]


def _shown(file: Path, diagnostic: Any) -> str:
    code = file.read_text().splitlines()[diagnostic["range"]["start"]["line"]].strip()
    return f"{code}  # {file.name}: {diagnostic['message']}"


@pytest.mark.parametrize(("code", "mode"), [(TRAINERS, "strict"), (UNANNOTATED, "basic")])
def test_a_metric_may_be_an_attribute_or_a_property(code: str, mode: str, tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(code)
    assert found(tmp_path, mode) == []


def test_mistakes_are_found(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(WRONG)
    assert {line.partition("  # ")[0] for line in found(tmp_path, "basic")} == {
        "x: int = rand.uniform(0, 1)",
        'return None, {"m": params.y}',
        "text: str = letstune.tune(T(), 3).best.params.x",
    }


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["basic", "strict"])
def test_the_examples_and_pages_are_well_typed(mode: str, tmp_path: Path) -> None:
    examples = [*(ROOT / "examples").glob("*.py"), ROOT / "examples" / "command" / "tune.py"]
    for example in examples:
        (tmp_path / example.name).write_text(example.read_text())
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        if page.stem == "executor":
            continue  # its classes come in pieces
        code = re.findall(r"```python[^\n]*\n(.*?)```", page.read_text(), re.DOTALL)
        (tmp_path / f"page_{page.stem.replace('-', '_')}.py").write_text("\n".join(code))
    unknown = dict.fromkeys(UNKNOWN, "none") if mode == "strict" else {}
    assert found(tmp_path, mode, **unknown) == []
