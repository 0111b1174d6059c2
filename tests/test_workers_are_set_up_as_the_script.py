"""What a script has set up for logging and warnings holds in its workers as well."""

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import python

from letstune.workers.set_up import SetUp

SCRIPT = """
import logging, sys, warnings
import letstune

logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s <%(message)s>")
logging.getLogger("quiet").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="of no interest")

class P(letstune.Params):
    x: float = letstune.rand.uniform(0, 1)

class T(letstune.SimpleTrainer[P]):
    metric = "m"
    def load_dataset(self, dataset): ...
    def train(self, params):
        logging.info("training")
        logging.debug("too much")
        logging.getLogger("quiet").warning("not this")
        warnings.warn("of no interest")
        warnings.warn("of interest")
        return None, {"m": params.x}

if __name__ == "__main__":
    letstune.tune(T(), 2, journal="run.db", workers=1, progress=False)
"""


def test_logging_and_warnings_are_as_in_the_script(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = python("script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("INFO <training>") == 2
    assert "too much" not in done.stderr
    assert "not this" not in done.stderr
    assert "of no interest" not in done.stderr.replace('"of no interest"', "")
    assert "UserWarning: of interest" in done.stderr


MODULE = """
import logging, sys, warnings
import letstune

handler = logging.StreamHandler(sys.stderr)
handler.setFormatter(logging.Formatter("<%(message)s>"))
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel(logging.INFO)
logging.basicConfig(format="a second one: %(message)s")  # which does nothing any more
warnings.warn("this module is old", DeprecationWarning)

class P(letstune.Params):
    x: float = letstune.rand.uniform(0, 1)

class T(letstune.SimpleTrainer[P]):
    metric = "m"
    def load_dataset(self, dataset): ...
    def train(self, params):
        logging.info("training")
        try:
            warnings.warn("of interest")
        except UserWarning:
            logging.info("an error")
        return None, {"m": params.x}
"""
USER = """
import warnings
import letstune, net

warnings.simplefilter("error")
letstune.tune(net.T(), 2, journal="run.db", workers=1, progress=False)
"""


def test_a_module_of_the_trainers_is_imported_as_it_was_in_the_script(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODULE)
    (tmp_path / "script.py").write_text(USER)
    done = python("script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("<training>") == 2
    assert done.stderr.count("<an error>") == 2
    assert "a second one" not in done.stderr


@pytest.fixture
def restored() -> Iterator[None]:
    levels = {"": logging.root.level, "net": logging.getLogger("net").level}
    handlers = list(logging.root.handlers)
    with warnings.catch_warnings():
        yield
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)
    for handler in set(logging.root.handlers) - set(handlers):
        logging.root.removeHandler(handler)
        handler.close()


def forget() -> None:
    logging.getLogger("net").setLevel(logging.NOTSET)
    for handler in list(logging.root.handlers):
        logging.root.removeHandler(handler)
        if isinstance(handler, logging.FileHandler):
            handler.close()
    warnings.resetwarnings()


def test_what_is_set_up_comes_back_from_a_pickle(restored: Any, tmp_path: Path) -> None:
    file = logging.FileHandler(tmp_path / "train.log")
    file.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    file.setLevel(logging.WARNING)
    logging.root.addHandler(file)
    logging.root.addHandler(logging.StreamHandler(sys.stdout))
    logging.root.addHandler(logging.NullHandler())  # of a kind that stays here
    logging.getLogger("net").setLevel(logging.DEBUG)
    warnings.filterwarnings("error", "careful", RuntimeWarning, r"net\..*", 7)
    filters = [(a, getattr(m, "pattern", m), c) for a, m, c, _, _ in warnings.filters]
    found = SetUp.here()
    forget()
    with found.applied():
        pass
    assert logging.getLogger("net").level == logging.DEBUG
    there = [
        h for h in logging.root.handlers if type(h) in (logging.FileHandler, logging.StreamHandler)
    ]
    assert [type(handler) for handler in there] == [logging.FileHandler, logging.StreamHandler]
    logging.getLogger("net").warning("here")
    logging.getLogger("net").info("not in the file")
    assert (tmp_path / "train.log").read_text() == "net: here\n"
    assert [(a, getattr(m, "pattern", m), c) for a, m, c, _, _ in warnings.filters] == filters


def test_what_another_process_cannot_have_stays_here(restored: Any, tmp_path: Path) -> None:
    class OwnWarning(UserWarning):
        pass

    warnings.simplefilter("ignore", OwnWarning)
    before = len(warnings.filters)
    assert len(SetUp.here().filters) == before - 1


def test_a_log_file_that_cannot_be_opened_is_told(
    restored: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    file = logging.FileHandler(folder / "train.log")
    logging.root.addHandler(file)
    found = SetUp.here()
    file.close()
    logging.root.removeHandler(file)
    (folder / "train.log").unlink()
    folder.rmdir()
    with found.applied():
        pass
    assert f"a worker cannot log to {folder / 'train.log'}" in capsys.readouterr().err
