"""Abstaining: no label below a given confidence, or below the one that promises an accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import ArtifactError, InputError
from ..evaluate.metrics.selective import Threshold, pick_threshold
from ..evaluate.row_predictions import RowPredictions
from .predictor import Classifier


class Abstainer:
    """Removes the label of every prediction whose probability is below `threshold`; its probabilities stay.

    Args:
        threshold: None keeps every label.
        why: where the threshold comes from, in words.

    Attributes:
        asked: texts so far.
        answered: those of them that kept their label.
    """

    def __init__(self, threshold: float | None, why: str = "") -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise InputError("a confidence is a probability", expected="0 to 1", received=threshold)
        self.threshold = threshold
        self.why = why
        self.asked = self.answered = 0

    def __call__(self, predictions: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The predictions one by one, in order."""
        return map(self.decide, predictions)

    def decide(self, prediction: dict[str, Any]) -> dict[str, Any]:
        """One prediction, without its label if it is not confident enough."""
        sure = self.threshold is None or prediction["probability"] >= self.threshold
        self.asked += 1
        self.answered += sure
        return prediction if sure else prediction | {"label": None}

    def decide_columns(self, predictions: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """The same for predictions as columns."""
        columns = iter(predictions.values())
        self.asked += len(next(columns, []))
        if self.threshold is None:
            self.answered = self.asked
            return predictions
        sure = [probability >= self.threshold for probability in predictions["probability"]]
        self.answered += sum(sure)
        labels = [label if kept else None for label, kept in zip(predictions["label"], sure, strict=True)]
        return predictions | {"label": labels}

    def __str__(self) -> str:
        """The share of texts that kept their label."""
        share = 100 * self.answered / self.asked if self.asked else 0.0
        return f"labelled {self.answered:,} of {self.asked:,} texts ({share:.1f}%), {self.why}"


def make_abstainer(classifier: Classifier, below: float | None = None, target: float | None = None) -> Abstainer:
    """Abstain below a given confidence, below the one that promises an accuracy, or never.

    Raises:
        InputError: when both are given, or either is out of range.
        ArtifactError, DataError: as `threshold_for_accuracy`.
    """
    if below is not None and target is not None:
        raise InputError("a confidence and a target accuracy contradict each other", remedy="give one of them")
    if classifier.multi and (below is not None or target is not None):
        raise InputError(
            "a multi-label classifier has a threshold for each label",
            remedy="leave out --abstain-below and --target-accuracy: texts below all thresholds get no label",
        )
    if target is None:
        return Abstainer(below, "" if below is None else f"those with a confidence of at least {below:g}")
    picked = threshold_for_accuracy(classifier, target)
    return Abstainer(
        picked.value,
        f"those with a confidence of at least {picked.value:.4f}, which on {picked.n:,} validation texts answers "
        f"{100 * picked.coverage:.1f}% with an accuracy of {100 * picked.accuracy:.1f}%",
    )


def threshold_for_accuracy(classifier: Classifier, target: float) -> Threshold:
    """The confidence above which predictions reach an accuracy, picked on the validation rows kept in the artifact.

    Args:
        target: the wanted accuracy of the labels that remain, in (0, 1]; 0.98 for 98%.

    Raises:
        InputError: for a target outside (0, 1].
        ArtifactError: when the classifier kept no validation predictions.
        DataError: when no threshold reaches the target.
    """
    if not 0 < target <= 1:
        raise InputError("a target accuracy is a share", expected="above 0 and at most 1", received=target)
    kept = RowPredictions.from_arrays(classifier.artifact.predictions, "validation")
    if kept is None:
        raise ArtifactError(
            "this classifier has no saved validation predictions for choosing a threshold", remedy="train it again"
        )
    return pick_threshold(kept.confidence.astype(float), kept.correct, target)
