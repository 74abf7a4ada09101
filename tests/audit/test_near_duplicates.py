"""MinHash candidates, verified: what is found, and what is not."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pennyweight.audit import near_duplicates as near
from pennyweight.audit.scan import Links, Scan
from pennyweight.audit.text_checks import jaccard, plain, shingles

WORDS = [f"{first}{last}" for first in ("ba", "ke", "li", "mo", "nu", "ra", "se", "ti") for last in
         ("nk", "rt", "lm", "ster", "ving", "d", "ps", "tion", "x", "ow")]  # fmt: skip


def sentences(count: int, seed: int, length: int = 30) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=length)) for _ in range(count)]


def scanned(*parts: list[str]) -> tuple[Links, near.NearDuplicates]:
    with Scan(checks=False) as scan:
        for number, texts in enumerate(parts):
            scan.part(f"part {number}", "file", "line")
            scan.add(texts, None, list(range(1, len(texts) + 1)))
        links = scan.links()
    assert links.near is not None
    return links, links.near


def changed(text: str, seed: int, edits: int = 3) -> str:
    chance = random.Random(seed)
    words = text.split()
    for place in chance.sample(range(len(words)), edits):
        words[place] = "other"
    return " ".join(words).upper()


def test_every_pair_told_is_as_similar_as_said_and_most_copies_are_found() -> None:
    train = sentences(400, 0)
    test = [*sentences(100, 1), *(changed(text, seed) for seed, text in enumerate(train[:100]))]
    _, found = scanned(train, test)
    partners = found.train[400:]
    assert (partners[:100] == -1).all()
    assert (partners[100:] == np.arange(100)).mean() > 0.97
    for row in np.flatnonzero(partners >= 0).tolist():
        alike = jaccard(shingles(plain(test[row]).words), shingles(plain(train[partners[row]]).words))
        assert alike == found.train_similarity[400 + row] >= near.THRESHOLD
    assert (found.own == -1).all()


def test_within_a_part_the_later_row_points_to_an_earlier_one() -> None:
    texts = sentences(50, 2)
    texts += [changed(texts[7], 1), changed(texts[7], 2)]
    _, found = scanned(texts)
    assert found.own[50] == 7
    assert found.own[51] in (7, 50)
    assert (found.own[:50] == -1).all()
    assert (found.train == -1).all()


def test_a_flood_of_copies_does_not_hide_the_training_row() -> None:
    """One bucket with hundreds of rows of either part: the bounded comparisons must still cross the border."""
    text = sentences(1, 3, length=60)[0]
    copies = [changed(text, seed, 2) for seed in range(300)]
    links, found = scanned(copies[:150], copies[150:])
    assert ((found.train[150:] >= 0) | (links.leak[150:] >= 0)).mean() > 0.95
    assert ((found.own[1:150] >= 0) | (links.first[1:150] < np.arange(1, 150))).mean() > 0.95


def test_short_texts_are_compared_exactly_only() -> None:
    links, found = scanned(["the bank cut", "the bank cut it", "The bank, cut!"])
    assert (found.own == -1).all()
    assert links.first.tolist() == [0, 1, 0]


def test_the_same_rows_give_the_same_keys() -> None:
    sets = [shingles(text.split()) for text in sentences(5, 4)]
    assert (near.band_keys(sets) == near.band_keys([set(sorted(one, reverse=True)) for one in sets])).all()
    assert near.band_keys(sets).shape == (5, near.BANDS)


@pytest.mark.parametrize(
    ("one", "other", "copies"),
    [
        ("please book me a table for two in Rome tonight", "please book me a table for two in Oslo tonight", False),
        ("turn on the light in the kitchen please, now", "turn off the light in the kitchen please, now", False),
        ("wake me up at 6 tomorrow morning with some music", "wake me up at 7 tomorrow morning with some music", False),
        ("I would recommend this to a friend of mine", "I would not recommend this to a friend of mine", False),
        ("the film was rather good from start to end", "the film was rather bad from start to end", False),
        ("the weather will be lovely this weekend in town", "the wether will be lovely this weekend in town", True),
        ("the weather will be lovely this weekend in town", "The WEATHER will be lovley this weekend in town!", True),
        ("ธนาคารกลางขึ้นดอกเบี้ยเงินฝากในเดือนนี้", "ธนาคารกลางลดดอกเบี้ยเงินฝากในเดือนนี้", False),
    ],
)  # fmt: skip
def test_short_texts_that_differ_in_a_word_are_no_copies(one: str, other: str, copies: bool) -> None:
    _, found = scanned([one, other])
    assert (found.own[1] == 0) == copies
