"""A classifier in the server's memory: only the parts that are needed to answer requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.batching import Encoded
from ...data.cleaning import Markup, strip_markup
from ...data.input_texts import to_text
from ...evaluate.metrics.probabilities import sigmoid, softmax
from ...model.long_texts import LongTexts
from ...model.tokenizer import FastTokenizer, encode


@dataclass(frozen=True, eq=False)
class ServedClassifier:
    """One loaded classifier. A request that holds it can be answered, whatever happens to its folder meanwhile.

    Attributes:
        name: by which requests name it.
        version: the first 12 hexadecimal digits of its manifest's SHA-256.
        labels: L class names, in the order of the logits.
        multi: whether a text may get any number of labels.
        pair: whether it reads two texts as one input.
        markup: what is done with tags and entities, as in training.
        temperature: logits are divided by it before the softmax.
        thresholds: (L,) the least probability at which each label is given; None if `multi` is False.
        max_length: tokens that a text is cut at.
        tokenizer: shared by all classifiers with the same files and `max_length`.
        member: what the engine reads it by.
        nbytes: bytes of its trained tensors in memory.
        long_texts: what becomes of texts of more tokens, as in training.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    multi: bool
    pair: bool
    markup: Markup
    temperature: float
    thresholds: np.ndarray | None
    max_length: int
    tokenizer: FastTokenizer
    member: Any
    nbytes: int
    long_texts: LongTexts = "truncate"

    def tokens(self, texts: Sequence[str | tuple[str, str]]) -> Encoded:
        """N texts, cleaned as in training, as token ids. Any number of threads may call it.

        Raises:
            InputError: something that is no text, or is a pair where single texts belong, or the other way round; with
                its position from 1.
        """
        return self.encoded(self.cleaned(texts))

    def encoded(self, texts: list[str]) -> Encoded:
        """N texts, already cleaned, as token ids."""
        return encode(self.tokenizer, texts, self.max_length, pair=self.pair, long_texts=self.long_texts)

    def cleaned(self, texts: Sequence[str | tuple[str, str]]) -> list[str]:
        """N texts as the classifier reads them, pairs joined; errors as for `tokens`."""
        found = [to_text(text, self.pair, f"text {number}") for number, text in enumerate(texts, start=1)]
        return [strip_markup(text) for text in found] if self.markup == "strip" else found

    def reads_as(self, other: ServedClassifier) -> bool:
        """Whether both turn every text into the same tokens, so that `tokens` of one serves the other."""
        return (self.tokenizer is other.tokenizer and self.pair == other.pair and self.max_length == other.max_length
                and self.long_texts == other.long_texts
                and (self.markup == "strip") == (other.markup == "strip"))  # fmt: skip

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """(N, L) probabilities of logits (N, L)."""
        return sigmoid(logits) if self.multi else softmax(logits, self.temperature)
