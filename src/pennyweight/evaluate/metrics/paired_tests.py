"""Paired tests of two classifiers on the same texts: which is better, by how much, and how surely."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ...errors import DataError
from .intervals import Interval, percentile_interval


@dataclass(frozen=True)
class Comparison:
    """`second` against `first` on the same `n` texts.

    Attributes:
        difference: the figure of `second` minus that of `first`, in [-1, 1].
        interval: its 95% interval by paired bootstrap.
        figure: what is compared: `accuracy` or `micro F1`.
        p: McNemar's exact two-sided p-value of the accuracies: how often chance alone would split the texts that only
            one gets right at least as unevenly. None for micro F1, which is not a share of texts.
        only_first, only_second: texts that only the one gets right; None as `p`.
    """

    first: str
    second: str
    n: int
    difference: float
    interval: Interval
    figure: str = "accuracy"
    p: float | None = None
    only_first: int | None = None
    only_second: int | None = None

    @property
    def second_is_better(self) -> bool:
        """Whether the interval says so, and the test where there is one."""
        return self.interval[0] > 0 and self._significant

    @property
    def first_is_better(self) -> bool:
        """Whether the interval says so, and the test where there is one."""
        return self.interval[1] < 0 and self._significant

    @property
    def _significant(self) -> bool:
        return self.p is None or self.p < 0.05

    def with_unknown(self, rows: int) -> Comparison:
        """The same with `rows` further texts of unknown labels, which both get wrong; they count in the accuracy."""
        if self.figure != "accuracy":
            return self
        share = self.n / (self.n + rows)
        low, high = self.interval
        return replace(self, n=self.n + rows, difference=self.difference * share, interval=(low * share, high * share))

    def __str__(self) -> str:
        """The result as one plain sentence, without a full stop."""
        low, high = (100 * end for end in self.interval)
        if self.second_is_better:
            return f"{self.second} is better than {self.first} by {self._points(low, high)}"
        if self.first_is_better:
            return f"{self.second} is worse than {self.first} by {self._points(-high, -low)}"
        between = f"difference {100 * self.difference:+.1f} {self._unit}, 95% interval {low:+.1f} to {high:+.1f}"
        chance = "" if self.p is None else f", {p_in_words(self.p)}"
        return f"{self.second} is tied with {self.first} ({between}{chance})"

    @property
    def texts_to_settle(self) -> int | None:
        """About how many texts would tell the two apart, if the difference stayed what it is; None for no difference.

        The interval's width falls with the root of the texts; rounded to two digits.
        """
        half = (self.interval[1] - self.interval[0]) / 2
        if not self.difference or self.n * (half / self.difference) ** 2 > 1e9:
            return None
        needed = max(self.n * (half / abs(self.difference)) ** 2, 1.1 * self.n)
        step = 10 ** max(0, int(math.log10(needed)) - 1)
        return int(math.ceil(needed / step) * step)

    def _points(self, low: float, high: float) -> str:
        return f"{100 * abs(self.difference):.1f} {self._unit}, 95% interval {low:.1f} to {high:.1f}"

    @property
    def _unit(self) -> str:
        return "points" if self.figure == "accuracy" else f"points of {self.figure}"


def compare(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, *, names: tuple[str, str] = ("A", "B"), seed: int = 0
) -> Comparison:
    """Compare two classifiers' predictions on the same texts.

    Args:
        labels, first, second: (N,) true labels and the two classifiers' predicted labels, row by row the same texts.

    Raises:
        DataError: without rows, or when the arrays differ in length.
    """
    labels, first, second = np.asarray(labels), np.asarray(first), np.asarray(second)
    if labels.ndim != 1 or labels.shape != first.shape or labels.shape != second.shape or not len(labels):
        raise DataError(
            "two classifiers can be compared only on the same texts",
            expected="labels and predictions of one length, at least 1",
            received=f"{labels.shape}, {first.shape} and {second.shape}",
        )
    first_right, second_right = first == labels, second == labels
    only_first = int((first_right & ~second_right).sum())
    only_second = int((second_right & ~first_right).sum())
    return Comparison(
        first=names[0],
        second=names[1],
        n=len(labels),
        difference=(only_second - only_first) / len(labels),
        interval=paired_bootstrap(only_first, only_second, len(labels), seed=seed),
        only_first=only_first,
        only_second=only_second,
        p=mcnemar(only_first, only_second),
    )


def paired_bootstrap(
    only_first: int, only_second: int, n: int, *, level: float = 0.95, replications: int = 10_000, seed: int = 0
) -> Interval:
    """The interval of a difference of two accuracies on the same `n` texts, resampling texts with both verdicts.

    Only three kinds of text matter (only the first right, only the second right, both alike), so that resampling
    texts is drawing three counts. Half a text is added to either disagreement and a whole one to agreement: without
    them two classifiers that agree on ten texts would seem to be equal for certain.

    Source: Efron and Tibshirani, 1993 (bootstrap); Agresti and Min, "Simple improved confidence intervals for
    comparing matched proportions", Statistics in Medicine 2005 (the added halves).
    """
    counts = np.array([only_first + 0.5, only_second + 0.5, n - only_first - only_second + 1.0])
    drawn = np.random.default_rng(seed).multinomial(n, counts / counts.sum(), size=replications)  # (R, 3)
    return percentile_interval((drawn[:, 1] - drawn[:, 0]) / n, level)


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact two-sided p-value: a fair coin on the texts where just one of the two is right.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
    """
    from scipy.stats import binom

    fewer, either = min(only_first, only_second), only_first + only_second
    return min(1.0, 2 * float(binom.cdf(fewer, either, 0.5)))


def p_in_words(p: float) -> str:
    """A p-value as people print it: two digits, and no false precision below 0.0001."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"
