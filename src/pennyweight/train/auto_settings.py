"""Settings that the training texts decide: what `auto` comes to, before anything is planned."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ..data.sampling import sample_rows
from ..model.backbone import resolve
from ..model.tokenizer import encode, load_tokenizer, longest_input
from ..recipe.schema import AUTO_LENGTH, DataRecipe, Recipe

logger = logging.getLogger(__name__)

#: So many texts say how long all are.
MOST_TEXTS = 20_000
#: Longer than any text that is worth tokenizing whole.
WHOLE = 1 << 20
#: `max_length` is a multiple of this.
STEP = 64
#: The usual length, whose time a longer one is compared with, and how many times as long training may take.
USUAL, MOST_TIMES = 128, 4.0


def settle(recipe: Recipe, texts: Sequence[str]) -> Recipe:
    """The recipe with every `auto` that depends on the training texts replaced by what it comes to, and said."""
    if recipe.data.max_length != AUTO_LENGTH:
        return recipe
    backbone = resolve(recipe.model.backbone, recipe.model.revision)
    chosen = [texts[row] for row in sample_rows(len(texts), MOST_TEXTS, 0).tolist()]
    lengths = encode(load_tokenizer(backbone.folder), chosen, WHOLE, pair=recipe.data.pair).lengths
    found = choose_max_length(lengths, longest_input(backbone.config), int(backbone.config.get("hidden_size", 768)))
    times = relative_time(lengths, found, int(backbone.config.get("hidden_size", 768)))
    cut = 1 - np.minimum(lengths, found).sum() / max(1, lengths.sum())
    logger.info(
        f"max_length: {found} tokens (auto; half of the training texts have at most {int(np.median(lengths))}, 95% at "
        f"most {int(np.ceil(np.quantile(lengths, 0.95)))}); training takes about {times:.1f} times as long as with "
        f"{USUAL}; {100 * cut:.1f}% of the tokens are cut"
    )
    return recipe.model_copy(update={"data": _with_length(recipe.data, found)})


def _with_length(data: DataRecipe, max_length: int) -> DataRecipe:
    return data.model_copy(update={"max_length": max_length})


def choose_max_length(lengths: np.ndarray, most: int, hidden_size: int) -> int:
    """The 95th percentile of texts' lengths, as a multiple of `STEP`, within the backbone's limit and `MOST_TIMES`.

    Args:
        lengths: (N,) tokens of each text, uncut.
        most: the backbone's limit.
        hidden_size: of the backbone.
    """
    wanted = int(np.quantile(lengths, 0.95, method="higher")) if len(lengths) else 0
    found = min(most, max(STEP, -(-wanted // STEP) * STEP))
    while found > USUAL and relative_time(lengths, found, hidden_size) > MOST_TIMES:
        found = max(USUAL, (found - 1) // STEP * STEP)
    return found


def relative_time(lengths: np.ndarray, max_length: int, hidden_size: int) -> float:
    """About how many times as long an epoch takes with texts cut at `max_length` as at `USUAL`.

    Counted in multiplications of a layer: n (12 H^2 + 2 n H) for n tokens, of which the second part is attention.
    """

    def work(longest: int) -> float:
        tokens = np.minimum(lengths, longest).astype(np.float64)
        return float((tokens * (1 + tokens / (6 * hidden_size))).sum())

    return work(max_length) / max(1.0, work(USUAL))
