"""Corrected shares of classes: Bayes' rule, and EM that finds shares it was not told."""

from __future__ import annotations

import numpy as np
import pytest

from pennyweight.errors import InputError
from pennyweight.predict.label_shift import (
    adjust,
    estimate_shares,
    parse_shares,
    shares_from_counts,
    training_shares,
)

BALANCED = np.array([0.5, 0.5])


def world(share: float, n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Labels and the exact posteriors of a classifier trained on equal shares, where class 1 has `share`."""
    random = np.random.default_rng(0)
    labels = (random.random(n) < share).astype(int)
    x = random.normal(2.0 * labels - 1.0, 1.5)
    odds = np.exp(2 * x / 1.5**2)
    return labels, np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)


def test_bayes_rule() -> None:
    found = adjust(np.array([[0.8, 0.2]]), BALANCED, np.array([0.2, 0.8]))
    assert found == pytest.approx(np.array([[0.5, 0.5]]))
    same = np.array([[0.3, 0.7]])
    assert adjust(same, BALANCED, BALANCED) == pytest.approx(same)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_em_finds_the_shares_and_helps(share: float) -> None:
    labels, probabilities = world(share)
    found = estimate_shares(probabilities, BALANCED)
    assert found[1] == pytest.approx(share, abs=0.04)
    before = (probabilities.argmax(axis=1) == labels).mean()
    after = (adjust(probabilities, BALANCED, found).argmax(axis=1) == labels).mean()
    assert after > before + 0.01


def test_of_a_student_the_shares_are_those_of_its_targets() -> None:
    metrics = {"data": {"counts": [30, 10]}}
    assert training_shares(metrics, {}, 2) == pytest.approx([0.75, 0.25])
    taught = metrics | {"distillation": {"shares": [0.1, 0.9]}}
    assert training_shares(taught, {}, 2) == pytest.approx([0.1, 0.9])


def test_shares_from_words_and_counts() -> None:
    assert parse_shares("em", ["a", "b"]) is None
    assert parse_shares("balanced", ["a", "b"]) == pytest.approx([0.5, 0.5])
    assert parse_shares("b=0.7, a=0.3", ["a", "b"]) == pytest.approx([0.3, 0.7])
    assert parse_shares("x=y=1", ["x=y"]) == pytest.approx([1.0])
    assert shares_from_counts([3, 1]) == pytest.approx([0.75, 0.25])
    assert shares_from_counts([3, 0])[1] > 0
    for wrong in ("a=0.3", "a=0.3,b=0.3", "a=0.5,b=0.5,c=0", "a=x,b=0.5", "a=0,b=1", "nonsense", ""):
        with pytest.raises(InputError, match="the class shares are not valid; expected balanced, em, or a share"):
            parse_shares(wrong, ["a", "b"])
