"""HTML for the cells of a notebook."""

from __future__ import annotations

from pennyweight.data.html_table import html_table, html_text


def test_cells_are_text() -> None:
    shown = html_table(("label", "share"), [("<b>", "1 & 2")])
    assert "<th>label</th><th>share</th>" in shown
    assert "&lt;b&gt;</th>" in shown
    assert "1 &amp; 2</td>" in shown
    assert "<thead>" not in html_table((), [("a", "b")])
    assert html_text("a  <i>\nb") == "<pre>a  &lt;i&gt;\nb</pre>"
