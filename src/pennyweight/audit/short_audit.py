"""The audit before every training run: in about a second, it finds problems that would falsify the figures."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.batching import Encoded, count_token
from ..data.cut_tokens import warn_of_cut
from ..data.table import Table, listed
from .audit import IMBALANCED, MUCH_UNKNOWN
from .duplicates import find_conflicting_labels
from .findings import balance, look_alikes, unknown_share
from .scan import LabelName, Scan

logger = logging.getLogger(__name__)

#: With more rows in all, training is not kept waiting; `pennyweight audit` takes any number.
MOST_ROWS = 50_000
#: A larger share of texts that lose their end is worth a word.
MUCH_TRUNCATED = 0.05


@dataclass(frozen=True)
class ShortAudit:
    """The results of the short audit; counts are rows.

    Attributes:
        mode: `short`; `off` or `skipped` where nothing was looked at.
        rows: rows of all splits.
        exact_duplicates, near_duplicates: training texts that repeat an earlier one, or nearly.
        conflicting_labels: training rows whose text also occurs with another label.
        leakage: split -> its texts that are also in training, `exact` and `near`.
        truncated: the share of training texts cut at the recipe's `max_length`.
        unknown_tokens: the share of the training texts' tokens that the tokenizer does not know.
        similar_classes: groups of class names that look alike.
        without_validation: classes without a row in the validation split.
        balance: as `findings.balance` of the training rows.
        warnings: what of it is worth a word.
        seconds: the time it took.
    """

    mode: str
    rows: int
    exact_duplicates: int = 0
    near_duplicates: int = 0
    conflicting_labels: int = 0
    leakage: dict[str, dict[str, int]] = field(default_factory=dict)
    truncated: float = 0.0
    unknown_tokens: float = 0.0
    similar_classes: list[list[str]] = field(default_factory=list)
    without_validation: list[str] = field(default_factory=list)
    balance: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0

    def __str__(self) -> str:
        if self.mode == "skipped":
            return f"audit: skipped above {MOST_ROWS:,} rows; run `pennyweight audit` on the files"
        return "audit: " + ("; ".join(self.warnings) or f"no warnings for {self.rows:,} texts")

    def to_json(self) -> dict[str, Any]:
        """As metrics.json has it."""
        found: dict[str, Any] = {"mode": self.mode, "rows": self.rows}
        if self.mode != "short":
            return found
        return found | {
            "exact_duplicates": self.exact_duplicates,
            "near_duplicates": self.near_duplicates,
            "conflicting_labels": self.conflicting_labels,
            "leakage": self.leakage,
            "truncated": round(self.truncated, 6),
            "unknown_tokens": round(self.unknown_tokens, 6),
            "similar_classes": self.similar_classes,
            "without_validation": self.without_validation,
            "balance": self.balance,
            "warnings": list(self.warnings),
            "seconds": round(self.seconds, 3),
        }


def audit_splits(
    mode: str,
    tables: Mapping[str, Table],
    tokens: Mapping[str, Encoded],
    max_length: int,
    unknown_id: int | None = None,
) -> ShortAudit:
    """Audit the splits of a run.

    Args:
        mode: `short` or `off`.
        tables: `train` first, then those that must not repeat it; tokens: the same texts, truncated.
        max_length: where they were truncated.
        unknown_id: the tokenizer's token for what it does not know.
    """
    rows = sum(map(len, tables.values()))
    if mode == "off" or rows > MOST_ROWS:
        return ShortAudit("off" if mode == "off" else "skipped", rows)
    began = time.perf_counter()
    with Scan(checks=False) as scan:
        for name, table in tables.items():
            scan.part(name, table.source, table.unit)
            scan.add(table.texts, _names(table), table.lines)
        links = scan.links()
    assert links.near is not None
    own = scan.slice("train")
    first, near = links.first[own], links.near.own[own]
    leakage = {}
    for name in tables:
        if name != "train":
            here = scan.slice(name)
            exact = links.leak[here] >= 0
            close = (links.near.train[links.first[here]] >= 0) & ~exact
            leakage[name] = {"exact": int(exact.sum()), "near": int(close.sum())}
    parts = scan.parts()
    part = parts["train"]
    against = [] if part.codes is None else find_conflicting_labels("train", part, first, near)
    clashing = next((len(one.rows) for one in against if one.name == "conflicting-labels"), 0)
    encoded = tokens["train"]
    counts = {name: rows for name, rows in part.counts().items() if rows}
    held = parts["validation"].counts() if "validation" in parts else counts
    found = ShortAudit(
        mode=mode,
        rows=rows,
        exact_duplicates=int((first != np.arange(len(first))).sum()),
        near_duplicates=int((near >= 0).sum()),
        conflicting_labels=clashing,
        leakage=leakage,
        truncated=encoded.truncated / max(len(encoded), 1),
        unknown_tokens=unknown_share(encoded.lengths, count_token(encoded, unknown_id)),
        similar_classes=look_alikes(counts),
        without_validation=sorted(name for name in counts if not held.get(name)),
        balance=balance(counts),
    )
    warnings = _warnings(found, {name: len(table) for name, table in tables.items()}, counts, max_length)
    return ShortAudit(**{**vars(found), "warnings": tuple(warnings), "seconds": time.perf_counter() - began})


def log_findings(
    audit: ShortAudit,
    tokens: Mapping[str, Encoded],
    max_length: int,
    labels: Mapping[str, np.ndarray],
    names: Sequence[str],
) -> None:
    """Say what an audit found, and where much is cut; the arguments are those of `warn_of_cut_splits`."""
    if audit.mode != "off":
        logger.info(str(audit))
    warn_of_cut_splits(tokens, max_length, labels, names)


def warn_of_cut_splits(
    tokens: Mapping[str, Encoded], max_length: int, labels: Mapping[str, np.ndarray], names: Sequence[str]
) -> None:
    """Warn of each split of which more than a few tokens are cut, with or without an audit.

    Args:
        tokens, labels: by split: of N texts, (N,) class numbers or (N, L) of 0 and 1.
        names: L class names.
    """
    for part, encoded in tokens.items():
        warning = warn_of_cut(encoded, max_length, "training" if part == "train" else part, labels[part], names)
        if warning is not None:
            logger.info(f"warning: {warning}")


def _names(table: Table) -> list[LabelName] | None:
    if table.labels is None:
        return None
    return [tuple(map(str, label)) if isinstance(label, tuple) else str(label) for label in table.labels]


def _warnings(found: ShortAudit, sizes: Mapping[str, int], counts: Mapping[str, int], max_length: int) -> list[str]:
    said = []
    for name, leaks in found.leakage.items():
        if leaks["exact"] or leaks["near"]:
            said.append(
                f"training texts among the {sizes[name]:,} {name} texts: {leaks['exact']:,} exact and "
                f"{leaks['near']:,} near duplicates"
            )
    if found.conflicting_labels:
        said.append(
            f"{found.conflicting_labels:,} training rows have the same text as another row with a different label"
        )
    if found.truncated >= MUCH_TRUNCATED:
        said.append(f"{100 * found.truncated:.0f}% of the training texts are longer than {max_length} tokens")
    if found.unknown_tokens >= MUCH_UNKNOWN:
        said.append(
            f"the tokenizer does not know {100 * found.unknown_tokens:.0f}% of the training tokens: "
            "choose a backbone for the language and characters of the texts"
        )
    for group in found.similar_classes:
        said.append(f"the class names {' and '.join(map(repr, group))} look alike: are they one class?")
    if found.without_validation:
        few = found.without_validation
        said.append(
            f"{len(few)} of {len(counts)} classes have no validation rows ({listed(few, 3)}): the best epoch is chosen "
            "without them"
        )
    if found.balance is not None and found.balance["ratio"] >= IMBALANCED:
        smallest = found.balance["smallest"]
        said.append(
            f"the largest class has {max(counts.values()):,} training rows, the smallest ({smallest}) "
            f"{found.balance['smallest_rows']:,}"
        )
    return said
