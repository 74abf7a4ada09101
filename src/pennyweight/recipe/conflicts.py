"""Settings that are valid one by one and impossible together."""

from __future__ import annotations

from collections.abc import Iterator

from ..budget.specs import xs_alpha
from .schema import BY_STRATEGY, DataRecipe, PlanRecipe, Recipe, Section, TrainRecipe

# What only a run with a teacher reads.
WITH_TEACHER = ("distillation_temperature", "distillation_weight")


def find_conflicts(section: Section) -> Iterator[str]:
    """The problems of a section, as `section -> key: expected ..., received ...`."""
    if isinstance(section, DataRecipe):
        size, names = section.validation_size, section.label_names
        if size > 1 and isinstance(size, float):
            yield f"data -> validation_size: expected a share below 1 or a whole number of rows, received {size}"
        if names is not None and len(set(names)) != len(names):
            yield f"data -> label_names: expected names that differ, received {', '.join(names)}"
        if section.mix_share is not None and section.mix is None:
            yield "data -> mix_share: expected a second source with mix_share (--mix FILE), received none"
        if section.pair and section.long_texts != "truncate":
            yield f"data -> long_texts: expected truncate with pair, received {section.long_texts}"
        yield from _label_conflicts(section)
    if isinstance(section, PlanRecipe):
        yield from _plan_conflicts(section)
        if section.strategy not in ("manual", "head-only") and section.budget.lower() == "none":
            yield (
                "plan -> strategy: expected manual or head-only when the budget is none "
                f"(name a rank with --r, or give a budget), received {section.strategy}"
            )


def find_conflicts_between(recipe: Recipe) -> Iterator[str]:
    """The conflicts between sections, in the same form."""
    data, train = recipe.data, recipe.train
    if data.validation is None and not data.validation_size and train.early_stopping_patience is not None:
        yield (
            "train -> early_stopping_patience: expected none with validation_size 0, since nothing is held out to stop "
            f"on, received {train.early_stopping_patience}"
        )
    if data.validation is None and not data.validation_size and "=" in train.thresholds:
        yield (
            "train -> thresholds: expected macro_f1, micro_f1 or fixed with validation_size 0, since nothing is held "
            f"out to fit them on, received {train.thresholds}"
        )
    if train.contrastive == "on" and data.long_texts == "windows":
        yield "train -> contrastive: expected auto or off with long_texts windows, received on"
    if train.contrastive == "on" and train.teacher is not None:
        yield "train -> contrastive: expected auto or off with teacher, received on"
    if train.contrastive == "on" and train.start_from is not None:
        yield "train -> contrastive: expected auto or off with start_from, received on"
    if train.teacher is None and data.unlabelled is not None:
        yield "data -> unlabelled: expected a teacher (--teacher RUN), which labels these texts, received none"
    for key in WITH_TEACHER:
        value = getattr(train, key)
        if train.teacher is None and value != TrainRecipe.model_fields[key].default:
            yield f"train -> {key}: expected a teacher as well (--teacher RUN), received none"
    if train.r_drop and not any(recipe.dropouts().values()):
        yield (
            "train -> r_drop: expected dropout, by which two passes differ (--lora-dropout 0.1), received none in the "
            "adapter, the head and the backbone"
        )
    if data.unlabelled is None and train.unlabelled_confidence:
        yield "train -> unlabelled_confidence: expected unlabelled texts as well (--unlabelled FILE), received none"


def _label_conflicts(section: DataRecipe) -> Iterator[str]:
    columns = section.label_columns
    if columns is not None:
        if section.label_column is not None:
            yield "data -> label_columns: expected either label_column or label_columns, received both"
        if section.label_delimiter is not None:
            yield "data -> label_delimiter: expected no delimiter where each label has its column, received both"
        if len(set(columns)) != len(columns) or len(columns) < 2:
            yield f"data -> label_columns: expected two or more columns that differ, received {', '.join(columns)}"
    if section.ordinal and (section.task == "multi" or columns is not None):
        yield "data -> ordinal: expected one label per text with ordinal, received several"
    several = [key for key in ("label_columns", "label_delimiter") if getattr(section, key) is not None]
    if section.task == "single" and (several or section.allow_unlabelled):
        yield f"data -> task: expected multi (or auto) with {(several or ['allow_unlabelled'])[0]}, received single"


def _plan_conflicts(plan: PlanRecipe) -> Iterator[str]:
    """Settings about ranks that are valid one by one and impossible together."""
    low, high = plan.min_rank, plan.max_rank
    if low is not None and high is not None and low > high:
        yield f"plan -> min_rank: expected at most max_rank, which is {high}, received {low}"
    if plan.strategy in ("manual", "head-only"):
        for key in BY_STRATEGY:
            if getattr(plan, key) is not None:
                yield (
                    f"plan -> {key}: expected a strategy that chooses ranks, such as auto, with {key}, "
                    f"received strategy {plan.strategy}"
                )
    if plan.adaptive_ranks and plan.strategy == "head-only":
        yield "plan -> adaptive_ranks: expected a strategy that adapts layers, received strategy head-only"
    if plan.adapter == "lora-xs":
        if plan.strategy == "head-only":
            yield "plan -> adapter: expected a strategy that adapts layers, received strategy head-only"
        default, own = PlanRecipe.model_fields["lora_alpha"].default, xs_alpha(plan.r)
        if plan.strategy == "manual" and plan.lora_alpha not in (default, own):
            yield (
                "plan -> lora_alpha: expected none with adapter lora-xs, whose alpha is 30 sqrt(r) "
                f"(change learning_rate instead), received {plan.lora_alpha:g}"
            )
    for found in plan.adapter_settings().conflicts():
        yield f"plan -> {found.setting}: expected {found.expected} with {found.setting}, received {found.received}"
