"""Plain text tables for a terminal or a log: aligned columns, no colours, no lines."""

from __future__ import annotations

from collections.abc import Sequence

# Wider than any row, so that no cell is ever wrapped or cut.
WIDE = 10_000
TERMINAL = 80  # columns of the narrowest terminal that people use; a wider line would be wrapped in the middle of a row
GAP = 2


def text_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, width: int | None = None, group: int = 1
) -> str:
    """Columns two blanks apart, the first `left` to the left and the others, numbers, to the right; no final newline.

    Args:
        header: names of the columns; empty for none.
        rows: each as long as the header, or as each other.
        width: of a line at most. Columns that do not fit stand in further tables below, each with the first column
            again, as pandas prints a wide frame. None for one table, however wide it is.
        group: how many columns after the first stand together.
    """
    if width is None:
        return _table(header, rows, left)
    return "\n\n".join(
        _table(_chosen(header, block) if header else [], [_chosen(row, block) for row in rows], left)
        for block in _blocks(column_widths(header, rows), width, group)
    )


def _chosen(cells: Sequence[str], columns: Sequence[int]) -> list[str]:
    return [cells[column] for column in columns]


def column_widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column in cells of a terminal, of which a Chinese letter takes two."""
    from rich.cells import cell_len

    lines = [header, *rows] if header else rows
    return [max(map(cell_len, column)) for column in zip(*lines, strict=True)]


def _blocks(widths: Sequence[int], width: int, group: int) -> list[list[int]]:
    """The columns of each table: the first, then as many groups of the others as fit, at least one."""
    blocks, taken = [[0]], widths[0]
    for first in range(1, len(widths), group):
        columns = list(range(first, min(first + group, len(widths))))
        wide = sum(GAP + widths[column] for column in columns)
        if taken + wide > width and len(blocks[-1]) > 1:
            blocks.append([0])
            taken = widths[0]
        blocks[-1] += columns
        taken += wide
    return blocks


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, GAP, 0, 0), show_header=bool(header), show_edge=False, pad_edge=False)
    for number in range(len(header or rows[0])):
        name = Text(header[number]) if header else ""
        table.add_column(name, justify="left" if number < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as text: a class may be called "[red]"
    out = io.StringIO()
    # force_jupyter: in a notebook rich would show the table there instead of writing it to `out`.
    Console(
        file=out, width=WIDE, color_system=None, force_terminal=False, force_jupyter=False, legacy_windows=False
    ).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())
