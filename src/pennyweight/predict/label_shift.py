"""Label shift: probabilities corrected for classes whose shares differ from those in training.

If only the classes' shares differ, p'(y | x) is proportional to p(y | x) p'(y) / p(y). Where the new shares are not
known, expectation maximisation estimates them from unlabelled texts. Both assume calibrated probabilities.

Source: Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities", Neural
Computation 2002.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from ..errors import ArtifactError, InputError
from ..recipe.schema import TrainRecipe

ROUNDS = 1000
# The most texts that shares are estimated from: a share's standard error is below 0.2 points by then.
MOST_TEXTS = 100_000


def adjust(probabilities: np.ndarray, trained: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Probabilities (N, L) for classes with shares `wanted` (L,) instead of `trained` (L,)."""
    weighted = probabilities * (wanted / trained)
    found: np.ndarray = weighted / np.maximum(weighted.sum(axis=1, keepdims=True), 1e-300)
    return found


def estimate_shares(probabilities: np.ndarray, trained: np.ndarray, tolerance: float = 1e-9) -> np.ndarray:
    """The most likely shares (L,) of the classes among N unlabelled texts, by EM from their probabilities (N, L)."""
    shares = trained.astype(float)
    if not len(probabilities):
        return shares
    for _ in range(ROUNDS):
        found = adjust(probabilities, trained, shares).mean(axis=0)
        if np.abs(found - shares).max() < tolerance:
            break
        shares = found
    return shares


def shares_from_counts(counts: Sequence[int]) -> np.ndarray:
    """(L,) shares of classes from their counts; a class without rows counts as half a row."""
    values = np.maximum(np.asarray(counts, dtype=float), 0.5)
    return np.asarray(values / values.sum())


def prior_weights(
    wanted: str,
    names: Sequence[str],
    trained: np.ndarray,
    probabilities: Callable[[list[str]], np.ndarray],
    texts: Iterable[str],
) -> np.ndarray:
    """The factors (L,) of the probabilities of L classes, from shares as the user writes them.

    Args:
        wanted: as for `parse_shares`.
        probabilities: gives uncorrected probabilities (N, L) of texts; used for `em` alone, as `texts` are.

    Raises:
        InputError: shares that cannot be used, or `em` without texts.
    """
    found = parse_shares(wanted, names)
    if found is None:
        some = list(islice(texts, MOST_TEXTS))
        if not some:
            raise InputError("the class shares cannot be estimated without texts", received="em")
        found = estimate_shares(probabilities(some), trained)
    return np.asarray(np.maximum(found, 1e-12) / trained)


def training_shares(metrics: Mapping[str, Any], predictions: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """The shares (L,) of `count` classes in training, from what a saved classifier recorded.

    With a teacher they are those of all targets: of labels and teacher, unlabelled texts included.

    Raises:
        ArtifactError: it recorded none.
    """
    counts = metrics.get("data", {}).get("counts")
    if taught := metrics.get("distillation", {}).get("shares"):
        counts = [share * sum(counts or [1]) for share in taught]  # of rows, of which a class has at least half a one
    if counts is None and "validation.labels" in predictions:  # saved before counts were kept
        counts = np.bincount(predictions["validation.labels"], minlength=count).tolist()
    try:
        found = shares_from_counts(counts)
        if found.shape == (count,) and np.isfinite(found).all():
            return found
    except (TypeError, ValueError):
        pass
    raise ArtifactError("this classifier has no record of the class shares in training", remedy="train it again")


def learnt_shares(counted: np.ndarray, settings: TrainRecipe, names: Sequence[str]) -> np.ndarray:
    """The shares (L,) that a classifier's probabilities stand for: as counted, unless training weighed the classes.

    Args:
        counted: (L,) shares of the training rows.
        settings: settings of the training; weights in the loss count as that many more rows.
    """
    found = np.full(len(counted), 1 / len(counted)) if settings.oversample else counted
    weights = settings.class_weights
    if weights == "balanced":
        found = found / counted
    elif isinstance(weights, Mapping):
        found = found * np.array([weights.get(name, 1.0) for name in names])
    return np.asarray(found / found.sum())


def bias_factors(
    metrics: Mapping[str, Any], settings: TrainRecipe, count: int, temperature: float
) -> tuple[np.ndarray, np.ndarray]:
    """Factors (L,) of the probabilities of `count` classes that take back what was added to the biases after training.

    Returns:
        For estimating shares, which needs the probabilities as trained; and for the corrected answers. These keep a
        threshold for a precision or recall, but no logit adjustment: the new shares take its place.

    Raises:
        ArtifactError: the saved offsets are damaged.
    """
    saved = metrics.get("bias_offsets", {}).get("values") or metrics.get("merged", {}).get("bias_offsets")
    try:
        values = np.zeros(count) if saved is None else np.array(saved, dtype=float)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ArtifactError("the saved bias offsets are damaged", expected=f"{count} numbers")
    found = np.exp(-np.clip(values / temperature, -500, 500))
    return found, np.ones(count) if "=" in settings.thresholds else found


def parse_shares(text: str, names: Sequence[str]) -> np.ndarray | None:
    """Shares (L,) from `balanced` or `A=0.3,B=0.7`; None for `em`.

    Raises:
        InputError: an unknown or missing class, a share that is not a positive number, or a sum other than 1.
    """
    if text == "em":
        return None
    if text == "balanced":
        return np.full(len(names), 1 / len(names))
    pairs = [part.rpartition("=") for part in text.split(",") if part.strip()]
    given = {name.strip(): number.strip() for name, _, number in pairs}
    return _checked(given, names, text)


def _checked(given: Mapping[str, str], names: Sequence[str], text: str) -> np.ndarray:
    wrong = [name for name in given if name not in names] + [name for name in names if name not in given]
    try:
        values = np.array([float(given.get(name, "nan")) for name in names])
    except ValueError:
        values = np.full(len(names), np.nan)
    sound = bool(np.isfinite(values).all() and (values > 0).all() and abs(values.sum() - 1) < 0.005)
    if wrong or not sound:
        raise InputError(
            "the class shares are not valid",
            expected=f"balanced, em, or a share above 0 for each of {', '.join(names)}, with a sum of 1",
            received=text,
        )
    return np.asarray(values / values.sum())
