"""The output of an audit: a table on the terminal, and a folder with JSON, row numbers and pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..data.table import shown
from ..evaluate.report import figures
from ..predict.formula_guard import escape_formula
from ..storage.atomic import atomic_file
from ..storage.folders import make_folder
from ..storage.json_files import write_json
from ..storage.system_errors import storage_errors
from .findings import EXCERPTS, Audit, AuditedPart, Finding, balance
from .mending import mend

_MOST_CLASSES = 30
HEADER = ("part", "row", "finding", "detail", "partner part", "partner row")


def table(audit: Audit) -> str:
    """The table on the terminal: each part, then each finding with its first rows."""
    lines: list[str] = []
    for name, part in audit.parts.items():
        lines += [*_about(name, part, audit), ""]
    for level, heading in (("problem", "Problems"), ("note", "Notes")):
        chosen = [one for one in audit.findings if one.level == level]
        if chosen:
            lines += [heading, *(line for one in chosen for line in _told(one, audit)), ""]
    if not audit.findings:
        lines += ["No findings.", ""]
    if audit.left_out:
        lines += ["Not checked, or not for every row", *(f"  {words}" for words in audit.left_out), ""]
    return "\n".join([*lines, f"{sum(map(len, audit.parts.values())):,} rows in {audit.seconds:.1f} s"])


def _about(name: str, part: AuditedPart, audit: Audit) -> Iterator[str]:
    yield f"{name}: {part.source}, {len(part):,} rows"
    counts = part.counts()
    if counts:
        named = sorted(counts.items(), key=lambda item: -item[1])
        each = ", ".join(f"{shown(label, 30)} {rows:,}" for label, rows in named[:12])
        more = f" and {len(named) - 12} more" if len(named) > 12 else ""
        facts = balance(counts)
        assert facts is not None
        yield f"  classes     {len(counts)}: {each}{more}"
        yield f"  balance     largest to smallest {facts['ratio']:.2f}, entropy {facts['entropy']:.3f} of 1"
    if len(part.characters):
        yield f"  characters  {_spread(part.characters)}"
    if len(part.tokens):
        yield f"  tokens      {_spread(part.tokens)}"
        cut = ", ".join(
            f"{100 * part.truncated(length):.1f}% at {length}{' (the recipe)' if length == audit.max_length else ''}"
            for length in audit.max_lengths
        )
        yield f"  truncated   {cut}"
    if set(part.scripts) - {"Latin"}:
        yield "  scripts     " + ", ".join(f"{script} {rows:,}" for script, rows in part.scripts.items())


def _spread(lengths: np.ndarray) -> str:
    middle, high, longest = np.quantile(lengths, (0.5, 0.95, 1.0), method="inverted_cdf").tolist()
    return f"median {middle:,}, 95% up to {high:,}, longest {longest:,}"


def _told(one: Finding, audit: Audit) -> Iterator[str]:
    part = audit.parts[one.part]
    yield from _rows_told(one, part, audit)
    if words := mend(one):
        yield f"      to fix: {words}"


def _rows_told(one: Finding, part: AuditedPart, audit: Audit) -> Iterator[str]:
    if not len(one.rows):
        yield f"  {one.part}: {one.title}"
        return
    if one.name == "tell-tale":
        yield f"  {one.part}: {one.title}"
        yield from (f"      {shown(one.detail(number), 100)}" for number in range(min(len(one.rows), 8)))
        return
    share = 100 * len(one.rows) / len(part)
    yield f"  {one.part}: {len(one.rows):,} {one.title} ({share:.2f}%)"
    for number in range(min(len(one.rows), EXCERPTS)):
        row = _row(one, number, audit)
        partner = f" and {row[4]} {unit(audit.parts[str(row[4])])} {row[5]}" if row[5] != "" else ""
        detail = f": {shown(str(row[3]), 80)}" if row[3] else ""
        yield f"      {unit(part)} {row[1]}{partner}{detail}"
        texts = one.excerpts[number] if number < len(one.excerpts) else ()
        yield from (f"          {text}" for text in dict.fromkeys(texts) if text)  # once where both begin alike


def unit(part: AuditedPart) -> str:
    """The unit of the part's positions."""
    return "line" if part.unit == "line" else "row"


