"""The picture of shift: each corruption's accuracy as a shaded cell, by family, with clean texts on top."""

from __future__ import annotations

from typing import Any

from ...data.corruption import CORRUPTIONS
from ..metrics.shift import FAMILIES, Shift
from .figures import LIGHT, Palette, short, styled


def heat_map(shift: Shift, palette: Palette = LIGHT) -> Any:
    """Accuracy (%) by corruption (rows) and severity (columns), shaded by what is lost against the clean texts."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    severities = sorted({row.severity for row in shift.rows})
    found = {(row.name, row.severity): row.accuracy for row in shift.rows}
    means = {(one.family, one.severity): one.accuracy for one in shift.means}
    lines: list[tuple[str, list[float | None]]] = [("clean", [shift.clean.accuracy] * len(severities))]
    for family in FAMILIES:
        for name, one in CORRUPTIONS.items():
            if one.family == family and any((name, level) in found for level in severities):
                lines.append((name.replace("_", " "), [found.get((name, level)) for level in severities]))
        if any((family, level) in means for level in severities):
            lines.append((f"mean, {family} family", [means.get((family, level)) for level in severities]))
    # Everything lost down to where guessing begins would be the darkest; what was lost most here is shaded fully.
    worst = max(0.05, *(shift.clean.accuracy - row.accuracy for row in shift.rows))
    with styled(palette):
        figure = Figure(figsize=(3.0 + 0.7 * len(severities), 0.8 + 0.27 * len(lines)), layout="constrained")
        axis = figure.subplots()
        for row, (name, values) in enumerate(lines):
            for column, value in enumerate(values):
                if value is None:
                    continue
                share = min(1.0, max(0.0, (shift.clean.accuracy - value) / worst))
                axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=palette.second, alpha=share))
                colour = palette.on_first if share > 0.6 else palette.ink
                weight = "bold" if name.startswith("mean") else "normal"
                axis.text(
                    column, row, f"{100 * value:.1f}", ha="center", va="center", color=colour, fontsize=8, weight=weight
                )
        axis.set(xlim=(-0.5, len(severities) - 0.5), ylim=(len(lines) - 0.5, -0.5), xlabel="severity")
        axis.set_xticks(range(len(severities)), [str(level) for level in severities])
        axis.set_yticks(range(len(lines)), [short(name, 28) for name, _ in lines])
        axis.set_title("Accuracy (%), shaded by loss")
        axis.grid(visible=False)
    return figure
