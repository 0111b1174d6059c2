"""`letstune plugins check`: the laws of `letstune.testing`, tried on what is installed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from letstune.errors import LetstuneError, PlanError
from letstune.plugins.installed import Plugged, find, installed, is_allowed, make
from letstune.plugins.kinds import WITH_LAWS
from letstune.rand import uniform
from letstune.space.params import Params, Space

if TYPE_CHECKING:
    from letstune.samplers.sampler import Sampler
    from letstune.testing import Job, Verdict
    from letstune.training.stores import Store
    from letstune.workers.executor import Executor


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
        name: the name of a sampler, or the scheme of a store or an executor.
        kind: sampler, store or executor; None for whichever has the name.
        options: for the plugin.
        uri: for a store, where it may keep things, by default in a temporary folder; for an
            executor, its address, by default ``NAME://``.
        slow: whether to try also the laws that take long.

    Raises:
        PlanError: there is no such plugin, or there are several.
        PluginError: it cannot be loaded.
        MissingPackageError: pytest or Hypothesis is not installed.
    """
    from letstune.testing import check, finite_spaces

    plugged = find(kind or _kind(name), name)
    plugged.factory()  # raises if the plugin cannot be loaded

    # Not closures over a factory: they are pickled into the process that tries the laws, and a
    # plugin is to be imported there as a run imports it.
    def sampler() -> Sampler:
        made: Sampler = make(plugged, **options)
        return made

    def store(folder: Path) -> Store:
        where = f"{uri.rstrip('/')}/{secrets.token_hex(8)}" if uri else _where(plugged, folder)
        made: Store = make(plugged, where, **options)
        return made

    def executor(job: Job) -> Executor:
        address = uri or _ADDRESSES.get(plugged.name, f"{plugged.name}://")
        given = {"token": secrets.token_hex(4), "epoch_timeout": None, "trial_timeout": None}
        made: Executor = make(plugged, address, job.packed(), **given, **options)
        return made

    if plugged.kind == "store":
        yield from check("store", store, slow=slow)
        return
    if plugged.kind == "executor":
        yield from check("executor", executor, slow=slow)
        return
    # A test file of its own says this with the fixture: it drives only finite spaces.
    finite = {} if _drives(sampler(), _CONTINUOUS) else {"spaces": finite_spaces}
    yield from check("sampler", sampler, slow=slow, **finite)


# letstune's own executors have no URI.
_ADDRESSES: Final[Mapping[str, Any]] = {"in-process": None, "processes": 2}


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
    found = sorted(kinds & set(WITH_LAWS))
    if len(found) > 1:
        raise PlanError(f"There are a {' and a '.join(found)} {name!r}; say which one: --kind.")
    if not found:
        *some, last = WITH_LAWS
        raise PlanError(
            f"There is no {', '.join(some)} or {last} {name!r}; `letstune plugins` lists them."
        )
    return found[0]


def _where(plugged: Plugged, folder: Path) -> str:
    return str(folder) if plugged.name == "directory" else f"{plugged.name}://{folder}"
