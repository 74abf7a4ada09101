"""Shortcut features are tags and boilerplate, not a topic's own words."""

from __future__ import annotations

import random

from pennyweight.audit.shortcut_features import ShortcutFeature, find_shortcut_features


def rows(count: int = 400, seed: int = 0) -> list[tuple[int, str, str]]:
    """Two classes whose words tell them apart, as words should."""
    chance = random.Random(seed)
    topics = {
        "Sports": ["baseball", "striker", "cup", "match", "goal"],
        "Business": ["bank", "shares", "rate", "profit", "oil"],
    }
    found = []
    for number in range(count):
        label = list(topics)[number % 2]
        words = [
            *chance.choices(topics[label], k=6),
            *chance.choices(["the", "a", "said", "in", "on", "of", "Monday"], k=8),
        ]
        chance.shuffle(words)
        found.append((number, " ".join(words), label))
    return found


def tagged(tag: str, label: str, place: str = "start", every: int = 1) -> list[tuple[int, str, str]]:
    return [
        (number, (f"{tag} {text}" if place == "start" else f"{text} {tag}"), own)
        if own == label and number // 2 % every == 0 else (number, text, own)
        for number, text, own in rows()
    ]  # fmt: skip


def found(given: list[tuple[int, str, str]]) -> list[tuple[str, str, str]]:
    return [(tag.kind, tag.text, tag.label) for tag in find_shortcut_features(given)]


def test_a_topics_words_are_none() -> None:
    assert find_shortcut_features(rows()) == []


def test_tags_in_brackets_before_a_dash_and_addresses() -> None:
    assert ("in brackets", "(Sports Network)", "Sports") in found(tagged("(Sports Network) -", "Sports"))
    assert ("before a dash", "Canadian Press", "Sports") in found(tagged("Canadian Press -", "Sports", every=3))
    assert ("web address", "quotes.example.com", "Business") in found(
        tagged('<A HREF="http://quotes.example.com/full?t=X">X</A>', "Business", "end")
    )


def test_words_that_stand_at_one_end_only() -> None:
    assert found(tagged("UPDATE:", "Business"))[0] == ("at the start", "update:", "Business")
    assert ("at the end", "read on for more", "Sports") not in found(rows())
    assert any(kind == "at the end" for kind, _, _ in found(tagged("all rights reserved.", "Sports", "end")))


def test_a_tag_that_both_classes_have_is_none_and_a_rare_one_is_not_believed() -> None:
    both = [(number, f"(Reuters) - {text}", label) for number, text, label in rows()]
    assert find_shortcut_features(both) == []
    assert found(tagged("(AP)", "Sports", every=20)) == []


def test_the_figures_and_an_example() -> None:
    (first, *_) = find_shortcut_features(tagged("[Ad]", "Business"))
    assert isinstance(first, ShortcutFeature)
    assert (first.text, first.rows, first.right, first.example) == ("[Ad]", 200, 200, 1)
    assert 0.95 < first.low < 1
