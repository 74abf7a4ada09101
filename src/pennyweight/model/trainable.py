"""What is trained: the parameters with `requires_grad`, and whether they are as many as planned."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..errors import BudgetError


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that is trained, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def check_count(module: nn.Module, planned: int, optimizer: Any | None = None) -> int:
    """Hold plan, `requires_grad` and optimizer groups to the same number.

    Raises:
        BudgetError: when they differ; training must not start then.
    """
    counted = sum(parameter.numel() for parameter in trainable(module).values())
    optimized = counted
    if optimizer is not None:
        optimized = sum(parameter.numel() for group in optimizer.param_groups for parameter in group["params"])
    if not planned == counted == optimized:
        raise BudgetError(
            "the plan and the model disagree on what is trainable; this is a bug in Pennyweight, please report it",
            expected=f"{planned:,} planned",
            received=f"{counted:,} with requires_grad, {optimized:,} in the optimizer",
        )
    return counted
