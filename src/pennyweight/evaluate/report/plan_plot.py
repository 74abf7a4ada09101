"""The picture of a plan: which matrices of which layers are adapted, at which rank, and the head beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...budget.architecture import describe, linear_modules
from ...budget.plan import Plan
from ...budget.targets import ranks
from .figures import LIGHT, Palette

FAINTEST = 0.12  # so that rank 1 beside rank 64 still shows


def picture(plan: Plan, config: Mapping[str, Any], palette: Palette = LIGHT) -> Any:
    """Layers (0 at the bottom) by modules, shaded and numbered by rank; empty cells are frozen. The head stands apart.

    Args:
        config: fields of the backbone's `config.json`, the one the plan was made for.
    """
    from matplotlib.figure import Figure

    from .figures import styled

    modules = linear_modules(config)
    depth, names = describe(config).layers, list(dict.fromkeys(module.suffix for module in modules))
    by_name = {} if plan.adapter is None else ranks(config, plan.adapter)
    highest = max(by_name.values(), default=1)
    with styled(palette):
        width, height = 1.6 + 0.62 * len(names) + 1.5, 1.9 + 0.26 * depth
        figure = Figure(figsize=(max(5.6, width), max(3.4, height)), layout="constrained")
        body, head = figure.subplots(1, 2, width_ratios=(len(names), 2))
        for module in modules:
            rank = by_name.get(module.name)
            shade = 0.0 if rank is None else FAINTEST + (1 - FAINTEST) * rank / highest
            _cell(body, names.index(module.suffix), module.layer, shade, "" if rank is None else str(rank), palette)
        body.set(xlim=(-0.5, len(names) - 0.5), ylim=(-0.5, depth - 0.5), ylabel="layer", xlabel="module")
        body.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
        body.set_yticks(range(0, depth, 1 if depth <= 24 else 2))
        budget = "no budget" if plan.budget is None else f"of {plan.budget:,}"
        figure.suptitle(f"Rank of each adapted matrix: {plan.count.trainable:,} parameters {budget}", fontsize=10)
        trained = sum(part.parameters for part in plan.count.parts if part.kind == "head")
        factored = f"\nrank {plan.head.rank}" if plan.head.kind == "low_rank" else ""
        _cell(head, 0, 0, 1.0, f"{plan.head.kind}{factored}\n{trained:,}", palette)
        head.set(xlim=(-0.5, 0.5), ylim=(-0.5, 0.5), xlabel="parameters", title="head")
        head.set_box_aspect(0.6)
        head.set(xticks=[], yticks=[])
        for axis in (body, head):
            axis.grid(visible=False)
            axis.spines[["top", "right"]].set_visible(True)
    return figure


def _cell(axis: Any, column: int, row: int, shade: float, words: str, palette: Palette) -> None:
    from matplotlib.patches import Rectangle

    corner = (column - 0.5, row - 0.5)
    if shade:
        axis.add_patch(Rectangle(corner, 1, 1, facecolor=palette.first, alpha=shade))
    axis.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=palette.grid, linewidth=0.6))
    colour = palette.on_first if shade > 0.5 else palette.ink
    axis.text(column, row, words, ha="center", va="center", color=colour, fontsize=8)
