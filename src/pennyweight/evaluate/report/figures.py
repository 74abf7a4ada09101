"""The pictures, drawn with matplotlib without a display. Every function returns a Figure; `save_png` writes it.

Colours come from a Palette, so that the same drawing serves PNG files and the light and dark of report.html.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...storage.atomic import atomic_file, write_text
from ..metrics.calibration import Bin
from ..metrics.intervals import wilson

MOST_CLASSES = 30  # beyond this a confusion matrix is no longer a picture
MOST_NUMBERED = 12  # beyond this the cells are too small for their numbers


@dataclass(frozen=True)
class Palette:
    """Colours as matplotlib takes them; `first` and `second` also tell apart for the colour-blind."""

    ink: str
    muted: str
    grid: str
    background: str
    first: str
    second: str
    on_first: str


LIGHT = Palette("#1f2328", "#57606a", "#d0d7de", "#ffffff", "#0a5cc2", "#b54708", "#ffffff")


@contextmanager
def styled(palette: Palette) -> Iterator[None]:
    """Draw and save inside this: fonts, lines and colours; matplotlib makes some parts only when it saves."""
    import matplotlib

    settings: dict[Any, Any] = {
        "font.size": 9,
        "text.parse_math": False,  # a class may be called "$"
        "text.color": palette.ink,
        "axes.labelcolor": palette.ink,
        "axes.edgecolor": palette.muted,
        "axes.facecolor": palette.background,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": palette.grid,
        "grid.linewidth": 0.6,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "xtick.labelcolor": palette.ink,
        "ytick.labelcolor": palette.ink,
        "figure.facecolor": palette.background,
        "legend.frameon": False,
        "svg.fonttype": "none",  # the page's own fonts: small, selectable, and they know every script
        "svg.hashsalt": "pennyweight",
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A class name in a script that matplotlib's font lacks shows as boxes in a PNG; that is no reason to warn.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def curves(history: Sequence[Mapping[str, Any]], palette: Palette = LIGHT) -> Any:
    """Training and validation loss over the steps, and below them the validation accuracy and macro F1 if recorded.

    Args:
        history: rows with `step` (optimizer updates) and any of `train_loss`, `validation_loss` (nats per text),
            `accuracy`, `macro_f1`, `micro_f1` (shares, on validation rows); a row may lack a value or hold None.
    """
    from matplotlib.figure import Figure

    # A micro F1 is recorded where a text may carry any number of labels; accuracy is then the exact match.
    multi_label = bool(_series(history, "micro_f1")[0])
    shares = {"exact match" if multi_label else "accuracy": "accuracy", "macro F1": "macro_f1"}
    shares = {name: key for name, key in shares.items() if _series(history, key)[0]}
    with styled(palette):
        figure = Figure(figsize=(5.2, 5.0 if shares else 3.2), layout="constrained")
        axes = figure.subplots(2 if shares else 1, 1, sharex=True, squeeze=False)[:, 0]
        for name, key, colour in (
            ("training", "train_loss", palette.first),
            ("validation", "validation_loss", palette.second),
        ):
            _line(axes[0], _series(history, key), name, colour)
        axes[0].set_ylabel("loss (nats per text)")
        axes[0].set_title("Training and validation loss", pad=24)
        if shares:
            for (name, key), line, marker in zip(shares.items(), ("-", "--"), ("o", "s"), strict=False):
                steps, values = _series(history, key)
                _line(axes[1], (steps, [100 * value for value in values]), name, palette.second, line, marker)
            axes[1].set_ylabel("validation score (%)")
        for axis in axes:
            if axis.lines:
                _legend_above(axis)
        axes[-1].set_xlabel("training step (optimizer updates)")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        if len({row["step"] for row in history}) == 1:  # a single evaluation would have ticks between whole steps
            axes[-1].set_xlim(history[0]["step"] - 1.5, history[0]["step"] + 1.5)
    return figure


def _series(history: Sequence[Mapping[str, Any]], key: str) -> tuple[list[float], list[float]]:
    rows = [row for row in history if row.get(key) is not None]
    return [float(row["step"]) for row in rows], [float(row[key]) for row in rows]


def _line(
    axis: Any, points: tuple[list[float], list[float]], name: str, colour: str, line: str = "-", marker: str = "o"
) -> None:
    if points[0]:
        axis.plot(
            *points,
            color=colour,
            label=name,
            linestyle=line,
            marker=marker if len(points[0]) <= 40 else None,
            markersize=3.5,
        )


# The most that a cell is shaded: the ink has a contrast of 4.5 or more on it, in light and in dark.
DARKEST = 0.55


def confusion(counts: Sequence[Sequence[int]] | np.ndarray, names: Sequence[str], palette: Palette = LIGHT) -> Any:
    """The confusion matrix (L, L): each cell's count and its share of the true class's rows, shaded by that share.

    Of more than 30 classes the 30 with the most errors are shown, and the title says so.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    counts = np.asarray(counts)
    shown, title = _shown(counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size, numbered = len(shown), len(shown) <= MOST_NUMBERED
    names = [short(names[index], 24) for index in shown]
    side = 1.9 + size * (0.62 if numbered else 0.3)
    with styled(palette):
        figure = Figure(figsize=(max(4.4, side), max(3.8, side)), layout="constrained")
        axis = figure.subplots()
        for (row, true), (column, predicted) in _cells(shown):
            if not counts[true, predicted]:
                continue
            share = shares[true, predicted]
            axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=palette.first, alpha=DARKEST * share))
            if numbered:
                for words, below in ((f"{counts[true, predicted]:,}", -0.13), (f"{100 * share:.1f}%", 0.15)):
                    axis.text(column, row + below, words, ha="center", va="center", color=palette.ink, fontsize=8)
        axis.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), aspect="equal", title=title)
        if size > 3:
            axis.set_xticks(range(size), names, rotation=40, ha="right", rotation_mode="anchor")
        else:
            axis.set_xticks(range(size), names)
        axis.set_yticks(range(size), names)
        axis.set(xlabel="predicted class", ylabel="true class")
        axis.grid(visible=False)
        axis.spines[["top", "right"]].set_visible(True)
    return figure


