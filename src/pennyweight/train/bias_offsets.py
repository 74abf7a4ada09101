"""Offsets added to the head's biases after training: logit adjustment for rare classes, or a threshold of two classes.

Offsets in the biases hold wherever the classifier goes, also outside of Pennyweight, and cost nothing. With them the
probabilities are those of the moved classifier.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..data.batching import Encoded
from ..data.table import shown
from ..evaluate.labelled_rows import LabelledRows
from ..evaluate.metrics.calibration import choose_temperature
from ..evaluate.metrics.classification import score
from ..evaluate.metrics.probabilities import sigmoid, softmax
from ..evaluate.metrics.thresholds import Target, threshold_for_target
from ..model.heads import Head
from ..model.inference.cascade import CascadeEngine
from ..model.text_model import TextModel
from ..recipe.schema import TrainRecipe
from .class_balance import has_rare_class, rarest, rows_of

logger = logging.getLogger(__name__)

#: Of the logit adjustment; 1 would suit classes of one size.
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
#: The share of expected right answers that a gain in macro F1 may cost.
MOST_LOST = 0.005


@dataclass(frozen=True)
class Figures:
    """On the validation rows."""

    accuracy: float
    macro_f1: float


@dataclass(frozen=True)
class ClassThreshold:
    """The threshold of one of two classes.

    Attributes:
        wanted: as in the recipe, `precision=0.9`.
        probability: probability of the class, from which it is predicted, without the offsets and before a temperature.
        precision, recall: on the validation rows; `reached`: whether they are what was wanted.
    """

    label: str
    wanted: str
    probability: float
    precision: float
    recall: float
    reached: bool


@dataclass(frozen=True)
class BiasOffsets:
    """Offsets (L,) of the biases, why they are what they are, and the figures on the validation rows."""

    values: np.ndarray
    summary: str
    before: Figures
    after: Figures
    strength: float | None = None
    threshold: ClassThreshold | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, as in metrics.json."""
        found = {"values": self.values.tolist(), "fitted_on": "validation", "summary": self.summary}
        found |= {"before": asdict(self.before), "after": asdict(self.after), "strength": self.strength}
        return found if self.threshold is None else found | {"threshold": asdict(self.threshold)}


def offset_biases(
    model: TextModel,
    logits: Mapping[str, np.ndarray],
    rows: Mapping[str, LabelledRows],
    tokens: Mapping[str, Encoded],
    settings: TrainRecipe,
    names: Sequence[str],
) -> tuple[dict[str, np.ndarray], BiasOffsets | None]:
    """The logits with what was added to the biases, and what it was; the model has it, too, then.

    Args:
        model: trained, as it is measured and saved.
        logits: (N, L) of all rows but the training's, by split.
        rows: by split; offsets are fitted on `validation`, and there are none without it.
        tokens: of the same rows.
        names: L class names.
    """
    held = rows.get("validation")
    if held is None or held.labels.ndim == 2:
        return dict(logits), None
    counts = rows_of(rows["train"].labels, len(names))
    found = choose_offsets(logits["validation"], held.labels, counts, settings, names)
    if found is None:
        return dict(logits), None
    logger.info(f"{'rare classes' if found.threshold is None else 'threshold'}: {found.summary}")
    add_to_biases(model, found.values)
    if isinstance(model.engine, CascadeEngine):  # other texts than before are close to another label
        return {name: model.logits(tokens[name]) for name in logits}, found
    offsets = found.values.astype(np.float32)
    return {name: values + offsets for name, values in logits.items()}, found


def with_threshold(note: str, offsets: BiasOffsets | None) -> str:
    """A note for the verdict, with a sentence on the threshold where one was asked for."""
    if offsets is None or offsets.threshold is None:
        return note
    one = offsets.threshold
    said = (
        f"Its threshold is set for {one.wanted} of {shown(one.label)}, which may cost accuracy; ROC-AUC is without it."
    )
    return f"{note} {said}".strip()


def choose_offsets(
    logits: np.ndarray, labels: np.ndarray, counts: np.ndarray, settings: TrainRecipe, names: Sequence[str]
) -> BiasOffsets | None:
    """Offsets by what the settings say and the validation rows show; None if nothing is to be tried.

    Args:
        logits: (N, L) and labels: (N,) of the validation rows.
        counts: (L,) training rows of each class.
    """
    target = Target.of(settings.thresholds)
    if target is not None and len(names) == 2:
        return threshold_offsets(logits, labels, counts, target, names)
    adjusts = settings.logit_adjustment == "auto" and settings.class_weights is None and not settings.oversample
    if not adjusts or not has_rare_class(counts):
        return None
    return adjusted_offsets(logits, labels, counts, names)


