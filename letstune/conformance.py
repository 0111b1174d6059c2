"""`letstune plugins check`: the laws of `letstune.testing`, tried on what is installed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from letstune.errors import LetstuneError, PlanError
from letstune.params import Params, Space
from letstune.plugins import Plugged, find, installed, is_allowed, make
from letstune.rand import uniform

if TYPE_CHECKING:
    from letstune.samplers import Sampler
    from letstune.stores import Store
    from letstune.testing import Verdict


def verdicts(
    name: str,
    kind: str | None,
    options: Mapping[str, Any],
    uri: str | None,
    *,
    slow: bool = False,
) -> Iterator[Verdict]:
    """Yield the verdict on each law.

    Args:
        name: of a sampler, or the scheme of a store.
        kind: sampler or store; None for whichever has the name.
        options: of the plugin.
        uri: for a store, where it may keep things; by default in a temporary folder.
        slow: whether to try the laws, too, that take long.

    Raises:
        PlanError: there is no such sampler or store, or there are both.
        PluginError: it cannot be loaded.
        MissingPackageError: pytest or Hypothesis is not installed.
    """
    from letstune.testing import check, finite_spaces

    plugged = find(kind or _kind(name), name)
    plugged.factory()  # for its errors

    # Not closures over a factory: they are pickled into the process that tries the laws, and a
    # plugin is to be imported there as a run imports it.
    def sampler() -> Sampler:
        made: Sampler = make(plugged, **options)
        return made

    def store(folder: Path) -> Store:
        where = f"{uri.rstrip('/')}/{secrets.token_hex(8)}" if uri else _where(plugged, folder)
        made: Store = make(plugged, where, **options)
        return made

    if plugged.kind == "store":
        yield from check("store", store, slow=slow)
        return
    # What a test file of its own says with the fixture: that it drives finite spaces only.
    finite = {} if _drives(sampler(), _CONTINUOUS) else {"spaces": finite_spaces}
    yield from check("sampler", sampler, slow=slow, **finite)


class _Continuous(Params):
    x: float = uniform(0, 1)


_CONTINUOUS: Final = _Continuous.space()


def _drives(sampler: Sampler, space: Space) -> bool:
    try:
        sampler.check(space)
    except LetstuneError:
        return False
    return True


def _kind(name: str) -> str:
    kinds = {
        plugged.kind
        for plugged in installed()
        if plugged.name == name and is_allowed(plugged.distribution)
    }
    found = kinds & {"sampler", "store"}
    if len(found) > 1:
        raise PlanError(f"There are a sampler and a store {name!r}; say which one: --kind.")
    return found.pop() if found else "sampler"  # whose error says which ones there are


def _where(plugged: Plugged, folder: Path) -> str:
    return str(folder) if plugged.name == "directory" else f"{plugged.name}://{folder}"
