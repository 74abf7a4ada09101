"""Baselines, intervals and the verdict where a text may carry any number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..metrics.bootstrap import REPLICATIONS
from ..metrics.intervals import Interval, percentile_interval, wilson
from ..metrics.multi_label import MultilabelMetrics, score_multilabel
from ..metrics.thresholds import Objective, tune_thresholds
from . import baselines
from .baselines import Baseline
from .verdict import Verdict

COMMONEST = "commonest labels"
TFIDF = "TF-IDF + one-vs-rest logistic regression"
FROZEN = baselines.FROZEN

# Enough to tell strengths of 0.0001 and 1 apart, and few enough for many labels to cost seconds.
ROWS_TO_PICK_ON = 2_000


@dataclass(frozen=True)
class SeveralRow:
    """A baseline on the test rows, its thresholds tuned as the classifier's: shares in [0, 1], seconds.

    `difference` is the classifier's micro F1 minus the baseline's, with its 95% interval by paired bootstrap. `rows`
    is the number of training rows.
    """

    name: str
    micro_f1: float
    macro_f1: float
    exact_match: float
    exact_match_interval: Interval
    difference: float
    difference_interval: Interval
    seconds: float
    rows: int

    def with_unknown(self, known: int, rows: int) -> SeveralRow:
        """The same with `rows` further texts beside the `known`, of unknown labels, that count as no exact match."""
        if not rows:
            return self
        right, total = round(self.exact_match * known), known + rows
        return replace(self, exact_match=right / total, exact_match_interval=wilson(right, total))

    @property
    def beaten(self) -> bool:
        """Whether the classifier is better for certain."""
        return self.difference_interval[0] > 0

    @property
    def worse(self) -> bool:
        """Whether the classifier is worse for certain."""
        return self.difference_interval[1] < 0


def commonest(train_labels: np.ndarray, test_rows: int) -> Baseline:
    """Every text the same: the training shares (L,) as probabilities, of (N, L) labels."""
    return baselines.timed(
        COMMONEST, train_labels, lambda: np.tile(train_labels.mean(axis=0).clip(1e-6, 1 - 1e-6), (test_rows, 1))
    )


def tfidf(
    train_texts: Sequence[str], train_labels: np.ndarray, test_texts: Sequence[str], *, seed: int = 0
) -> Baseline:
    """One logistic regression a label on TF-IDF weights, as `baselines.tfidf`."""

    def predict() -> np.ndarray:
        train, test = baselines.weighed(train_texts, test_texts)
        return _one_vs_rest(train, train_labels, test, baselines.TFIDF_STRENGTHS[0], seed)

    return baselines.timed(TFIDF, train_labels, predict)


def linear(
    train_features: np.ndarray, train_labels: np.ndarray, test_features: np.ndarray, *, seed: int = 0
) -> Baseline:
    """One logistic regression a label on frozen features (N, H) and (M, H); one strength picked for all of them."""

    def predict() -> np.ndarray:
        from sklearn.preprocessing import StandardScaler

        scale = StandardScaler().fit(train_features)
        train, test = scale.transform(train_features), scale.transform(test_features)
        rows = np.random.default_rng(seed).permutation(len(train))[:ROWS_TO_PICK_ON]
        held_out, kept = np.split(rows, [max(1, len(rows) // 5)])
        wanted = train_labels[held_out]

        def loss(strength: float) -> float:
            found = _one_vs_rest(train[kept], train_labels[kept], train[held_out], strength, seed)
            return float(-np.log(np.maximum(np.where(wanted == 1, found, 1 - found), 1e-15)).mean())

        return _one_vs_rest(train, train_labels, test, min(baselines.FEATURE_STRENGTHS, key=loss), seed)

    return baselines.timed(FROZEN, train_labels, predict)


def _one_vs_rest(train: object, labels: np.ndarray, test: object, strength: float, seed: int) -> np.ndarray:
    each = [
        baselines.fit_predict(train, labels[:, one], test, 2, strength, seed)[:, 1] for one in range(labels.shape[1])
    ]
    return np.column_stack(each)


def f1_intervals(
    labels: np.ndarray, predicted: np.ndarray, *, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of `micro_f1`, `macro_f1` and `hamming_loss` over rows.

    Args:
        labels, predicted: (N, L) of 0 and 1.
    """
    micro, macro, wrong = _resampled(labels, predicted, seed)
    return {
        "micro_f1": percentile_interval(micro, level),
        "macro_f1": percentile_interval(macro, level),
        "hamming_loss": percentile_interval(wrong, level),
    }


