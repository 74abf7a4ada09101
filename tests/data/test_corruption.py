"""Corruptions: seeded, graded, and split into two families."""

from __future__ import annotations

import subprocess
import sys
from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennyweight.data.corruption import CORRUPTIONS, HELD_OUT, SEVERITIES, TRAINING, augmented, corrupt
from pennyweight.errors import InputError

TEXT = (
    "Shares of the airline fell on Tuesday, after it cut its forecast for the quarter. Analysts were surprised: the "
    "carrier had said in March that bookings were strong! Its rivals, in Paris and Oslo, fell too; oil rose again. "
    "The regulator will meet in Geneva next week. Nobody expects a change before the summer, officials said."
)


def changed(name: str, severity: int) -> float:
    """How much of the text is another, averaged over seeds."""
    seeds = range(8)
    ratios = [SequenceMatcher(None, TEXT, corrupt(TEXT, name, severity, s), autojunk=False).ratio() for s in seeds]
    return 1 - sum(ratios) / len(ratios)


def test_every_corruption_is_in_one_family() -> None:
    assert not set(TRAINING) & set(HELD_OUT)
    assert set(TRAINING) | set(HELD_OUT) == set(CORRUPTIONS)
    assert len(TRAINING) >= 5
    assert len(HELD_OUT) >= 6


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_grows_with_its_number(name: str) -> None:
    low, middle, high = (changed(name, severity) for severity in (1, 3, 5))
    if name == "sentence_shuffle":  # an exchange may undo another
        assert 0 < low < high + 0.1
        return
    assert 0 < low < middle < high


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_gives_the_same_text_and_another_seed_another(name: str) -> None:
    assert corrupt(TEXT, name, 3, 1) == corrupt(TEXT, name, 3, 1)
    drawn = {corrupt(TEXT, name, 3, seed) for seed in range(6)}
    assert (len(drawn) == 1) == (name == "truncation")


def test_another_process_and_another_order_change_nothing() -> None:
    code = (
        "from pennyweight.data.corruption import CORRUPTIONS, corrupt\n"
        "import hashlib\n"
        f"texts = [corrupt({TEXT!r}, name, 4, 7) for name in reversed(CORRUPTIONS)]\n"
        "print(hashlib.sha256(''.join(reversed(texts)).encode()).hexdigest())"
    )
    import hashlib

    here = hashlib.sha256("".join(corrupt(TEXT, name, 4, 7) for name in CORRUPTIONS).encode()).hexdigest()
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert here == there


@given(st.text(max_size=60), st.sampled_from(sorted(CORRUPTIONS)), st.sampled_from(SEVERITIES))
def test_no_text_breaks_it_or_is_lost(text: str, name: str, severity: int) -> None:
    assert bool(corrupt(text, name, severity).strip()) or not text.strip()


def test_examples() -> None:
    assert corrupt("One two three four five six seven", "truncation", 5) == "One two three four five six"
    assert corrupt("One two", "truncation", 5) == "One two"
    assert corrupt("Hello, World! (AP)", "no_punctuation", 5) == "Hello World AP"
    assert corrupt("Hello World", "upper_case", 5) == "HELLO WORLD"
    assert corrupt("Hello World", "lower_case", 5) == "hello world"
    assert corrupt("A text.", "boilerplate_prefix", 2).endswith(" A text.")
    assert corrupt("A text.", "boilerplate_suffix", 2).startswith("A text. ")
    assert sorted(corrupt("One. Two. Three.", "sentence_shuffle", 3).split()) == ["One.", "Three.", "Two."]
    assert sorted(corrupt("abcdefgh", "swapped_characters", 5, 3)) == sorted("abcdefgh")


def test_augmentation_draws_from_the_training_family_alone() -> None:
    every = {corrupt(TEXT, name, severity, 0) for name in HELD_OUT for severity in SEVERITIES}
    drawn = {augmented(TEXT, 0, copy) for copy in range(40)}
    assert len(drawn) > 25
    assert not drawn & every
    assert augmented(TEXT, 0, 3) == augmented(TEXT, 0, 3) != augmented(TEXT, 1, 3)
    assert not any("cookies" in text or "you know," in text or text.isupper() for text in drawn)


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"no such corruption; expected one of dropped_characters, .*received leet"):
        corrupt("x", "leet", 1)
    with pytest.raises(InputError, match="no such severity; expected 1, 2, 3, 4 or 5; received 6"):
        corrupt("x", "truncation", 6)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_pair_stays_a_pair(name: str) -> None:
    from pennyweight.data.table import PAIR

    first, second = corrupt(f"{TEXT}{PAIR}Another text.", name, 5).split(PAIR)
    assert (first, second) == (corrupt(TEXT, name, 5), corrupt("Another text.", name, 5))
