"""Settings that depend on the training texts: resolving `auto` before planning."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ..data.sampling import sample_rows
from ..data.table import shown
from ..errors import RecipeError
from ..model.backbone import resolve
from ..model.tokenizer import encode, load_tokenizer, longest_input
from ..recipe.schema import AUTO_LENGTH, DataRecipe, Recipe
from .class_balance import has_rare_class, rarest, rows_of

logger = logging.getLogger(__name__)

#: So many texts say how long all are.
MOST_TEXTS = 20_000
#: Longer than any text that is worth tokenizing whole.
WHOLE = 1 << 20
#: `max_length` is a multiple of this.
STEP = 64
#: The usual length, whose time a longer one is compared with, and how many times as long training may take.
USUAL, MOST_TIMES = 128, 4.0


def settle(recipe: Recipe, texts: Sequence[str], labels: np.ndarray, names: Sequence[str]) -> Recipe:
    """The recipe with every `auto` that depends on the training rows replaced by what it comes to, and said.

    Args:
        texts, labels: of the N training rows: (N,) class numbers, or (N, L) of 0 and 1.
        names: L class names.

    Raises:
        RecipeError: thresholds for a precision or recall where one label of three or more is given.
    """
    settled = settle_metric(recipe, labels, names)
    if settled.train.metric == "macro_f1":  # else `auto` stays, a default that reports need not show
        recipe = settled
    if "=" in recipe.train.thresholds and labels.ndim == 1 and len(names) != 2:
        raise RecipeError(
            "a threshold needs two classes or multi-label data", where="train -> thresholds",
            expected="two classes, or any number of labels per text", received=f"{len(names)} classes",
            remedy="leave out --thresholds, and use `predict --target-accuracy 0.95` to label only sure texts",
        )  # fmt: skip
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


def settle_metric(recipe: Recipe, labels: np.ndarray, names: Sequence[str]) -> Recipe:
    """The recipe with a `metric` that is not `auto`: macro F1 where a class is rare, otherwise accuracy."""
    if recipe.train.metric != "auto":
        return recipe
    counts = rows_of(labels, len(names))
    rare = labels.ndim == 1 and has_rare_class(counts)
    if rare:
        least = rarest(counts)
        share = 100 * counts[least] / len(labels)
        logger.info(f"metric: macro_f1 (auto; {shown(names[least])} is rare, {share:.1f}% of the training rows)")
    return recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"metric": "macro_f1" if rare else "accuracy"})}
    )


def _with_length(data: DataRecipe, max_length: int) -> DataRecipe:
    return data.model_copy(update={"max_length": max_length})


def choose_max_length(lengths: np.ndarray, most: int, hidden_size: int) -> int:
    """The 95th percentile of texts' lengths, as a multiple of `STEP`, within the backbone's limit and `MOST_TIMES`.

    Args:
        lengths: (N,) tokens of each text, uncut.
        most: the backbone's limit.
        hidden_size: hidden size of the backbone.
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
