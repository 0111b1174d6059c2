"""The trainer of each page on a framework comes out the same in pieces as straight on."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT

PAGES = ROOT / "docs" / "frameworks"
TRAINERS = {  # page: trainer, and what must be installed
    "pytorch": ("TorchTrainer", "torch", "sklearn"),
    "lightning": ("LightningTrainer", "lightning", "torch", "sklearn"),
    "keras": ("KerasTrainer", "keras", "torch", "sklearn"),
    "hugging-face": ("BertTrainer", "transformers", "accelerate", "torch"),
    "xgboost": ("XGBoostTrainer", "xgboost", "sklearn"),
    "lightgbm": ("LightGBMTrainer", "lightgbm", "sklearn"),
    "catboost": ("CatBoostTrainer", "catboost", "sklearn"),
    "scikit-learn": ("SklearnTrainer", "sklearn"),
}
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    # On a busy machine, threads that wait for each other take longer than so small a model.
    "OMP_NUM_THREADS": "1",
    "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "torch"),
    "HF_HUB_OFFLINE": "1",  # nothing is to be fetched
}
# One epoch after a load is what a training can get wrong; two trials, what one leaves for another.
REHEARSE = """
import letstune
from page import {name}
if __name__ == "__main__":
    print(letstune.rehearse({name}(), n_trials=2, epochs=2))
"""


def code(page: str) -> str:
    """Return the first block of a page, which is its trainer."""
    return re.findall(r"^```python\n(.*?)^```$", (PAGES / f"{page}.md").read_text(), re.M | re.S)[0]


def test_each_page_is_rehearsed() -> None:
    others = {"scripts"}  # any command, whatever framework it uses
    assert {page.stem for page in PAGES.glob("*.md")} - others == set(TRAINERS)


@pytest.mark.slow
@pytest.mark.parametrize("page", TRAINERS)
def test_the_trainer_of_a_page_passes_rehearse(page: str, tmp_path: Path) -> None:
    name, *packages = TRAINERS[page]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    (tmp_path / "page.py").write_text(code(page))
    (tmp_path / "script.py").write_text(REHEARSE.format(name=name))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]", done.stdout
    left = {path.name for path in tmp_path.iterdir()} - {"page.py", "script.py", "__pycache__"}
    assert left == set()
