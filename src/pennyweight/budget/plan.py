"""Planning: from a budget to an adapter and a head, with the reasons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from decimal import Decimal
from html import escape
from typing import Any

from ..errors import RecipeError
from .allocation import PlanOptions, allocate
from .config_fields import Config
from .count import Count, TrainedPart, count
from .specs import AdapterSpec, HeadSpec, contradiction, one_of, positive_whole
from .strategies import STRATEGIES
from .suggestions import over_budget

__all__ = ["NAMES", "Plan", "PlanOptions", "parse_budget", "plan"]

NAMES = ("manual", *STRATEGIES, "auto")
BUDGET_AS_WRITTEN = "a number of parameters such as 1M, 500k or 998404, or none"


@dataclass(frozen=True)
class Plan:
    """A plan: which parameters to train.

    Attributes:
        adapter: None trains the head alone.
        head: the head.
        count: what it trains, part by part.
        budget: the largest number of trainable parameters; None for no limit.
        strategy: one of `NAMES`.
        why: the reasons, one sentence each.
    """

    adapter: AdapterSpec | None
    head: HeadSpec
    count: Count
    budget: int | None
    strategy: str
    why: tuple[str, ...] = ()

    @property
    def left_over(self) -> int | None:
        """Parameters of the budget that are not used; None without a budget."""
        return None if self.budget is None else self.budget - self.count.trainable

    def __str__(self) -> str:
        """The table of `plan_table.render`."""
        from .plan_table import render

        return render(self)

    def _repr_html_(self) -> str:
        return f'<pre style="font-family:monospace">{escape(str(self))}</pre>'

    @property
    def stored_note(self) -> str:
        """A sentence where more is saved than was trained; empty if it is as much, or less."""
        trained, stored, adapter = self.count.trainable, self.count.stored, self.adapter
        if adapter is None or adapter.adapter != "lora-xs":
            return ""
        origin = {
            "svd": "were taken from the backbone's weights",
            "gradient": "were estimated from gradients on labelled training rows, but not trained",
        }[adapter.bases]
        return (
            f"{trained:,} numbers are trained and {stored:,} are stored: LoRA-XS is saved as plain LoRA, multiplied by "
            f"its frozen bases. These {origin}."
        )

    @property
    def as_saved(self) -> Plan:
        """The plan with the adapter that is saved, see `AdapterSpec.as_saved`; its count is still what is trained."""
        return self if self.adapter is None else replace(self, adapter=self.adapter.as_saved)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with `trainable` and `total` at the top."""
        return {
            "strategy": self.strategy,
            "budget": self.budget,
            "trainable": self.count.trainable,
            "total": self.count.total,
            "stored": self.count.stored,
            "backbone": self.count.backbone,
            "left_over": self.left_over,
            "adapter": None if self.adapter is None else _plain(self.adapter),
            "head": asdict(self.head),
            "parts": [asdict(part) for part in self.count.parts],
            "why": list(self.why),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Rebuild a plan from `to_json`'s values.

        Raises:
            RecipeError: a field that is missing, unknown or out of range, or parts that do not add up.
        """
        try:
            adapter = value["adapter"]
            parts = tuple(TrainedPart(**part) for part in value["parts"])
            if sum(part.parameters for part in parts) != value["trainable"]:
                raise RecipeError(
                    "the plan's parts do not add up",
                    where="plan",
                    expected=value["trainable"],
                    received=sum(part.parameters for part in parts),
                )
            stored = value.get("stored", value["trainable"])  # version 0.1 had no method that saves more
            return cls(
                adapter=None if adapter is None else _adapter(adapter),
                head=HeadSpec(**value["head"]),
                count=Count(parts, value["trainable"], value["total"], value["backbone"], stored),
                budget=value["budget"],
                strategy=value["strategy"],
                why=tuple(value["why"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise RecipeError(f"the plan cannot be read ({error})", where="plan") from error


def parse_budget(text: str | int | None) -> int | None:
    """Read a budget as people write it: `1M`, `500k`, `1.5m`, `998404`, `998,404`, `none`.

    Raises:
        RecipeError: anything that is not a whole number of parameters above 0.
    """
    if text is None or (isinstance(text, str) and text.strip().lower() == "none"):
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?|\d{1,3}(?:[,_]\d{3})+)\s*([kmb]?)", str(text).strip().lower())
    if match and not isinstance(text, bool):
        digits, unit = match.groups()
        value = Decimal(re.sub("[,_]", "", digits)) * {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}[unit]
        if value > 0 and value == value.to_integral_value():
            return int(value)
    raise RecipeError(
        "the budget cannot be read",
        where="budget",
        expected=BUDGET_AS_WRITTEN,
        received=repr(text),
    )


def plan(
    config: Config,
    *,
    labels: int,
    budget: int | None,
    strategy: str = "auto",
    adapter: AdapterSpec | None = None,
    head: HeadSpec | None = None,
    options: PlanOptions | None = None,
) -> Plan:
    """Decide what to train so that all of it together stays within the budget.

    Strategies: `manual` takes `adapter` and `head` as they are. `uniform` is one rank everywhere. `top` adapts the
    upper half of the blocks. `graded` lets the rank rise with depth. `attention` and `all-linear` adapt those matrices
    everywhere and use the remainder for one more rank in the upper blocks. `auto` follows the table
    `strategies.AUTO`.

    Args:
        config: fields of the backbone's `config.json`.
        labels: number of classes.
        budget: the largest number of trainable parameters, head and biases included; None (manual only) for no limit.
        strategy: one of `NAMES`.
        adapter: the adapter of `manual`; None trains the head alone.
        head: the head; None lets the strategy choose.
        options: what the other strategies may choose from.

    Raises:
        BudgetError: nothing fits, or the manual setting does not; the message says what would.
        RecipeError: an unknown name, a value out of range, or two options that contradict each other.
        BackboneError: a config that lacks what is needed.
    """
    one_of(strategy, NAMES, "strategy")
    if budget is not None:
        positive_whole(budget, "budget")
    if strategy == "manual":
        if options is not None:
            raise contradiction(
                "strategy manual", "planner options", "the strategy manual uses the adapter settings as given"
            )
        return _manual(config, labels, budget, adapter, head or HeadSpec())
    if adapter is not None:
        raise contradiction(f"strategy {strategy}", "a given adapter", "the strategy chooses the ranks itself")
    if budget is None:
        raise contradiction(f"strategy {strategy}", "budget none", "there is no budget to fill")
    filled = allocate(config, labels, budget, strategy, head, options or PlanOptions())
    return Plan(filled.adapter, filled.head, filled.count, budget, strategy, filled.why)


def _manual(config: Config, labels: int, budget: int | None, adapter: AdapterSpec | None, head: HeadSpec) -> Plan:
    counted = count(config, adapter=adapter, head=head, labels=labels)
    if budget is not None and counted.trainable > budget:
        raise over_budget(config, counted, adapter, head, labels, budget)
    return Plan(adapter, head, counted, budget, "manual", ("manual: the adapter and the head as given",))


def _plain(adapter: AdapterSpec) -> dict[str, Any]:
    """Lists and dictionaries instead of tuples and mappings, as JSON has them."""
    values = {field.name: getattr(adapter, field.name) for field in fields(adapter)}
    return {
        name: list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
    }


def _adapter(values: Mapping[str, Any]) -> AdapterSpec:
    arguments: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return AdapterSpec(**arguments)