def adjusted_offsets(logits: np.ndarray, labels: np.ndarray, counts: np.ndarray, names: Sequence[str]) -> BiasOffsets:
    """Logit adjustment: -strength * log(share of the class), of the strength with the highest expected macro F1.

    Of a rare class there are a dozen validation rows or fewer, too few to choose by what is right among them. So the
    figures are those that the calibrated probabilities of all validation rows promise: each row counts for every class
    by its probability. A strength that is expected to cost more than `MOST_LOST` of accuracy is not taken.

    Args:
        logits, labels, counts: as for `choose_offsets`.

    Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, https://arxiv.org/abs/2007.07314
    """
    shares = counts.clip(1) / counts.sum()
    directions = -np.log(shares)
    directions -= directions.min()  # what all classes get alike changes nothing
    directions[counts == 0] = 0.0  # a class that was never seen has nothing to be raised for
    probabilities = softmax(logits, choose_temperature(logits, labels).value)
    expected = []
    for strength in STRENGTHS:
        answers = (logits + strength * directions).argmax(axis=1)
        expected.append((_expected_macro_f1(probabilities, answers), _expected_accuracy(probabilities, answers)))
    allowed = [number for number, (_, right) in enumerate(expected) if right >= expected[0][1] - MOST_LOST]
    best = max(allowed, key=lambda number: (expected[number][0], -number))
    strength = STRENGTHS[best]
    before, after = (_figures(logits + one * directions, labels, names) for one in (0.0, strength))
    least = rarest(counts)
    about = f"{shown(names[least])} has {100 * shares[least]:.1f}% of the training rows"
    gain = 100 * (expected[best][0] - expected[0][0])
    said = (
        f"biases of rarer classes raised (logit adjustment, strength {strength:g}; {about}): the validation "
        f"probabilities promise {gain:.1f} points of macro F1, {_in_words(before, after, len(labels))}"
        if best
        else f"biases left as trained ({about}): no logit adjustment promises a higher macro F1 on the validation texts"
    )
    return BiasOffsets(strength * directions, said, before, after, strength=strength)


def threshold_offsets(
    logits: np.ndarray, labels: np.ndarray, counts: np.ndarray, target: Target, names: Sequence[str]
) -> BiasOffsets:
    """An offset for the rarer of two classes (of equals the last), with which its threshold stands at 0.5.

    Args:
        logits, labels, counts: as for `choose_offsets`.
    """
    one = 0 if counts[0] < counts[1] else 1
    margins = logits[:, one].astype(np.float64) - logits[:, 1 - one]
    found = threshold_for_target((labels == one).astype(np.int64), sigmoid(margins), target)
    offsets = np.zeros(2)
    offsets[one] = -np.log(found.value / (1 - found.value))
    wanted = f"{target.figure}={target.share:g}"
    threshold = ClassThreshold(
        names[one], wanted, found.value, found.precision, found.recall, found.reached
    )  # fmt: skip
    before, after = _figures(logits, labels, names), _figures(logits + offsets, labels, names)
    gives = (
        f"precision {100 * found.precision:.1f}% ({found.right} of {found.given}), recall {100 * found.recall:.1f}% "
        f"({found.right} of {found.carried}) on the {len(labels):,} validation texts"
    )
    said = f"{shown(names[one])} is predicted at a probability of {found.value:.3f} or more, which gives {gives}"
    if not found.reached:
        said = f"{target} is out of reach for {shown(names[one])}; the threshold of the highest precision: {said}"
    return BiasOffsets(offsets, said, before, after, threshold=threshold)


def add_to_biases(model: TextModel, offsets: np.ndarray) -> None:
    """Add offsets (L,) to the biases of the model's head, and of its engine's own copy."""
    heads = [model.model.head, getattr(model.engine, "head", None)]
    seen: set[int] = set()
    with torch.no_grad():
        for head in heads:
            if isinstance(head, Head) and head.out.bias.data_ptr() not in seen:
                seen.add(head.out.bias.data_ptr())
                head.out.bias.add_(torch.from_numpy(offsets).to(head.out.bias))


def _expected_macro_f1(probabilities: np.ndarray, answers: np.ndarray) -> float:
    """Macro F1 of answers (N,) where each row belongs to every class by its probability (N, L)."""
    given = np.eye(probabilities.shape[1])[answers]  # (N, L)
    return float((2 * (probabilities * given).sum(axis=0) / (probabilities + given).sum(axis=0)).mean())


def _expected_accuracy(probabilities: np.ndarray, answers: np.ndarray) -> float:
    return float(probabilities[np.arange(len(answers)), answers].mean())


def _figures(logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Figures:
    found = score(labels, softmax(logits), names, ranked=False)
    return Figures(found.accuracy, found.macro.f1)


def _in_words(before: Figures, after: Figures, rows: int) -> str:
    return (
        f"on the {rows:,} validation texts it goes from {100 * before.macro_f1:.1f}% to {100 * after.macro_f1:.1f}%, "
        f"and the accuracy from {100 * before.accuracy:.1f}% to {100 * after.accuracy:.1f}%"
    )
