"""The state of the server: loading, serving or draining."""

from __future__ import annotations


class Lifecycle:
    """The state that `/readyz` tells, and how many requests are being answered.

    Attributes:
        draining: what was accepted is answered, and nothing new is accepted.
        in_flight: accepted requests that are not answered yet. Touched by the event loop alone.
    """

    def __init__(self) -> None:
        self._loaded = False
        self.draining = False
        self.in_flight = 0

    @property
    def ready(self) -> bool:
        """Whether requests are accepted."""
        return self._loaded and not self.draining

    def begin(self) -> None:
        """Everything is loaded."""
        self._loaded = True

    def drain(self) -> None:
        """Accept nothing new. A signal handler may call it: it takes no lock."""
        self.draining = True

    def __str__(self) -> str:
        return "draining" if self.draining else "ready" if self._loaded else "loading"
