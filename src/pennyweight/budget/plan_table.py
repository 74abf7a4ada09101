"""A plan as a table: what is trained, where, at which rank, and how much of the budget is left over."""

from __future__ import annotations

from dataclasses import dataclass

from .count import TrainedPart
from .plan import Plan

_HEADER = ("part", "where", "rank", "parameters", "share")


@dataclass(frozen=True)
class PlanRow:
    """One row of the table.

    Attributes:
        part: what is trained.
        where: the blocks, in words.
        rank: None if there is none.
        parameters: numbers trained.
        share: share of the budget, or of all that is trained when there is no budget; 0 to 1.
    """

    part: str
    where: str
    rank: int | None
    parameters: int
    share: float


@dataclass(frozen=True)
class PlanTable:
    """The parameters of a plan.

    Attributes:
        rows: they add up to `trainable`.
        trainable: parameters trained.
        total: parameters in all, see `Count`.
        budget: None if none was set.
        stored: numbers that are saved, see `Count`; as many as are trained if not given.
    """

    rows: tuple[PlanRow, ...]
    trainable: int
    total: int
    budget: int | None
    stored: int | None = None


def tabulate(plan: Plan) -> PlanTable:
    """The table of a plan."""
    whole = plan.budget or plan.count.trainable
    rows = tuple(
        PlanRow(_part_name(part), part.where, part.r, part.parameters, part.parameters / whole)
        for part in plan.count.parts
    )
    return PlanTable(rows, plan.count.trainable, plan.count.total, plan.budget, plan.count.stored)


def render(plan: Plan) -> str:
    """The table as plain text, then the reasons; no line break at the end."""
    rows = [
        (row.part, row.where, "" if row.rank is None else str(row.rank), f"{row.parameters:,}", f"{row.share:.1%}")
        for row in tabulate(plan).rows
    ]
    whole = plan.budget or plan.count.trainable
    sums = [("total", "", "", f"{plan.count.trainable:,}", f"{plan.count.trainable / whole:.1%}")]
    if plan.budget is not None and plan.left_over is not None:
        sums.append(("left over", "", "", f"{plan.left_over:,}", f"{plan.left_over / whole:.1%}"))
        sums.append(("budget", "", "", f"{plan.budget:,}", "100.0%"))
    if plan.count.stored > plan.count.trainable:
        sums.append(("stored", "", "", f"{plan.count.stored:,}", ""))
    widths = [max(len(line[column]) for line in (_HEADER, *rows, *sums)) for column in range(len(_HEADER))]
    rule = "  ".join("-" * width for width in widths)
    table = [_line(_HEADER, widths), rule, *(_line(row, widths) for row in rows), rule]
    return "\n".join([*table, *(_line(line, widths) for line in sums), "", *plan.why])


def _part_name(part: TrainedPart) -> str:
    return f"{part.name} head" if part.kind == "head" else part.name


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """Words to the left, numbers to the right."""
    words = [cell.ljust(width) for cell, width in zip(cells[:2], widths[:2], strict=True)]
    numbers = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
    return "  ".join([*words, *numbers]).rstrip()
