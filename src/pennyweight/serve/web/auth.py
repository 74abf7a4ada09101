"""Bearer tokens, which are checked before anything else in a request."""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
import secrets
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError
from .header_values import Headers, values_of
from .refusals import Refusal, send_refusal

#: Where the token is looked for unless a file is named.
VARIABLE = "PENNYWEIGHT_TOKEN"
SHORTEST = 16
#: Answered without a token, like the page's static files: whether the server is alive, but no data.
HEALTH_PATHS = frozenset({"/livez", "/readyz", "/health"})

# What RFC 6750, section 2.1, allows in a bearer token.
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_REFUSED = Refusal(
    401, "unauthorized", "no valid token", expected="the header Authorization: Bearer TOKEN",
    remedy=f"the token is in the server's {VARIABLE} or --token-file, or was printed when it started",
    headers={"WWW-Authenticate": "Bearer"},
)  # fmt: skip


def read_token(file: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """The token that requests must carry: from a file, otherwise from the environment; None if neither is given.

    Raises:
        InputError: a file that cannot be read or that others may read or change; a token that is empty, shorter than
            `SHORTEST` characters or not fit for a header.
    """
    if file is None:
        given = environment.get(VARIABLE)
        return None if given is None else _checked(given, VARIABLE)
    try:
        with file.open("rb") as handle:
            mode = os.fstat(handle.fileno()).st_mode
            content = handle.read(4096)
    except OSError as error:
        raise InputError(
            "the token's file cannot be read", received=error.strerror, where=file, remedy="see --token-file"
        ) from error
    # Group may read: secrets are mounted like that into containers.
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise InputError(
            "other users can read the token's file", expected="mode 0600 or 0640", received=f"{stat.S_IMODE(mode):04o}",
            remedy=f"chmod 600 {file}", where=file,
        )  # fmt: skip
    return _checked(content.decode("utf-8", errors="replace"), str(file))


def make_token() -> str:
    """A new token of 256 bits."""
    return secrets.token_urlsafe(32)


def _checked(given: str, where: str) -> str:
    token = given.strip()
    remedy = "make one with: openssl rand -hex 32"
    if len(token) < SHORTEST:
        raise InputError(
            "the token is too short" if token else "the token is empty", expected=f"{SHORTEST} characters or more",
            received=f"{len(token)} characters", remedy=remedy, where=where,
        )  # fmt: skip
    if not _TOKEN.fullmatch(token):
        raise InputError("the token has characters that are not allowed in a header", expected="letters, digits and "
        "-._~+/",
                         remedy=remedy, where=where)  # fmt: skip
    return token


def is_loopback(host: str) -> bool:
    """Whether an address or host name is this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


class BearerAuth:
    """ASGI middleware: status 401 for every request without the token, whatever its path and method.

    Without a token (`--no-auth`) a request must name this machine in its Host header instead. Only programs on this
    machine reach a loopback address, but a web browser is one: a page from elsewhere whose name is made to point here
    (DNS rebinding) could otherwise read the answers. Such a page could also send a POST without reading the answer, to
    unload a classifier for example (cross-site request forgery): a browser names the page's site in the header Origin,
    which must then be this server's.

    Args:
        token: None for no authentication.
        open_paths: answered without a token.
    """

    def __init__(self, app: Any, token: str | None, open_paths: Collection[str]) -> None:
        self.app = app
        self._expected = None if token is None else token.encode("ascii")
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif self._expected is None and not _names_this_machine(scope["headers"]):
            await send_refusal(
                Refusal(421, "misdirected", "a server without a token answers only to this machine's names",
                        expected="the header Host: localhost or 127.0.0.1",
                        remedy="start it with a token"), send)  # fmt: skip
        elif self._expected is None and _from_another_site(scope):
            await send_refusal(
                Refusal(403, "forbidden", "a page of another site sent this request, and the server has no token",
                        expected="an Origin header of this server, or none",
                        remedy="start it with a token"), send)  # fmt: skip
        elif self._expected is None or scope["path"] in self._open or self._may(scope["headers"]):
            await self.app(scope, receive, send)
        else:
            await send_refusal(_REFUSED, send)

    def _may(self, headers: Headers) -> bool:
        given = values_of(headers, b"authorization")
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._expected or b"")


def _from_another_site(scope: Any) -> bool:
    """Whether a browser says so; reading (GET) is left to its same-origin policy."""
    if scope["method"] in ("GET", "HEAD"):
        return False
    (host,) = values_of(scope["headers"], b"host")  # one, see `_names_this_machine`
    return any(origin.partition(b"://")[2] != host for origin in values_of(scope["headers"], b"origin"))


def _names_this_machine(headers: Headers) -> bool:
    hosts = values_of(headers, b"host")
    return len(hosts) == 1 and is_loopback(re.sub(r":\d*$", "", hosts[0].decode("latin-1")))
