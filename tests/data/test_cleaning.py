import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennyweight.data.cleaning import CleanReport, clean, strip_markup
from pennyweight.data.table import Table


def table(*texts: str) -> Table:
    return Table(list(texts), [number % 2 for number in range(len(texts))], "f.csv", list(range(2, len(texts) + 2)))


def test_empty_rows_go_and_are_counted() -> None:
    kept, report = clean(table("a", "", " \n", "b"))
    assert (kept.texts, kept.labels, kept.lines) == (["a", "b"], [0, 1], [2, 5])
    assert report == CleanReport(2, {"empty": 2, "short": 0}, {})


def test_a_table_with_nothing_to_drop_is_given_back() -> None:
    whole = table("a", "b")
    assert clean(whole)[0] is whole


def test_the_shortest_and_longest() -> None:
    kept, report = clean(table("ab", " a ", "abcd", "abc", ""), min_chars=2, max_chars=3)
    assert kept.texts == ["ab", "abc"]
    assert report == CleanReport(2, {"empty": 1, "short": 1, "long": 1}, {})


DIRTY = ("<b>bold</b>", "3 < 5", "", "it #39;s", "<br>")


def test_markup_is_kept_by_default() -> None:
    assert clean(table(*DIRTY))[0].texts == ["<b>bold</b>", "3 < 5", "it #39;s", "<br>"]


def test_markup_stripped_may_leave_a_row_empty() -> None:
    kept, report = clean(table(*DIRTY), markup="strip")
    assert kept.texts == ["bold", "3 < 5", "it's"]
    assert report == CleanReport(3, {"empty": 2, "short": 0}, {"markup": 3})


def test_markup_dropped_leaves_the_other_texts_as_they_are() -> None:
    kept, report = clean(table(*DIRTY), markup="drop")
    assert kept.texts == ["3 < 5"]
    assert report == CleanReport(1, {"markup": 3, "empty": 1, "short": 0}, {})


def test_nothing_left(refusal) -> None:
    assert refusal(clean, table("", "a", "b"), min_chars=5) == (
        "f.csv: no rows are left after cleaning; received 3 rows: 1 empty, 2 short; "
        "relax the filters or check the text column"
    )


def test_a_report_reads_as_a_sentence() -> None:
    assert str(CleanReport(1200, {"empty": 3, "short": 0}, {"markup": 40})) == (
        "1,200 rows kept (3 empty, 40 stripped of markup)"
    )
    assert str(CleanReport(2, {"empty": 0}, {})) == "2 rows kept"


@pytest.mark.parametrize(
    ("dirty", "text"),
    [
        ("China #39;s outlook", "China's outlook"),
        ("AT amp;T and  amp; Co", "AT&T and & Co"),
        ("&lt;B&gt;Inter&lt;/B&gt; says", "Inter says"),
        ("a &amp;lt;b&amp;gt; c", "a c"),
        ("Google\\Inc. and \\$2.6 Bln", "Google Inc. and $2.6 Bln"),
        ('<p class="x">Hi<br/>you</p>', "Hi you"),
        ("don #146;t", "don’t"),
        ("one&nbsp;two", "one two"),
        ("said <!-- hidden --> so", "said so"),
        ("quot;Hi quot;, he said", '"Hi", he said'),
    ],
)
def test_what_is_taken_for_markup(dirty: str, text: str) -> None:
    assert strip_markup(dirty) == text


@pytest.mark.parametrize(
    "text",
    ["3 < 5 and 7 > 6", "AT&T", "R&D; more", "first; second", "no. #5; no. 7", "a  b", "I <3 you", "50% & more", "#1"],
)
def test_what_is_not(text: str) -> None:
    assert strip_markup(text) == text


@given(st.text(st.sampled_from("ab <>&#;\\lt39/"), max_size=60))
def test_the_rows_kept_and_dropped_add_up(text: str) -> None:
    given_table = table("plain", text, "x")
    for markup in ("keep", "strip", "drop"):
        kept, report = clean(given_table, markup=markup)
        assert report.kept + sum(report.dropped.values()) == 3
        assert len(kept) == report.kept


def test_hostile_markup_does_not_make_the_patterns_backtrack_for_ever() -> None:
    for text in ("<a" * 200_000, "<!--" * 20_000, "&" * 300_000, " #" * 200_000, "\\" * 300_000 + "!"):
        assert len(strip_markup(text)) <= len(text)
