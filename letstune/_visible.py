"""Text from elsewhere, as people may see it: its control characters are shown, and do nothing.

A journal, a lock file, a worker or a trainer may say anything: a terminal would obey it, and a bidi
override would show it as what it is not.
"""

from __future__ import annotations

import re
from typing import Final

# C0, DEL and C1; line and paragraph separators, bidi overrides and isolates; and what no encoding
# of text has.
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, *, keep: str = "\n\t") -> str:
    r"""Return text with its control characters as symbols or escapes, except those to be kept.

    >>> visible("\x1b[31mred\x07")
    '␛[31mred␇'
    >>> visible("one\u202e\x9b\ntwo", keep="")
    'one\\u202e\\x9b␊two'
    """
    return _CONTROLS.sub(lambda found: found[0] if found[0] in keep else _symbol(found[0]), text)


def escaped(json: str) -> str:
    r"""Return JSON text with the control characters in it as JSON escapes them.

    >>> escaped('"\x7f"')
    '"\\u007f"'
    """
    return _CONTROLS.sub(
        lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", json
    )


def _symbol(control: str) -> str:
    code = ord(control)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
