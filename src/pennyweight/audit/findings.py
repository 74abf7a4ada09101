"""The results of an audit: findings with their rows, the audited parts, and the checks that were left out."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..data.html_table import html_text
from ..data.table import Unit, place

#: Lines named in JSON for each finding; rows.csv has all.
NAMED = 100
#: Rows of each finding that are shown with the beginnings of their texts.
EXCERPTS = 3


@dataclass(frozen=True)
class AuditedPart:
    """One audited source of N rows.

    Attributes:
        source: the file; lines: (N,) int64 positions in it, counted in `unit`.
        classes: names, sorted; codes: (N,) int32 class numbers, -1 where the label is missing; None without labels.
            Where a row may have several labels, each set of them that occurs is a class.
        characters: (N,) int64, the texts' lengths.
        tokens: (M,) int64, lengths in tokens, special tokens included; M < N where they were sampled, 0 if left out.
        unknown: (M,) int64, how many of them the tokenizer does not know.
        scripts: script -> rows.
        members: label -> rows that have it, where a row may have several; otherwise None.
    """

    source: str
    lines: np.ndarray
    unit: Unit
    classes: tuple[str, ...]
    codes: np.ndarray | None
    characters: np.ndarray
    tokens: np.ndarray
    scripts: dict[str, int]
    members: dict[str, int] | None = None
    unknown: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int) -> str:
        """A row as a user finds it."""
        return place(self.source, int(self.lines[row]), self.unit)

    def counts(self) -> dict[str, int]:
        """Rows of each class; of each label where a row may have several."""
        if self.codes is None:
            return {}
        if self.members is not None:
            return self.members
        each = np.bincount(self.codes[self.codes >= 0], minlength=len(self.classes))
        return dict(zip(self.classes, each.tolist(), strict=True))

    def truncated(self, max_length: int) -> float:
        """The share of texts that lose their end at a length."""
        return float((self.tokens > max_length).mean()) if len(self.tokens) else 0.0


@dataclass(frozen=True)
class Finding:
    """One kind of trouble in one part.

    Attributes:
        name: such as `exact-duplicate`; part: `data` or `test`; title: one clause for people.
        rows: (K,) int64 row numbers from 0, ascending.
        partners: (K,) int64 row numbers in `partner_part`, -1 for none; None if the kind has no partners.
        details: K strings, or one for all.
        level: a problem costs accuracy or honesty; a note may be as it should be.
        excerpts: beginnings of the texts of the first `EXCERPTS` rows, each with its partner's, empty for none.
    """

    name: str
    part: str
    title: str
    rows: np.ndarray
    partners: np.ndarray | None = None
    partner_part: str | None = None
    details: tuple[str, ...] | str = ""
    level: Literal["problem", "note"] = "problem"
    extra: dict[str, Any] = field(default_factory=dict)
    excerpts: tuple[tuple[str, str], ...] = ()

    def detail(self, number: int) -> str:
        """The note on the finding's row `number` (0 to K - 1)."""
        return self.details if isinstance(self.details, str) else self.details[number]


@dataclass(frozen=True)
class Audit:
    """All that was found in one source and perhaps a test set.

    Attributes:
        parts: `data`, and `test` if one was given.
        left_out: what was not looked at, each with its reason.
        max_lengths: token lengths the truncated share is told for; the recipe's own is `max_length`.
    """

    parts: dict[str, AuditedPart]
    findings: list[Finding]
    left_out: list[str]
    max_length: int
    max_lengths: tuple[int, ...]
    seconds: float

    def of(self, name: str, part: str = "data") -> Finding | None:
        """The finding of that name; None if nothing was found."""
        return next((one for one in self.findings if (one.name, one.part) == (name, part)), None)

    def __str__(self) -> str:
        """The table of `audit_report.table`."""
        from .audit_report import table

        return table(self)

    def _repr_html_(self) -> str:
        return html_text(str(self))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; of each finding at most `NAMED` lines are named."""
        return {
            "parts": {name: self._part(part) for name, part in self.parts.items()},
            "findings": [self._finding(one) for one in self.findings],
            "left_out": self.left_out,
            "max_length": self.max_length,
            "seconds": round(self.seconds, 3),
        }

    def _part(self, part: AuditedPart) -> dict[str, Any]:
        counts = part.counts()
        found: dict[str, Any] = {
            "source": part.source,
            "rows": len(part),
            "counted_in": "file lines" if part.unit == "line" else "rows from 1",
            "labelled": part.codes is not None,
            "several_labels": part.members is not None,
            "classes": counts,
            "balance": balance(counts),
            "characters": spread(part.characters),
            "scripts": part.scripts,
        }
        if len(part.tokens):
            found["tokens"] = spread(part.tokens) | {
                "measured_on": len(part.tokens),
                "unknown": round(unknown_share(part.tokens, part.unknown), 6),
                "truncated": {str(length): round(part.truncated(length), 6) for length in self.max_lengths},
            }
        return found

    def _finding(self, one: Finding) -> dict[str, Any]:
        part = self.parts[one.part]
        found: dict[str, Any] = {
            "name": one.name,
            "part": one.part,
            "level": one.level,
            "title": one.title,
            "rows": len(one.rows),
            "lines": part.lines[one.rows[:NAMED]].tolist(),
        }
        if one.partners is not None:
            other = self.parts[one.partner_part or one.part]
            found["partner_part"] = one.partner_part or one.part
            found["partner_lines"] = [int(other.lines[row]) if row >= 0 else None for row in one.partners[:NAMED]]
        return found | one.extra


def unknown_share(tokens: np.ndarray, unknown: np.ndarray) -> float:
    """The share of all tokens (special tokens aside, two a text) that the tokenizer does not know."""
    words = int(tokens.sum()) - 2 * len(tokens)
    return float(unknown.sum() / words) if words > 0 else 0.0


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Groups of class names that a reader would take for one.

    They differ by case, blanks, characters without width, or by how Unicode composes a letter.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        bare = "".join(letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
        groups.setdefault("".join(bare.casefold().split()), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def balance(counts: dict[str, int]) -> dict[str, Any] | None:
    """Largest over smallest class, the smallest, and the entropy as a share of that of equal classes."""
    if not counts:
        return None
    sizes = np.array(list(counts.values()), dtype=float)
    shares = sizes[sizes > 0] / max(sizes.sum(), 1)
    entropy = float(-(shares * np.log(shares)).sum() / np.log(len(sizes))) if len(sizes) > 1 else 0.0
    smallest = min(counts, key=lambda name: counts[name])
    return {
        "ratio": round(float(sizes.max() / max(sizes.min(), 1)), 3),
        "smallest": smallest,
        "smallest_rows": counts[smallest],
        "entropy": round(max(entropy, 0.0), 4),
    }


def spread(lengths: np.ndarray) -> dict[str, float]:
    """Mean, median, 95th and 99th percentile and the longest."""
    if not len(lengths):
        return {"mean": 0.0, "median": 0, "p95": 0, "p99": 0, "longest": 0}
    middle, high, higher = (int(value) for value in np.quantile(lengths, (0.5, 0.95, 0.99), method="inverted_cdf"))
    return {
        "mean": round(float(lengths.mean()), 2), "median": middle, "p95": high, "p99": higher,
        "longest": int(lengths.max()),
    }  # fmt: skip
