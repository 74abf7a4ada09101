"""The picture of a plan: which matrices of which layers are adapted, and at which rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...budget.architecture import describe, linear_modules
from ...budget.plan import Plan
from ...budget.targets import ranks
from .figures import DARKEST, LIGHT, Palette

FAINTEST = 0.08  # so that rank 1 is visible next to rank 64


def picture(plan: Plan, config: Mapping[str, Any], palette: Palette = LIGHT) -> Any:
    """Layers (0 at the bottom) by modules, shaded and numbered by rank; empty cells are frozen. The title has the head.

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
        width, height = 1.2 + 0.95 * len(names), 1.7 + 0.26 * depth
        figure = Figure(figsize=(max(5.6, width), max(3.0, height)), layout="constrained")
        axis = figure.subplots()
        for module in modules:
            rank = by_name.get(module.name)
            shade = 0.0 if rank is None else FAINTEST + (DARKEST - FAINTEST) * rank / highest
            _cell(axis, names.index(module.suffix), module.layer, shade, "" if rank is None else str(rank), palette)
        axis.set(xlim=(-0.5, len(names) - 0.5), ylim=(-0.5, depth - 0.5), ylabel="layer")
        axis.set_xticks(range(len(names)), [name.replace(".", ".\n") for name in names])
        axis.set_yticks(range(0, depth, 1 if depth <= 24 else 2))
        axis.set_title(_title(plan), loc="left")
        axis.grid(visible=False)
        axis.spines[["top", "right"]].set_visible(True)
    return figure


def _title(plan: Plan) -> str:
    budget = "" if plan.budget is None else f" of a budget of {plan.budget:,}"
    head = sum(part.parameters for part in plan.count.parts if part.kind == "head")
    kind = {"low_rank": f"of rank {plan.head.rank}"}.get(plan.head.kind, f"({plan.head.kind})")
    cells = "every matrix is frozen" if plan.adapter is None else "numbers: rank of each adapter; empty: frozen"
    return f"{plan.count.trainable:,} trained parameters{budget}\nhead {kind}: {head:,}; {cells}"


def _cell(axis: Any, column: int, row: int, shade: float, words: str, palette: Palette) -> None:
    from matplotlib.patches import Rectangle

    corner = (column - 0.5, row - 0.5)
    if shade:
        axis.add_patch(Rectangle(corner, 1, 1, facecolor=palette.first, alpha=shade))
    axis.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=palette.grid, linewidth=0.6))
    axis.text(column, row, words, ha="center", va="center", color=palette.ink, fontsize=8)
