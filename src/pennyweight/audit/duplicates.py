"""Findings from pairs of similar rows: duplicates, conflicting labels, leakage."""

from __future__ import annotations

import numpy as np

from .findings import AuditedPart, Finding
from .scan import Links, Scan


def find_duplicates(scan: Scan, parts: dict[str, AuditedPart], links: Links) -> list[Finding]:
    """Findings about rows that repeat others."""
    found: list[Finding] = []
    for number, (name, part) in enumerate(parts.items()):
        here = scan.slice(name)
        rows = np.arange(len(part))
        first = links.first[here] - here.start  # (n,)
        repeats = np.flatnonzero(first != rows)
        found += _finding("exact-duplicate", name, "texts that repeat an earlier one", repeats, first[repeats])
        own = np.full(len(part), -1)
        if links.near is not None:
            own = np.where(links.near.own[here] >= 0, links.near.own[here] - here.start, -1)
            alike = np.flatnonzero(own >= 0)
            said = _similar(links.near.own_similarity[here][alike])
            found += _finding("near-duplicate", name, "texts similar to an earlier one", alike, own[alike], said)
        if part.codes is not None:
            found += find_conflicting_labels(name, part, first, own)
        if number:
            found += _leaks(name, next(iter(parts)), scan, links, parts)
    return found


def find_conflicting_labels(name: str, part: AuditedPart, first: np.ndarray, own: np.ndarray) -> list[Finding]:
    """Rows of one text, or of nearly one, with different labels."""
    codes = part.codes
    assert codes is not None
    labelled = codes >= 0
    # The group's labels, as the least and the greatest number among its labelled rows.
    least, greatest = np.full(len(codes), np.iinfo(np.int32).max), np.full(len(codes), -1)
    np.minimum.at(least, first[labelled], codes[labelled])
    np.maximum.at(greatest, first[labelled], codes[labelled])
    split = np.flatnonzero(labelled & (least[first] < greatest[first]))
    partners = np.full(len(split), -1)
    some: dict[tuple[int, int], int] = {}  # (group, label) -> its first row
    for row in split.tolist():
        some.setdefault((int(first[row]), int(codes[row])), row)
    groups: dict[int, list[tuple[int, int]]] = {}
    for (group, label), row in some.items():
        groups.setdefault(group, []).append((label, row))
    for place, row in enumerate(split.tolist()):
        partners[place] = next(other for label, other in groups[int(first[row])] if label != codes[row])
    found = _finding(
        "conflicting-labels", name, "texts that occur with different labels", split, partners,
        _labels(part, split, partners),
    )  # fmt: skip
    near = np.flatnonzero((own >= 0) & labelled)
    near = near[(codes[own[near]] >= 0) & (codes[own[near]] != codes[near])]
    return found + _finding(
        "near-conflicting-labels", name, "texts similar to an earlier one with another label", near, own[near],
        _labels(part, near, own[near]), level="note",
    )  # fmt: skip


def _leaks(name: str, train: str, scan: Scan, links: Links, parts: dict[str, AuditedPart]) -> list[Finding]:
    here = scan.slice(name)
    exact = np.flatnonzero(links.leak[here] >= 0)
    partner = links.leak[here][exact]
    found = _finding(
        "exact-leak", name, f"texts that are also in {train}", exact, partner,
        _labelled(parts[name], exact, parts[train], partner), partner_part=train,
    )  # fmt: skip
    if links.near is None:
        return found
    # A copy of an earlier row of its own part leaks as that one does.
    partner = links.near.train[links.first[here]]
    similarity = links.near.train_similarity[links.first[here]]
    near = np.flatnonzero((partner >= 0) & (links.leak[here] < 0))
    labels = _labelled(parts[name], near, parts[train], partner[near])
    details = tuple(
        map(", ".join, (filter(None, both) for both in zip(_similar(similarity[near]), labels, strict=True)))
    )
    return found + _finding(
        "near-leak", name, f"texts similar to one in {train}", near, partner[near], details, partner_part=train
    )


def _finding(
    name: str,
    part: str,
    title: str,
    rows: np.ndarray,
    partners: np.ndarray,
    details: tuple[str, ...] | str = "",
    *,
    partner_part: str | None = None,
    level: str = "problem",
) -> list[Finding]:
    if not len(rows):
        return []
    return [Finding(name, part, title, rows, partners, partner_part or part, details, level)]  # type: ignore[arg-type]


def _similar(similarity: np.ndarray) -> tuple[str, ...]:
    return tuple(f"similarity {value:.2f}" for value in similarity.tolist())


def _labelled(part: AuditedPart, rows: np.ndarray, other: AuditedPart, partners: np.ndarray) -> tuple[str, ...]:
    """A note on rows whose partner in another part has another label; empty for the others."""
    if part.codes is None or other.codes is None:
        return ("",) * len(rows)
    return tuple(
        "" if one == two or one < 0 or two < 0 else f"{part.classes[one]} against {other.classes[two]}"
        for one, two in zip(part.codes[rows].tolist(), other.codes[partners].tolist(), strict=True)
    )


def _labels(part: AuditedPart, rows: np.ndarray, partners: np.ndarray) -> tuple[str, ...]:
    codes = part.codes
    assert codes is not None
    return tuple(
        f"{part.classes[one]} against {part.classes[other]}"
        for one, other in zip(codes[rows].tolist(), codes[partners].tolist(), strict=True)
    )
