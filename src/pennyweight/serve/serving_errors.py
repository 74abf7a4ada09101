"""Errors for requests that are not answered, as one-line `PennyweightError`s. The HTTP layer adds status codes."""

from __future__ import annotations

import math

from ..errors import PennyweightError


class UnknownClassifier(PennyweightError):
    """No classifier of this name is served (404)."""

    def __init__(self, name: str) -> None:
        super().__init__(
            "unknown classifier", received=repr(name[:80]), remedy="GET /v1/classifiers lists those that are served"
        )
        self.name = name


class UnusableClassifier(PennyweightError):
    """A classifier is served, but its files are damaged, gone or changed, or its answers are no numbers (503).

    Attributes:
        name: name of the classifier.
        why: one line.
    """

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"classifier {name!r} cannot be used: {why}", remedy="repair its folder and reload it")
        self.name = name
        self.why = why


class QueueFull(PennyweightError):
    """More is waiting than is computed in time (429).

    Attributes:
        retry_after: seconds after which a place is likely.
    """

    def __init__(self, problem: str, retry_after: float) -> None:
        super().__init__(problem, remedy=f"try again in {max(1, round(retry_after))} s")
        self.retry_after = retry_after

    @classmethod
    def too_long(cls, most: float, excess: float) -> QueueFull:
        """For a request that would wait `excess` seconds more than the `most` that are allowed."""
        return cls(f"more requests are waiting than can be computed in {most:.3g} s", max(1.0, math.ceil(excess)))


class TooMuchWork(PennyweightError):
    """A request that would take longer than a request may, even alone (413)."""


class DeadlineExceeded(PennyweightError):
    """The time for a request is over; what was not yet computed of it is not computed any more (504)."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not answered within {seconds:.3g} s", remedy="send fewer texts, or try again later")


class ServerStopping(PennyweightError):
    """The server answers what it accepted and accepts nothing new (503)."""

    def __init__(self) -> None:
        super().__init__("the server is stopping", remedy="try again, or another server")
