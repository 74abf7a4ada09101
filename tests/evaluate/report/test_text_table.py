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


def test_without_a_header() -> None:
    assert text_table([], [["a", "10"], ["bc", "9"]]) == "a   10\nbc   9"


def test_wide_characters_take_two_places() -> None:
    assert text_table(["name", "n"], [["新闻", "1"]]).splitlines() == ["name  n", "新闻  1"]
