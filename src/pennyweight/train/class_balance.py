"""Class imbalance: weights in the loss, or the texts of rarer classes repeated."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import RecipeError

#: A class of a smaller share of the rows may be given up at little cost in accuracy.
RARE = 0.1


def class_weights(
    labels: np.ndarray, names: Sequence[str], wanted: str | Mapping[str, float] | None
) -> np.ndarray | None:
    """(L,) weights for `loss.make`; None for none.

    With one label per text, `balanced` is N / (L n) for a class of n texts, and all weights are divided by their mean
    over the training texts, so that the loss keeps its size. With any number of labels they weigh the texts that carry
    a label against those that do not (`pos_weight`), and `balanced` is their ratio (N - n) / n.

    Args:
        labels: (N,) class numbers, or (N, L) of 0 and 1, of the training texts.
        wanted: `balanced`, or weights by class name; a class that is not named has weight 1.

    Raises:
        RecipeError: a name that is no class.

    Source: King and Zeng, "Logistic Regression in Rare Events Data", Political Analysis 2001; and
    https://pytorch.org/docs/stable/generated/torch.nn.BCEWithLogitsLoss.html
    """
    if wanted is None:
        return None
    counts = rows_of(labels, len(names))
    if isinstance(wanted, Mapping):
        _check_names(wanted, names)
        weights = np.array([wanted.get(name, 1.0) for name in names], dtype=np.float64)
    elif labels.ndim == 2:
        weights = (len(labels) - counts).clip(1) / counts.clip(1)
    else:
        weights = len(labels) / (len(names) * counts.clip(1))
    return weights if labels.ndim == 2 else weights / (weights @ counts / len(labels))


def rows_of(labels: np.ndarray, count: int) -> np.ndarray:
    """(L,) texts of each class, of labels as `class_weights` takes them."""
    counts: np.ndarray = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=count)
    return counts


def has_rare_class(counts: np.ndarray) -> bool:
    """Whether a class has under `RARE` of the rows, and under half of what it would have if all were the same size.

    Classes without rows, which only have a name, do not count.

    Args:
        counts: (L,) rows of each class, one label per text.
    """
    present = counts[counts > 0]
    return bool(present.min() < min(RARE, 0.5 / len(present)) * present.sum())


def rarest(counts: np.ndarray) -> int:
    """The number of the class with the fewest rows among those that have any.

    Args:
        counts: (L,) rows of each class.
    """
    return int(np.where(counts > 0, counts, counts.max()).argmin())


def oversampled(labels: np.ndarray, *, seed: int, epoch: int) -> np.ndarray:
    """Row numbers of one epoch, with rows of rarer classes repeated; the same for the same (seed, epoch).

    Every class comes to as many rows as the largest has: whole copies of its rows, and a draw without replacement for
    the rest. A row with several labels is repeated as often as its rarest label asks for, so that the others grow too;
    one without labels is not repeated.

    Returns:
        (M,) with M the same for every epoch; every row occurs.
    """
    if labels.ndim == 1:
        groups = labels
        counts = np.bincount(labels)
        times = counts.max() / counts[labels]  # (N,)
    else:
        counts = labels.sum(axis=0)
        times = np.where(labels == 1, counts.max() / counts.clip(1), 1.0).max(axis=1)
        groups = np.unique(times, return_inverse=True)[1]
    random = np.random.default_rng([seed, epoch, 1])  # apart from the numbers that shuffle the batches
    chosen = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        copies, rest = divmod(round(float(times[rows[0]]) * len(rows)), len(rows))
        chosen += [np.tile(rows, copies), random.choice(rows, rest, replace=False)]
    return np.concatenate(chosen)


def _check_names(wanted: Mapping[str, float], names: Sequence[str]) -> None:
    unknown = [name for name in wanted if name not in names]
    if unknown:
        close = difflib.get_close_matches(unknown[0], names, n=1)
        raise RecipeError(
            f"a weight for a class that does not exist: {', '.join(unknown)}",
            where="train -> class_weights",
            expected=f"some of the classes {', '.join(names)}",
            remedy=f"did you mean {close[0]}?" if close else None,
        )


def label_counts(labels: np.ndarray, count: int) -> list[int]:
    """Rows of each of `count` classes: of (N,) class numbers, or of (N, L) of 0 and 1."""
    if labels.ndim == 2:
        return [int(value) for value in labels.sum(axis=0)]
    return [int(value) for value in np.bincount(labels, minlength=count)]
