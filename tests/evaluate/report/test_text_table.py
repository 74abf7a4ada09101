import pytest

from pennyweight.evaluate.report.text_table import text_table


def test_columns_are_aligned_and_nothing_is_wrapped_or_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    long = "x" * 300
    assert text_table(["name", "n"], [["[red]a[/red]", "1"], [long, "1,000"], [":smile:", ""]]).splitlines() == [
        f"{'name':<300}      n",
        f"{'[red]a[/red]':<300}      1",
        f"{long}  1,000",
        ":smile:",
    ]


def test_in_a_notebook_the_table_is_returned_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *shown: pytest.fail("shown"))
    assert text_table(["name", "n"], [["a", "1"]]) == "name  n\na     1"


def test_without_a_header() -> None:
    assert text_table([], [["a", "10"], ["bc", "9"]]) == "a   10\nbc   9"


def test_wide_characters_take_two_places() -> None:
    assert text_table(["name", "n"], [["新闻", "1"]]).splitlines() == ["name  n", "新闻  1"]


def test_columns_that_do_not_fit_stand_in_further_tables_beside_the_first_column() -> None:
    header, rows = ["run", "a", "bb", "c", "dd"], [["one", "1", "22", "3", "44"], ["新闻", "5", "66", "7", "88"]]
    assert text_table(header, rows, width=20) == text_table(header, rows)
    assert text_table(header, rows, width=12).split("\n\n") == [
        "run   a  bb\none   1  22\n新闻  5  66",
        "run   c  dd\none   3  44\n新闻  7  88",
    ]
    assert text_table(header, rows, width=13).split("\n\n")[1].splitlines()[0] == "run   c  dd"
    # Two columns that belong together, and one that is wider than a line.
    together = [table.splitlines()[0] for table in text_table(header, rows, width=14, group=2).split("\n\n")]
    assert together == ["run   a  bb", "run   c  dd"]
    assert text_table(["a", "b"], [["x" * 9, "y" * 9]], width=10) == "a" + 18 * " " + "b\n" + "x" * 9 + "  " + "y" * 9
