"""Counting tokens with a backbone's tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..data.batching import count_token
from ..errors import BackboneError
from ..recipe.schema import Recipe
from .audit import CountTokens


def token_counter(recipe: Recipe) -> tuple[CountTokens | None, str]:
    """A token counter for a recipe's backbone; without the backbone None, and the reason."""
    from ..model.backbone import resolve
    from ..model.tokenizer import encode, load_tokenizer

    try:
        tokenizer = load_tokenizer(resolve(recipe.model.backbone, recipe.model.revision).folder)
    except BackboneError as error:
        return None, str(error)

    def count(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        encoded = encode(tokenizer, list(texts), 1 << 20)
        return encoded.lengths, count_token(encoded, tokenizer.unk_token_id)

    return count, ""
