"""Plugins: what can be plugged in, what is there, and what letstune itself plugs in.

Knows hooks, entry points and factories, and imports a plugin only when it is named.
Must not know what a run does with what it makes.
"""

from typing import TYPE_CHECKING

from letstune._public import later

__all__ = [
    "Register",
    "check_harmless",
    "redacted",
    "say",
    "whole_number",
]

# For authors of plugins; letstune itself imports from the rooms.
if TYPE_CHECKING:
    from letstune.plugins.harmless import check_harmless, redacted
    from letstune.plugins.hookspecs import Register
    from letstune.rounds.numbers import whole_number
    from letstune.telling.lines import say
else:
    _ROOMS = {
        "Register": "letstune.plugins.hookspecs",
        **dict.fromkeys(["check_harmless", "redacted"], "letstune.plugins.harmless"),
        "whole_number": "letstune.rounds.numbers",
        "say": "letstune.telling.lines",
    }
    __getattr__ = later(globals(), _ROOMS)
