"""The search space: distributions, `Params`, and the tree that they make, to and from JSON.

Knows the classes of users, their annotations and values, and how values are written exactly.
Must not know of runs, files or clocks, nor draw random numbers but from a generator it is given.
"""

from typing import TYPE_CHECKING

from letstune._public import later

__all__ = ["Annotation", "Field", "Literals", "TupleOf"]

# The parts of a declared class, which are pickled with it: their names are part of the format.
if TYPE_CHECKING:
    from letstune.space.annotations import Annotation, Literals, TupleOf
    from letstune.space.params import Field
else:
    _ROOMS = {
        **dict.fromkeys(["Annotation", "Literals", "TupleOf"], "letstune.space.annotations"),
        "Field": "letstune.space.params",
    }
    __getattr__ = later(globals(), _ROOMS)
