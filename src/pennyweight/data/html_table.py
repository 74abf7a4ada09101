"""Tables and plain text as HTML, for the cells of a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """A table without a header: cells as text, the first of each row names it."""
    body = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(row[0])}</th>'
        + "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<table><tbody>{body}</tbody></table>"


def html_text(text: str) -> str:
    """Plain text with its line breaks and columns kept: not every notebook gives `pre` a monospaced font."""
    return f'<pre style="font-family:monospace">{escape(text)}</pre>'
