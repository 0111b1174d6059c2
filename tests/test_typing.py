"""What users write passes strict type checking, and their mistakes don't."""

from __future__ import annotations

import textwrap
from pathlib import Path

from mypy import api

HEAD = """
from enum import Enum
from typing import ClassVar, Literal

from letstune import rand
from letstune.space.params import Params


class A(Params):
    x: float = rand.uniform(0, 1)


class B(Params):
    y: int = rand.ints(1, 3)


class Color(Enum):
    RED = 1
"""

CLEAN = """
class C(Params):
    model_cls: ClassVar[type[dict[str, float]]] = dict

    a: bool
    b: float = rand.uniform(0, 1, log=False)
    c: int = rand.oneof([1, 2, 3])
    d: str = rand.oneof(["x", "y"], weights=[1, 3])
    e: A | B = rand.oneof([A, B])
    f: A | None = rand.oneof([None, A])
    g: float | str = rand.oneof([rand.uniform(0, 1), "auto"])
    h: Literal["l1", "l2"]
    i: Color
    j: tuple[int, ...] = rand.oneof([(50,), (100, 50)])
    k: A
    l: A | B
    m: int | None = None
    n: float = rand.normal(0, 1)
    o: bool = rand.bools(0.1)
    p: Literal["l1", "l2"] = rand.oneof(["l1", "l2"])
    q: Color = rand.oneof(list(Color))
    r: A | B | str | None = rand.oneof((None, A, "b", B))
    s: float = rand.oneof([1, 2.5])


class Untyped(Params):
    model_cls = dict

    a: bool


class Child(C):
    b = 0.5


params = C(
    a=True, b=0.5, c=1, d="x", e=A(x=0.1), f=None, g="auto", h="l1", i=Color.RED, j=(1,),
    k=A(x=0.1), l=B(y=1), n=0.0, o=True, p="l1", q=Color.RED, r="b", s=1,
)
same: C = params.replace(a=False)
text: str = C.from_json(params.to_json()).d
x: float = params.k.x
"""

WRONG = """
class C(Params):
    a: int = rand.uniform(0, 1)
    b: str = rand.oneof([1, 2])
    c: int = rand.oneof([1, "x"])
    d: A = rand.oneof([None, A])

A(x=0.5, z=1)
A()
A(x="a")
A(0.5)
a = A(x=0.5)
a.x = 1.0
a.z = 1.0
"""


def check(folder: Path, source: str) -> tuple[list[str], dict[int, str]]:
    """Return mypy's last word, and its error for each line of the source, counted from 1."""
    file = folder / "sample.py"
    file.write_text(HEAD + textwrap.dedent(source))
    cache = Path(__file__).parent.parent / ".mypy_cache"
    out, err, _ = api.run(["--strict", "--cache-dir", str(cache), str(file)])
    assert not err
    errors = {}
    for line in out.splitlines():
        if "error: " in line and "sample.py" in line:
            number = int(line.split("sample.py:")[1].split(":")[0]) - HEAD.count("\n")
            errors[number] = line.split("error: ")[1]
    return out.splitlines(), errors


def test_what_users_write_is_clean(tmp_path):
    out, _ = check(tmp_path, CLEAN)
    assert out == ["Success: no issues found in 1 source file"]


def test_mistakes_are_errors(tmp_path):
    _, errors = check(tmp_path, WRONG)
    lines = WRONG.splitlines()
    found = {lines[number - 1].strip(): error for number, error in errors.items()}
    assert found.keys() == set(map(str.strip, lines[2:])) - {"", "a = A(x=0.5)"}
    assert 'expression has type "float", variable has type "int"' in found[lines[2].strip()]
    assert 'Unexpected keyword argument "z"' in found["A(x=0.5, z=1)"]
    assert 'Missing named argument "x"' in found["A()"]
    assert "Too many positional arguments" in found["A(0.5)"]
    assert "read-only" in found["a.x = 1.0"]
    assert 'has no attribute "z"' in found["a.z = 1.0"]
