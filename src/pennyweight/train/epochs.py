"""How many epochs a training has, where the recipe leaves that open."""

from __future__ import annotations

from ..recipe.schema import TrainRecipe

USUAL = 3
MOST = 12
#: With fewer optimizer steps than about these, training ends before the adapter has learnt what it can (docs/log.md).
ENOUGH_STEPS = 320


def count_epochs(settings: TrainRecipe, texts: int) -> int:
    """The recipe's number of epochs, or what `auto` comes to: 3, and of few texts up to 12.

    Args:
        texts: number of them in an epoch.
    """
    if settings.epochs != "auto":
        return settings.epochs
    steps = max(1, -(-texts // (settings.batch_size * settings.gradient_accumulation_steps)))
    return min(MOST, max(USUAL, round(ENOUGH_STEPS / steps)))
