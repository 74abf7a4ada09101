"""One text's plain form, damage, script and shingles."""

from __future__ import annotations

import pytest

from pennyweight.audit.text_checks import damage, jaccard, plain, repair, script, shingles
from pennyweight.evaluate.row_predictions import identities


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("The bank cut its rate.", "the BANK, cut its rate", True),
        ("AT&amp;T fell &lt;b&gt;today&lt;/b&gt;", "AT&T fell today", True),
        ("It said\\on Monday", "It said on Monday", True),
        ("The bank cut its rate.", "The bank kept its rate.", False),
        ("...", "!!", False),
    ],
)
def test_texts_are_the_same_whatever_their_case_marks_and_markup(one: str, other: str, same: bool) -> None:
    assert (plain(one).identity == plain(other).identity) is same
    # The report's "also in training" goes by the same identity.
    assert [plain(one).identity, plain(other).identity] == identities([one, other]).tolist()


@pytest.mark.parametrize(
    ("text", "said", "mended"),
    [
        ("the cafÃ© in Paris", "'Ã©' for 'é'", "the café in Paris"),
        ("it â€œsaidâ€\x9d so", "'â€œ' for '“'", "it “said” so"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "for 'Привет'", "Привет"),
        ("lost \ufffd here", "U+FFFD", "lost \ufffd here"),
        ("a\x07bell", "control character U+0007", "abell"),
        ("soft\u200ehyphen", "control character U+200E", "softhyphen"),
    ],
)
def test_damage_is_named_and_mended_where_it_can_be(text: str, said: str, mended: str) -> None:
    assert said in (damage(text) or "")
    assert repair(text) == mended


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "“CAFÉ” said",
        "naïve São Tomé, Ångström",
        "línea\n\ttab",
        "ÎLE-DE-FRANCE",
        "Ä…",
        "日本語",
        "Привет",
        "50 €",
    ],
)
def test_honest_texts_are_not_called_damaged(text: str) -> None:
    assert damage(text) is None
    assert repair(text) == text


def test_the_script_of_most_letters() -> None:
    texts = ["plain", "a Привет мир", "日本語の", "the word Привет in English text", "1234 …", "عربي"]
    assert [script(text) for text in texts] == ["Latin", "Cyrillic", "CJK", "Latin", "Latin", "Arabic"]


def test_shingles_are_pairs_of_words_or_runs_of_a_script_without_blanks() -> None:
    assert shingles(["the", "bank", "cut", "its", "rate"]) == {"the bank", "bank cut", "cut its", "its rate"}
    assert shingles(plain("中央银行周二维持利率不变的决定出人意料地通过").words) >= {"中央银", "央银行"}
    assert shingles([]) == shingles(["one"]) == set()
    assert jaccard({"a", "b", "c"}, {"b", "c", "d"}) == 0.5
    assert jaccard(set(), set()) == 0.0
