"""What may be recorded of what a user gives: what a plugin has listed, and not all but a few words.

A journal is copied, mailed and shown. Whoever writes a plugin knows which of its options are no
secrets, and nobody knows all names that people have for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from letstune.errors import PlanError

LISTED: Final = "harmless_options"
"""The attribute of a factory that lists the options that are harmless, whatever they hold."""
WAY: Final = "where_secrets_go"
"""The attribute of a factory that tells where a user gives it secrets."""

USER: Final = "uri.user"
QUERY: Final = "uri.query"
"""What is listed if URIs have something else before their @, or in their queries."""

_SECRET: Final = {
    *("key", "secret", "token", "password", "passwd", "passphrase", "pass", "pwd", "pw", "pin"),
    *("credential", "credentials", "creds", "auth", "authorization", "sas", "signature", "sig"),
    *("cookie", "cookies", "bearer", "pkey"),
}
_SECRET_END: Final = re.compile("(key|secret|token|password|passwd|passphrase|signature)$")
"""Of a name in which words are not told apart, such as ``accesskey``."""

_URI: Final = re.compile(r"(?:[A-Za-z][\w+.-]*:)?//\S*|[^\s:]*:[^\s\\]*@\S*")
_ASSIGNMENT: Final = re.compile(r"([\w .-]*\w)[\"']?\s*[=:]\s*[\"']?[^\s\"';]")
_LONG: Final = 1000
"""Of a longer text, only what looks like a URI as a whole is looked at: it may be prose."""
_MANY: Final = 100


def check_harmless(
    what: str, uri: object, options: Mapping[str, Any], factory: Callable[..., Any]
) -> None:
    """Refuse what may hold a secret, before it is recorded.

    Args:
        what: the argument, for the error, without anything that may hold a secret.
        uri: the URI that is given, if one is.
        options: likewise.
        factory: what makes the thing. Its ``harmless_options`` are the names of options whose texts
            may be recorded; a name in a dict comes after that of the dict and a dot. With ``=`` and
            a text, only that one may be.

    Raises:
        PlanError: a part of the URI, or an option, is not listed; the message does not repeat it.
    """
    listed = _listed(factory)
    for found in (*_of_uri(uri, listed), *_refused(options, listed)):
        raise PlanError(
            f"{what}: its {found} may hold a secret, and would be recorded in the journal. Leave "
            f"it out, and {_way(factory, uri)}."
        )


def check_texts(what: str, options: Mapping[str, Any]) -> None:
    """Refuse options that look like secrets; for what reaches nothing outside, as samplers do.

    Raises:
        PlanError: one does.
    """
    for name, value in options.items():
        if isinstance(value, bool) or value is None:
            continue
        if is_secret_name(name) or (isinstance(value, str) and not is_plain(value)):
            raise PlanError(
                f"{what}: its option {name} may hold a secret, and would be recorded in the "
                "journal. Leave it out, and let the sampler take it from the environment."
            )


def hidden(options: Mapping[str, Any], factory: Callable[..., Any] | None) -> dict[str, Any]:
    """Return options for an error: what is not harmless is not told."""
    listed = frozenset[str]() if factory is None else _listed(factory)
    return {
        name: "..." if any(_of(name, value, listed)) else value for name, value in options.items()
    }


def told(given: object) -> str:
    """Return what a user gave for an error: without user information, queries and options."""
    match given:
        case str():
            return repr(redacted(given))
        case (first, Mapping() as options):
            names = ", ".join(f"{name!r}: ..." for name in options)
            return f"({told(first)}, {{{names}}})"
        case None | bool() | int() | float():
            return repr(given)
    return f"<{type(given).__name__}>"


def redacted(text: str) -> str:
    """Return a text without the user information and the queries of the URIs in it.

    >>> redacted("PUT https://me:pw@host/a?sig=x failed")
    'PUT https://...@host/a?... failed'
    """
    return _URI.sub(lambda found: _without(found[0]), text)


def _without(uri: str) -> str:
    begin, slashes, place = uri.rpartition("//") if "//" not in uri else uri.partition("//")
    _, at, place = place.rpartition("@")
    cut = re.search("[?#]", place)
    tail = f"{place[: cut.start()]}{cut[0]}..." if cut else place
    return f"{begin}{slashes}{'...@' if at else ''}{tail}"


def is_plain(text: str) -> bool:
    """Tell whether a text holds no user information, query or password, as far as one can see."""
    if redacted(text) != text:
        return bool(re.search(r"\s", text)) and len(text) > _LONG
    if len(text) > _LONG:
        return True
    return not any(is_secret_name(found[1]) for found in _ASSIGNMENT.finditer(text))


def is_plain_data(value: object) -> bool:
    """Tell the same of a dataset: of a text, and of texts in small dicts and lists."""
    if isinstance(value, str):
        return is_plain(value)
    if isinstance(value, Mapping) and len(value) <= _MANY:
        return all(
            is_plain_data(item) and not (isinstance(item, str) and is_secret_name(str(name)))
            for name, item in value.items()
        )
    if isinstance(value, list | tuple) and len(value) <= _MANY:
        return all(map(is_plain_data, value))
    return True


def is_secret_name(name: str) -> bool:
    """Tell whether something of that name is likely to be a secret.

    >>> [is_secret_name(name) for name in ("api_key", "accessKey", "max_keys", "tokens")]
    [True, True, False, False]
    """
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]
    return not _SECRET.isdisjoint(words) or any(map(_SECRET_END.search, words))


def _listed(factory: Callable[..., Any]) -> frozenset[str]:
    listed = getattr(factory, LISTED, ())
    return frozenset([listed] if isinstance(listed, str) else listed)


def _way(factory: Callable[..., Any], uri: object) -> str:
    way = getattr(factory, WAY, None)
    if way is not None and isinstance(uri, str):
        return str(way(uri))
    return (
        "give it in the environment, or by a profile or file that it names, as the plugin's page "
        f"says; whoever writes the plugin lists what is harmless in its `{LISTED}`"
    )


def _of_uri(uri: object, listed: frozenset[str]) -> Iterator[str]:
    """Yield the parts of a URI that may hold a secret."""
    if not isinstance(uri, str):
        return
    place = uri.partition("://")[2] or uri
    user, at, _ = place.rpartition("@")
    # A key may have slashes, so that all before the last @ counts, and not the host's part only.
    if at and (USER not in listed or re.search("[:/@]", user)):
        yield "user information"
    if re.search("[?#]", place) and QUERY not in listed:
        yield "query"


def _refused(options: Mapping[str, Any], listed: frozenset[str]) -> Iterator[str]:
    for name, value in options.items():
        yield from (f"option {found}" for found in _of(str(name), value, listed))


def _of(name: str, value: object, listed: frozenset[str]) -> Iterator[str]:
    """Yield the names of what may hold a secret in an option."""
    if value is None or isinstance(value, bool) or value == "":
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _of(f"{name}.{key}", item, listed)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _of(name, item, listed)
    elif isinstance(value, str):
        if not (name in listed or f"{name}={value}" in listed) or not is_plain(value):
            yield name
    elif name not in listed and is_secret_name(name.rpartition(".")[2]):
        yield name
