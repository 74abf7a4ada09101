"""Values of a request's headers, as ASGI passes them: pairs of a name in small letters and a value."""

from __future__ import annotations

from collections.abc import Iterable

Headers = Iterable[tuple[bytes, bytes]]


def values_of(headers: Headers, name: bytes) -> list[bytes]:
    """The values of a header, one for each time that it is sent, without white space around them."""
    return [value.strip() for own, value in headers if own == name]


def members_of(headers: Headers, name: bytes) -> list[bytes]:
    """The members of a header that is a list, which may be sent in several headers (RFC 9110, section 5.6.1)."""
    parts = (part.strip() for value in values_of(headers, name) for part in value.split(b","))
    return [part for part in parts if part]
