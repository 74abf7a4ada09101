"""A sequence classifier with its tokenizer: texts in, token ids and logits out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..data.batching import Encoded
from ..errors import ArtifactError
from .classifier import SequenceClassifier
from .device import Runtime
from .inference import TokenFeed, logits
from .long_texts import LongTexts
from .tokenizer import encode


class TokenLogits(Protocol):
    """A faster way to compute logits than the trained model, such as an inference engine."""

    def logits(self, tokens: Encoded) -> np.ndarray:
        """(N, L) fp32 logits of N token sequences, in their order."""
        ...


@dataclass(frozen=True)
class TextModel:
    """From texts to logits.

    Attributes:
        tokenizer: transformers' fast tokenizer.
        runtime: where the model computes, and in which number format.
        max_length: texts are cut at this many tokens.
        bucket: batches are padded to a multiple of this many tokens.
        batch_size: texts predicted at a time.
        pair: whether each text is a pair of texts.
        engine: computes the logits instead of the model, once nothing is trained any more.
        long_texts: what becomes of texts of more tokens, see `model.long_texts`.
    """

    model: SequenceClassifier
    tokenizer: Any
    runtime: Runtime
    max_length: int
    bucket: int
    batch_size: int
    pair: bool = False
    engine: TokenLogits | None = None
    long_texts: LongTexts = "truncate"

    def encode(self, texts: Iterable[str]) -> Encoded:
        """N texts as token ids."""
        return encode(self.tokenizer, list(texts), self.max_length, pair=self.pair, long_texts=self.long_texts)

    def batches(self, tokens: Encoded) -> TokenFeed:
        """From row numbers of these tokens to the model's keyword arguments."""
        return TokenFeed(tokens, self.tokenizer.pad_token_id, self.bucket, self.max_length, self.runtime.device)

    def logits(self, tokens: Encoded) -> np.ndarray:
        """(N, L) fp32 logits of N token sequences.

        Raises:
            ArtifactError: some are not finite numbers.
        """
        if self.engine is not None:
            found = self.engine.logits(tokens)
        else:
            found = logits(
                self.model, self.batches(tokens), tokens.lengths, batch_size=self.batch_size, bucket=self.bucket
            )  # fmt: skip
        refuse_not_finite(found, self.runtime.precision)
        return found


def refuse_not_finite(logits: np.ndarray, precision: str) -> None:
    """Refuse logits (N, L) that no probabilities can be made of.

    Raises:
        ArtifactError: some are not finite numbers.
    """
    finite = np.isfinite(logits)
    if not finite.all():
        raise ArtifactError(
            f"the classifier's logits of {int((~finite).any(axis=1).sum()):,} of {len(logits):,} texts "
            "are not finite numbers",
            remedy="compute with --precision fp32, or train it again: its weights are unusable"
            if precision == "fp16"
            else "train it again: its weights are unusable",
        )
