"""How far the logits of an exported classifier are from Pennyweight's own, on real texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..artifact.artifact import Artifact
from ..data import sample
from ..data.table import parts_of
from ..errors import ArtifactError
from .graph import plain_classifier
from .temperature import temperature_of

LARGEST = 1e-3  # in fp32, of logits of size 1; for larger ones in proportion
_TEXTS = 24
# Short, empty, and longer than most limits.
_EDGES = ("Shares fell.", "", "The striker scored twice in extra time as the visitors came from behind to win. " * 40)


def example_texts(artifact: Artifact) -> list[str]:
    """News items of several styles and lengths, as the classifier reads texts: pairs joined where it reads pairs."""
    from ..data.pairs import join_pair

    texts = [*sample.load("test").texts[:_TEXTS], *_EDGES]
    if not artifact.recipe.data.pair:
        return texts
    return [join_pair(pair, "example") for pair in zip(texts, texts[::-1], strict=True)]


@torch.inference_mode()
def our_logits(artifact: Artifact, texts: list[str]) -> np.ndarray:
    """(N, L) fp32 logits of N texts by the classifier in memory, divided by its temperature.

    One that computes in half precision is computed by its copy in fp32: its own logits have two or three digits.
    """
    batch = stock_batch(artifact, texts)
    formats = {artifact.model.encoder.dtype, getattr(artifact.model.encoder, "products", torch.float32)}
    if formats != {torch.float32}:
        copied: np.ndarray = plain_classifier(artifact)(**batch).numpy()
        return copied
    device = next(artifact.model.parameters()).device
    logits: np.ndarray = artifact.model(**{name: one.to(device) for name, one in batch.items()}).float().cpu().numpy()
    return logits / np.float32(temperature_of(artifact))


def stock_batch(artifact: Artifact, texts: list[str]) -> dict[str, Any]:
    """N texts as transformers' tokenizer gives them: ids, masks and perhaps segments, each (N, T)."""
    pairs = [parts_of(text) for text in texts] if artifact.recipe.data.pair else None
    given = (
        {"text": texts} if pairs is None else {"text": [one for one, _ in pairs], "text_pair": [b for _, b in pairs]}
    )
    batch = artifact.tokenizer(
        **given, padding=True, truncation=True, max_length=artifact.recipe.data.max_length, return_tensors="pt"
    )
    return dict(batch)


@torch.inference_mode()
def logit_difference(artifact: Artifact, model: Any) -> float:
    """The largest difference between our logits, divided by the temperature, and a stock transformers model's.

    Raises:
        ArtifactError: as `checked_difference`.
    """
    texts = example_texts(artifact)
    return checked_difference(our_logits(artifact, texts), model(**stock_batch(artifact, texts)).logits.float().numpy())


def checked_difference(ours: np.ndarray, theirs: np.ndarray, *, limit: float = LARGEST) -> float:
    """The largest difference of two arrays of logits (N, L).

    Raises:
        ArtifactError: it is above `limit` times the largest logit (or 1, if that is smaller), or no number.
    """
    difference = float(np.abs(ours - theirs).max())
    allowed = limit * max(1.0, float(np.abs(ours).max()))
    if not difference <= allowed:
        raise ArtifactError(
            "the exported model's logits differ from the classifier's, and nothing was written",
            expected=f"a difference of at most {allowed:.1e}",
            received=f"{difference:.1e}",
            remedy="export with the versions in requirements.lock; if the error persists, report it",
        )
    return difference