def _resampled(labels: np.ndarray, predicted: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Micro F1, macro F1 and Hamming loss (R,) each; the same rows are drawn for the same seed and number of rows."""
    random = np.random.default_rng(seed)
    n = len(labels)
    facts = np.concatenate([labels & predicted, labels + predicted, labels ^ predicted], axis=1).astype(np.float64)
    count = labels.shape[1]
    sums = np.empty((REPLICATIONS, 3 * count))
    for one in range(REPLICATIONS):
        # How often each row is drawn says as much as which rows are.
        sums[one] = np.bincount(random.integers(0, n, n), minlength=n) @ facts
    hits, occurs, wrong = np.split(sums, 3, axis=1)  # (R, L) each
    each = np.divide(2 * hits, occurs, out=np.zeros_like(hits), where=occurs > 0)
    whole = occurs.sum(axis=1)
    micro = np.divide(2 * hits.sum(axis=1), whole, out=np.zeros(len(whole)), where=whole > 0)
    return micro, each.mean(axis=1), wrong.mean(axis=1) / n


def against(
    labels: np.ndarray,
    predicted: np.ndarray,
    rivals: Sequence[tuple[Baseline, np.ndarray]],
    validation: np.ndarray,
    objective: Objective,
) -> tuple[SeveralRow, ...]:
    """Compare a classifier with baselines on the same test rows.

    Args:
        labels, predicted: (N, L) of 0 and 1.
        rivals: each baseline with its probabilities (V, L) on the validation rows, where its thresholds are tuned;
            without such rows (V = 0) they are 0.5.
        validation: (V, L) labels of those rows.
        objective: what the thresholds are tuned for; the commonest labels are always chosen for micro F1.
    """
    names = [str(number) for number in range(labels.shape[1])]
    ours = _resampled(labels, predicted, 0)[0]
    rows = []
    for one, tuned_on in rivals:
        aim: Objective = "fixed" if not len(validation) else "micro_f1" if one.name == COMMONEST else objective
        thresholds = tune_thresholds(validation, tuned_on, aim)
        theirs = score_multilabel(labels, one.probabilities, names, threshold=thresholds.tolist())
        guessed = (one.probabilities >= thresholds).astype(np.int64)
        # Both on the same drawn rows: what is hard for both does not widen the interval.
        gap = ours - _resampled(labels, guessed, 0)[0]
        mine = score_multilabel(labels, predicted.astype(np.float64), names)
        rows.append(
            SeveralRow(
                one.name,
                theirs.micro.f1,
                theirs.macro.f1,
                theirs.exact,
                theirs.exact_interval,
                mine.micro.f1 - theirs.micro.f1,
                percentile_interval(gap, 0.95),
                one.seconds,
                one.rows,
            )
        )
    return tuple(rows)


def verdict(metrics: MultilabelMetrics, interval: Interval, rows: Sequence[SeveralRow]) -> Verdict:
    """The verdict by micro F1; the worst news decides, as in `verdict.verdict`."""
    figure = f"micro F1 {100 * metrics.micro.f1:.1f}%, 95% interval {_points(interval)}"
    if not rows:
        return Verdict("not compared", f"This classifier was compared with no baseline ({figure}).")
    unbeaten = [row for row in rows if not row.beaten]
    trivial = next((row for row in unbeaten if row.name == COMMONEST), None)
    if trivial is not None:
        said = f"always answering the commonest labels gives {100 * trivial.micro_f1:.1f}%"
        return Verdict("no better", f"This classifier is no better than the commonest labels ({figure}; {said}).")
    worst = max(unbeaten or rows, key=lambda row: row.micro_f1)
    name = f"the {worst.name}" if worst.name == FROZEN else worst.name
    gap = f"{100 * worst.difference:+.1f} points of micro F1, 95% interval {_points(worst.difference_interval)}"
    if not unbeaten:
        return Verdict("better", f"Better than every baseline tried: this classifier and {name} differ by {gap}.")
    if worst.worse:
        return Verdict("no better", f"Not better than every baseline: {name} is better; the difference is {gap}.")
    return Verdict("unclear", f"Not better than every baseline: not shown to differ from {name} ({gap}).")


def _points(interval: Interval) -> str:
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"
