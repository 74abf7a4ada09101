"""The adapter: injected, counted and saved through PEFT."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ..budget.count import AdapterSpec, resolve_targets
from ..errors import ArtifactError, BudgetError


def lora_config(spec: AdapterSpec, config: Mapping[str, Any]) -> Any:
    """PEFT's `LoraConfig` for a spec. Source of the method: Hu et al. 2021, https://arxiv.org/abs/2106.09685.

    PEFT scales the update by alpha / r (alpha / sqrt(r) with rsLoRA). The paper's text writes W = W0 + alpha B A: with
    `scaling="alpha"` each module's alpha is multiplied by its rank, so that PEFT's division leaves alpha.
    """
    from peft import LoraConfig

    alpha, alphas = spec.lora_alpha, dict(spec.alpha_pattern)
    if spec.scaling == "alpha":
        alphas = {key: spec.alpha_pattern.get(key, alpha) * rank for key, rank in spec.rank_pattern.items()} | {
            key: value * spec.r for key, value in alphas.items() if key not in spec.rank_pattern
        }
        alpha = alpha * spec.r
    return LoraConfig(
        r=spec.r,
        lora_alpha=alpha,  # type: ignore[arg-type]  # PEFT divides; a fraction is as good as a whole number
        lora_dropout=spec.lora_dropout,
        target_modules=target_pattern([module.name for module in resolve_targets(config, spec.target_modules, spec.layers)]),
        bias=spec.bias,
        rank_pattern=dict(spec.rank_pattern),
        alpha_pattern=alphas,
        use_rslora=spec.use_rslora,
        use_dora=spec.use_dora,
    )


def target_pattern(names: list[str]) -> str:
    """One regular expression for a set of module names, with or without a prefix: PEFT matches it in full.

    `encoder.layer.{3,4}.{a,b}` becomes `(.*\\.)?(encoder\\.layer\\.(3|4)\\.(a|b))`, which a person can still read.
    """
    by_suffix: dict[tuple[str, str], list[str]] = {}
    for name in names:
        stem, number, suffix = re.split(r"\.(\d+)\.", name, maxsplit=1)
        by_suffix.setdefault((stem, suffix), []).append(number)
    by_layers: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (stem, suffix), numbers in by_suffix.items():
        by_layers.setdefault((stem, tuple(numbers)), []).append(suffix)
    parts = [
        f"{re.escape(stem)}\\.({'|'.join(numbers)})\\.({'|'.join(re.escape(suffix) for suffix in suffixes)})"
        for (stem, numbers), suffixes in by_layers.items()
    ]
    return f"(.*\\.)?({'|'.join(parts)})"


def inject(module: nn.Module, config: Any | None) -> None:
    """Freeze an encoder and put PEFT's LoRA layers into it; adapters are kept in fp32.

    Args:
        module: the encoder, changed in place.
        config: a `LoraConfig`, or None to only freeze.
    """
    from peft import inject_adapter_in_model

    module.requires_grad_(False)
    if config is None:
        return
    with warnings.catch_warnings():
        # PEFT warns that a bias="all"/"lora_only" adapter changes the base when switched off; it never is here.
        warnings.filterwarnings("ignore", message="Careful, disabling adapter layers")
        inject_adapter_in_model(config, module)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


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
            "the plan and the model disagree on what is trainable; this is a fault in Pennyweight, please report it",
            expected=f"{planned:,} planned",
            received=f"{counted:,} with requires_grad, {optimized:,} in the optimizer",
        )
    return counted


def adapter_state(module: nn.Module) -> dict[str, Tensor]:
    """The adapter's tensors under the names PEFT saves them by (`base_model.model....lora_A.weight`), on the CPU."""
    from peft import get_peft_model_state_dict

    if not hasattr(module, "peft_config"):
        return {}
    state = get_peft_model_state_dict(module)
    return {f"base_model.model.{name}": tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def load_adapter_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put saved tensors back into an injected encoder; every tensor must have its place and every place its tensor.

    Raises:
        ArtifactError: when names or shapes do not agree.
    """
    from peft import set_peft_model_state_dict

    expected = {name: tensor.shape for name, tensor in adapter_state(module).items()}
    received = {name: tensor.shape for name, tensor in state.items()}
    if expected != received:
        wrong = sorted(name for name in expected.keys() | received.keys() if expected.get(name) != received.get(name))
        raise ArtifactError(
            "the adapter's tensors do not fit its plan",
            expected=f"{wrong[0]} of shape {tuple(expected.get(wrong[0], ())) or 'none'}",
            received=f"shape {tuple(received.get(wrong[0], ())) or 'none'} ({len(wrong)} tensors differ)",
        )
    if state:
        set_peft_model_state_dict(module, {name.removeprefix("base_model.model."): t for name, t in state.items()})
