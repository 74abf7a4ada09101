import pytest

from pennyweight.data.formats.header_detection import are_ids, classify_first_row, is_sentence, starts_with_class

LONG = [f"A sentence that is long enough to be a text, number {number}." for number in range(6)]


def table(first: list[str], *columns: list[str]) -> list[list[str]]:
    return [first, *(list(row) for row in zip(*columns, strict=True))]


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        (table(["text", "label"], LONG, ["a", "b"] * 3), "names"),
        (table(["text", "text"], ["text", "x"], ["text", "y"]), "names"),  # two files, one behind the other
        (table(["comment", "grade of the product in your own opinion"], LONG, list("123456")), "names"),
        (table(["0", "1"], LONG, ["a", "b"] * 3), "names"),  # pandas, columns without names
        (table(["Komentar", "Sentimen"], LONG, ["a", "b"] * 3), "weak"),
        (table(["text"]), "names"),
        (table([LONG[0]]), "data"),
        (table([LONG[0]], LONG[1:]), "data"),
        (table([LONG[0], "Sports"], LONG[1:], ["World", "Sports", "World", "Sports", "World"]), "data"),
        (table(["good film", "pos"], ["bad film", "dull", "nice"], ["neg", "neg", "pos"]), "data"),
        (table(["7", "some words"], ["8", "9"], ["more words", "other words"]), "data"),
        (table(["映画はとても面白かったです。"], ["つまらない映画だったと思います。"]), "data"),
        (table(["good film"], ["bad film", "dull"]), "doubt"),
        (table(["a calm day"], LONG), "doubt"),  # a short text above long ones, as well as a name
        (table(["", ""], ["a", "b"], ["c", "d"]), "doubt"),
        (table(["statement", "status"], ["feel fine", "so sad"] * 6, ["calm", "low"] * 6), "weak"),
        (table(["so tired", "low"], ["feel fine", "so sad"] * 6, ["calm", "low"] * 6), "data"),
        (table(["so tired", "other"], ["feel fine", "so sad"] * 2, ["calm", "low"] * 2), "doubt"),
    ],
)
def test_what_the_first_row_holds(rows: list[list[str]], verdict: str) -> None:
    assert classify_first_row(rows) == verdict


def test_sentences() -> None:
    assert all(
        map(
            is_sentence, ["Talks end at last.", "one two three four five six", "x" * 60, "这部电影真的非常好看我很喜欢"]
        )
    )
    assert not any(map(is_sentence, ["Review Text", "text, original", "评论内容", "étiquette"]))


def test_the_form_with_a_class_number_first() -> None:
    assert starts_with_class(["3", "a title"])
    assert not any(map(starts_with_class, [["3"], ["3", "4"], ["0", "a"], ["x", "a"], ["id", "text"]]))


def test_numbers_that_count_rows_are_no_classes() -> None:
    assert are_ids(["1", "2", "3"])
    assert are_ids([str(7 * number % 101) for number in range(20)])
    assert not are_ids(["1", "2"])
    assert not are_ids(["3", "1", "4"])
    assert not are_ids(["1", "2", "3", "4"] * 5)
    assert not are_ids(["1", "World", "3"])
