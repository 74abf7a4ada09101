"""Cells that a spreadsheet would run."""

from __future__ import annotations

import io
from typing import Any

import pytest

from pennyweight.predict.formula_guard import escape_formula, formula_guard
from pennyweight.predict.writers import write_lines


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"), ("@x", "'@x"), ("-x", "'-x"), ("+x", "'+x"), ("\tx", "'\tx"), ("\uff1d1", "'\uff1d1"),
        ("-1+cmd|' /C calc'!A0", "'-1+cmd|' /C calc'!A0"), ("+49 170", "'+49 170"),
        ("-1", "-1"), ("+49", "+49"), ("-0.5", "-0.5"), ("-.5", "-.5"), ("-1e-3", "-1e-3"), ("-12%", "-12%"),
        ("plain", "plain"), (-2, -2), (None, None), ("", ""),
    ],
)  # fmt: skip
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(cell: Any, written: Any) -> None:
    assert escape_formula(cell) == written


def test_headers_of_free_text_are_guarded_too() -> None:
    handle = io.StringIO()
    write_lines([{"=x": "=y", "id": "=z", "label": "=l"}], handle, "csv", guard=formula_guard())
    assert handle.getvalue() == "'=x,id,label\n'=y,=z,=l\n"
