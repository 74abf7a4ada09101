"""The engine of the batcher: one for many classifiers, or a single classifier's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ...data.batching import Encoded


class LogitsEngine(Protocol):
    """Logits of token sequences for the classifiers that read each; any number of threads may call it."""

    def logits(self, tokens: Encoded, readers: Sequence[Sequence[Any]]) -> list[list[np.ndarray]]:
        """Compute N token sequences.

        Args:
            readers: of each sequence the members that read it.

        Returns:
            found[i][k] is (L,) fp32: the logits that readers[i][k] gives sequence i.
        """
        ...


class LoneEngine:
    """The engine of one classifier, of any number format and device.

    Args:
        logits_of: from N token sequences to logits (N, L).
        one_at_a_time: whether one call uses the whole machine or device, so that two at once would be in each other's
            way.
    """

    def __init__(self, logits_of: Callable[[Encoded], np.ndarray], one_at_a_time: bool) -> None:
        self._logits_of = logits_of
        self.one_at_a_time = one_at_a_time

    def logits(self, tokens: Encoded, readers: Sequence[Sequence[Any]]) -> list[list[np.ndarray]]:
        """As `LogitsEngine.logits`; all readers are this classifier."""
        rows = self._logits_of(tokens)
        return [[row] * len(own) for row, own in zip(rows, readers, strict=True)]