def _shown(counts: np.ndarray) -> tuple[np.ndarray, str]:
    size = len(counts)
    title = (
        "Number of texts, and % of their true class" if size <= MOST_NUMBERED else "Shading: share of the true class"
    )
    if size <= MOST_CLASSES:
        return np.arange(size), title
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    worst = np.sort(np.argsort(-errors, kind="stable")[:MOST_CLASSES])
    return worst, f"The {MOST_CLASSES} of {size} classes with the most errors; shading: share of the true class"


def _cells(shown: np.ndarray) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for row, true in enumerate(shown.tolist()):
        for column, predicted in enumerate(shown.tolist()):
            yield (row, true), (column, predicted)


def reliability_diagram(before: Sequence[Bin], after: Sequence[Bin] | None, palette: Palette = LIGHT) -> Any:
    """Accuracy with its 95% interval against confidence, group by group; `after` is with the fitted temperature."""
    from matplotlib.figure import Figure

    with styled(palette):
        figure = Figure(figsize=(4.6, 4.2), layout="constrained")
        axis = figure.subplots()
        lines = [(before, "as trained" if after else "classifier", palette.first, "o")]
        if after:
            lines.append((after, "with temperature", palette.second, "s"))
        low = 100.0
        for groups, name, colour, marker in lines:
            confidence, accuracy = [100 * one.confidence for one in groups], [100 * one.accuracy for one in groups]
            ends = [wilson(round(one.accuracy * one.count), one.count) for one in groups]
            reach = [
                [max(0.0, each - 100 * end[0]) for each, end in zip(accuracy, ends, strict=True)],
                [max(0.0, 100 * end[1] - each) for each, end in zip(accuracy, ends, strict=True)],
            ]
            axis.errorbar(
                confidence, accuracy, yerr=reach, color=colour, label=name, fmt=f"{marker}-", markersize=4, linewidth=1,
                elinewidth=0.6,
            )  # fmt: skip
            low = min([low, *confidence, *(100 * end[0] for end in ends)])
        low = max(-2.0, low - 3)
        axis.plot(
            [low, 100], [low, 100], color=palette.muted, linestyle="--", linewidth=1, label="perfectly calibrated"
        )
        rows = before[0].count if before else 0
        axis.set(xlabel="mean confidence (%)", ylabel="accuracy (%, 95% interval)", xlim=(low, 102), ylim=(low, 102))
        axis.set_title(f"Reliability, {rows:,} texts a point", pad=24)
        _legend_above(axis)
    return figure


