"""The verdict: a short comparison of the classifier with its baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ...data.table import listed, shown
from ..metrics.classification import Metrics
from ..metrics.intervals import Interval
from ..metrics.paired_tests import Comparison
from .comparison import BaselineRow, in_a_sentence

#: A class of which a smaller share of its texts is found is given up; one of fewer test texts says nothing.
GIVEN_UP, LEAST_SUPPORT = 0.05, 5
#: A smaller lead over a trivial baseline that may be chance counts as none; a larger one means that texts are few.
LEAD = 0.05


@dataclass(frozen=True)
class Verdict:
    """`headline` is one or two plain sentences; `better` only if every baseline is beaten for certain."""

    standing: Literal["better", "unclear", "no better", "not compared"]
    headline: str

    def with_note(self, note: str) -> Verdict:
        """The same with a further sentence; an empty one adds nothing."""
        return replace(self, headline=f"{self.headline} {note}") if note else self


def verdict(metrics: Metrics, intervals: Mapping[str, Interval], rows: Sequence[BaselineRow]) -> Verdict:
    """The verdict; the worst result decides: a trivial baseline not beaten, then any other baseline not beaten.

    With one label per text, the result for accuracy holds only if no baseline has a significantly higher macro F1.
    Classes that the classifier hardly ever predicts are named.

    Args:
        intervals: intervals of `micro_f1`, where a text may carry any number of labels.
    """
    found = _of_accuracy(metrics, intervals, rows)
    above = [row for row in rows if row.macro_f1 is not None and row.macro_f1.first_is_better]
    if above and found.standing in ("better", "unclear"):
        best = max(above, key=lambda row: row.metrics.macro.f1)
        assert best.macro_f1 is not None
        low, high = best.macro_f1.interval
        behind = (
            f"But its macro F1, which weighs all classes equally, is {_points(best.macro_f1)} below that of "
            f"{best.name} ({100 * best.metrics.macro.f1:.1f}%; 95% interval of the gap {-100 * high:.1f} to "
            f"{-100 * low:.1f})."
        )
        found = Verdict("no better", f"{found.headline} {behind}")
    lost = given_up(metrics)
    return found if lost is None or not rows else Verdict(found.standing, f"{found.headline} {lost}")


def given_up(metrics: Metrics) -> str | None:
    """A sentence on the classes of which hardly any text is found; None if there are none, or of multi-label."""
    lost = [row for row in metrics.per_class if row.support >= LEAST_SUPPORT and row.recall < GIVEN_UP]
    if metrics.multi_label or not lost:
        return None
    named = listed(
        (f"{shown(row.name, 35)} (finds {round(row.recall * row.support)} of {row.support:,})" for row in lost), 3
    )
    classes = "the class" if len(lost) == 1 else f"{len(lost)} classes:"
    return f"It misses nearly all texts of {classes} {named}."


def _of_accuracy(metrics: Metrics, intervals: Mapping[str, Interval], rows: Sequence[BaselineRow]) -> Verdict:
    """The verdict by accuracy, or by micro F1 where a text may carry any number of labels."""
    figure = _figure(metrics, intervals)
    if not rows:
        return Verdict("not compared", f"This classifier was not compared with any baseline ({figure}).")
    unbeaten = [row for row in rows if not row.comparison.second_is_better]
    trivial = next((row for row in unbeaten if row.trivial), None)
    if trivial is not None:
        name = in_a_sentence(trivial.name)
        answer = "the commonest labels" if metrics.multi_label else "the commonest label"
        share = f"always predicting {answer} gives {100 * trivial.score:.1f}%"
        if trivial.comparison.difference >= LEAD:
            short = f"Not shown to be better than {name} ({figure} on {trivial.comparison.n:,} texts; {share})."
            return Verdict("unclear", f"{short} {_chance(trivial.comparison)}")
        above = max(unbeaten, key=lambda row: row.score)
        said = f"This classifier is no better than {name} ({figure}; {share})."
        if above.comparison.first_is_better:
            said += f" {_capital(above.name)} reaches {100 * above.score:.1f}%."
        return Verdict("no better", said)
    best = max(rows, key=lambda row: row.score)
    if not unbeaten:
        return Verdict("better", f"Better than every baseline. {_lead(best)}")
    rival = max(unbeaten, key=lambda row: row.score)
    which = f"{'the best' if rival is best else 'a'} baseline ({rival.name}, {100 * rival.score:.1f}%)"
    if rival.comparison.first_is_better:
        low, high = rival.comparison.interval
        by = f"{_points(rival.comparison)}, 95% interval {-100 * high:.1f} to {-100 * low:.1f}"
        return Verdict("no better", f"Worse than {which} by {by}.")
    return Verdict("unclear", f"Tied with {which}. {_chance(rival.comparison)}")


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _lead(best: BaselineRow) -> str:
    low, high = best.comparison.interval
    return (
        f"The best baseline, {best.name}, reaches {100 * best.score:.1f}%; the classifier leads by "
        f"{_points(best.comparison)} (95% interval {100 * low:.1f} to {100 * high:.1f})."
    )


def _chance(found: Comparison) -> str:
    """How many texts would settle a tie."""
    if not found.difference:
        return f"Both reach the same {found.figure}."
    needed = found.texts_to_settle
    lead = f"The {'lead' if found.difference > 0 else 'deficit'} of {_points(found)}"
    more = "only far more texts" if needed is None or needed > 1_000_000 else f"about {needed:,} texts"
    return f"{lead} may be chance; {more} would settle it."


def _points(found: Comparison) -> str:
    return (
        f"{100 * abs(found.difference):.1f} {'points' if found.figure == 'accuracy' else f'points of {found.figure}'}"
    )


def _figure(metrics: Metrics, intervals: Mapping[str, Interval]) -> str:
    if metrics.micro is None:
        name, value, (low, high) = "accuracy", metrics.accuracy, metrics.accuracy_interval
    else:
        name, value, (low, high) = "micro F1", metrics.micro.f1, intervals["micro_f1"]
    return f"{name} {100 * value:.1f}%, 95% interval {100 * low:.1f} to {100 * high:.1f}"
