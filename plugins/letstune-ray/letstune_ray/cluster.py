"""The cluster: how to connect to it, what it has, and how it is lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from letstune.errors import MissingPackageError, PlanError, WorkerError
from letstune.workers import usable_cores


def import_ray() -> Any:
    """Return the module `ray`, which takes a second to import, and may be missing.

    Raises:
        MissingPackageError: it is missing.
    """
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingPackageError(
            f"workers='ray://...' needs Ray, which cannot be imported here: {error}. Install the "
            "version that the cluster has, or any for 'ray://local':  pip install ray"
        ) from error
    return ray


def connect(address: Any) -> bool:
    """Connect to a cluster, and tell whether there was no connection before.

    Args:
        address: ``"ray://auto"``, ``"ray://local"``, ``"ray://host:10001"``, or what ``ray.init``
            returned.

    Raises:
        PlanError: the address is not one, or does not fit the connection that is there.
        WorkerError: there is no cluster, or it does not answer.
        MissingPackageError: Ray, or its client, is not installed.
    """
    ray = import_ray()
    connected: bool = ray.is_initialized()
    if not isinstance(address, str):
        if not connected:
            raise PlanError(
                f"workers={address!r:.100}: this process is not connected to a Ray cluster any "
                "more. Call ray.init() again, and give what that returns."
            )
        return False
    where = address.removeprefix("ray://")
    if where in ("auto", "local"):
        if connected:
            return False
    elif not where:
        raise PlanError(
            f"workers={address!r}: expected 'ray://auto', 'ray://local', or the address of a Ray "
            "client server, such as 'ray://head:10001'."
        )
    elif connected:
        raise PlanError(
            f"workers={address!r}: this process is connected to a Ray cluster already. Give "
            "'ray://auto' to use that one, or call ray.shutdown() before."
        )
    _init(ray, where, address)
    return True


def _init(ray: Any, where: str, address: str) -> None:
    options: dict[str, Any] = {"logging_level": logging.WARNING}
    if where == "local":
        options |= {"address": "local", "num_cpus": usable_cores(), "include_dashboard": False}
    elif where == "auto":
        options |= {"address": "auto"}
    else:
        options |= {"address": address}
    try:
        ray.init(**options)
    except ImportError as error:
        raise MissingPackageError(
            f"workers={address!r}: {error}. Install Ray's client:  pip install 'ray[client]'"
        ) from error
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise WorkerError(
            f"workers={address!r}: no Ray cluster can be reached: {error}. Start one with `ray "
            "start --head`, set RAY_ADDRESS, or use 'ray://local'; then resume."
        ) from error


def room(needs: Mapping[str, float]) -> int:
    """Return how many actors with these needs the cluster has room for now.

    At least 1 if it has room when nobody else uses it.
    """
    ray = import_ray()

    def times(resources: Mapping[str, float]) -> int:
        return int(min(resources.get(name, 0) / need for name, need in needs.items()))

    return times(ray.available_resources()) or min(1, times(ray.cluster_resources()))


def needs(num_cpus: float, num_gpus: float, resources: Mapping[str, float]) -> dict[str, float]:
    """Return what an actor takes of the cluster, by the names that Ray has for it.

    >>> needs(2, 0, {"TPU": 1})
    {'CPU': 2, 'TPU': 1}
    """
    found = {"CPU": num_cpus, "GPU": num_gpus, **resources}
    return {name: need for name, need in found.items() if need}
