"""The pictures of the page "Architecture" show the code as it is, so that it can be read."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from test_architecture import GROUND, ROOMS, WINGS, rooms_imported, wing
from test_docs import loaded

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pictures() -> ModuleType:
    return loaded("pictures")


def test_the_wings_are_those_of_the_architecture(pictures: ModuleType) -> None:
    wings = pictures.read_wings()
    assert set(wings) == set(WINGS)
    for name, found in wings.items():
        rooms = [room for room in ROOMS if wing(room) == name]
        met = {wing(other) for room in rooms for other in rooms_imported(room)}
        assert found.imports == met - {name, "__init__", *GROUND}
        assert found.modules == len(rooms)


def test_arrows_point_down(pictures: ModuleType) -> None:
    order = list(pictures.read_wings())
    for place, found in enumerate(pictures.read_wings().values()):
        assert found.imports <= set(order[place + 1 :])
    assert order[-1] == "errors"


def package(folder: Path, **wings: str) -> Path:
    for name, code in wings.items():
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(code)
    return folder


def test_a_wing_is_what_its_files_say(pictures: ModuleType, tmp_path: Path) -> None:
    code = '"""Above.\n\nMore."""\nif TYPE_CHECKING:\n    import letstune.c\nelse:\n'
    code += "    from letstune.b import x\n"
    package(tmp_path, a=code, b='"""Below."""\n', c='"""Beside."""\n')
    (tmp_path / "a" / "more.py").write_text("def f():\n    import letstune.b.y, os\n")
    above = pictures.read_wings(tmp_path)["a"]
    assert above == ("a", "Above.", 2, code.count("\n") + 2, {"b"})


def test_a_circle_of_wings_cannot_be_drawn(pictures: ModuleType, tmp_path: Path) -> None:
    package(tmp_path, a="import letstune.b\n", b="import letstune.a\n", c="")
    with pytest.raises(ValueError, match=r"\['a', 'b'\] import each other in a circle"):
        pictures.read_wings(tmp_path)


def test_the_loop_names_functions_that_are_there_and_that_the_loop_calls(
    pictures: ModuleType,
) -> None:
    for path in (pictures.LOAD, *pictures.ROUND):
        part = pictures.read_part(path)
        assert part.about.endswith(".")
        assert f"{part.name}" in pictures.loop()
    assert {path.rpartition(".")[2].rpartition(":")[2] for path in pictures.ROUND} <= (
        pictures.called_by_the_loop()
    )


def test_the_loop_cannot_name_what_is_not_there(
    pictures: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AttributeError):
        pictures.read_part("letstune.rounds.decisions:no_such_function")
    monkeypatch.setattr(pictures, "called_by_the_loop", lambda: {"start", "append"})
    with pytest.raises(ValueError, match=r"does not call .*'next_tasks'"):
        pictures.loop()


class Area(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def holds(self, other: Area) -> bool:
        across = self.left < other.left and other.right < self.right
        return across and self.top < other.top and other.bottom < self.bottom

    def meets(self, other: Area) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not beside and self.top < other.bottom and other.top < self.bottom


def area_of_text(pictures: ModuleType, element: ElementTree.Element) -> Area:
    given = element.attrib
    size = float(given["font-size"])
    mono, end = given.get("font-family") == "monospace", given.get("text-anchor") == "end"
    line = pictures.Line(float(given["x"]), float(given["y"]), element.text, size, mono=mono)
    left = line.x - line.width if end else line.x
    return Area(left, line.y - size, left + line.width, line.y + size / 4)


def area_of_box(element: ElementTree.Element) -> Area:
    x, y, width, height = (float(element.attrib[n]) for n in ("x", "y", "width", "height"))
    return Area(x, y, x + width, y + height)


@pytest.mark.parametrize("name", ["wings", "loop"])
def test_every_text_is_in_a_box_and_no_two_meet(pictures: ModuleType, name: str) -> None:
    picture = ElementTree.fromstring(getattr(pictures, name)())
    texts = [area_of_text(pictures, text) for text in picture.iter(f"{SVG}text")]
    boxes = [area_of_box(box) for box in picture.iter(f"{SVG}rect")]
    assert len(boxes) == {"wings": len(WINGS), "loop": 1 + len(pictures.ROUND)}[name]
    assert all(sum(box.holds(text) for box in boxes) == 1 for text in texts)
    assert not [pair for pair in combinations(texts, 2) if pair[0].meets(pair[1])]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].meets(pair[1])]
    *_, width, height = map(float, picture.attrib["viewBox"].split())
    assert all(box.right <= width and box.bottom <= height for box in boxes)


def test_each_import_is_a_dot_and_each_wing_that_is_imported_has_an_arrow(
    pictures: ModuleType,
) -> None:
    picture = ElementTree.fromstring(pictures.wings())
    imports = [wing.imports for wing in pictures.read_wings().values()]
    assert len(list(picture.iter(f"{SVG}circle"))) == sum(map(len, imports))
    heads = [path for path in picture.iter(f"{SVG}path") if path.attrib["fill"] == "currentColor"]
    assert len(heads) == len(set().union(*imports))


@pytest.mark.parametrize("name", ["wings", "loop"])
def test_a_picture_is_said_in_words_and_has_no_colour_of_its_own(
    pictures: ModuleType, name: str
) -> None:
    text = getattr(pictures, name)()
    picture = ElementTree.fromstring(text)
    assert picture.attrib["role"] == "img"
    named = [picture.find(f"{SVG}title"), picture.find(f"{SVG}desc")]
    ids = [found.attrib["id"] for found in named if found is not None and found.text]
    assert picture.attrib["aria-labelledby"].split() == ids
    paints = {e.attrib[n] for e in picture.iter() for n in ("fill", "stroke") if n in e.attrib}
    assert paints == {"currentColor", "none"}
    assert "href" not in text
    assert "url(" not in text
    assert "\n\n" not in text  # Markdown would take what follows for a paragraph


def test_the_page_has_both_pictures() -> None:
    page = loaded("hooks").on_page_markdown("<!-- letstune: wings -->\n\n<!-- letstune: loop -->")
    assert page.count("<figure>\n<svg") == page.count("</svg>\n</figure>") == 2
