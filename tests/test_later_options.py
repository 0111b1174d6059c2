"""An option that came later, with a default of its own, changes no run that began without it."""

import sys
from pathlib import Path

import pytest
from files import in_all
from installed_plugins import MIDDLE, imported, install, recorded
from small_trainers import Hill, tune

import letstune
from letstune.errors import PlanChangedError

LATER = (
    MIDDLE.replace("shift=0.0", "shift=0.0, scale=1.0")
    .replace("self.shift = shift", "self.shift = shift; self.scale = scale")
    .replace("trial / 100", "self.scale * trial / 100")
    .replace('"middle", Middle)', '"middle", make)')
    .replace(
        "    @hookimpl",
        """
    def make(**options):
        return Middle(**options)

    make.begins_with = {"scale": 2.0}

    class Open(Middle):
        def __init__(self, shift=0.0, scale=None):
            super().__init__(shift, 2.0 if scale is None else scale)
            self._given = scale is not None

        @property
        def begins_with(self):
            return {} if self._given else {"scale": 2.0}

        def __setstate__(self, state):
            vars(self).update({"scale": 1.0, "_given": True, **state})

    @hookimpl""",
        1,
    )
)
"""The sampler with another option: 1.0 is as before, and new runs get 2.0. `Open` is an object."""
EARLIER = MIDDLE.replace(
    "    @hookimpl", "    class Open(Middle):\n        pass\n\n    @hookimpl", 1
)


def upgrade(site: Path) -> None:
    install(site, "letstune-middle", LATER, "sampler.middle", version="1.1")
    sys.modules.pop("letstune_middle", None)


def xs(path: Path) -> list[float]:
    tuning = letstune.load(path)
    return [tuning.trial(n).params.x for n in range(len(tuning))]


def test_a_new_run_begins_with_it_and_records_it(site: Path, path: Path) -> None:
    upgrade(site)
    tune(Hill(), 2, path, sampler=("middle", {"shift": 0.5}))
    assert recorded(path, "sampler")["options"] == {"shift": 0.5, "scale": 2.0}
    tune(Hill(), 3, path, sampler=("middle", {"shift": 0.5}))
    letstune.resume(path, n_trials=4, progress=False)
    assert xs(path) == [0.5, 0.52, 0.54, 0.56]
    with pytest.raises(PlanChangedError, match=r"sampler: was .*2.0.* is .*3.0"):
        tune(Hill(), 4, path, sampler=("middle", {"shift": 0.5, "scale": 3.0}))
    other = path.with_name("given.db")
    tune(Hill(), 2, other, sampler=("middle", {"scale": 3.0}))
    assert xs(other) == [0, 0.03]


@pytest.mark.parametrize("kind", ["name", "object"])
def test_a_run_that_began_without_it_goes_on_without_it(kind: str, site: Path, path: Path) -> None:
    def again(n: int, **options: float) -> None:
        made = imported(site, "letstune_middle").Open
        tune(Hill(), n, path, sampler=("middle", options) if kind == "name" else made(**options))

    install(site, "letstune-middle", EARLIER, "sampler.middle")
    again(2, shift=0.5)
    before = recorded(path, "sampler")
    upgrade(site)
    letstune.resume(path, n_trials=3, progress=False)
    again(4, shift=0.5)
    letstune.resume(path, n_trials=5, progress=False)
    assert xs(path) == [0.5, 0.51, 0.52, 0.53, 0.54]
    assert recorded(path, "sampler") == before
    files = in_all(path.parent)
    for options in ({"shift": 0.5, "scale": 2.0}, {"shift": 0.25}):
        with pytest.raises(PlanChangedError, match=r"sampler: was .*0.5.* is .*scale"):
            again(6, **options)
    assert in_all(path.parent) == files
