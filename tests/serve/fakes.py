"""An engine that computes numbers anybody can check, and classifiers for it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pennyweight.data.batching import Encoded, pack
from pennyweight.model.tokenizer import FastTokenizer
from pennyweight.serve.classifiers.served_classifier import ServedClassifier


@dataclass(eq=False)
class FakeMember:
    """Logit l of a sequence is the sum of its ids, its length times `factor`, and l.

    `broken` is raised when it computes; `wrong` is returned instead of logits.
    """

    labels: int
    factor: float = 1.0
    broken: Exception | None = None
    wrong: np.ndarray | None = None

    def logits(self, ids: np.ndarray) -> np.ndarray:
        if self.broken is not None:
            raise self.broken
        if self.wrong is not None:
            return self.wrong
        return (ids.sum() + self.factor * len(ids) + np.arange(self.labels)).astype(np.float32)


@dataclass(eq=False)
class FakeEngine:
    """Computes when `gate` is open, which it is at first; `entered` is released at the beginning of each round."""

    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    rounds: list[list[tuple[list[int], int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def logits(self, tokens: Encoded, readers: Sequence[Sequence[Any]]) -> list[list[np.ndarray]]:
        self.rounds.append([(tokens.row(row).tolist(), len(own)) for row, own in enumerate(readers)])
        self.entered.release()
        assert self.gate.wait(60)
        return [[member.logits(tokens.row(row)) for member in own] for row, own in enumerate(readers)]


def fake_classifier(name: str = "topics", labels: int = 2, **member: Any) -> ServedClassifier:
    names = tuple(f"label {number}" for number in range(labels))
    return ServedClassifier(
        name, "0" * 12, names, False, False, "keep", 1.0, None, 512, FastTokenizer(None, 0),
        FakeMember(labels, **member), 1000,
    )  # fmt: skip


def token_rows(*lengths: int, first: int = 1) -> Encoded:
    """Sequences of these lengths, all of them different: the ids of each are one number."""
    return pack([[number] * length for number, length in enumerate(lengths, start=first)])


def expected(classifier: ServedClassifier, tokens: Encoded) -> np.ndarray:
    """(N, L) the logits that the fake engine gives."""
    return np.stack([classifier.member.logits(tokens.row(row)) for row in range(len(tokens))])
