"""What a store's URI and options may be: whatever fsspec takes, but no secrets.

They are recorded in the journal, which is copied, mailed and shown. So there is a list of the
options whose texts may be. An object made in code follows the same rule: it is pickled there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fsspec.config import conf
from fsspec.registry import get_filesystem_class, known_implementations, registry
from letstune.errors import MissingPackageError, PlanError
from letstune.plugins import redacted

BUCKETS: Final = frozenset(["s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci", "tos"])
"""Schemes of places without folders: there, making one would make a bucket, or an odd object."""

FOLDERS: Final = frozenset(
    [*("file", "local", "sftp", "ssh", "ftp", "smb", "hdfs", "webhdfs", "arrow_hdfs", "dbfs")]
)
"""Schemes of places whose folders stay when they are empty: one that is not there is away."""

_EXTRAS: Final = {
    **dict.fromkeys(["s3", "s3a"], "s3"),
    **dict.fromkeys(["gs", "gcs"], "gs"),
    **dict.fromkeys(["abfs", "abfss", "az"], "abfs"),
    **dict.fromkeys(["sftp", "ssh"], "sftp"),
    "smb": "smb",
}

HARMLESS: Final = frozenset(
    [
        *("cache", "endpoint_url", "region", "region_name", "profile", "key_filename"),
        *("project", "location", "default_location", "consistency", "access", "requester_pays"),
        *("account_name", "account_host", "location_mode", "container_name", "block_size"),
        *("auth_protocol", "auth_timeout", "share_access", "encoding", "default_acl"),
        *("default_cache_type", "default_block_size", "compression", "tls", "verify"),
        *("client_kwargs.region_name", "client_kwargs.endpoint_url", "client_kwargs.api_version"),
        "client_kwargs.verify",
        *(
            f"config_kwargs.{name}"
            for name in ("region_name", "signature_version", "s3.addressing_style", "retries.mode")
        ),
        *(
            "config_kwargs.request_checksum_calculation",
            "config_kwargs.response_checksum_validation",
        ),
        *(
            f"s3_additional_kwargs.{name}"
            for name in ("ACL", "ServerSideEncryption", "SSEKMSKeyId", "StorageClass")
        ),
        # Where gcsfs is to find a token, or to do without.
        *(f"token={how}" for how in ("anon", "browser", "cache", "cloud", "google_default")),
    ]
)
"""The options whose texts may be recorded; nobody knows all names that others have for secrets."""

CONTAINERS: Final = frozenset(["abfs", "abfss", "az", "wasb", "wasbs"])
"""Schemes in whose URIs the container is before an @."""
HARMLESS_WITH_CONTAINERS: Final = HARMLESS | {"uri.user"}


def check_uri(uri: object) -> str:
    """Return a store's URI, without a slash at its end, and its scheme known to be installed.

    Raises:
        PlanError: checkpoints cannot be kept below that URI.
        MissingPackageError: the package for its scheme is not installed.
    """
    if not isinstance(uri, str) or not re.match(r"[A-Za-z][\w.+-]*://", uri):
        given = redacted(uri) if isinstance(uri, str) else uri
        raise PlanError(f"store={given!r}: expected a URI, such as 's3://bucket/prefix'.")
    shown = redacted(uri)
    scheme, place = uri.split("://", 1)
    # fsspec takes wildcards for patterns, also when it deletes.
    odd = "::" in uri or re.search(r"[\[\]*?#]|/\.{0,2}/|/\.\.?$", place)
    if odd or (scheme in BUCKETS and not re.match(r"[^/.]", place)):
        raise PlanError(
            f"store={shown!r}: expected scheme://place/prefix of plain names, without "
            "'::', queries, wildcards or empty parts."
        )
    if scheme in ("file", "local") and not (
        place.startswith(("/", "~")) or Path(place).is_absolute()
    ):
        here = f"{scheme}://{Path(place).resolve().as_posix()}"
        raise PlanError(
            f"store={redacted(uri)!r}: expected an absolute path, such as {here!r}, since the run "
            "may be resumed in another directory."
        )
    filesystem_class(uri)
    return uri.rstrip("/") if not uri.endswith("://") else uri


def scheme_of(uri: str) -> str:
    """Return the scheme of a URI."""
    return uri.split("://", 1)[0]


def filesystem_class(uri: str) -> Any:
    """Return fsspec's class for a URI.

    Raises:
        PlanError: fsspec has none.
        MissingPackageError: it needs a package that is not installed.
    """
    scheme = scheme_of(uri)
    try:
        return get_filesystem_class(scheme)
    except ValueError as error:
        known = sorted({*registry, *known_implementations})
        raise PlanError(
            f"store={redacted(uri)!r}: fsspec knows no scheme {scheme!r}; it knows "
            f"{', '.join(known)}. Mend the URI, or `pip install` the package that brings "
            f"{scheme!r} to fsspec."
        ) from error
    except ImportError as error:
        if scheme in _EXTRAS:
            cure = f"Install it:  pip install 'letstune-fsspec[{_EXTRAS[scheme]}]'"
        else:
            cure = f"`pip install` that: {error}"
        raise MissingPackageError(
            f"store={redacted(uri)!r} needs a package that is not installed. {cure}"
        ) from error


def check_options(uri: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a store's options: plain values.

    Raises:
        PlanError: one is not; the message says which one, but not what it holds.
    """
    return {name: _checked(uri, name, value) for name, value in options.items()}


def _checked(uri: str, name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool | str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _checked(uri, f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_checked(uri, f"{name}.{place}", item) for place, item in enumerate(value)]
    raise PlanError(
        f"store={redacted(uri)!r}: its option {name} is a {type(value).__name__}, which cannot be "
        "recorded in the plan; expected text, numbers, booleans, and lists and dicts of them."
    )


def where_secrets_go(uri: str) -> str:
    """Return the end of a sentence: where fsspec finds credentials for a URI."""
    scheme = scheme_of(uri)
    if scheme in ("s3", "s3a"):
        return (
            "give credentials as AWS does: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE, in the environment, or a role of the machine; ~/.config/fsspec takes any "
            "other option"
        )
    return (
        f"give credentials as fsspec reads them: FSSPEC_{scheme.upper()}_... in the environment "
        f"(FSSPEC_{scheme.upper()}_PASSWORD is the option password), or ~/.config/fsspec, which "
        "takes any option"
    )


def with_defaults(uri: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options for fsspec: those given, and what suits a store.

    There must be only one layer of retries, with one limit, and that is ours. If those of botocore
    and s3fs came on top of ours, a server that hangs would hold up a run for hours.
    """
    scheme = scheme_of(uri)
    if scheme not in ("s3", "s3a"):
        return dict(options)
    configured = {**conf.get("s3", {}), **options}
    return {
        **options,
        # Of a single file: parts are ours to send. More than 1 would ask for the size beforehand.
        "max_concurrency": configured.get("max_concurrency", 1),
        "config_kwargs": {
            "retries": {"total_max_attempts": 1},
            **configured.get("config_kwargs", {}),
        },
    }
