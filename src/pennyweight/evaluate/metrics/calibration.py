"""Calibration: whether predictions made with a confidence of 90% are right nine times in ten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ArtifactError, DataError
from .probabilities import softmax

BINS = 15
GROUPS = 10  # of a reliability diagram, with equally many rows each
COLDEST, HOTTEST = 0.05, 20.0  # temperatures beyond this say that the logits are no logits
# Simulated with four classes and 120 draws. With 50 rows, a temperature that is kept only if it helps out of sample
# loses 0.008 nats per row on average if the logits were right, and gains 0.16 if they were twice too large. With 20
# rows it still lost 0.5 at worst. With four rows, always keeping the temperature, as was done before, lost 1.7.
LEAST_ROWS = 50
FOLDS = 5


@dataclass(frozen=True)
class Bin:
    """The `count` rows with a confidence from low to high; `confidence` and `accuracy` are their means."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Temperature:
    """A temperature and the validation rows it rests on; where it is 1 for want of a better one, why."""

    value: float
    rows: int
    reason: str | None = None


@dataclass(frozen=True)
class Calibration:
    """Reliability on a test set as trained and with the temperature fitted on validation; `ece_*` in [0, 1].

    `before` and `after` are from `reliability_by_quantiles`; the errors are of `reliability`'s equally wide bins.
    `reason` says why no temperature was kept; then it is 1.
    """

    temperature: float
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]
    ece_before: float
    ece_after: float
    reason: str | None = None

    def __str__(self) -> str:
        """The effect of the temperature, as one sentence without a full stop."""
        if self.reason is not None:
            return f"The probabilities are not temperature-scaled: {self.reason}"
        change = f"from {100 * self.ece_before:.1f}% to {100 * self.ece_after:.1f}%"
        if self.ece_after < self.ece_before:
            verb = "lowers the calibration error"
        elif self.ece_after == self.ece_before:
            verb = "does not change the calibration error:"
        else:
            verb = "does not help: the calibration error rises"
        return f"A temperature of {self.temperature:.2f}, fitted on validation, {verb} {change}"


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in [0.05, 20] that makes validation labels most likely. It changes no predicted label.

    Where every row is right the best temperature is zero however wrong that is elsewhere; then 1 is returned.

    Args:
        logits: (N, L) of the validation rows.
        labels: (N,) their true class numbers.

    Raises:
        DataError: without rows.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    from scipy.optimize import minimize_scalar

    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if not len(labels):
        raise DataError("a temperature needs validation rows")
    if (logits.argmax(axis=1) == labels).all():
        return 1.0

    def loss(log_temperature: float) -> float:
        return float(row_losses(logits, labels, float(np.exp(log_temperature))).mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def choose_temperature(logits: np.ndarray, labels: np.ndarray) -> Temperature:
    """The temperature fitted on validation rows, kept only where there is reason to believe in it; otherwise 1.

    It takes `LEAST_ROWS` rows, and has to help on rows it was not fitted on: in each of `FOLDS` folds the rows are
    measured with the temperature of the others, and the mean log loss over all rows has to be below that without one.

    Args:
        logits: (N, L) of the validation rows, of which there may be none.
        labels: (N,) their true class numbers.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    rows = len(labels)
    if not rows:
        return Temperature(1.0, 0, "no rows were held out for validation")
    if rows < LEAST_ROWS:
        return Temperature(
            1.0, rows, f"{rows} validation rows are too few to fit one; at least {LEAST_ROWS} are needed"
        )
    if (logits.argmax(axis=1) == labels).all():
        return Temperature(1.0, rows, "all validation rows are right, so none can be fitted")
    fold = np.random.default_rng(0).permutation(rows) % FOLDS  # rows may come in any order, one class after another
    held_out = np.empty(rows)
    for number in range(FOLDS):
        held = fold == number
        held_out[held] = row_losses(logits[held], labels[held], fit_temperature(logits[~held], labels[~held]))
    if held_out.mean() >= row_losses(logits, labels, 1.0).mean():
        return Temperature(1.0, rows, "a fitted one does not help on validation rows that it was not fitted on")
    return Temperature(fit_temperature(logits, labels), rows)


def saved_temperature(metrics: Mapping[str, Any]) -> float:
    """The temperature as metrics.json holds it; 1 where it holds none.

    Raises:
        ArtifactError: when it is no number between `COLDEST` and `HOTTEST`.
    """
    value = (metrics.get("calibration") or {}).get("temperature", 1.0)
    if not isinstance(value, int | float) or not COLDEST <= value <= HOTTEST:
        raise ArtifactError("the saved temperature is damaged", expected=f"{COLDEST} to {HOTTEST}", received=value)
    return float(value)


def row_losses(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Each row's cross-entropy (N,), in nats: of logits (N, L) and class numbers (N,)."""
    from scipy.special import log_softmax

    found: np.ndarray = -log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels]
    return found


def calibrate(labels: np.ndarray, logits: np.ndarray, temperature: float, reason: str | None = None) -> Calibration:
    """Measure a temperature that was fitted on other rows on test rows: labels (N,) and logits (N, L)."""
    before, after = softmax(logits), softmax(logits, temperature)
    return Calibration(
        temperature=temperature,
        before=reliability_by_quantiles(labels, before),
        after=reliability_by_quantiles(labels, after),
        ece_before=expected_calibration_error(labels, before),
        ece_after=expected_calibration_error(labels, after),
        reason=reason,
    )


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> tuple[Bin, ...]:
    """The reliability diagram's numbers: equally wide bins of confidence, empty ones left out.

    Args:
        labels: (N,) true class numbers.
        probabilities: (N, L); confidence is the largest value of a row.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    confidence, correct = confidences(labels, probabilities)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return tuple(
        Bin(
            low=index / bins,
            high=(index + 1) / bins,
            count=int((place == index).sum()),
            confidence=float(confidence[place == index].mean()),
            accuracy=float(correct[place == index].mean()),
        )
        for index in np.unique(place).tolist()
    )


def reliability_by_quantiles(labels: np.ndarray, probabilities: np.ndarray, groups: int = GROUPS) -> tuple[Bin, ...]:
    """Rows sorted by confidence and cut into groups of equal size, so that no point of a diagram rests on a few rows.

    Of a good classifier nearly all rows lie in the last of 15 equally wide bins; the others show chance. Rows of the
    same confidence may fall into two groups. With fewer than ten rows a group there are fewer groups.

    Args:
        labels: (N,) true class numbers.
        probabilities: (N, L); confidence is the largest value of a row.

    Source: Nguyen and O'Connor, "Posterior calibration and exploratory analysis for natural language processing
    models", EMNLP 2015 (adaptive binning).
    """
    confidence, correct = confidences(labels, probabilities)
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, max(1, min(groups, len(order) // 10)))
    return tuple(
        Bin(
            low=float(confidence[part[0]]),
            high=float(confidence[part[-1]]),
            count=len(part),
            confidence=float(confidence[part].mean()),
            accuracy=float(correct[part].mean()),
        )
        for part in parts
        if len(part)
    )


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over the bins of `reliability`, weighted by rows; in [0, 1].

    Args:
        labels: (N,) true class numbers.
        probabilities: (N, L).
    """
    rows = reliability(labels, probabilities, bins)
    total = sum(row.count for row in rows)
    return sum(row.count * abs(row.confidence - row.accuracy) for row in rows) / total


def confidences(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The confidence (N,) of each prediction and whether it is right (N,)."""
    probabilities = np.asarray(probabilities, dtype=np.float64)
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
