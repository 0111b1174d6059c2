"""Text from elsewhere, as people may see it: its control characters are shown, and do nothing.

A journal, a lock file, a worker or a trainer may say anything: a terminal would obey it, and a bidi
override would show it as what it is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

# C0, DEL and C1; line and paragraph separators, bidi overrides and isolates; and what no encoding
# of text has.
_RANGES: Final = ((0, 0x1F), (0x7F, 0x9F), (0x2028, 0x202E), (0x2066, 0x2069), (0xD800, 0xDFFF))
_CONTROLS: Final = re.compile(
    "[" + "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in _RANGES) + "]"
)


def visible(text: str, *, keep: str = "\n\t") -> str:
    r"""Return text with its control characters as symbols or escapes, except those to be kept.

    >>> visible("\x1b[31mred\x07")
    '␛[31mred␇'
    >>> visible("one\u202e\x9b\ntwo", keep="")
    'one\\u202e\\x9b␊two'
    """
    return _translated(text, _symbols(keep))


def escaped(json: str) -> str:
    r"""Return JSON text with the control characters in it as JSON escapes them.

    >>> escaped('"\x7f"')
    '"\\u007f"'
    """
    return _translated(json, _escapes())


def _translated(text: str, table: dict[int, str]) -> str:
    # Not by the pattern's sub(), which has an object in memory for each of what may be millions.
    return text.translate(table) if _CONTROLS.search(text) else text


def _controls() -> Iterator[int]:
    for first, last in _RANGES:
        yield from range(first, last + 1)


@cache
def _symbols(keep: str) -> dict[int, str]:
    return {code: _symbol(code) for code in _controls() if chr(code) not in keep}


@cache
def _escapes() -> dict[int, str]:
    return {code: f"\\u{code:04x}" for code in _controls() if chr(code) != "\n"}


def _symbol(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
