"""Tables and plain text as HTML, for the cells of a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column names its rows.

    Args:
        header: names of the columns; empty for none.
        rows: cells as text, each row as long as the header.
    """
    head = f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in header)}</tr></thead>" if header else ""
    body = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(row[0])}</th>'
        + "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<table>{head}<tbody>{body}</tbody></table>"


def html_text(text: str) -> str:
    """Plain text with its line breaks and columns kept."""
    return f"<pre>{escape(text)}</pre>"
