"""Shortcut features: source tags, boilerplate and addresses that give the label away without any meaning."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..data.cleaning import strip_markup
from ..evaluate.metrics.intervals import wilson

#: A feature in fewer rows is not looked at.
LEAST_ROWS = 20
# How sure the interval is: many features are looked at in one file.
_LEVEL = 0.99
# A shortcut feature leaves at most this share of the uncertainty that the label's own share leaves.
_DOUBT_LEFT = 0.25
# A word is boilerplate if nine of ten texts that hold it hold it at the same place.
_AT_ITS_PLACE = 0.9
_MOST = 1_000_000
_KINDS = ("in brackets", "before a dash", "web address", "at the start", "at the end")

_BRACKETED = re.compile(r"[(\[]([^()\[\]\n]{2,30})[)\]]")
_DASH = re.compile(r" (?:--?|—|–) ")
_NAME = re.compile(r"[^\W\d_][\w.&'-]*")
_ADDRESS = re.compile(r"(?:https?://|\bwww\.)([\w-]+(?:\.[\w-]+)+)", re.IGNORECASE)


@dataclass(frozen=True)
class ShortcutFeature:
    """A feature that nearly determines the label.

    Attributes:
        kind: in brackets, before a dash, web address, at the start, at the end.
        text: the feature as it stands in the texts.
        label: what it gives away; rows: texts that hold it; right: those of them with the label.
        low: lower 99% Wilson bound of right / rows.
        example: the first such row's number, from 0.
    """

    kind: str
    text: str
    label: str
    rows: int
    right: int
    low: float
    example: int


def find_shortcut_features(rows: Iterable[tuple[int, str, str]], *, limit: int = 30) -> list[ShortcutFeature]:
    """The shortcut features of labelled texts, the most frequent first; of several at the same rows the first.

    A topic's own words give it away too, and are meant to. So only what does not carry meaning is looked at: tags in
    brackets, names before a dash (datelines), web addresses, and words at the very start or end that stand hardly
    anywhere else.

    Args:
        rows: (number, text, label).
    """
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    example: dict[tuple[str, str], int] = {}
    labels: Counter[str] = Counter()
    holding: Counter[str] = Counter()
    for number, text, label in rows:
        labels[label] += 1
        for feature in set(_features(text)):
            if feature not in counts:
                if len(counts) >= _MOST:
                    _forget_the_rare(counts, example)
                example[feature] = number
            counts[feature][label] += 1
        holding.update(set(text.casefold().split()))
    total = labels.total()
    found: list[ShortcutFeature] = []
    for feature, each in counts.items():
        kind, words = feature
        support = each.total()
        if support < LEAST_ROWS or len(labels) < 2:
            continue
        label, right = each.most_common(1)[0]
        low = wilson(right, support, _LEVEL)[0]
        if 1 - low > _DOUBT_LEFT * (1 - labels[label] / total):
            continue
        if kind in ("at the start", "at the end") and support < _AT_ITS_PLACE * min(
            holding[word] for word in words.split()
        ):
            continue
        found.append(ShortcutFeature(kind, words, label, support, right, low, example[feature]))
    found.sort(key=lambda tag: (-tag.rows, _KINDS.index(tag.kind), -len(tag.text)))
    return _distinct(found)[:limit]


def _features(text: str) -> Iterator[tuple[str, str]]:
    bare = strip_markup(text)
    if "(" in bare or "[" in bare:
        for match in _BRACKETED.finditer(bare):
            inside = match[1].strip()
            # A remark in brackets has many words; a tag has a letter and few.
            if len(inside.split()) <= 3 and any(map(str.isalpha, inside)):
                yield "in brackets", match[0]
    if "- " in bare or "— " in bare or "– " in bare:
        for match in _DASH.finditer(bare):
            words = bare[max(0, match.start() - 60) : match.start()].split()[-3:]
            for size in range(1, len(words) + 1):
                word = words[-size]
                if not _NAME.fullmatch(word) or not (word[0].isupper() or "." in word):
                    break
                yield "before a dash", " ".join(words[-size:])
    if "://" in text or "www." in text:
        for match in _ADDRESS.finditer(text):
            yield "web address", match[1].lower()
    tokens = text[:200].split()[:3]
    for size in range(1, len(tokens) + 1):
        yield "at the start", " ".join(tokens[:size]).casefold()
    tokens = text[-200:].split()[-3:]
    for size in range(1, len(tokens) + 1):
        yield "at the end", " ".join(tokens[-size:]).casefold()


def _distinct(tags: list[ShortcutFeature]) -> list[ShortcutFeature]:
    """Of "(Reuters)" and "(Reuters) -", which stand in the same rows, the first."""
    kept: list[ShortcutFeature] = []
    for tag in tags:
        bare = re.sub(r"\W+", " ", tag.text.casefold()).strip()
        for other in kept:
            known = re.sub(r"\W+", " ", other.text.casefold()).strip()
            if tag.label == other.label and (bare in known or known in bare) and tag.rows <= other.rows:
                break
        else:
            kept.append(tag)
    return kept


def _forget_the_rare(counts: dict[tuple[str, str], Counter[str]], example: dict[tuple[str, str], int]) -> None:
    """Bound the memory: features seen once so far go (Manku and Motwani's lossy counting, with one bucket)."""
    for feature in [feature for feature, each in counts.items() if each.total() == 1]:
        del counts[feature], example[feature]