def _row(one: Finding, number: int, audit: Audit) -> tuple[Any, ...]:
    """As in rows.csv."""
    line = int(audit.parts[one.part].lines[one.rows[number]])
    partner: Any = ""
    if one.partners is not None and one.partners[number] >= 0:
        partner = int(audit.parts[one.partner_part or one.part].lines[one.partners[number]])
    return one.part, line, one.name, one.detail(number), "" if partner == "" else one.partner_part or one.part, partner


def write(audit: Audit, folder: Path, answer: dict[str, Any]) -> None:
    """Write audit.json (the whole `answer`), rows.csv, classes.png and lengths.png.

    Raises:
        StorageError: when the disk is full or the folder cannot be written.
    """
    with storage_errors(folder):
        make_folder(folder)
    write_json(folder / "audit.json", answer)
    write_rows(
        folder / "rows.csv",
        HEADER,
        (_row(one, number, audit) for one in audit.findings for number in range(len(one.rows))),
    )
    if any(part.codes is not None for part in audit.parts.values()):
        figures.save_png(class_balance(audit), folder / "classes.png")
    figures.save_png(text_lengths(audit), folder / "lengths.png")


def write_rows(path: Path, header: tuple[str, ...], rows: Iterator[tuple[Any, ...]]) -> int:
    """Write a CSV, whole or not at all; the number of rows."""
    count = 0
    with atomic_file(path) as aside, aside.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            writer.writerow([escape_formula(cell) for cell in row])
            count += 1
    return count


def class_balance(audit: Audit, palette: figures.Palette = figures.LIGHT) -> Any:
    """Rows of each class, as shares of each part's labelled rows; of very many classes the 30 largest."""
    from matplotlib.figure import Figure

    parts = {name: part.counts() for name, part in audit.parts.items() if part.codes is not None}
    ranked = next(iter(parts.values()))
    names = sorted(ranked, key=lambda label: -ranked[label])[:_MOST_CLASSES]
    with figures.styled(palette):
        figure = Figure(figsize=(5.6, 1.4 + 0.34 * len(names)), layout="constrained")
        axis = figure.subplots()
        width = 0.8 / len(parts)
        for number, (part, counts) in enumerate(parts.items()):
            codes = audit.parts[part].codes
            total = 1 if codes is None else max(int((codes >= 0).sum()), 1)
            places = np.arange(len(names)) + (number - (len(parts) - 1) / 2) * width
            shares = [100 * counts[name] / total for name in names]
            colour = (palette.first, palette.second)[number]
            axis.barh(places, shares, height=width * 0.92, color=colour, label=f"{part} ({total:,} rows)")
        axis.set_yticks(range(len(names)), [figures.short(name, 24) for name in names])
        axis.invert_yaxis()
        axis.grid(visible=False, axis="y")
        more = f", the {len(names)} largest of {len(ranked)}" if len(ranked) > len(names) else ""
        axis.set(xlabel="share of rows (%)", ylabel="class", title=f"Class balance{more}")
        if len(parts) > 1:
            figure.legend(loc="outside lower center", ncols=len(parts))
    return figure


def text_lengths(audit: Audit, palette: figures.Palette = figures.LIGHT) -> Any:
    """How long the texts are: tokens where they were counted, otherwise characters; the recipe's limit as a line."""
    from matplotlib.figure import Figure

    counted = all(len(part.tokens) for part in audit.parts.values())
    lengths = {name: part.tokens if counted else part.characters for name, part in audit.parts.items()}
    longest = max((int(np.quantile(each, 0.995)) for each in lengths.values() if len(each)), default=1)
    step = longest // 50 + 1  # whole numbers: else some bars hold more lengths than others
    edges = np.arange(0, longest + 2 * step, step)
    with figures.styled(palette):
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        axis = figure.subplots()
        for (name, each), colour in zip(lengths.items(), (palette.first, palette.second), strict=False):
            heights = 100 * np.histogram(np.minimum(each, edges[-1]), edges)[0] / max(len(each), 1)
            axis.stairs(heights, edges, color=colour, label=f"{name} ({len(each):,} texts)")
        if counted and audit.max_length < 2 * edges[-1]:
            axis.axvline(audit.max_length, color=palette.muted, linestyle="--", label=f"max_length {audit.max_length}")
        measure = "tokens" if counted else "characters"
        axis.set(xlabel=f"length ({measure}; the longest 0.5% at the right edge)", ylabel="share of texts (%)")
        axis.set(title="Lengths of the texts")
        axis.legend()
    return figure
