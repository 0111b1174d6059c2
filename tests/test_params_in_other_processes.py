"""Params and their classes reach other processes, and need no NumPy."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
from example_params import model

SCRIPT = """
import cloudpickle, enum, sys
from letstune import rand
from letstune.space.params import Params

def define():
    class Kind(enum.Enum):
        A = 1
        B = 2
    class Inner(Params):
        kind: Kind
        x: float = rand.uniform(0, 1)
    class Outer(Params):
        inner: Inner | None
        nan: float = float("nan")
        n: int = rand.oneof([1, 2])
        def create_model(self):
            return self.n + 1
    class Heir(Outer):
        n = 5
    return Inner, Outer, Heir

Inner, Outer, Heir = define()
class Main(Params):
    inner: Inner
    m: int = rand.ints(1, 3)
params = Outer(inner=Inner(kind=list(Inner.space().fields[0][1].candidates)[0].value, x=0.5), n=1)
heir = Heir(inner=None)
main = Main(inner=params.inner, m=1)
Outer.best = params  # a class that holds an instance of itself
everything = [Outer, params, heir, main, Heir.space(), params.to_json()]
sys.stdout.buffer.write(cloudpickle.dumps(everything))
"""

CHECK = """
import cloudpickle, sys, numpy as np
Outer, params, heir, main, space, text = cloudpickle.loads(sys.stdin.buffer.read())
assert isinstance(params, Outer) and isinstance(heir, Outer)
assert params == Outer.from_json(text) and hash(params) == hash(Outer.from_json(text))
assert Outer.best == params and params in {params}
assert heir.n == 5 and type(heir).space() == space and space.cls is type(heir)
rng = np.random.default_rng(1)
for cls in (Outer, type(heir), type(main)):
    sampled = cls.space().sample(rng)
    assert type(sampled) is cls and cls.from_json(sampled.to_json()) == sampled
assert type(main.inner) is type(params.inner) and params.create_model() == 2
print("all well")
"""


def test_classes_of_main_reach_another_process():
    dumped = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True).stdout
    checked = subprocess.run(
        [sys.executable, "-c", CHECK], input=dumped, capture_output=True, check=False
    )
    assert checked.stdout.decode().strip() == "all well", checked.stderr.decode()


def test_params_of_a_module_are_pickled():
    assert pickle.loads(pickle.dumps(model())) == model()


def test_numpy_is_not_imported():
    # The package itself is passed over: it may well import more.
    code = """
import importlib.util, sys, types
package = types.ModuleType("letstune")
package.__path__ = importlib.util.find_spec("letstune").submodule_search_locations
sys.modules["letstune"] = package
import letstune.space.params
print(sorted({"numpy", "pandas", "cloudpickle"} & set(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ran.stdout.strip() == b"[]"
