"""The cascade of int8 and fp32: texts whose two best labels are nearly level are computed again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from pennyweight.data.batching import Encoded, pack
from pennyweight.model.inference.cascade import CascadeEngine, margin_limit, margins

EXACT = np.array([[2.0, 0.0, 1.0], [0.9, 1.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.2, 0.1]], dtype=np.float32)
FAST = np.array([[2.1, 0.0, 1.0], [1.1, 1.0, 0.0], [5.2, 0.0, 0.0], [0.0, 0.1, 0.2]], dtype=np.float32)
TOKENS = pack([[row] for row in range(4)])


@dataclass
class Table:
    """An engine that looks up the logits of each text by its only token."""

    rows: np.ndarray
    asked: list[list[int]] = field(default_factory=list)

    def logits(self, tokens: Encoded) -> np.ndarray:
        """(N, L) of the texts."""
        self.asked.append(tokens.ids.tolist())
        found: np.ndarray = self.rows[tokens.ids].copy()
        return found


def cascade(limit: float) -> tuple[CascadeEngine, Any, Any]:
    fast, exact = Table(FAST), Table(EXACT)
    return CascadeEngine(fast, exact, limit), fast, exact  # type: ignore[arg-type]


def test_only_texts_with_a_small_margin_are_computed_again() -> None:
    engine, fast, exact = cascade(0.5)
    found = engine.logits(TOKENS)
    assert fast.asked == [[0, 1, 2, 3]]
    assert exact.asked == [[1, 3]]
    assert np.array_equal(found, np.stack([FAST[0], EXACT[1], FAST[2], EXACT[3]]))
    assert np.array_equal(found.argmax(1), EXACT.argmax(1))
    assert not np.array_equal(FAST.argmax(1), EXACT.argmax(1))


def test_where_no_margin_is_small_nothing_is_computed_again() -> None:
    engine, _, exact = cascade(0.01)
    assert np.array_equal(engine.logits(TOKENS), FAST)
    assert exact.asked == []


def test_what_will_be_added_to_the_logits_moves_the_margins() -> None:
    engine, _, exact = cascade(0.5)
    found = engine.logits(TOKENS, np.array([0.0, 0.0, 1.0]))
    # Text 0: 2.1 against 2.0; of 1 and 3 the third class is now level with the best, or far ahead.
    assert exact.asked == [[0, 1]]
    assert np.array_equal(found, np.stack([EXACT[0], EXACT[1], FAST[2], FAST[3]]))


def test_no_texts_and_a_single_class() -> None:
    fast = Table(np.zeros((0, 0), dtype=np.float32))
    assert CascadeEngine(fast, fast, 1.0).logits(pack([])).shape == (0, 0)  # type: ignore[arg-type]
    assert np.array_equal(margins(np.zeros((2, 1), dtype=np.float32)), [np.inf, np.inf])


def test_margins_lie_between_the_two_highest() -> None:
    assert margins(np.array([[3.0, 1.0, 2.5, -9.0], [1.0, 1.0, 0.0, 0.0]])) == pytest.approx([0.5, 0.0])


def test_the_limit_covers_99_of_100_changes_of_a_margin() -> None:
    random = np.random.default_rng(0)
    exact = random.normal(0, 3, (5000, 4)).astype(np.float32)
    fast = (exact + random.normal(0, 0.2, exact.shape)).astype(np.float32)
    limit = margin_limit(exact, fast)
    changed = fast.argmax(1) != exact.argmax(1)
    assert changed.mean() > 0.02
    assert (changed & (margins(fast) >= limit)).mean() < 0.001
    assert limit < 1.5  # five standard deviations of the change of a margin
    # What all logits have in common changes no margin.
    assert margin_limit(exact, exact + 7) == pytest.approx(0, abs=1e-5)
    assert limit == np.float32(limit)  # what is saved is what was used
