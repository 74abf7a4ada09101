"""Plain text tables for a terminal or a log: aligned columns, no colours, no lines."""

from __future__ import annotations

from collections.abc import Sequence

# Wider than any row, so that no cell is ever wrapped or cut.
WIDE = 10_000


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Columns two blanks apart, the first `left` to the left and the others, numbers, to the right; no final newline.

    Args:
        header: names of the columns; empty for none.
        rows: each as long as the header, or as each other.
    """
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(header), show_edge=False, pad_edge=False)
    for number in range(len(header or rows[0])):
        name = Text(header[number]) if header else ""
        table.add_column(name, justify="left" if number < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as text: a class may be called "[red]"
    out = io.StringIO()
    Console(file=out, width=WIDE, color_system=None, force_terminal=False, legacy_windows=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
