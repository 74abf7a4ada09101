"""HTML for the cells of a notebook."""

from __future__ import annotations

from pennyweight.data.html_table import html_table, html_text


def test_cells_are_text() -> None:
    shown = html_table([("<b>", "1 & 2")])
    assert "&lt;b&gt;</th>" in shown
    assert "1 &amp; 2</td>" in shown
    assert "<thead>" not in shown
    assert html_text("a  <i>\nb") == '<pre style="font-family:monospace">a  &lt;i&gt;\nb</pre>'
