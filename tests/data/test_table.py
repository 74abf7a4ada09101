import pytest

from pennyweight.data.table import Table, listed, place, shown


def table() -> Table:
    return Table(["a", "b", "c"], ["x", "y", "x"], "f.csv", [2, 3, 5], extras={"id": [7, 8, 9]})


def test_select_keeps_rows_labels_lines_and_extras_together() -> None:
    chosen = table().select([2, 0])
    assert (chosen.texts, chosen.labels, chosen.lines, chosen.extras) == (
        ["c", "a"],
        ["x", "x"],
        [5, 2],
        {"id": [9, 7]},
    )
    assert len(chosen) == 2
    assert chosen.source == "f.csv"


def test_select_without_labels() -> None:
    assert Table(["a", "b"], None, "f", [1, 2]).select([1]).labels is None


@pytest.mark.parametrize(("unit", "expected"), [("line", "f.csv:5"), ("row", "f.csv row 5")])
def test_a_row_is_placed_as_a_user_finds_it(unit: str, expected: str) -> None:
    assert place("f.csv", 5, unit) == expected  # type: ignore[arg-type]
    assert table().where(2) == "f.csv:5"


def test_values_in_messages_are_short_and_cannot_act_on_a_terminal() -> None:
    assert shown("\x1b[31mred\x07") == "\\x1b[31mred\\x07"
    assert shown("é" * 100) == "é" * 57 + "..."
    assert shown(None) == "None"


def test_long_lists_are_counted() -> None:
    assert listed("abc") == "a, b, c"
    assert listed(map(str, range(20)), 3) == "0, 1, 2 and 17 more"
