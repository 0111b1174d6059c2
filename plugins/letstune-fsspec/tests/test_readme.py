"""The README says what is so."""

import inspect
import re
from pathlib import Path

import pytest
from folders import FOLDERS, contents, fill

from letstune_fsspec import FsspecStore

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_option_is_in_the_readme_with_its_default() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", README, re.MULTILINE))
    options = inspect.signature(FsspecStore).parameters.values()
    own = {p.name: p.default for p in options if p.kind is p.KEYWORD_ONLY}
    said = {name: text.replace(",", "") for name, text in listed.items()}
    shown = {None: "none", False: "no"}
    assert said == {name: shown.get(value, str(value)) for name, value in own.items()}


def test_a_checkpoint_can_be_had_back_as_the_readme_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = FOLDERS["small and large ones"] | FOLDERS["a file in parts"]
    uri = FsspecStore(f"file://{tmp_path}").put("t1", fill(tmp_path / "in", files))
    (script,) = (
        code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "base64" in code
    )
    monkeypatch.chdir(tmp_path)
    exec(script.replace("t00003-e00011-3f2a--9c0d41d6b8e7a250", uri), {})
    assert contents(tmp_path / "restored") == files
