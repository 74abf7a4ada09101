"""Error answers: a status, a short code for programs and one line for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ...data.table import shown
from ...errors import ArtifactError, InputError, PennyweightError
from ..serving_errors import (
    DeadlineExceeded,
    QueueFull,
    ServerStopping,
    TooMuchWork,
    UnknownClassifier,
    UnusableClassifier,
)

#: No more of a request than this is repeated in an error.
MOST_SHOWN = 80

# Status and `error_type` of each error of the serving layer, the most special first.
_ANSWERS: tuple[tuple[type[Exception], int, str], ...] = (
    (UnknownClassifier, 404, "unknown_classifier"),
    (UnusableClassifier, 503, "unusable_classifier"),
    (QueueFull, 429, "overloaded"),
    (TooMuchWork, 413, "too_large"),
    (DeadlineExceeded, 504, "deadline"),
    (ServerStopping, 503, "stopping"),
    (ArtifactError, 503, "unusable_classifier"),
    (InputError, 422, "validation"),
    (PennyweightError, 503, "unavailable"),
    (MemoryError, 503, "unavailable"),
)


class Refusal(PennyweightError):
    """A request that is answered with an error.

    Args:
        status: status of the answer.
        error_type: a short code for programs; those that text-embeddings-inference has are the same here.
        problem, expected, received, remedy: as in every error of Pennyweight; what was received is shortened.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        error_type: str,
        problem: str,
        *,
        expected: object = None,
        received: object = None,
        remedy: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.error_type = error_type
        self.headers = dict(headers or {})
        received = None if received is None else shown(received, MOST_SHOWN)
        super().__init__(problem, expected=expected, received=received, remedy=remedy)

    @cached_property
    def body(self) -> bytes:
        """The JSON of the answer, in the form of text-embeddings-inference. ASCII: it may quote anything."""
        return json.dumps({"error": str(self), "error_type": self.error_type}).encode("ascii")


def refusal(error: Exception) -> Refusal:
    """The answer to an error; a fault of ours is status 500 and tells nothing."""
    if isinstance(error, Refusal):
        return error
    for kind, status, error_type in _ANSWERS:
        if isinstance(error, kind):
            seconds = getattr(error, "retry_after", 1 if kind is ServerStopping else None)
            # Whole seconds, and at least one: a client that comes back at once meets the same queue.
            headers = None if seconds is None else {"Retry-After": str(max(1, round(seconds)))}
            return Refusal(status, error_type, str(error) or "out of memory", headers=headers)
    return Refusal(500, "backend", "the server failed; see its log")


async def send_refusal(refused: Refusal, send: Any) -> None:
    """Answer a request outside the web framework: from middleware, where most refusals under overload are."""
    body = refused.body
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in refused.headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
