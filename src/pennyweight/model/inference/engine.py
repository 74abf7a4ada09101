"""The inference engine: token ids to logits, as fast as the processor allows.

The adapter is merged into the weights, which are prepacked; activations and sums are inside products; texts are
computed without padding in batches of equal numbers of tokens, longest first. Nothing is written after the engine is
built, so that any number of threads may use one.

A text's logits do not depend on its neighbours but for rounding: within 1e-4 of the largest in fp32, 2e-2 in bf16, and
5e-2 in int8, where a number on the border of two bytes may fall to either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from ...data.batching import Encoded, Integers
from ...errors import DataError
from .inference_encoder import EncoderBuilder, InferenceEncoder
from .pooling import pooled
from .post_norm import build_post_norm
from .pre_norm import build_modernbert
from .token_rows import plan_token_batches, token_rows
from .workers import run_all

# By transformers' `model_type`. A new family is one new file and one line here.
ENCODERS: dict[str, EncoderBuilder] = {
    "bert": build_post_norm,
    "roberta": build_post_norm,
    "xlm-roberta": build_post_norm,
    "electra": build_post_norm,
    "distilbert": build_post_norm,
    "mpnet": build_post_norm,
    "modernbert": build_modernbert,
}


@dataclass(frozen=True)
class InferenceEngine:
    """An encoder with its head, ready to predict.

    Attributes:
        head: from (B, H) fp32 to (B, L) logits, in evaluation mode.
        pooling: what the head reads, `cls`, `mean`, or `both`, one behind the other.
        pad_id: the tokenizer's padding id.
    """

    encoder: InferenceEncoder
    head: nn.Module
    pooling: str
    pad_id: int

    def logits(self, tokens: Encoded) -> np.ndarray:
        """(N, L) fp32 logits of N token sequences, in their order."""
        return self._run(tokens, self.head)

    def features(self, tokens: Encoded) -> np.ndarray:
        """(N, H) fp32, what the head reads."""
        return self._run(tokens, nn.Identity())

    def _run(self, tokens: Encoded, head: nn.Module) -> np.ndarray:
        if tokens.windows is not None:
            return tokens.windows.mean(self._run(tokens.sequences, head))
        refuse_too_long(tokens, self.encoder.max_length)
        batches = list(plan_token_batches(tokens.lengths, torch.get_num_threads()))
        found: dict[int, np.ndarray] = {}

        def one(number: int, indices: Integers) -> None:
            found[number] = self._compute(tokens, indices, head)

        run_batches([partial(one, number, indices) for number, indices in enumerate(batches)])
        if not batches:
            return np.empty((0, 0), dtype=np.float32)
        rows = np.empty((len(tokens), found[0].shape[1]), dtype=np.float32)
        for number, indices in enumerate(batches):
            rows[indices] = found[number]
        return rows

    @torch.inference_mode()
    def _compute(self, tokens: Encoded, indices: Integers, head: nn.Module) -> np.ndarray:
        """The output of `head` for one batch: (B, ...)."""
        found: np.ndarray = head(pooled(self.encoder, token_rows(tokens, indices, self.pad_id), self.pooling)).numpy()
        return found


def refuse_too_long(tokens: Encoded, most: int) -> None:
    """Raise `DataError` where a text has more tokens than the backbone has positions for."""
    longest = int(tokens.lengths.max(initial=0))
    if longest > most:
        raise DataError(
            f"a text of {longest} tokens is longer than the backbone's positions",
            expected=f"at most {most} tokens",
            remedy=f"set max_length to {most} or less",
        )


def run_batches(calls: Sequence[Callable[[], None]]) -> None:
    """Compute batches side by side; one alone with all threads inside."""
    if len(calls) == 1:
        calls[0]()
    else:
        run_all(calls)
