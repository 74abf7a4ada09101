"""Does 90 % sure mean right nine times in ten?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import DataError

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0  # temperatures beyond this say that the logits are no logits


@dataclass(frozen=True)
class Bin:
    """The `count` rows whose confidence is in (low, high]; `confidence` and `accuracy` are their means."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """Reliability on a test set as trained and with the temperature fitted on validation; `ece_*` in [0, 1].

    `fitted` is False where there were no validation rows: then the temperature is 1 and changes nothing.
    """

    temperature: float
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]
    ece_before: float
    ece_after: float
    fitted: bool = True

    def __str__(self) -> str:
        """What the temperature did, as one plain sentence, without a full stop."""
        if not self.fitted:
            error = f"the calibration error is {100 * self.ece_after:.1f} %"
            return f"No texts were held out for validation, so that no temperature was fitted: {error}"
        change = f"from {100 * self.ece_before:.1f} % to {100 * self.ece_after:.1f} %"
        if self.ece_after < self.ece_before:
            verb = "lowers the calibration error"
        elif self.ece_after == self.ece_before:
            verb = "leaves the calibration error as it was,"
        else:
            verb = "does not help: the calibration error goes up,"
        return f"A temperature of {self.temperature:.2f}, fitted on validation, {verb} {change}"


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities (N, L) of logits (N, L) divided by a temperature; log-probabilities do as logits."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: np.ndarray = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities


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
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((total - scaled[np.arange(len(labels)), labels]).mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def calibrate(labels: np.ndarray, logits: np.ndarray, temperature: float) -> Calibration:
    """Judge on test rows, labels (N,) and logits (N, L), a temperature fitted on other rows."""
    before, after = softmax(logits), softmax(logits, temperature)
    return Calibration(
        temperature=temperature,
        before=reliability(labels, before),
        after=reliability(labels, after),
        ece_before=expected_calibration_error(labels, before),
        ece_after=expected_calibration_error(labels, after),
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
