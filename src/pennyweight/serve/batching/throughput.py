"""The measured number of tokens per second under load."""

from __future__ import annotations

HALF_LIFE = 2.0  # seconds of computing after which a measurement counts half


class Throughput:
    """A running mean of tokens per second, over rounds that were at least half full once there was one.

    A round of few tokens takes longer a token, but says nothing of how fast a queue is worked off.

    Args:
        full: tokens of a full round.
    """

    def __init__(self, full: int) -> None:
        self._full = full
        self._tokens = 0.0
        self._seconds = 0.0
        self._half_full = False

    @property
    def tokens_per_second(self) -> float | None:
        """None before the first round."""
        return self._tokens / self._seconds if self._seconds > 0 else None

    def add(self, tokens: int, seconds: float) -> None:
        """Count a round: what it computed, and the seconds from the end of the one before, if it began at once."""
        half_full = 2 * tokens >= self._full
        if seconds <= 0 or (self._half_full and not half_full):
            return
        kept = 0.5 ** (seconds / HALF_LIFE) if half_full == self._half_full else 0.0
        self._half_full = half_full
        self._tokens = kept * self._tokens + tokens
        self._seconds = kept * self._seconds + seconds