def _legend_above(axis: Any) -> None:
    """The legend between title and picture: inside it would lie on the data."""
    handles, names = axis.get_legend_handles_labels()
    axis.legend(
        handles, names, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=len(names), fontsize=8,
        handlelength=2.6, columnspacing=1.0,  # long enough for a dashed line to show as one
    )  # fmt: skip


def risk_coverage_curve(coverage: np.ndarray, risk: np.ndarray, palette: Palette = LIGHT) -> Any:
    """Errors among the answered texts (%) against the share answered (%), most confident first; arrays (P,)."""
    from matplotlib.figure import Figure

    # A picture 5 inches wide shows no more than a few hundred points; a million would burst the report.
    keep = np.unique(np.linspace(0, len(coverage) - 1, min(len(coverage), 300)).astype(int))
    with styled(palette):
        figure = Figure(figsize=(4.6, 4.0), layout="constrained")
        axis = figure.subplots()
        axis.plot(100 * coverage[keep], 100 * risk[keep], color=palette.first)
        axis.set(xlabel="texts answered (%)", ylabel="errors among the answered (%)", title="Risk and coverage")
        axis.set(xlim=(0, 102))
        axis.set_ylim(0, max(1.0, 105 * float(risk.max(initial=0.0))))  # without any error, too, a scale that says so
    return figure


def short(text: str, longest: int) -> str:
    """`text` on one line and at most `longest` characters, cut in the middle: long names often differ at their ends."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if len(line) <= longest:
        return line
    tail = (longest - 1) // 3
    return f"{line[: longest - 1 - tail].rstrip()}…{line[len(line) - tail :].lstrip()}"


PICTURES = (".png", ".svg")


def check_picture(path: str | Path) -> Path:
    """A path that a picture can be written to, told before any work is done.

    Raises:
        InputError: for an ending that names no known form, or a path that is no regular file.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURES:
        raise InputError(
            "unknown form of picture", where=path, expected="a name ending in .png or .svg", received=path.name
        )
    special = os.path.exists(path) and not os.path.isfile(path)
    if special or path.absolute().parts[1] in ("dev", "proc", "sys"):
        raise InputError("not a regular file", where=path, remedy="choose another name")
    return path


def save(figure: Any, path: str | Path) -> None:
    """Write a figure as PNG or SVG, by the path's ending, whole or not at all.

    Raises:
        InputError: as `check_picture`.
        StorageError: as `save_png`.
    """
    path = check_picture(path)
    if path.suffix.lower() == ".png":
        save_png(figure, path)
        return
    text = io.StringIO()
    with styled(LIGHT):
        figure.savefig(text, format="svg", metadata={"Date": None})
    write_text(path, text.getvalue())


def save_png(figure: Any, path: str | Path, dots_per_inch: int = 150) -> None:
    """Write a figure as a PNG file, whole or not at all.

    Raises:
        StorageError: when the disk is full or the folder cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    with styled(LIGHT):
        figure.savefig(buffer, format="png", dpi=dots_per_inch)
    with atomic_file(path) as aside:
        aside.write_bytes(buffer.getvalue())
