"""What a script defines: classes and functions, which are kept by value."""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any, Final

MAIN: Final = "__main__"


def is_script(module: object) -> bool:
    """Tell whether a module's name is that of a script, or of a file that the command was given."""
    return isinstance(module, str) and (module == MAIN or module.startswith("_letstune_"))


def is_here(thing: type | FunctionType) -> bool:
    """Tell whether a class or function is found where it says that it is."""
    found: Any = sys.modules.get(thing.__module__)
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is thing
